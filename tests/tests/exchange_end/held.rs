//! Promise: where a body is held back, its head is still the plugin's to edit, or the plugin answers instead.

use witgate_tests::http::Message;
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate};

use super::{through_guest, told};

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &["ETag: \"old\""], "hello"))
}

fn ask(witgate: &Witgate, order: &str, body: &str) -> Message {
    let mut client = witgate.connect("main");
    client.send(format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nx-do: {order}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.read_response()
}

#[test]
fn a_request_can_be_signed_when_its_body_has_been_seen() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    assert_eq!(ask(&witgate, "sign", "the body").text(), "hello");

    let request = upstream.only_request();
    assert_eq!(request.head.start_line, "POST /signed HTTP/1.1");
    assert_eq!(request.header("x-length"), Some("8"));
    assert_eq!(request.header("content-length"), Some("8"));
    assert_eq!(request.text(), "the body");
    let line = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(
        line.text("attributes"),
        Some("guest.seen=/a guest.signed=yes")
    );
    let logged = witgate.log_line("what the guest logs at the end of the body", |line| {
        line.message() == "the body is whole"
    });
    assert_eq!(logged.text("route"), Some("all"));
    assert_eq!(logged.text("request_id"), line.text("request_id"));
}

#[test]
fn a_request_can_be_refused_when_its_body_has_been_seen() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    let refused = ask(&witgate, "refuse", "not json");
    assert_eq!((refused.status(), refused.text()), (422, "no JSON object"));
    assert_eq!(upstream.received(), []);

    assert_eq!(ask(&witgate, "refuse", "{}").text(), "hello");
    assert_eq!(upstream.only_request().text(), "{}");
}

#[test]
fn a_response_can_be_edited_when_its_body_has_been_seen() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    let answer = ask(&witgate, "sign-back", "");

    assert_eq!((answer.status(), answer.text()), (203, "HELLO"));
    assert_eq!(
        answer.header("etag"),
        Some("\"5\""),
        "the plugin's own stands"
    );
    assert_eq!(answer.header("x-seen"), Some("/a"));
    assert_eq!(answer.header("x-method"), Some("POST"));
    assert_eq!(answer.header("content-length"), Some("5"));
}

#[test]
fn a_response_can_be_replaced_when_its_body_has_been_seen() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    let answer = ask(&witgate, "replace-back", "");

    assert_eq!(
        (answer.status(), answer.text()),
        (404, "5 bytes are not shown")
    );
    assert_eq!(answer.header("etag"), None, "it was the other body's");
}

#[test]
fn an_impossible_answer_is_the_plugins_failure() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    assert_eq!(ask(&witgate, "impossible", "x").status(), 500);

    witgate.log_line("the failure", |line| {
        line.text("reason").is_some_and(|reason| {
            reason.contains("returned from transform.finish what cannot be sent: a status of 99")
        })
    });
    assert_eq!(upstream.received(), []);
    assert_eq!(ask(&witgate, "", "x").text(), "hello");
}

#[test]
fn a_head_that_has_been_sent_is_out_of_reach() {
    // It answers when the head is there, and the body never ends well.
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            match request.header("transfer-encoding") {
                Some(_) => {
                    while let Ok(Some(_)) = peer.try_read_chunk() {}
                    return;
                }
                None => {
                    peer.read_body(&request.head, false);
                    peer.send(response("200 OK", &[], "hello"));
                }
            }
        }
    });
    let witgate = through_guest(&upstream, "");

    assert_eq!(ask(&witgate, "too-late", "x").status(), 500);

    let piece = witgate.log_line("what the guest logs in push", |line| {
        line.message() == "a piece"
    });
    let failed = witgate.log_line("the trap", |line| {
        line.text("reason").is_some_and(|reason| {
            reason.contains("trapped in transform.finish")
                && reason.contains("no body that is held back")
        })
    });
    assert_eq!(piece.text("request_id"), failed.text("request_id"));
    assert_eq!(piece.text("route"), Some("all"));
    assert_eq!(ask(&witgate, "", "x").text(), "hello");
}

#[test]
fn with_an_instance_for_each_exchange_all_this_works_and_no_instance_is_left_over() {
    let upstream = hello();
    // One place for an exchange, and one that its completion hook may still have.
    let witgate = through_guest(
        &upstream,
        "isolation = \"exchange\"\nlimits.concurrency = 2\nlimits.wait = \"15s\"",
    );

    for order in [
        "sign",
        "refuse",
        "sign-back",
        "replace-back",
        "sign",
        "sign-back",
    ] {
        let answer = ask(&witgate, order, "the body");
        assert!(answer.status() < 500, "{order}: {}", answer.text());
    }

    let request = &upstream.received()[0].request;
    assert_eq!(request.header("x-length"), Some("8"));
    assert!(told(&witgate, "/signed").message().contains("end=Complete"));
}

#[test]
fn what_a_transform_notes_is_in_the_access_log_and_told_at_the_end() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");

    assert_eq!(ask(&witgate, "sum", "the body").text(), "hello");
    assert_eq!(ask(&witgate, "sum-back", "").text(), "hello");

    let noted = |notes: &str| {
        witgate.log_line(&format!("the exchange with {notes}"), |line| {
            line.message() == "exchange" && line.text("attributes") == Some(notes)
        })
    };
    let up = noted("guest.seen=/a guest.sum=8");
    let down = noted("guest.seen=/a guest.sum=5");
    for exchange in [up, down] {
        let id = exchange.text("request_id");
        witgate.log_line("what is told of it", |line| {
            let notes = ["sum=Some(\"8\")", "sum=Some(\"5\")"];
            let told = notes.iter().any(|note| line.message().contains(note));
            line.text("request_id") == id && told
        });
    }
}

#[test]
fn a_client_that_leaves_while_its_body_is_held_leaves_its_notes() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");
    client.send(
        "POST /left HTTP/1.1\r\nHost: a\r\nx-do: hold-noted\r\nContent-Length: 9\r\n\r\nfirst",
    );
    witgate.log_line("the first piece in the guest", |line| {
        line.message() == "a piece is held"
    });

    client.reset();

    let line = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(
        line.text("attributes"),
        Some("guest.seen=/left guest.held=yes")
    );
    assert_eq!(upstream.received(), []);
}

#[test]
fn holding_a_body_is_no_failure_in_the_counts() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "[admin]\nbind = \"127.0.0.1:0\"");
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").and_then(|text| text.parse().ok());
    assert_eq!(ask(&witgate, "sign", "x").status(), 200);

    let metrics = witgate_tests::http::get(admin.expect("an address"), "/metrics");

    let series = "witgate_plugin_failures_total{plugin=\"guest\",kind=\"held-body\"} 0\n";
    assert!(metrics.text().contains(series), "{}", metrics.text());
}
