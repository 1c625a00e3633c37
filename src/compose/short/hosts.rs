//! `HOST=ADDRESS` and `HOST:ADDRESS` of `extra_hosts`.

use std::net::IpAddr;

/// The word for the host as a container reaches it.
pub(crate) const GATEWAY: &str = "host-gateway";

/// A host and its addresses; `None` is [`GATEWAY`].
pub(crate) type Host = (String, Vec<Option<IpAddr>>);

/// Reads a short entry: the host, and its addresses; `None` is `host-gateway`.
///
/// # Errors
/// A sentence about what is wrong.
pub fn parse(text: &str) -> Result<Host, String> {
    let Some((host, addresses)) = text.split_once('=').or_else(|| text.split_once(':')) else {
        return Err(format!("`{text}` names no address"));
    };
    Ok((self::host(host)?, self::addresses(addresses)?))
}

/// Whether a host's name can be told from its address.
pub(crate) fn is_separate(host: &str) -> bool {
    !host.is_empty() && !host.contains([':', '='])
}

/// Reads a host's name.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let host = text.trim();
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '#' | '=')) {
        return Err(format!("`{host}` is not the name of a host"));
    }
    Ok(host.to_owned())
}

/// Reads addresses with commas between them; one of IPv6 may stand in brackets.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn addresses(text: &str) -> Result<Vec<Option<IpAddr>>, String> {
    let one = |text: &str| {
        let text = text.trim();
        if text == GATEWAY {
            return Ok(None);
        }
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        inner.parse().map(Some).map_err(|_| format!("`{text}` is neither an IP address nor `{GATEWAY}`"))
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let show = |text: &str| {
            let (host, addresses) = parse(text)?;
            let shown = addresses.iter().map(|a| a.map_or_else(|| GATEWAY.to_owned(), |a| a.to_string()));
            Ok::<_, String>(format!("{host} {}", shown.collect::<Vec<_>>().join(" ")))
        };
        for (text, shown) in [
            ("a=1.1.1.1", "a 1.1.1.1"),
            ("b:2.2.2.2", "b 2.2.2.2"),
            ("c=::1", "c ::1"),
            ("d:[::1]", "d ::1"),
            ("e:::1", "e ::1"),
            ("gw=host-gateway", "gw host-gateway"),
            ("m=1.1.1.1,2.2.2.2", "m 1.1.1.1 2.2.2.2"),
        ] {
            assert_eq!(show(text).as_deref(), Ok(shown), "{text}");
        }
        for text in ["", "a", "a=", "=1.1.1.1", "a b=1.1.1.1", "a=1.1.1", "a=x", "a=[1.1.1.1", "a=1.1.1.1 b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
