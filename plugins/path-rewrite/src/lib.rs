//! `path-rewrite`: another path for the upstream than the client asked for.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, HeadErrorKind, PathPattern, Plugin, Reply,
    Request, RequestHook, RequestVerdict, Template, schema_of,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Paths and what becomes of them. The first that fits counts.
    rules: Vec<RuleConfig>,
    /// Answer 404 where no rule fits; `false` unless set: such a path stays as it is.
    #[serde(default)]
    only: bool,
}

/// One of `rules`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleConfig {
    /// A path: `/old`, `/users/{id}`, `/api/{rest*}`.
    from: String,
    /// The path that the upstream sees, with an optional query, and with `{id}` and other placeholders.
    to: String,
}

/// The plugin.
pub struct PathRewrite {
    rules: Vec<(PathPattern, Template)>,
    only: bool,
}

impl Plugin for PathRewrite {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if config.rules.is_empty() {
            errors.push("rules", "is empty, so that no path would change");
        }
        let mut rules = Vec::new();
        for (at, rule) in config.rules.iter().enumerate() {
            match rule.read() {
                Ok(rule) => rules.push(rule),
                Err((key, mistake)) => errors.push(format!("rules.{at}.{key}"), mistake),
            }
        }
        errors.into_result(Self {
            rules,
            only: config.only,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RuleConfig {
    /// The mistake is at the key of its first part.
    fn read(&self) -> Result<(PathPattern, Template), (&'static str, String)> {
        let from = PathPattern::parse(&self.from).map_err(|mistake| ("from", mistake))?;
        let to =
            Template::parse_with(&self.to, &from.names()).map_err(|mistake| ("to", mistake))?;
        let is_line = to.literals().all(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        });
        if !self.to.starts_with('/') || !is_line {
            return Err((
                "to",
                "must be a path that starts with `/`, of visible ASCII without `#`".into(),
            ));
        }
        Ok((from, to))
    }
}

impl RequestHook for PathRewrite {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let asked = request.path_with_query();
        let (path, query) = match asked.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked.as_str(), None),
        };
        let found = self
            .rules
            .iter()
            .find_map(|(from, to)| Some((from.captures(path)?, to)));
        let Some((captured, to)) = found else {
            return Ok(match self.only {
                true => RequestVerdict::Answer(Reply::new(404).text("not found\n")),
                false => RequestVerdict::Next,
            });
        };
        let target = to.fill_with(exchange, request, &captured);
        let target = target.map(|target| String::from_utf8_lossy(&target).into_owned());
        // Without anything for its placeholders to stand for there is no path.
        let Some(mut target) = target else {
            return Ok(bad_request());
        };
        if let Some(query) = query {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(query);
        }
        match request.set_path_with_query(&target) {
            Ok(()) => Ok(RequestVerdict::Next),
            // A header that is no path: the client's mistake.
            Err(error) if error.kind() == HeadErrorKind::InvalidValue => Ok(bad_request()),
            Err(error) => Err(error.into()),
        }
    }
}

fn bad_request() -> RequestVerdict {
    RequestVerdict::Answer(Reply::new(400).text("bad request\n"))
}

witgate_plugin::export!(PathRewrite: request);
