//! Builds Rust plugins into WebAssembly components.
//!
//! Two steps, each usable on its own: [`Build`] runs cargo for `wasm32-unknown-unknown`, and [`encode`] makes a
//! component of the core module that comes out.
//!
//! ```no_run
//! # fn main() -> Result<(), witgate_build::BuildError> {
//! let components = witgate_build::Build::new("plugins/my-plugin", "target/plugins").package("my-plugin").run()?;
//! std::fs::write("my-plugin.wasm", &components[0].bytes).expect("the directory is writable");
//! # Ok(())
//! # }
//! ```

mod artifact;
mod cargo;
mod component;
mod error;
mod metadata;
mod workspace;

pub use cargo::{Build, Component, TARGET, WASI_TARGET};
pub use component::encode;
pub use error::{BuildError, EncodeError};
pub use metadata::Metadata;
