use std::fmt;

use witgate_runtime::{Direction, Message, MessageStream, MessageVerdict, PluginFailure};

use crate::plugin::Stage;

/// One WebSocket's messages in a plugin.
pub struct Messages {
    stream: MessageStream,
    stage: Stage,
}

impl Messages {
    pub(crate) fn new(stream: MessageStream, stage: Stage) -> Self {
        Self { stream, stage }
    }

    /// Whether the plugin wants to see what goes this way: pings, pongs and closes (`control`), or all else. What it
    /// does not want the proxy does not show it.
    pub fn wants(&self, direction: Direction, control: bool) -> bool {
        self.stream.wants(direction, control)
    }

    /// Shows it a message and gives its verdict, checked as the proxy checks it.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn send(&self, direction: Direction, message: Message) -> MessageVerdict {
        self.try_send(direction, message)
            .unwrap_or_else(|failure| self.stage.fail(&failure))
    }

    /// [`send`](Self::send) of a text from the client.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn send_text(&self, text: &str) -> MessageVerdict {
        self.send(Direction::ToUpstream, Message::Text(text.into()))
    }

    /// Shows it a message and gives its verdict.
    ///
    /// # Errors
    ///
    /// When the plugin traps, exceeds a limit, returns a failure or what cannot be sent.
    pub fn try_send(
        &self,
        direction: Direction,
        message: Message,
    ) -> Result<MessageVerdict, PluginFailure> {
        self.stage.run(self.pass(direction, &message))
    }

    pub(crate) async fn pass(
        &self,
        direction: Direction,
        message: &Message,
    ) -> Result<MessageVerdict, PluginFailure> {
        self.stream.on_message(direction, message, false).await
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
