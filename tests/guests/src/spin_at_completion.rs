//! Never comes back from the end of an exchange.

use witgate_plugin::Failure;

pub(crate) fn on_complete() -> Result<(), Failure> {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
