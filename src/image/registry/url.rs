//! The URLs that registries use: `http` and `https`, a host, a path. Relative redirects are resolved against them.
//!
//! Invariant: pure.

use std::fmt;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns host and port as the `Host` header has them: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        let host = bracketed(&self.host);
        if self.port == if self.https { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// Writes an IPv6 address in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Path and query, from the first slash on.
    pub(crate) path: String,
}

impl Url {
    /// Reads an absolute URL; one with credentials in it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Some(Self { origin: Origin { https, host, port }, path })
    }

    /// Returns where a `Location` leads from here (RFC 3986, section 5.2, without dot segments).
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or(location).trim();
        let scheme = if self.origin.https { "https" } else { "http" };
        if location.contains("://") && location.split("://").next().is_some_and(|s| !s.contains(['/', '?'])) {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let own = self.path.split('?').next().unwrap_or(&self.path);
        let path = match location.chars().next() {
            None => return None,
            Some('/') => location.to_owned(),
            Some('?') => format!("{own}{location}"),
            Some(_) => format!("{}/{location}", own.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
        Some(Self { origin: self.origin.clone(), path })
    }
}

impl fmt::Display for Url {
    /// Writes it without its query, which may hold a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.https { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or(&self.path);
        write!(f, "{scheme}://{}{path}", self.origin.authority())
    }
}

/// Splits `host[:port]`; the host comes back without brackets.
pub(crate) fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |i| authority.split_at(i)),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|p| *p != 0)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (text, wanted) in [
            ("https://auth.docker.io/token", Some((true, "auth.docker.io", 443, "/token"))),
            ("HTTP://Host:5000", Some((false, "host", 5000, "/"))),
            ("http://[::1]:80/a?b#c", Some((false, "::1", 80, "/a?b"))),
            ("https://h?x=y", Some((true, "h", 443, "/?x=y"))),
            ("https://user:secret@h/", None),
            ("ftp://h/", None),
            ("/v2/", None),
            ("https://h:0/", None),
            ("https://h:99999/", None),
            ("https://", None),
            ("https://[::1/", None),
        ] {
            let read = Url::parse(text);
            let parts = read.as_ref().map(|u| (u.origin.https, u.origin.host.as_str(), u.origin.port, u.path.as_str()));
            assert_eq!(parts, wanted, "{text}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/x?y=z").expect("a URL");
        for (location, wanted) in [
            ("https://cdn.example/blob?sig=secret", "https://cdn.example/blob"),
            ("//cdn.example/blob", "https://cdn.example/blob"),
            ("/v2/b", "https://r.example:5000/v2/b"),
            ("other", "https://r.example:5000/v2/a/blobs/other"),
            ("/to?next=http://x", "https://r.example:5000/to"),
        ] {
            assert_eq!(base.join(location).map(|u| u.to_string()).as_deref(), Some(wanted), "{location}");
        }
        assert_eq!(base.join(""), None);
        assert_eq!(base.join("?q=1").map(|u| u.path).as_deref(), Some("/v2/a/blobs/x?q=1"));
    }
}
