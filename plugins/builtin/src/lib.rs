//! The components that come with the witgate binary, ready to be loaded: `component = "builtin:NAME"`.
//!
//! They are built by this crate's build script, from the same sources and by the same steps as any plugin.

/// A component that is compiled into the binary.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// What stands after `builtin:` in a configuration.
    pub name: &'static str,
    /// The component, in WebAssembly's binary format.
    pub component: &'static [u8],
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builtin")
            .field("name", &self.name)
            .field("bytes", &self.component.len())
            .finish()
    }
}

/// All of them, by name.
pub fn all() -> &'static [Builtin] {
    const ALL: &[Builtin] = include!(concat!(env!("OUT_DIR"), "/table.rs"));
    ALL
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    all().iter().find(|builtin| builtin.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Magic number, and the version and layer that tell a component from a core module.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn every_builtin_is_a_component_that_is_found_by_its_name() {
        let names: Vec<&str> = all().iter().map(|builtin| builtin.name).collect();
        assert_eq!(
            names,
            [
                "allow-list",
                "basic-auth",
                "bearer-auth",
                "cdp-endpoint",
                "cdp-guard",
                "cdp-urls",
                "connection-close",
                "cors",
                "forward-auth",
                "headers",
                "host-rewrite",
                "ip-allow",
                "jwt-auth",
                "maintenance",
                "path-rewrite",
                "rate-limit",
                "redirect",
                "request-id",
                "security-headers",
                "snapshot-server",
            ]
        );
        for builtin in all() {
            assert!(builtin.component.starts_with(COMPONENT), "{builtin:?}");
            assert_eq!(
                find(builtin.name).map(|found| found.component),
                Some(builtin.component)
            );
        }
        assert!(find("no-such-plugin").is_none());
    }

    #[test]
    fn no_builtin_imports_wasi_or_names_a_path_of_the_machine_it_was_built_on() {
        for builtin in all() {
            let text = String::from_utf8_lossy(builtin.component);
            assert!(!text.contains("wasi:"), "{builtin:?} imports WASI");
            for path in [env!("CARGO_MANIFEST_DIR"), "/.cargo/", "/home/"] {
                assert!(!text.contains(path), "{builtin:?} holds {path}");
            }
        }
    }

    /// It does next to nothing, so that this is what the SDK costs: in memory, in the cache, and in what is downloaded.
    #[test]
    fn a_plugin_that_does_nothing_is_small() {
        let smallest = find("connection-close").expect("it is a built-in");
        let bytes = smallest.component.len();
        assert!(bytes < 40 << 10, "{bytes} bytes");
    }
}
