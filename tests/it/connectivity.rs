//! Who reaches whom, by TCP and UDP, with every firewall backend and beside a firewall that drops what it forwards.
//!
//! The servers are threads of the test inside the containers' network namespaces: they answer with the address that they
//! see.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::host;
use super::support::net::{self, Kind, Neighbour};
use super::support::project::TestProject;
use super::support::{Secs as _, pause, require_root};

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    ports: ['8080:80', '8080:80/udp', '127.0.0.1:8081:80', '127.0.0.1:8081:80/udp']
  app:
    image: busybox
    command: sleep 1000
";
const BLOG: &str = "services:\n  web:\n    image: busybox\n    command: sleep 1000\n";

/// How long something that must not arrive is waited for.
const QUICK: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
enum By {
    Tcp,
    Udp,
}

/// Answers on port 80, TCP and UDP, in a network namespace; ends with it.
struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves in a service's container.
    fn of(project: &TestProject, service: &str) -> Self {
        let netns = net::netns_of(project.pid(service));
        net::in_netns(&netns, || Self::here(80))
    }

    fn here(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
        tcp.set_nonblocking(true).expect("it can be");
        udp.set_nonblocking(true).expect("it can be");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut stream, from)) = tcp.accept() {
                    let _ = stream.write_all(from.ip().to_string().as_bytes()); // the client's loss
                } else if let Ok((_, from)) = udp.recv_from(&mut [0; 9]) {
                    let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
                } else {
                    pause();
                }
            }
        });
        Self { stop, threads: vec![thread] }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic has been printed
        }
    }
}

/// Asks a server whom it sees; nothing when no answer comes in time.
fn seen(by: By, to: SocketAddr, patience: Duration) -> Option<IpAddr> {
    let mut text = String::new();
    match by {
        By::Tcp => {
            let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
            stream.set_read_timeout(Some(patience)).ok()?;
            stream.read_to_string(&mut text).ok()?;
        }
        By::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect(to).ok()?;
            socket.set_read_timeout(Some(patience)).ok()?;
            socket.send(b"?").ok()?;
            let mut buffer = [0; 99];
            let length = socket.recv(&mut buffer).ok()?;
            text.push_str(std::str::from_utf8(&buffer[..length]).ok()?);
        }
    }
    text.parse().ok()
}

#[track_caller]
fn reaches(what: &str, by: By, to: (Ipv4Addr, u16), as_whom: Ipv4Addr) {
    let begun = Instant::now();
    loop {
        // A datagram may be lost while a bridge learns of a new port.
        match seen(by, to.into(), 1.secs()) {
            Some(address) => {
                assert_eq!(address, as_whom, "{what} by {by:?}: the source");
                return;
            }
            None => assert!(begun.elapsed() < 10.secs(), "{what} by {by:?}: no answer from {to:?}"),
        }
    }
}

#[track_caller]
fn is_shut_out(what: &str, by: By, to: (Ipv4Addr, u16)) {
    assert_eq!(seen(by, to.into(), QUICK), None, "{what} by {by:?}: {to:?} answers");
}

