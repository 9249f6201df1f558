//! What commands print on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::Ended;

/// Prints for people or for programs. Whoever stops reading in the middle, as `head` does, has seen enough.
pub(crate) fn print(text: impl Display) -> Result<(), Ended> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Ended::because(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line.
pub(crate) fn line(text: impl Display) -> Result<(), Ended> {
    print(format_args!("{text}\n"))
}
