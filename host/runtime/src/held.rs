//! What becomes of a message whose body is held back.

use wasmtime::{Result, bail};

use crate::bindings::{held, types};
use crate::instance::State;
use crate::trailers::HeadState;

impl held::Host for State {
    fn answer(&mut self, reply: types::Reply) -> Result<()> {
        let call = self.phase.call();
        match &mut self.ending {
            Some(ending) if matches!(ending.head, HeadState::Held) => {
                ending.answer = Some(reply);
                Ok(())
            }
            _ => bail!("there is no body that is held back and has ended in {call}"),
        }
    }
}
