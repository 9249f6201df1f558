//! Between the functions that the host calls and the traits that a plugin implements.

use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;

use crate::bindings::exports::witgate::plugin::{
    completion_hook, lifecycle, message_hook, messages, request_hook, response_hook, transform,
};
use crate::bindings::witgate::plugin::types;
use crate::{
    CompletionHook, Direction, Exchange, Message, MessageHook, Messages, Plugin, Request,
    RequestHook, RequestVerdict, Response, ResponseHook, ResponseVerdict, Transform, config,
};

/// Where the one plugin of an instance lives. [`export!`](crate::export) implements it, since only a macro can make a
/// static of the plugin's type.
pub trait Instance: Plugin {
    /// Lends the static to `f`.
    fn with_slot<R>(f: impl FnOnce(&OnceCell<Self>) -> R) -> R;
}

/// The component that is exported for a plugin.
pub struct Component<P>(PhantomData<P>);

/// Runs `f` on the configured plugin.
fn with_plugin<P: Instance, R>(f: impl FnOnce(&P) -> R) -> R {
    P::with_slot(|slot| {
        f(slot
            .get()
            .expect("the host calls `configure` before any hook"))
    })
}

impl<P: Instance> lifecycle::Guest for Component<P> {
    fn configure(config: String) -> Result<(), Vec<lifecycle::ConfigError>> {
        // A panic ends in a trap, which alone does not say why.
        std::panic::set_hook(Box::new(|panic| crate::error!("{panic}")));
        let plugin = config::parse(&config)
            .and_then(P::new)
            .map_err(|errors| errors.into_wit())?;
        if P::with_slot(|slot| slot.set(plugin)).is_err() {
            panic!("the host calls `configure` once");
        }
        Ok(())
    }

    fn config_schema() -> String {
        P::config_schema()
    }
}

impl<P: Instance> transform::Guest for Component<P> {
    type Transform = Body;
}

/// A transform as the host sees it.
pub struct Body(RefCell<Box<dyn Transform>>);

impl Body {
    fn export(transform: Box<dyn Transform>) -> transform::Transform {
        transform::Transform::new(Self(RefCell::new(transform)))
    }
}

impl transform::GuestTransform for Body {
    fn push(&self, chunk: Vec<u8>) -> Result<Vec<u8>, types::Failure> {
        self.0
            .borrow_mut()
            .push(chunk)
            .map_err(|failure| failure.into_wit())
    }

    fn finish(&self) -> Result<Vec<u8>, types::Failure> {
        self.0
            .borrow_mut()
            .finish()
            .map_err(|failure| failure.into_wit())
    }
}

impl<P: Instance + RequestHook> request_hook::Guest for Component<P> {
    fn on_request() -> Result<request_hook::RequestVerdict, types::Failure> {
        let verdict = with_plugin(|plugin: &P| {
            plugin.on_request(&Exchange::current(), &mut Request::current())
        });
        match verdict {
            Ok(RequestVerdict::Next) => Ok(request_hook::RequestVerdict::Next),
            Ok(RequestVerdict::Answer(reply)) => {
                Ok(request_hook::RequestVerdict::Answer(reply.into_wit()))
            }
            Ok(RequestVerdict::Transform(t)) => {
                Ok(request_hook::RequestVerdict::Transform(Body::export(t)))
            }
            Ok(RequestVerdict::Hold(t)) => Ok(request_hook::RequestVerdict::Hold(Body::export(t))),
            Err(failure) => Err(failure.into_wit()),
        }
    }
}

impl<P: Instance + ResponseHook> response_hook::Guest for Component<P> {
    fn on_response() -> Result<response_hook::ResponseVerdict, types::Failure> {
        let verdict = with_plugin(|plugin: &P| {
            plugin.on_response(
                &Exchange::current(),
                &Request::current(),
                &mut Response::current(),
            )
        });
        match verdict {
            Ok(ResponseVerdict::Next) => Ok(response_hook::ResponseVerdict::Next),
            Ok(ResponseVerdict::Answer(reply)) => {
                Ok(response_hook::ResponseVerdict::Answer(reply.into_wit()))
            }
            Ok(ResponseVerdict::Transform(t)) => {
                Ok(response_hook::ResponseVerdict::Transform(Body::export(t)))
            }
            Ok(ResponseVerdict::Hold(t)) => {
                Ok(response_hook::ResponseVerdict::Hold(Body::export(t)))
            }
            Err(failure) => Err(failure.into_wit()),
        }
    }
}

impl<P: Instance + CompletionHook> completion_hook::Guest for Component<P> {
    fn on_complete(summary: completion_hook::Summary) -> Result<(), types::Failure> {
        let told = with_plugin(|plugin: &P| {
            let answered = summary.status.is_some();
            plugin.on_complete(
                &Exchange::current(),
                &Request::current(),
                answered.then(Response::current).as_ref(),
                &summary.into(),
            )
        });
        told.map_err(|failure| failure.into_wit())
    }
}

impl<P: Instance + MessageHook> messages::Guest for Component<P> {
    type Messages = Socket;
}

/// A WebSocket's messages as the host sees them.
pub struct Socket(RefCell<Box<dyn Messages>>);

impl messages::GuestMessages for Socket {
    fn on_message(
        &self,
        direction: messages::Direction,
        message: messages::Message,
    ) -> Result<messages::MessageVerdict, types::Failure> {
        let (direction, message) = (Direction::from_wit(direction), Message::from_wit(message));
        match self.0.borrow_mut().on_message(direction, message) {
            Ok(verdict) => Ok(verdict.into_wit()),
            Err(failure) => Err(failure.into_wit()),
        }
    }
}

impl<P: Instance + MessageHook> message_hook::Guest for Component<P> {
    fn on_upgrade() -> Result<Option<message_hook::Inspection>, types::Failure> {
        let wanted = with_plugin(|plugin: &P| {
            plugin.on_upgrade(
                &Exchange::current(),
                &Request::current(),
                &Response::current(),
            )
        });
        let wanted = wanted.map_err(|failure| failure.into_wit())?;
        Ok(wanted.map(|wanted| {
            let flags = [
                (wanted.to_upstream, messages::Interest::TO_UPSTREAM),
                (wanted.to_client, messages::Interest::TO_CLIENT),
                (wanted.control, messages::Interest::CONTROL),
            ];
            let set = flags.into_iter().filter(|(is_set, _)| *is_set);
            let interest = set.fold(messages::Interest::empty(), |all, (_, flag)| all | flag);
            let socket = Socket(RefCell::new(wanted.messages));
            message_hook::Inspection {
                messages: messages::Messages::new(socket),
                interest,
            }
        }))
    }
}
