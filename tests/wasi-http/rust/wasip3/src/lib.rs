//! A component as an author would write it with `wasip3`: it answers while it still reads.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Component);

struct Component;

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match request.get_path_with_query().as_deref() {
            Some("/echo") => Ok(echo(request)),
            Some("/spin") => loop {
                std::hint::spin_loop();
            },
            Some("/trap") => panic!("this component panics"),
            Some("/trap-in-body") => Ok(trap_in_body()),
            Some("/fail") => Err(ErrorCode::InternalError(Some("it gives up".to_owned()))),
            _ => Ok(text(b"hello from wasip3\n")),
        }
    }
}

/// The request's own body and trailers as the response's.
fn echo(request: Request) -> Response {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, taken);
    Response::new(Fields::new(), Some(body), trailers).0
}

fn text(text: &'static [u8]) -> Response {
    let (mut sender, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        // What is left over is what nobody wants to read.
        drop(sender.write_all(text.to_vec()).await);
    });
    Response::new(Fields::new(), Some(body), trailers).0
}

fn trap_in_body() -> Response {
    let (mut sender, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        drop(sender.write_all(b"some bytes".to_vec()).await);
        panic!("this component panics in its body");
    });
    Response::new(Fields::new(), Some(body), trailers).0
}
