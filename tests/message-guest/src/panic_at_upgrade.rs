//! Panics before there is any message, where the path says so.

use witgate_plugin::Request;

pub(crate) fn on_upgrade(request: &Request) {
    if request.path() == "/bad" {
        panic!("this guest panics at an upgrade");
    }
}
