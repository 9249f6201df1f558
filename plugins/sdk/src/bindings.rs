//! What `wit-bindgen` makes of the contract in `wit/`.
//!
//! The world with every hook, so that each type exists once; which hooks a component really exports is up to
//! [`export!`](crate::export).

#![expect(
    missing_docs,
    reason = "generated; the WIT files carry the documentation"
)]
#![allow(unused_qualifications, unreachable_pub, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "every-hook",
    runtime_path: "::witgate_plugin::__private::wit_bindgen::rt",
    pub_export_macro: true,
    export_macro_name: "export_every_hook",
});
