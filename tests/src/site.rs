//! A web site to sign in to: a form, a session cookie and a setting in localStorage.

use std::net::SocketAddr;

use crate::http::Message;
use crate::upstream::{Upstream, response};

/// What the page says of somebody who is signed in.
pub const SIGNED_IN: &str = "signed in as ada";

const SESSION: &str = "session=5f0c2b";

const LOGIN: &str = r"<!doctype html><title>Sign in</title>
<form method=post action=/login>
<input name=user><select name=theme><option>light</option><option>dark</option></select>
<button type=submit>Sign in</button>
</form>
<script>
const form = document.forms[0];
form.addEventListener('submit', () => localStorage.setItem('theme', form.theme.value));
</script>";

const HOME_SCRIPT: &str =
    "<script>document.querySelector('#theme').textContent = localStorage.getItem('theme')</script>";

/// The site, on a free loopback port, under every name that ends there.
#[derive(Debug)]
pub struct Site(Upstream);

impl Site {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(Upstream::answering(answer))
    }

    /// The origin `http://NAME.localhost:PORT`. Chromium sends every name below `localhost` to the loopback, so one
    /// site stands for many origins.
    #[must_use]
    pub fn origin(&self, name: &str) -> String {
        format!("http://{name}.localhost:{}", self.address().port())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The requests it received.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.0
    }
}

fn answer(request: &Message) -> Vec<u8> {
    const HTML: &str = "Content-Type: text/html; charset=utf-8";
    match request.head.start_line.as_str() {
        "GET /login HTTP/1.1" => response("200 OK", &[HTML], LOGIN),
        "POST /login HTTP/1.1" if request.body.starts_with(b"user=ada&") => {
            let cookie =
                format!("Set-Cookie: {SESSION}; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax");
            response("303 See Other", &["Location: /home", &cookie], "")
        }
        "GET /home HTTP/1.1" => {
            let signed_in = request
                .header("cookie")
                .is_some_and(|cookies| cookies.contains(SESSION));
            let who = if signed_in { SIGNED_IN } else { "signed out" };
            let page = format!(
                "<!doctype html><title>Home</title><p id=who>{who}</p><p id=theme></p>{HOME_SCRIPT}"
            );
            response("200 OK", &[HTML], page)
        }
        _ => response("404 Not Found", &[], ""),
    }
}
