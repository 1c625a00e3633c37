//! What the user has set about registries: mirrors, proxies, patience, where Docker's configuration is.
//!
//! Invariant: nothing here reads the environment or a file; variables come in as an argument.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Error;
use super::credentials::encode;
use super::url::{Url, split_port};

/// How long nothing may come before a connection counts as dead.
const STALL: Duration = Duration::from_secs(30);

/// What the user has set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Asked before Docker Hub itself, in this order.
    pub(crate) mirrors: Vec<Url>,
    pub(crate) proxies: Proxies,
    /// How long nothing may come before a connection counts as dead.
    pub(crate) stall: Duration,
    /// Docker's `config.json`.
    pub(crate) docker_config: Option<PathBuf>,
    /// Its text, given instead of the file.
    pub(crate) docker_auth: Option<String>,
    /// Platform of images that none is named for.
    pub(crate) platform: Option<String>,
}

impl Settings {
    /// Returns what the variables say.
    ///
    /// # Errors
    /// When one of them cannot be understood; the error names it.
    pub fn new(env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let wrong = |name, value: &str, form| Error::Setting { name, value: value.to_owned(), form };
        let mut mirrors = Vec::new();
        for text in env("HOIST_REGISTRY_MIRROR").iter().flat_map(|v| v.split(',')).map(str::trim) {
            if text.is_empty() {
                continue;
            }
            let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
            let url = Url::parse(&whole).filter(|url| !url.path.contains('?'));
            mirrors.push(url.ok_or_else(|| {
                wrong("HOIST_REGISTRY_MIRROR", text, "expected URLs such as http://127.0.0.1:5000, with commas between")
            })?);
        }
        let stall = match env("HOIST_REGISTRY_TIMEOUT") {
            None => STALL,
            Some(text) => text
                .parse()
                .ok()
                .filter(|s| (1..=86_400).contains(s))
                .map(Duration::from_secs)
                .ok_or_else(|| wrong("HOIST_REGISTRY_TIMEOUT", &text, "expected a number of seconds"))?,
        };
        let docker = env("DOCKER_CONFIG").map(PathBuf::from);
        let docker = docker.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Ok(Self {
            mirrors,
            proxies: Proxies::new(&env)?,
            stall,
            docker_config: docker.map(|dir| dir.join("config.json")),
            docker_auth: env("DOCKER_AUTH_CONFIG"),
            platform: env("DOCKER_DEFAULT_PLATFORM"),
        })
    }
}

/// A proxy for HTTP.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// Which proxy a request goes through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    Net(IpNet),
    /// A name, which also stands for all below it; or only for those, when it is written with a dot.
    Name {
        name: String,
        only_below: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables as Go's `httpproxy` does: lower case counts as well.
    fn new(env: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let either = |upper: &'static str, lower: &'static str| {
            env(upper).map(|v| (upper, v)).or_else(|| env(lower).map(|v| (lower, v)))
        };
        let proxy = |found: Option<(&'static str, String)>| match found {
            None => Ok(None),
            Some((name, value)) => parse_proxy(name, &value).map(Some),
        };
        let exceptions = either("NO_PROXY", "no_proxy").map_or_else(Vec::new, |(_, text)| {
            text.split(',').map(str::trim).filter(|t| !t.is_empty()).filter_map(exception).collect()
        });
        Ok(Self {
            http: proxy(either("HTTP_PROXY", "http_proxy"))?,
            https: proxy(either("HTTPS_PROXY", "https_proxy"))?,
            exceptions,
        })
    }

    /// Returns the proxy for a host, if it is reached through one. This machine itself never is.
    pub(crate) fn of(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        if is_loopback(host) {
            return None;
        }
        let ip: Option<IpAddr> = host.parse().ok();
        let excepted = self.exceptions.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Net(net) => ip.is_some_and(|ip| net.contains(&ip)),
            Exception::Name { name, only_below, port: wanted } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|head| head.ends_with('.'));
                (below || (!only_below && host == name)) && wanted.is_none_or(|wanted| wanted == port)
            }
        });
        (!excepted).then_some(proxy)
    }
}

/// Tells whether a host is this machine by its very name: 127.0.0.0/8, ::1, `localhost` and names below it.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn parse_proxy(name: &'static str, text: &str) -> Result<Proxy, Error> {
    let wrong = |form| Error::Setting { name, value: without_secret(text), form };
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(wrong("only proxies of the form http://host:port are supported"));
    }
    let rest = rest.split('/').next().unwrap_or(rest);
    let (user, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (host, port) = split_port(authority).ok_or_else(|| wrong("expected a proxy such as http://host:3128"))?;
    let authorization = user.map(|user| format!("Basic {}", encode(&percent_decoded(user))));
    Ok(Proxy { host, port: port.unwrap_or(80), authorization })
}

