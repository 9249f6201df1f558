//! Panics while it takes its configuration.

pub(crate) fn configure() -> ! {
    panic!("this guest panics at its configuration")
}
