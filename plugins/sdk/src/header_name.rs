/// What the host keeps for itself, and what to use instead. The host refuses each of them in every exchange.
const FORBIDDEN: [(&str, &str); 9] = [
    (
        "connection",
        "it is made anew for each connection; for an end of the client's there is `connection-close`",
    ),
    ("content-length", "it follows from the body"),
    ("host", "use the plugin `host-rewrite`"),
    ("keep-alive", "it is made anew for each connection"),
    ("proxy-connection", "it is made anew for each connection"),
    ("te", "it is made anew for each connection"),
    ("trailer", "it follows from the body"),
    ("transfer-encoding", "it follows from the body"),
    ("upgrade", "it is made anew for each connection"),
];

/// Whether a header of this name can be written, for names that stand in a configuration: one that cannot would fail every
/// exchange.
///
/// # Errors
///
/// What is wrong with it, for a [`ConfigErrors`](crate::ConfigErrors): no token by RFC 9110 §5.6.2, or one of those that
/// the host keeps for itself (`Connection`, `Content-Length`, `Host`, …).
///
/// ```
/// # use witgate_plugin::check_header_name;
/// assert!(check_header_name("X-Request-Id").is_ok());
/// assert!(check_header_name("x y").is_err() && check_header_name("Host").is_err());
/// ```
pub fn check_header_name(name: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, instead)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == lower) {
        return Err(format!(
            "the header `{name}` belongs to the proxy: {instead}"
        ));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_token) {
        true => Ok(()),
        false => Err(format!("`{name}` is no header name (RFC 9110 §5.1)")),
    }
}
