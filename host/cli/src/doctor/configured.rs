//! What a configuration asks of the machine and of others: ports, certificates, upstreams.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use witgate_proxy::config::{Bind, Endpoint, Place};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::Findings;
use super::system::port_range;
use crate::load::Loaded;

/// How long somebody else may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Renewals of certificates that last three months mostly happen a month before the end.
const SOON: i64 = 14;

pub(super) async fn look(loaded: &Loaded, findings: &mut Findings) {
    ports(loaded, findings);
    certificates(loaded, findings);
    for (name, upstream) in &loaded.config.upstreams {
        for endpoint in &upstream.endpoints {
            reach(loaded, name, endpoint, findings).await;
        }
    }
}

fn ports(loaded: &Loaded, findings: &mut Findings) {
    let config = &loaded.config;
    let listeners = config.listeners.iter();
    let listeners =
        listeners.map(|listener| (format!("listener `{}`", listener.name), &listener.bind));
    let admin = config.admin.iter();
    let admin = admin.map(|admin| ("the admin listener".to_owned(), &admin.bind));
    for (whose, bind) in listeners.chain(admin) {
        if let Bind::Internet(address) = bind
            && address.port() != 0
        {
            port(&whose, *address, findings);
        }
    }
}

fn port(whose: &str, address: SocketAddr, findings: &mut Findings) {
    const ABOUT: &str = "ports";
    match TcpListener::bind(address).map_err(|error| error.kind()) {
        Ok(_) => match port_range() {
            Some((from, to)) if (from..=to).contains(&address.port()) => findings.doubtful(
                ABOUT,
                format!("{address} of {whose} is free, and a connection of any program may take it ({from} to {to})"),
                format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", address.port()),
            ),
            _ => findings.good(ABOUT, format!("{address} of {whose} is free")),
        },
        Err(ErrorKind::AddrInUse) => findings.doubtful(
            ABOUT,
            format!("{address} of {whose} is in use, by a witgate that runs or by another program"),
            format!("`ss -ltnp 'sport = :{}'` says by whom", address.port()),
        ),
        Err(ErrorKind::PermissionDenied) => findings.wrong(
            ABOUT,
            format!("{address} of {whose}: this user may not bind it"),
            "choose a port from 1024, or grant it: AmbientCapabilities=CAP_NET_BIND_SERVICE in a unit, or a socket that systemd opens",
        ),
        Err(ErrorKind::AddrNotAvailable) => findings.wrong(
            ABOUT,
            format!("{address} of {whose} is no address of this machine"),
            "bind 0.0.0.0 or [::], or an address that `ip address` shows",
        ),
        Err(error) => findings.wrong(
            ABOUT,
            format!("{address} of {whose} cannot be bound: {error}"),
            "choose another address",
        ),
    }
}

/// That each fits its key, and has not expired, was seen as the configuration was read.
fn certificates(loaded: &Loaded, findings: &mut Findings) {
    let shown = loaded.config.shown();
    let directory = Path::new(&loaded.file).parent().unwrap_or(Path::new(""));
    let listeners = shown["config"]["listener"].as_array();
    for listener in listeners.into_iter().flatten() {
        let pairs = listener["tls"]["certificates"].as_array();
        for pair in pairs.into_iter().flatten() {
            // A reference is not resolved here.
            if let Some(path) = pair["cert"].as_str().filter(|path| !path.contains("${")) {
                certificate(&directory.join(path), findings);
            }
        }
    }
}

fn certificate(path: &Path, findings: &mut Findings) {
    const ABOUT: &str = "certificates";
    let shown = path.display();
    let Some((days, names)) = facts(path) else {
        return findings.wrong(
            ABOUT,
            format!("{shown} cannot be read any more"),
            "write it anew",
        );
    };
    let names = names.join(", ");
    match days {
        ..0 => findings.wrong(
            ABOUT,
            format!("{shown} ({names}) expired {} days ago", -days),
            "renew it: clients do not take it",
        ),
        0..SOON => findings.doubtful(
            ABOUT,
            format!("{shown} ({names}) expires in {days} days"),
            "renew it: a new file is taken up without a restart",
        ),
        _ => findings.good(ABOUT, format!("{shown} ({names}) is good for {days} days")),
    }
}

/// For how many days it is good, and for whom.
fn facts(path: &Path) -> Option<(i64, Vec<String>)> {
    let text = std::fs::read(path).ok()?;
    let first = Pem::iter_from_buffer(&text).next()?.ok()?;
    let certificate = first.parse_x509().ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.ok()?.as_secs()).ok()?;
    let left = certificate.validity().not_after.timestamp() - now;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or_else(Vec::new, |names| {
        let names = names.value.general_names.iter();
        names.map(shown).collect()
    });
    Some((left.div_euclid(24 * 60 * 60), names))
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(four), _) => IpAddr::from(four).to_string(),
                (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
                _ => "a damaged address".into(),
            }
        }
        other => other.to_string(),
    }
}

/// Resolves and connects, and sends nothing.
async fn reach(loaded: &Loaded, upstream: &str, endpoint: &Endpoint, findings: &mut Findings) {
    const ABOUT: &str = "upstreams";
    let (shown, addresses) = match &endpoint.place {
        Place::Unix(path) => {
            let shown = format!("unix:{} of `{upstream}`", path.display());
            let connected = timeout(PATIENCE, UnixStream::connect(path)).await;
            return connectable(&shown, connected.is_ok_and(|made| made.is_ok()), findings);
        }
        Place::Address(address) => (format!("{address} of `{upstream}`"), vec![*address]),
        Place::Name { host, port } => {
            let shown = format!("{host}:{port} of `{upstream}`");
            match timeout(PATIENCE, lookup_host((&**host, *port))).await {
                Ok(Ok(found)) => (shown, found.collect()),
                Ok(Err(error)) => {
                    let message = format!("{shown}: the name cannot be resolved: {error}");
                    return findings.wrong(ABOUT, message, "correct the name, or /etc/resolv.conf");
                }
                Err(_) => {
                    let message = format!("{shown}: no name server answers");
                    return findings.wrong(
                        ABOUT,
                        message,
                        "correct /etc/resolv.conf, or `dns.servers`",
                    );
                }
            }
        }
    };
    // Chromium is there once witgate has started it.
    let port = loaded.chrome.as_ref().map(crate::chrome::Chrome::port);
    let ours = |address: &SocketAddr| address.ip().is_loopback() && Some(address.port()) == port;
    if addresses.iter().any(ours) {
        return;
    }
    let mut connected = false;
    for address in addresses {
        let made = timeout(PATIENCE, TcpStream::connect(address)).await;
        connected |= made.is_ok_and(|made| made.is_ok());
        if connected {
            break;
        }
    }
    connectable(&shown, connected, findings);
}

fn connectable(shown: &str, connected: bool, findings: &mut Findings) {
    const ABOUT: &str = "upstreams";
    match connected {
        true => findings.good(ABOUT, format!("{shown} takes connections")),
        false => findings.doubtful(
            ABOUT,
            format!("{shown} takes no connection now: requests to it get a 502 or 503"),
            "start it, or correct `endpoints`",
        ),
    }
}
