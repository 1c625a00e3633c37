//! From a host's name to its addresses, without NSS: /etc/hosts, then the servers of /etc/resolv.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::error::ConnectError;
use super::settings::is_loopback;
use crate::dns::message::{self, Kind};
use crate::dns::resolver::{Forward, Next, nameservers};

/// How long an answer over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(4);

/// Returns a host's addresses, IPv4 first: a machine without a way for IPv6 is more common than one without IPv4.
pub(super) async fn addresses(host: &str) -> Result<Vec<IpAddr>, ConnectError> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    if is_loopback(host) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default(); // a host may do without either
    let listed = in_hosts(&read("/etc/hosts"), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let conf = read("/etc/resolv.conf");
    let mut servers = nameservers(&conf, |_| None);
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into()); // resolv.conf(5)
    }
    let mut failure = None;
    for name in candidates(host, &conf) {
        let (four, six) = tokio::join!(ask(&name, Kind::A, &servers), ask(&name, Kind::Aaaa, &servers));
        let mut found = Vec::new();
        for answer in [four, six] {
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(reason) => failure = Some(reason),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(match failure {
        Some(reason) => ConnectError::Dns { host: host.to_owned(), reason },
        None => ConnectError::NoName(host.to_owned()),
    })
}

/// Returns the addresses that the text of a hosts(5) gives a name.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or(line).split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// Returns the names to ask for, in order (resolv.conf(5), `search` and `ndots`).
fn candidates(host: &str, conf: &str) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let (mut search, mut ndots) = (Vec::new(), 1);
    for line in conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("search" | "domain") => search = words.map(|d| d.trim_end_matches('.').to_owned()).collect(),
            Some("options") => {
                ndots = words.filter_map(|o| o.strip_prefix("ndots:")?.parse().ok()).next_back().unwrap_or(ndots);
            }
            _ => {}
        }
    }
    let below = search.iter().filter(|domain| !domain.is_empty()).map(|domain| format!("{host}.{domain}"));
    let mut names: Vec<String> = below.collect();
    let at = if host.matches('.').count() >= ndots { 0 } else { names.len() };
    names.insert(at, host.to_owned());
    names
}

/// Asks the servers for one kind of address. No such name, and none of that kind, are no address and no error.
async fn ask(name: &str, kind: Kind, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    let query = message::question(0, name, kind).map_err(|_| "it is no name for DNS".to_owned())?;
    let id = u16::from_ne_bytes(crate::image::registry::random());
    let mut forward = Forward::new(query, id, servers.len(), Instant::now());
    let mut sockets: Vec<Option<UdpSocket>> = Vec::new();
    let mut next = forward.on_time(Instant::now());
    let answer = loop {
        match next {
            Next::Ask(number) => {
                let socket = send(servers[number], forward.query()).await;
                next = if socket.is_ok() { Next::Wait } else { forward.on_failure(Instant::now()) };
                sockets.push(socket.ok());
            }
            Next::Wait => next = wait(&mut forward, &mut sockets).await,
            Next::Give(answer) => break answer,
            Next::Fail => return Err("no name server of /etc/resolv.conf answers".into()),
        }
    };
    let read = |bytes: &[u8]| message::read_addresses(bytes).map_err(|_| "a name server sends nonsense".to_owned());
    let mut reply = read(&answer)?;
    if reply.truncated && reply.addresses.is_empty() {
        for server in servers {
            let whole = tokio::time::timeout(TCP_PATIENCE, over_tcp(*server, forward.query())).await;
            if let Ok(Ok(bytes)) = whole {
                reply = read(&bytes)?;
                break;
            }
        }
    }
    match reply.code {
        0 | 3 => Ok(reply.addresses),
        _ => Err("the name servers of /etc/resolv.conf fail to find it".into()),
    }
}

async fn send(server: SocketAddr, query: &[u8]) -> std::io::Result<UdpSocket> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Only this server's answers come in then, and its host's refusal comes in as an error.
    socket.connect(server).await?;
    socket.send(query).await?;
    Ok(socket)
}

/// Waits for an answer or the next deadline; says what follows.
async fn wait(forward: &mut Forward, sockets: &mut [Option<UdpSocket>]) -> Next {
    let open = sockets.iter().flatten().map(|socket| Box::pin(socket.readable()));
    let open: Vec<_> = open.collect();
    let deadline = tokio::time::sleep_until(forward.deadline().into());
    if open.is_empty() {
        deadline.await;
        return forward.on_time(Instant::now());
    }
    tokio::select! {
        _ = futures_util::future::select_all(open) => {}
        () = deadline => return forward.on_time(Instant::now()),
    }
    let mut buffer = [0; 4096];
    for place in sockets.iter_mut() {
        let Some(socket) = place else { continue };
        match socket.try_recv(&mut buffer) {
            Ok(n) => return forward.on_answer(&buffer[..n], Instant::now()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => {
                *place = None;
                return forward.on_failure(Instant::now());
            }
        }
    }
    Next::Wait
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if message::answers(&answer, query) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        let text =
            "127.0.0.1 localhost\n# 1.1.1.1 reg\n::2 reg.example Reg # x\n10.0.0.2\treg other\n10.0.0.2 reg\nx reg\n";
        let shown = |host| in_hosts(text, host).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(shown("reg"), "10.0.0.2 ::2");
        assert_eq!(shown("REG.example"), "::2");
        assert_eq!(shown("nobody"), "");
    }

    #[test]
    fn short_names_are_searched_for() {
        let conf = "nameserver 1.1.1.1\nsearch lan. corp.example\n";
        assert_eq!(candidates("reg", conf), ["reg.lan", "reg.corp.example", "reg"]);
        assert_eq!(candidates("a.example", conf), ["a.example", "a.example.lan", "a.example.corp.example"]);
        assert_eq!(candidates("a.example.", conf), ["a.example"]);
        assert_eq!(candidates("a.b", "search x\noptions timeout:1 ndots:2\n"), ["a.b.x", "a.b"]);
        assert_eq!(candidates("reg", ""), ["reg"]);
    }
}
