//! `[[HOST_IP:][PUBLISHED]:]TARGET[/PROTOCOL]`, with ranges.

use std::net::IpAddr;

use crate::compose::model::Protocol;

/// One port of a short entry; a range gives several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShortPort {
    /// Address on the host.
    pub(crate) host_ip: Option<IpAddr>,
    /// Port on the host: one, or a range to choose from.
    pub(crate) published: Option<String>,
    /// Port in the container.
    pub(crate) target: u16,
    /// Protocol.
    pub(crate) protocol: Protocol,
}

/// Reads a short entry.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn parse(text: &str) -> Result<Vec<ShortPort>, String> {
    let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = self::protocol(protocol)?;
    let mut parts = address.rsplitn(3, ':');
    let target = parts.next().unwrap_or("");
    let published = parts.next().unwrap_or("");
    let host_ip = parts.next().filter(|ip| !ip.is_empty()).map(self::host_ip).transpose()?;
    if target.is_empty() {
        return Err(format!("`{text}` names no port of the container"));
    }
    let (first, last) = range(target)?;
    if first == 0 {
        return Err("port 0 of a container does not exist".into());
    }
    let targets = first..=last;
    if published.is_empty() {
        return Ok(sorted(targets.map(|target| ShortPort { host_ip, published: None, target, protocol }).collect()));
    }
    let (low, high) = range(published)?;
    if high - low == last - first {
        let pairs = targets.zip(low..=high);
        let ports = pairs.map(|(target, published)| ShortPort {
            host_ip,
            published: Some(published.to_string()),
            target,
            protocol,
        });
        return Ok(sorted(ports.collect()));
    }
    if first == last {
        return Ok(vec![ShortPort { host_ip, published: Some(format!("{low}-{high}")), target: first, protocol }]);
    }
    Err(format!("the ranges `{published}` and `{target}` differ in length"))
}

/// Orders ports as docker compose prints a range: by the text of `port/protocol`, so 10 comes before 9.
fn sorted(mut ports: Vec<ShortPort>) -> Vec<ShortPort> {
    ports.sort_by_key(|port| port.target.to_string());
    ports
}

/// Reads a protocol.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(format!("`{text}` is no protocol; it can be `tcp`, `udp` or `sctp`")),
    }
}

/// Reads `a` or `a-b`.
pub(crate) fn range(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    if low.is_empty() || high.is_empty() {
        return Err(format!("`{text}` is neither a port nor a range of ports"));
    }
    let (low, high) = (port(low)?, port(high)?);
    if high < low { Err(format!("the range `{text}` ends before it begins")) } else { Ok((low, high)) }
}

fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("`{text}` is not a port; ports go from 0 to 65535"))
}

/// Reads an address of the host; IPv6 stands in brackets.
fn host_ip(text: &str) -> Result<IpAddr, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner.parse().map(IpAddr::V6).map_err(|_| format!("`{inner}` is not an IPv6 address"));
    }
    match text.parse() {
        Ok(IpAddr::V4(ip)) => Ok(IpAddr::V4(ip)),
        Ok(IpAddr::V6(_)) => Err(format!("an IPv6 address stands in brackets here: `[{text}]`")),
        Err(_) => Err(format!("`{text}` is not an IP address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse(text) {
            Ok(ports) => ports
                .iter()
                .map(|p| {
                    let ip = p.host_ip.map_or(String::new(), |ip| format!("{ip} "));
                    format!("{ip}{}>{}/{:?}", p.published.as_deref().unwrap_or("-"), p.target, p.protocol)
                })
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error,
        }
    }

    #[test]
    fn every_form_is_read() {
        for (text, ports) in [
            ("3000", "->3000/Tcp"),
            ("8080:80", "8080>80/Tcp"),
            ("0:82", "0>82/Tcp"),
            ("9-10", "->10/Tcp, ->9/Tcp"),
            ("9090-9091:8080-8081", "9090>8080/Tcp, 9091>8081/Tcp"),
            ("8000-8010:80", "8000-8010>80/Tcp"),
            ("127.0.0.1:8001:8001", "127.0.0.1 8001>8001/Tcp"),
            ("127.0.0.1::80", "127.0.0.1 ->80/Tcp"),
            ("[::1]:6001:6001", "::1 6001>6001/Tcp"),
            ("6060:6060/udp", "6060>6060/Udp"),
            ("1:1/SCTP", "1>1/Sctp"),
        ] {
            assert_eq!(show(text), ports, "{text}");
        }
    }

    #[test]
    fn mistakes_get_a_sentence() {
        insta::assert_snapshot!(
            ["80:80/xyz", "::1:6000:6000", "80: 80", "-1:80", "70000", "1-2:1-3", "9-8", "80:0", "80:", "x:1:2", ""].map(show).join("\n"),
            @r#"
`xyz` is no protocol; it can be `tcp`, `udp` or `sctp`
an IPv6 address stands in brackets here: `[::1]`
` 80` is not a port; ports go from 0 to 65535
`-1` is neither a port nor a range of ports
`70000` is not a port; ports go from 0 to 65535
the ranges `1-2` and `1-3` differ in length
the range `9-8` ends before it begins
port 0 of a container does not exist
`80:` names no port of the container
`x` is not an IP address
`` names no port of the container
"#
        );
    }
}