/// Goes through all who may and may not reach a published port.
fn matrix(firewall: &'static str, drops: Option<&str>) {
    let shop = TestProject::new("shop", SHOP);
    if let Err(why) = can(firewall) {
        host::leave_out(module_path!(), &format!("firewall {firewall}: {why}"));
        return;
    }
    shop.host().set_firewall(firewall);
    let blog = shop.beside("blog", BLOG);
    let neighbour = Neighbour::new(shop.host());
    if let Some(variant) = drops {
        host::command(&format!("iptables-{variant}"), &["-w", "-P", "FORWARD", "DROP"]);
    }
    // Whether rules see what stays on a bridge changes the way of a packet that comes back to it: one of the two each.
    let call = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if std::path::Path::new(call).exists() {
        std::fs::write(call, if drops.is_some() { "1" } else { "0" }).expect("writable");
    }
    let before = shop.host().objects();
    shop.up();
    blog.up();
    assert!(before.added_in(&shop.host().objects()).contains(if firewall == "nftables" {
        "table ip"
    } else {
        firewall
    }));
    let (web, app, other) = (shop.address("web"), shop.address("app"), blog.address("web"));
    let gateway = gateway_of(web);
    let served = [Server::of(&shop, "web"), Server::of(&blog, "web"), neighbour.on(|| Server::here(7000))];
    let [in_web, in_app, in_blog] =
        [(&shop, "web"), (&shop, "app"), (&blog, "web")].map(|(p, s)| net::netns_of(p.pid(s)));
    let (host, published) = (Neighbour::HOST, (Neighbour::HOST, 8080));
    for by in [By::Tcp, By::Udp] {
        reaches("the host, at its own address", by, published, host);
        reaches("the host, at localhost", by, (Ipv4Addr::LOCALHOST, 8080), gateway);
        neighbour.on(|| reaches("another host", by, published, Neighbour::ADDRESS));
        net::in_netns(&in_app, || {
            reaches("a service of the same network", by, (web, 80), app);
            reaches("a service of the same network, by the published port", by, published, gateway);
        });
        net::in_netns(&in_web, || {
            reaches("the container itself, by the published port", by, published, gateway);
            reaches("the container, the outside", by, (Neighbour::ADDRESS, 7000), host);
        });
        net::in_netns(&in_blog, || {
            reaches("another project, by the published port", by, published, gateway);
            is_shut_out("another project", by, (web, 80));
        });
        net::in_netns(&in_web, || is_shut_out("the project, another one", by, (other, 80)));

        reaches("the host, what is published on localhost", by, (Ipv4Addr::LOCALHOST, 8081), gateway);
        is_shut_out("the host at its own address, what is published on localhost", by, (host, 8081));
        neighbour.on(|| {
            is_shut_out("another host, what is published on localhost", by, (host, 8081));
            is_shut_out("another host, what is not published", by, (host, 80));
        });
    }
    // And with a route, past the host's ports.
    neighbour.on(|| {
        host::command("ip", &["route", "add", &format!("{web}/32"), "via", &host.to_string()]);
        for by in [By::Tcp, By::Udp] {
            is_shut_out("another host, the container's address", by, (web, 80));
        }
    });
    // By name, as programs ask.
    assert_eq!(net::dns(shop.pid("app"), "web", Kind::A).records, [web.to_string()]);
    drop(served);
    drop((in_web, in_app, in_blog));
    shop.down();
    blog.down();
    shop.host().is_again(&before);
}

fn gateway_of(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c, 1)
}

/// Says why this kernel cannot have a backend, by the backend's own program in a namespace that is thrown away.
pub(super) fn can(firewall: &str) -> Result<(), String> {
    let script = match firewall {
        "nftables" => {
            "nft add table ip probe && nft 'add chain ip probe c { type nat hook output priority -100; }'".to_owned()
        }
        variant => format!("{variant} -w -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j RETURN"),
    };
    let output = Command::new("unshare").args(["-n", "sh", "-c", &script]).output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

#[test]
fn all_reach_whom_they_may_with_nftables() {
    require_root!();
    matrix("nftables", None);
}

#[test]
fn all_reach_whom_they_may_with_nftables_where_forward_drops() {
    require_root!();
    matrix("nftables", Some("nft"));
}

#[test]
fn all_reach_whom_they_may_with_nftables_where_the_old_forward_drops() {
    require_root!();
    matrix("nftables", Some("legacy"));
}

#[test]
fn all_reach_whom_they_may_with_iptables() {
    require_root!();
    matrix("iptables-nft", None);
}

#[test]
fn all_reach_whom_they_may_with_iptables_where_forward_drops() {
    require_root!();
    matrix("iptables-nft", Some("nft"));
}

#[test]
fn all_reach_whom_they_may_with_the_old_iptables() {
    require_root!();
    matrix("iptables-legacy", None);
}

#[test]
fn all_reach_whom_they_may_with_the_old_iptables_where_forward_drops() {
    require_root!();
    matrix("iptables-legacy", Some("legacy"));
}

#[test]
fn a_firewall_that_is_switched_on_later_is_noticed_by_the_next_up() {
    require_root!();
    let variant = if can("iptables-nft").is_ok() { "nft" } else { "legacy" };
    let shop = TestProject::new("shop", SHOP);
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    let pid = shop.pid("web");
    let served = Server::of(&shop, "web");
    let published = (Neighbour::HOST, 8080);
    neighbour.on(|| reaches("another host", By::Tcp, published, Neighbour::ADDRESS));
    host::command(&format!("iptables-{variant}"), &["-w", "-P", "FORWARD", "DROP"]);
    neighbour.on(|| is_shut_out("another host", By::Tcp, published));
    shop.up();
    neighbour.on(|| reaches("another host", By::Tcp, published, Neighbour::ADDRESS));
    assert_eq!(shop.pid("web"), pid);
    let plan = shop.hoist(&["up", "-d", "--dry-run"]).code(0);
    assert!(!plan.stdout.contains("network"), "{plan}");
    drop(served);
}