fn without_secret(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => text.to_owned(),
    }
}

pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| bytes[at] == b'%');
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    out
}

fn exception(text: &str) -> Option<Exception> {
    if text == "*" {
        return Some(Exception::All);
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(Exception::Net(net));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Exception::Net(ip.into()));
    }
    let bare = text.trim_start_matches('*');
    let (name, port) = split_port(bare.trim_start_matches('.'))?;
    Some(Exception::Name { name, only_below: bare.starts_with('.'), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::new(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn mirrors_are_urls_or_hosts() {
        let all = settings(&[("HOIST_REGISTRY_MIRROR", "http://127.0.0.1:5000, mirror.example/ ,")]).expect("valid");
        let shown: Vec<String> = all.mirrors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://127.0.0.1:5000/", "https://mirror.example/"]);
        let wrong = settings(&[("HOIST_REGISTRY_MIRROR", "ftp://x")]).expect_err("no scheme of ours");
        assert_eq!(
            wrong.to_string(),
            "HOIST_REGISTRY_MIRROR is `ftp://x`: expected URLs such as http://127.0.0.1:5000, with commas between"
        );
    }

    #[test]
    fn patience_is_a_number_of_seconds() {
        assert_eq!(settings(&[]).expect("valid").stall, STALL);
        assert_eq!(settings(&[("HOIST_REGISTRY_TIMEOUT", "2")]).expect("valid").stall, Duration::from_secs(2));
        for wrong in ["0", "-1", "x", "1s"] {
            assert!(settings(&[("HOIST_REGISTRY_TIMEOUT", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn docker_keeps_its_file_where_it_is_told() {
        let path = |pairs: &[(&str, &str)]| settings(pairs).expect("valid").docker_config;
        assert_eq!(path(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), Some("/d/config.json".into()));
        assert_eq!(path(&[("HOME", "/h"), ("DOCKER_CONFIG", "")]), Some("/h/.docker/config.json".into()));
        assert_eq!(path(&[]), None);
    }

    #[test]
    fn some_hosts_are_reached_without_a_proxy() {
        let proxies = settings(&[
            ("HTTPS_PROXY", "http://proxy.example:3128"),
            ("http_proxy", "other.example"),
            ("NO_PROXY", "plain.example, .sub.example,*.star.example,10.0.0.0/8,192.168.1.1,ported.example:444,::2"),
        ])
        .expect("valid")
        .proxies;
        for (host, port, through) in [
            ("registry-1.docker.io", 443, true),
            ("plain.example", 443, false),
            ("a.plain.example", 443, false),
            ("notplain.example", 443, true),
            ("sub.example", 443, true),
            ("a.sub.example", 443, false),
            ("a.star.example", 443, false),
            ("10.1.2.3", 443, false),
            ("11.1.2.3", 443, true),
            ("192.168.1.1", 443, false),
            ("ported.example", 444, false),
            ("ported.example", 443, true),
            ("::2", 443, false),
            ("localhost", 443, false),
            ("127.9.9.9", 443, false),
            ("::1", 443, false),
        ] {
            assert_eq!(proxies.of(true, host, port).is_some(), through, "{host}:{port}");
        }
        let http = proxies.of(false, "a.example", 80).expect("a proxy");
        assert_eq!((http.host.as_str(), http.port), ("other.example", 80));
        let all = settings(&[("HTTP_PROXY", "x"), ("NO_PROXY", "*")]).expect("valid").proxies;
        assert!(all.of(false, "a.example", 80).is_none());
    }

    #[test]
    fn a_proxys_password_is_sent_and_never_shown() {
        let proxies = settings(&[("HTTP_PROXY", "http://me:p%40ss@p.example:1")]).expect("valid").proxies;
        let proxy = proxies.of(false, "a.example", 80).expect("a proxy");
        assert_eq!(proxy.authorization.as_deref(), Some(format!("Basic {}", encode(b"me:p@ss")).as_str()));
        assert!(!format!("{proxies:?}").contains("p%40ss"), "{proxies:?}");
        let wrong = settings(&[("HTTPS_PROXY", "socks5://me:secret@p.example:1")]).expect_err("not supported");
        assert!(!wrong.to_string().contains("secret"), "{wrong}");
    }
}
