//! Writes the C bindings of a world.
//!
//! usage: `witgate-c-bindings CONTRACT WORLD OUT`: the directory of the contract, the file of the world, and the directory to
//! write to.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use wit_bindgen_c::Opts;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [contract, world, out] = arguments.as_slice() else {
        return Err("usage: witgate-c-bindings CONTRACT WORLD OUT".into());
    };
    let mut resolve = Resolve::default();
    resolve.push_dir(contract)?;
    let package = resolve.push_file(world)?;
    let world = resolve.select_world(&[package], None)?;

    let mut files = Files::default();
    let mut generator = Opts::default().build();
    generator.generate(&mut resolve, world, &mut files)?;

    fs::create_dir_all(out)?;
    for (name, contents) in files.iter() {
        fs::write(Path::new(out).join(name), contents)?;
    }
    Ok(())
}
