use std::mem;

use crate::Failure;

/// A body on its way, piece by piece.
///
/// The state of one body's transformation. One plugin instance serves many bodies at once: calls for different
/// transforms interleave, calls for one never do. The host drops it after [`finish`](Self::finish), after an error, and
/// when either side of the exchange goes away early, so do not count on `finish` being called.
///
/// What the transform needs from the exchange is best read in the hook and moved in. [`stream`] and [`buffer`] make the
/// two usual shapes from a closure.
pub trait Transform: 'static {
    /// Takes the next piece (1 to 65,536 bytes; where pieces end has no meaning) and gives what may be sent on, which
    /// may be nothing.
    ///
    /// # Errors
    ///
    /// An error ends the exchange: with a 500 if the head is not yet sent, else by a body that is cut off.
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure>;

    /// The body has ended; gives what is still to be sent. Called at most once, after the last `push`.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        Ok(Vec::new())
    }
}

/// A transform that maps every piece on its own, and keeps nothing back.
pub fn stream(f: impl FnMut(Vec<u8>) -> Result<Vec<u8>, Failure> + 'static) -> impl Transform {
    Stream(f)
}

/// A transform that collects the whole body and maps it once, at its end.
///
/// `max` is in bytes; a longer body is a [`Failure`]. It guards the instance's memory: all bodies that are collected at
/// one time share it. Most often used with a `Hold` verdict, so that the result goes out with its `Content-Length`.
pub fn buffer(
    max: usize,
    f: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, Failure> + 'static,
) -> impl Transform {
    Buffer {
        max,
        body: Vec::new(),
        f: Some(f),
    }
}

struct Stream<F>(F);

impl<F: FnMut(Vec<u8>) -> Result<Vec<u8>, Failure> + 'static> Transform for Stream<F> {
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure> {
        (self.0)(chunk)
    }
}

struct Buffer<F> {
    max: usize,
    body: Vec<u8>,
    f: Option<F>,
}

impl<F: FnOnce(Vec<u8>) -> Result<Vec<u8>, Failure> + 'static> Transform for Buffer<F> {
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure> {
        if chunk.len() > self.max - self.body.len() {
            self.body = Vec::new();
            return Err(Failure::new(format!(
                "the body is over the {} bytes that the plugin collects",
                self.max
            )));
        }
        if self.body.is_empty() {
            self.body = chunk;
        } else {
            self.body.extend_from_slice(&chunk);
        }
        Ok(Vec::new())
    }

    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        match self.f.take() {
            Some(f) => f(mem::take(&mut self.body)),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_maps_every_piece_and_adds_nothing_at_the_end() {
        let mut transform = stream(|chunk| Ok(chunk.to_ascii_uppercase()));
        assert_eq!(transform.push(b"ab".to_vec()), Ok(b"AB".to_vec()));
        assert_eq!(transform.push(b"c".to_vec()), Ok(b"C".to_vec()));
        assert_eq!(transform.finish(), Ok(Vec::new()));
    }

    #[test]
    fn a_buffer_gives_nothing_before_the_end_and_everything_then() {
        let mut transform = buffer(5, |body| Ok(body.into_iter().rev().collect()));
        assert_eq!(transform.push(b"abc".to_vec()), Ok(Vec::new()));
        assert_eq!(transform.push(b"de".to_vec()), Ok(Vec::new()));
        assert_eq!(transform.finish(), Ok(b"edcba".to_vec()));
    }

    #[test]
    fn a_buffer_refuses_the_byte_over_its_limit() {
        let mut transform = buffer(4, Ok);
        assert_eq!(transform.push(b"abcd".to_vec()), Ok(Vec::new()));
        let failure = transform
            .push(b"e".to_vec())
            .expect_err("five bytes are over four");
        assert_eq!(
            failure.reason(),
            "the body is over the 4 bytes that the plugin collects"
        );
    }

    #[test]
    fn a_buffer_maps_an_empty_body_too() {
        let mut transform = buffer(4, |body| Ok(format!("{} bytes", body.len()).into_bytes()));
        assert_eq!(transform.finish(), Ok(b"0 bytes".to_vec()));
    }
}
