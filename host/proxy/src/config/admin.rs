//! Reads `[admin]`.

use super::model::{Admin, Secret};
use super::shape::{boolean, located, string};
use super::{Section, bind};

/// A shorter token could be guessed.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(section: &mut Section<'_>) -> Option<Admin> {
    let bind = section.required("bind", "\"127.0.0.1:9901\"", located(bind::read));
    let token = section.optional("token", |item| {
        let token = string(item)?;
        let printable = |byte: u8| byte.is_ascii_graphic();
        if token.len() < SHORTEST_TOKEN || !token.bytes().all(printable) {
            return item.reject(
                format!("the token is not at least {SHORTEST_TOKEN} printable ASCII characters"),
                "make one with `openssl rand -hex 32` and name its file: \"${file:/run/secrets/admin-token}\"",
            );
        }
        Some(Secret::from(token))
    });
    let exchanges = section.default("exchanges", true, boolean);
    let bind = bind::finish(bind, section)?;
    Some(Admin {
        bind: bind.value,
        bind_location: bind.location,
        token,
        exchanges,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::shape::table;
    use super::*;

    fn admin(text: &str) -> Result<Option<Admin>, String> {
        let document =
            Document::parse("a.toml", &format!("[admin]\n{text}")).expect("this is TOML");
        let reader = document.reader();
        let admin = reader.root().optional("admin", table(read));
        reader
            .finish(Some(admin))
            .map(|(admin, _)| admin)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_set_is_taken_over_and_the_token_is_not_shown() {
        let admin = admin("bind = '127.0.0.1:9901'\ntoken = '0123456789abcdef'")
            .expect("all of it is valid")
            .expect("it is there");
        assert_eq!(admin.bind.to_string(), "127.0.0.1:9901");
        let token = admin.token.as_ref().expect("it is set");
        assert_eq!(token.reveal(), "0123456789abcdef");
        assert!(!format!("{admin:?}").contains("0123456789"), "{admin:?}");
    }

    #[test]
    fn a_token_that_is_short_or_empty_is_refused_and_not_shown() {
        for token in ["", "tellnobody", "sixteen chars ok?"] {
            let report = admin(&format!("bind = '127.0.0.1:9901'\ntoken = '{token}'"))
                .expect_err("it is too weak");
            assert!(report.contains("at least 16 printable"), "{report}");
            assert!(token.is_empty() || !report.contains(token), "{report}");
        }
    }
}
