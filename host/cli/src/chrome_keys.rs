//! The keys of `[chrome]`, as [`witgate_proxy::config::keys`] has those of the proxy.

use witgate_proxy::config::keys::Default::{Is, Means, Required};
use witgate_proxy::config::keys::Kind::{
    Boolean, Duration, Either, False, Integer, List, Pattern, Percent, Size, Table, Text,
};
use witgate_proxy::config::keys::{Key, PATH, key};

/// The table itself.
pub(crate) const KEYS: &[Key] = &[key(
    "chrome",
    Table(CHROME),
    Means("none"),
    "Starts and supervises a Chromium. See [chrome-service](../examples/chrome-service/README.md).",
)];

const CHROME: &[Key] = &[
    key(
        "profile",
        PATH,
        Required,
        "the `--user-data-dir`; created with mode 0700",
    ),
    key(
        "binary",
        PATH,
        Means(
            "the first of `chromium`, `chromium-browser`, `google-chrome`, `google-chrome-stable` on `PATH`",
        ),
        "the browser's program",
    ),
    key(
        "port",
        Integer(1, 65_535),
        Is("6667"),
        "DevTools port on 127.0.0.1; one that [Chromium blocks to pages](../plugins/cdp-guard/README.md#what-it-does-not-see)",
    ),
    key("headless", Boolean, Is("true"), "without a window"),
    key(
        "sandbox",
        Boolean,
        Is("true"),
        "Chromium has none when it runs as root",
    ),
    key(
        "args",
        List(&Text),
        Is("[]"),
        "further arguments, but none of `--remote-debugging-…`, `--remote-allow-origins` and `--explicitly-allowed-ports`, which would open the DevTools port to pages",
    ),
    key(
        "allow-downgrade",
        Boolean,
        Is("false"),
        "also start a Chromium older than the one that last used the profile, which may discard what that one wrote; see [operating](operating.md#health-of-the-browser)",
    ),
    key(
        "start-timeout",
        Duration,
        Is("\"30s\""),
        "until it is ready",
    ),
    key(
        "stop-timeout",
        Duration,
        Is("\"10s\""),
        "until it is killed",
    ),
    key(
        "health",
        Either(&[False, Table(HEALTH)]),
        Means("those below"),
        "when a browser that opens no pages is started again; `false`: never. See [operating](operating.md#health-of-the-browser)",
    ),
    key(
        "snapshot",
        Table(SNAPSHOT),
        Means("none"),
        "Keeps what the browser is signed in to in a file. See [operating](operating.md#snapshots).",
    ),
];

const HEALTH: &[Key] = &[
    key(
        "interval",
        Duration,
        Is("\"15s\""),
        "from one check to the next",
    ),
    key("timeout", Duration, Is("\"10s\""), "of one check"),
    key(
        "failures",
        Integer(1, 1000),
        Is("4"),
        "checks in a row that fail",
    ),
];

const SNAPSHOT: &[Key] = &[
    key(
        "file",
        PATH,
        Required,
        "where Playwright's storageState goes, with mode 0600; the name ends in `.age` if `encrypt-to` is set, and only then",
    ),
    key(
        "schedule",
        Text,
        Is("\"0 * * * *\""),
        "when to harvest: a cron expression in local time, `@hourly`, `@daily` and the like; `\"never\"` leaves it to `witgate harvest`",
    ),
    key(
        "on-start",
        Boolean,
        Is("true"),
        "also once when Chromium is ready",
    ),
    key(
        "indexed-db",
        Boolean,
        Is("true"),
        "also databases of IndexedDB, where Firebase and others keep sign-ins",
    ),
    key(
        "opfs",
        Boolean,
        Is("false"),
        "also private file systems (OPFS); they seldom hold a sign-in",
    ),
    key("limits", Table(LIMITS), Means("those below"), ""),
    key(
        "history",
        Integer(0, 10_000),
        Is("24"),
        "how many generations are kept, the current one included, and as many suspicious ones",
    ),
    key(
        "max-loss",
        Percent,
        Is("\"80%\""),
        "a snapshot that lost a larger share of its cookies, or of its origins with stored data, is suspicious; `\"1%\"` to `\"100%\"`",
    ),
    key(
        "accept-after",
        Duration,
        Is("\"2h\""),
        "a suspicious snapshot is published once at least three harvests in a row have come to the like of it, over this long",
    ),
    key(
        "encrypt-to",
        List(&Pattern("^age1")),
        Is("[]"),
        "age public keys (`\"age1…\"`); each reads the snapshot and its history alone. See [what it leaves behind](operating.md#encryption)",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "origin-size",
        Size,
        Is("\"8MiB\""),
        "of databases and file systems, of one origin, as JSON; a database beyond it is left out whole",
    ),
    key(
        "total-size",
        Size,
        Is("\"64MiB\""),
        "the same, of all origins: Playwright reads the file whole for every context",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use witgate_proxy::config::{Document, Problems};

    use super::*;
    use crate::chrome;

    /// The names between backquotes of what a report says is known in a table.
    fn known(table: &str) -> BTreeSet<String> {
        let required = "profile = 'a'\nsnapshot = { file = 'b' }\nhealth = {}\n";
        let text = match table {
            "chrome" => format!("[chrome]\n{required}no-such-key = 1"),
            table => format!("[chrome]\nprofile = 'a'\n[{table}]\nno-such-key = 1"),
        };
        let document = Document::parse("a.toml", &text).expect("it is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let _ = root.optional("chrome", chrome::read);
        let problems: Problems = reader
            .finish::<()>(None)
            .expect_err("there is an unknown key");
        let problem = problems
            .iter()
            .find(|problem| problem.message.contains("no-such-key"))
            .expect("it is reported");
        let told = [&problem.help, &problem.note];
        let told = told.into_iter().flatten();
        let told = told.filter_map(|text| text.strip_prefix("known here: "));
        let told: String = told.map(str::to_owned).collect();
        told.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    fn tables(path: &str, keys: &'static [Key], found: &mut Vec<(String, &'static [Key])>) {
        for key in keys {
            let below = match &key.kind {
                Table(keys) | Either([False, Table(keys)]) => *keys,
                _ => continue,
            };
            let path = format!("{path}{}", key.name);
            tables(&format!("{path}."), below, found);
            found.push((path, below));
        }
    }

    #[test]
    fn every_key_that_is_read_is_known_and_every_known_one_is_read() {
        let mut found = Vec::new();
        tables("", KEYS, &mut found);
        assert_eq!(found.len(), 4, "{found:?}");
        for (table, keys) in found {
            let keys: BTreeSet<_> = keys.iter().map(|key| key.name.to_owned()).collect();
            assert_eq!(keys, known(&table), "{table}");
        }
    }
}
