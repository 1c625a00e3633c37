//! The driver against the kernel: each test in a network and a mount namespace of its own, which is its "host".

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::firewall::choice::Preference;
use super::firewall::iptables::Variant;
use super::*;

const QUICK: Duration = Duration::from_millis(300);

/// Runs a test on a host of its own; without root it says that it is skipped, unless `HOIST_REQUIRE_ROOT` is 1.
pub(super) fn on_a_host(test: impl FnOnce(&TestHost) + Send) {
    on_a_host_with(None, None, test);
}

/// Runs a test once for each backend that the kernel has, each on a host of its own.
fn with_each_backend(test: impl Fn(&TestHost) + Sync) {
    for backend in backends() {
        on_a_host_with(Some(backend), None, &test);
    }
}

/// Runs a test for each backend on hosts that let forwarded packets through, or drop them in either place of iptables.
fn with_each_backend_and_policy(test: impl Fn(&TestHost) + Sync) {
    let mut number = 0;
    for backend in backends() {
        for drops in [None, Some(Variant::Nft), Some(Variant::Legacy)] {
            let possible = |variant| match backend {
                Preference::Only(own) => own == variant,
                Preference::Nftables | Preference::Iptables => backends().contains(&Preference::Only(variant)),
            };
            if drops.is_none_or(possible) {
                on_a_host_with(Some(backend), drops, &test);
                number += 1;
            }
        }
    }
    assert!(number > 0 || !crate::testing::is_root(), "no backend works here");
}

/// The backends that can make a table with NAT here.
fn backends() -> Vec<Preference> {
    static FOUND: std::sync::OnceLock<Vec<Preference>> = std::sync::OnceLock::new();
    let works = |backend: &Preference| {
        let mut works = false;
        on_a_host_with(Some(*backend), None, |_| {
            let table = firewall::dns_redirect("hoist-probe", Ipv4Addr::new(127, 0, 0, 11), 1, 2);
            let made = Either.install(&table);
            if let Err(error) = &made {
                crate::testing::skip(&format!("the backend {}: {error}", backend.word()));
            }
            works = made.is_ok();
        });
        works
    };
    let all = [Preference::Nftables, Preference::Only(Variant::Nft), Preference::Only(Variant::Legacy)];
    FOUND.get_or_init(|| all.into_iter().filter(works).collect()).clone()
}

fn on_a_host_with(backend: Option<Preference>, drops: Option<Variant>, test: impl FnOnce(&TestHost) + Send) {
    if !crate::testing::is_root() {
        return;
    }
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            choice::OF_THREAD.set(backend);
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root may unshare");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private mounts");
            link::set_up_loopback().expect("lo comes up");
            if let Some(variant) = drops {
                forward_drops(variant);
            }
            let dir = tempfile::tempdir().expect("a temporary directory");
            let engine = EngineId::from_bytes([0xab, 0xcd]);
            let forwarding_marker = dir.path().join("forwarding");
            test(&TestHost { host: Host { engine, forwarding_marker }, dir });
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Has a variant of iptables drop what is forwarded, as Docker and ufw do.
fn forward_drops(variant: Variant) {
    let program = format!("iptables-{}", variant.word());
    let status = std::process::Command::new(&program).args(["-w", "-P", "FORWARD", "DROP"]).status();
    assert!(status.expect("it is installed").success(), "{program}");
}

pub(super) struct TestHost {
    host: Host,
    dir: tempfile::TempDir,
}

impl TestHost {
    pub(super) fn network(&self, number: u8, internal: bool) -> NetworkSpec {
        let id = NetworkId::from_bytes([number; 32]);
        let spec = NetworkSpec {
            name: format!("net{number}"),
            bridge: self.host.engine.bridge(&id),
            table: self.host.engine.table(&id),
            subnet: Ipv4Net::new_assert(Ipv4Addr::new(172, 20, number, 0), 24),
            gateway: Ipv4Addr::new(172, 20, number, 1),
            internal,
            id,
        };
        create(&self.host, &spec).expect("a network");
        spec
    }

    pub(super) fn container(&self, network: &NetworkSpec, last: u8) -> EndpointSpec {
        let netns = self.dir.path().join(format!("{}-{last}", network.name));
        create_namespace(&netns).expect("a namespace");
        let [a, b, c, _] = network.gateway.octets();
        let spec = EndpointSpec {
            network: network.id.clone(),
            bridge: network.bridge.clone(),
            table: network.table.clone(),
            netns,
            host_link: format!("hv-abcd{c:02x}{last:02x}0000"),
            container_link: "eth0".into(),
            address: Ipv4Addr::new(a, b, c, last),
            prefix: network.subnet.prefix_len(),
            gateway: (!network.internal).then_some(network.gateway),
            mac: [2, 0x42, a, b, c, last],
            ports: Vec::new(),
        };
        attach(&spec).expect("an endpoint");
        spec
    }

    /// Another machine on a network that the host is in, `192.0.2.0/24`, with the host as its router.
    fn remote(&self) -> EndpointSpec {
        let lan: Ipv4Net = "192.0.2.1/24".parse().expect("a constant");
        link::create_bridge("lan0", [2, 0, 0, 0, 0, 1], 1500).expect("a bridge");
        link::set_up_bridge(find("lan0").index, "", lan).expect("an address");
        let network = NetworkSpec {
            id: NetworkId::from_bytes([0xee; 32]),
            name: "lan".into(),
            bridge: "lan0".into(),
            table: String::new(),
            subnet: lan,
            gateway: lan.addr(),
            internal: false,
        };
        self.container(&network, 9)
    }
}

fn find(name: &str) -> Link {
    link::find(name).expect("links can be read").expect("the link is there")
}

pub(super) fn within<T: Send>(endpoint: &EndpointSpec, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(&endpoint.netns).expect("the namespace is pinned");
    sys::netns::with(namespace.as_fd(), work).expect("the namespace can be entered")
}

/// Serves the client's address on a port of a container, to as many clients as come.
fn serve(endpoint: &EndpointSpec, port: u16) {
    let listener = within(endpoint, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port"));
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            let peer = client.peer_addr().expect("it has an address").ip();
            // A client that is gone already has its own test failing.
            let _ = client.write_all(peer.to_string().as_bytes());
        }
    });
}

/// Asks a server of [`serve`], and returns as whom it saw us.
fn ask(ip: Ipv4Addr, port: u16) -> io::Result<String> {
    // A bridge learns of a new port's carrier a little later, and a lost SYN is sent again after a second.
    ask_within(ip, port, Duration::from_secs(5))
}

/// Tells whether there is no way to a server of [`serve`].
fn shut_out(ip: Ipv4Addr, port: u16) -> bool {
    ask_within(ip, port, QUICK).is_err()
}

fn ask_within(ip: Ipv4Addr, port: u16, time: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(SocketAddrV4::new(ip, port)), time)?;
    stream.set_read_timeout(Some(time))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn tcp(host_ip: Ipv4Addr, host_port: u16) -> PublishedPort {
    PublishedPort { host_ip, host_port, target: 80, protocol: Transport::Tcp }
}

pub(super) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn containers_of_one_network_reach_each_other() {
    with_each_backend_and_policy(|host| {
        let network = host.network(1, false);
        let (a, b) = (host.container(&network, 2), host.container(&network, 3));
        serve(&b, 80);
        assert_eq!(within(&a, || ask(b.address, 80)).expect("same bridge"), "172.20.1.2");
        assert_eq!(ask(b.address, 80).expect("from the host"), "172.20.1.1");
        within(&a, || {
            assert_eq!(link::read_sysctl("ipv4/ip_unprivileged_port_start").expect("readable"), "0");
            assert_eq!(link::read_sysctl("ipv4/ping_group_range").expect("readable"), "0\t2147483647");
            if std::path::Path::new("/proc/sys/net/ipv6").exists() {
                assert_eq!(link::read_sysctl("ipv6/conf/eth0/disable_ipv6").expect("readable"), "1");
                assert_eq!(link::read_sysctl("ipv6/conf/lo/disable_ipv6").expect("readable"), "0");
            }
        });
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    with_each_backend_and_policy(|host| {
        let network = host.network(1, false);
        let other = host.network(2, false);
        let (server, neighbour) = (host.container(&network, 2), host.container(&network, 3));
        let stranger = host.container(&other, 2);
        let remote = host.remote();
        serve(&server, 80);
        let lan = Ipv4Addr::new(192, 0, 2, 1);
        let wanted = [tcp(Ipv4Addr::UNSPECIFIED, 8080), tcp(Ipv4Addr::LOCALHOST, 8081), tcp(lan, 8082)];
        let _held = ports::reserve(&wanted).expect("free ports"); // as long as the rules stand
        assert!(shut_out(lan, 8080), "not published yet");
        publish(&network.table, &wanted.map(|port| (port, server.address))).expect("free ports");

        assert_eq!(within(&remote, || ask(lan, 8080)).expect("remote"), "192.0.2.9", "the source is kept");
        assert_eq!(ask(lan, 8080).expect("own address"), "192.0.2.1");
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 8080).expect("localhost"), "172.20.1.1");
        assert_eq!(within(&neighbour, || ask(lan, 8080)).expect("neighbour"), "172.20.1.1");
        assert_eq!(within(&server, || ask(lan, 8080)).expect("hairpin"), "172.20.1.1");
        assert_eq!(within(&stranger, || ask(lan, 8080)).expect("another network"), "172.20.1.1");

        assert!(ask(Ipv4Addr::LOCALHOST, 8081).is_ok());
        assert!(shut_out(lan, 8081), "published on localhost alone");
        assert!(within(&remote, || shut_out(lan, 8081)));
        assert!(within(&remote, || ask(lan, 8082)).is_ok());
        assert!(shut_out(Ipv4Addr::LOCALHOST, 8082), "published on one address alone");

        unpublish(&network.table, &[(tcp(Ipv4Addr::UNSPECIFIED, 8080), server.address)]).expect("it was there");
        assert!(within(&remote, || shut_out(lan, 8080)));
        unpublish(
            &network.table,
            &[(tcp(Ipv4Addr::UNSPECIFIED, 8080), server.address), (tcp(Ipv4Addr::LOCALHOST, 8081), server.address)],
        )
        .expect("a missing port is fine");
        assert!(shut_out(Ipv4Addr::LOCALHOST, 8081), "the one that was there is gone");
    });
}

#[test]
fn networks_do_not_see_each_other_nor_the_hosts_localhost() {
    with_each_backend(|host| {
        let (one, two) = (host.network(1, false), host.network(2, false));
        let (a, b) = (host.container(&one, 2), host.container(&two, 2));
        let remote = host.remote();
        serve(&b, 80);
        assert!(ask(b.address, 80).is_ok(), "the host itself may");
        assert!(within(&a, || shut_out(b.address, 80)), "another network");
        assert!(within(&remote, || shut_out(b.address, 80)), "a route over the host");

        // A container that routes 127.0.0.0/8 to the host must not get in, although the bridge has route_localnet.
        let local = UdpSocket::bind((Ipv4Addr::LOCALHOST, 7777)).expect("a free port");
        local.set_read_timeout(Some(QUICK)).expect("it can be");
        within(&a, || link::delete_address(1, "127.0.0.1/8".parse().expect("a net")).expect("it may"));
        let send = || {
            within(&a, || {
                link::write_sysctl("ipv4/conf/eth0/route_localnet", "1").expect("in its own namespace it may");
                let socket = UdpSocket::bind((a.address, 0)).expect("a free port");
                socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 7777)).expect("a route to the host");
            });
            local.recv_from(&mut [0; 9]).is_ok()
        };
        assert!(!send());
        Either.remove(&one.table).expect("it is there");
        Either.remove(&two.table).expect("it is there");
        assert!(send(), "it is the rules that keep it out");
    });
}

#[test]
fn a_host_that_did_not_forward_forwards_nothing_but_ours() {
    with_each_backend_and_policy(|host| {
        assert_eq!(link::read_sysctl("ipv4/ip_forward").expect("readable"), "0");
        let network = host.network(1, false);
        assert_eq!(link::read_sysctl("ipv4/ip_forward").expect("readable"), "1");
        assert!(host.host.forwarding_marker.exists());
        let (container, remote) = (host.container(&network, 2), host.remote());
        serve(&remote, 80);
        assert_eq!(within(&container, || ask(remote.address, 80)).expect("the way out"), "192.0.2.1", "masqueraded");

        link::create_bridge("lan1", [2, 0, 0, 0, 1, 1], 1500).expect("a bridge");
        link::set_up_bridge(find("lan1").index, "", "198.51.100.1/24".parse().expect("a net")).expect("up");
        let foreign = NetworkSpec {
            name: "lan1".into(),
            bridge: "lan1".into(),
            subnet: "198.51.100.0/24".parse().expect("a net"),
            gateway: Ipv4Addr::new(198, 51, 100, 1),
            ..network.clone()
        };
        let foreigner = host.container(&foreign, 9);
        assert!(within(&foreigner, || shut_out(remote.address, 80)), "not ours, so not forwarded");

        assert_eq!(remove(&host.host, &network).len(), 0);
        assert_eq!(link::read_sysctl("ipv4/ip_forward").expect("readable"), "0");
        assert!(!host.host.forwarding_marker.exists());
        assert_eq!(observe(&host.host.engine).expect("readable").tables, Vec::<String>::new());
    });
}

#[test]
fn a_host_that_forwards_already_is_left_alone() {
    with_each_backend(|host| {
        link::write_sysctl("ipv4/ip_forward", "1").expect("writable");
        let network = host.network(1, false);
        assert_eq!(observe(&host.host.engine).expect("readable").tables, [network.table.as_str()]);
        assert_eq!(remove(&host.host, &network).len(), 0);
        assert_eq!(link::read_sysctl("ipv4/ip_forward").expect("readable"), "1");
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    with_each_backend(|host| {
        let (inside, open) = (host.network(1, true), host.network(2, false));
        let (a, b, c) = (host.container(&inside, 2), host.container(&inside, 3), host.container(&open, 2));
        let remote = host.remote();
        serve(&b, 80);
        serve(&remote, 80);
        serve(&c, 80);
        assert!(within(&a, || ask(b.address, 80)).is_ok());
        within(&a, || {
            // Even with a route that it set itself.
            link::set_up_endpoint(find("eth0").index, "172.20.1.2/24".parse().expect("a net"), Some(inside.gateway))
                .expect("a route");
            assert!(shut_out(remote.address, 80));
            assert!(shut_out(c.address, 80));
        });
        assert_eq!(link::read_sysctl(&format!("ipv4/conf/{}/route_localnet", inside.bridge)).expect("there"), "0");
        assert!(publish(&inside.table, &[(tcp(Ipv4Addr::UNSPECIFIED, 80), b.address)]).is_err());
    });
}

#[test]
fn creating_again_changes_nothing_and_ports_stay() {
    with_each_backend(|host| {
        let network = host.network(1, false);
        let server = host.container(&network, 2);
        serve(&server, 80);
        publish(&network.table, &[(tcp(Ipv4Addr::UNSPECIFIED, 8080), server.address)]).expect("a free port");
        let before = observe(&host.host.engine).expect("readable");
        create(&host.host, &network).expect("repeatable");
        create_namespace(&server.netns).expect("repeatable");
        assert_eq!(observe(&host.host.engine).expect("readable"), before);
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_ok());
        attach(&server).expect("replaces the pair");
        eventually("the port works over the new pair", || ask(Ipv4Addr::LOCALHOST, 8080).is_ok());
    });
}

#[test]
fn a_port_leads_to_one_container_alone() {
    with_each_backend(|host| {
        let network = host.network(1, false);
        let port = tcp(Ipv4Addr::UNSPECIFIED, 8080);
        let (a, b) = (Ipv4Addr::new(172, 20, 1, 2), Ipv4Addr::new(172, 20, 1, 3));
        publish(&network.table, &[(port, a)]).expect("a free port");
        publish(&network.table, &[(port, a)]).expect("the same again is fine");
        let other = tcp(Ipv4Addr::UNSPECIFIED, 8081);
        let error = publish(&network.table, &[(other, b), (port, b)]).expect_err("it leads to the first");
        assert!(matches!(error, Error::PortTaken { .. }), "{error:?}");
        publish(&network.table, &[(other, a)]).expect("the refused change was refused as a whole");
    });
}

#[test]
fn ports_change_hands_while_they_are_used() {
    let patient = |port| ask_within(Ipv4Addr::LOCALHOST, port, Duration::from_secs(10));
    with_each_backend(|host| {
        let (network, other) = (host.network(1, false), host.network(2, false));
        let old = host.container(&network, 2);
        serve(&old, 80);
        // On the network of the first, and on another one, as when a network is replaced.
        for (network, last) in [(&network, 3), (&other, 2)] {
            let new = host.container(network, last);
            serve(&new, 80);
            let port = tcp(Ipv4Addr::UNSPECIFIED, 8080);
            let (more, less) = (tcp(Ipv4Addr::UNSPECIFIED, 8081), tcp(Ipv4Addr::LOCALHOST, 8082));
            let first = [(port, old.address), (less, old.address)];
            let second = [(port, new.address), (more, new.address)];
            let old_side = Side { table: &old.table, ports: &first };
            let new_side = Side { table: &new.table, ports: &second };
            publish(old_side.table, old_side.ports).expect("free ports");
            let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
            thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        // A slow machine may take its time, and TCP ask again; nobody is refused.
                        patient(8080).expect("it is never shut");
                        asked.fetch_add(1, Relaxed);
                        thread::sleep(Duration::from_millis(5)); // each is remembered for two minutes by a table that may be small
                    }
                });
                let mut rounds = 0;
                while rounds < 20 || asked.load(Relaxed) < 20 && !asking.is_finished() {
                    hand_over(old_side, new_side).expect("over");
                    hand_over(old_side, new_side).expect("once more");
                    assert!(patient(8081).is_ok() && shut_out(Ipv4Addr::LOCALHOST, 8082));
                    hand_over(new_side, old_side).expect("and back");
                    assert!(patient(8082).is_ok());
                    rounds += 1;
                }
                stop.store(true, Relaxed);
                asking.join().expect("it never failed");
            });
            unpublish(old_side.table, &first[..1]).expect("it was there");
            hand_over(old_side, new_side).expect("a missing port is fine");
            assert!(patient(8080).is_ok() && shut_out(Ipv4Addr::LOCALHOST, 8082));
            unpublish(new_side.table, new_side.ports).expect("they were there");
        }
    });
}

#[test]
fn a_client_that_was_not_answered_reaches_who_has_the_port_now() {
    with_each_backend(|host| {
        let network = host.network(1, false);
        let (old, new) = (host.container(&network, 2), host.container(&network, 3));
        serve(&old, 80);
        serve(&new, 80);
        let port = tcp(Ipv4Addr::UNSPECIFIED, 8080);
        let (first, second) = ([(port, old.address)], [(port, new.address)]);
        publish(&network.table, &first).expect("a free port");
        let namespace = File::open(&old.netns).expect("it is pinned");
        quiet(namespace.as_fd(), &[80]).expect("it can be shut off");
        quiet(namespace.as_fd(), &[80]).expect("and again");
        assert!(shut_out(Ipv4Addr::LOCALHOST, 8080));
        thread::scope(|scope| {
            let begun = Instant::now();
            let asking = scope.spawn(|| ask_within(Ipv4Addr::LOCALHOST, 8080, Duration::from_secs(10)));
            thread::sleep(Duration::from_millis(300)); // its first packet is lost by now
            hand_over(Side { table: &network.table, ports: &first }, Side { table: &network.table, ports: &second })
                .expect("over");
            forget_unanswered(old.address).expect("forgotten");
            asking.join().expect("no panic").expect("the second packet goes to the new one");
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        });
        loud(namespace.as_fd()).expect("it can be undone");
        loud(namespace.as_fd()).expect("and again");
        assert!(within(&new, || ask(old.address, 80)).is_ok());
    });
}

#[test]
fn a_failed_network_leaves_nothing() {
    with_each_backend(|host| {
        let mut broken = host.host.clone();
        broken.forwarding_marker = "/nonexistent/marker".into();
        let mut spec = host.network(1, false);
        assert_eq!(remove(&host.host, &spec).len(), 0);
        let error = create(&broken, &spec).expect_err("the note cannot be written");
        assert!(matches!(error, Error::Marker { .. }), "{error:?}");
        assert_eq!(observe(&host.host.engine).expect("readable"), Observed::default());

        spec.bridge = "lan0".into();
        host.remote();
        assert!(matches!(create(&host.host, &spec), Err(Error::BridgeTaken { .. })));
        assert_eq!(find("lan0").alias, "");
    });
}

#[test]
fn removing_leaves_nothing() {
    with_each_backend(|host| {
        let network = host.network(1, false);
        let mut a = host.container(&network, 2);
        a.ports = vec![tcp(Ipv4Addr::UNSPECIFIED, 8080)];
        publish(&a.table, &mappings(&a)).expect("a free port");
        unpublish(&a.table, &mappings(&a)).expect("it is there");
        unpublish(&a.table, &mappings(&a)).expect("a missing one is fine");
        remove_namespace(&a.netns).expect("it is pinned");
        remove_namespace(&a.netns).expect("a missing one is fine");
        assert!(!a.netns.exists());
        eventually("the pair goes with its namespace", || {
            link::find(&a.host_link).expect("links can be read").is_none()
        });
        let b = host.container(&network, 3);
        assert_eq!(remove(&host.host, &network).len(), 0);
        assert_eq!(remove(&host.host, &network).len(), 0);
        unpublish(&b.table, &mappings(&b)).expect("its table is gone");
        remove_namespace(&b.netns).expect("it is pinned");
        eventually("nothing is left", || observe(&host.host.engine).expect("readable") == Observed::default());
    });
}

#[test]
fn what_no_network_claims_goes_and_the_others_stay() {
    with_each_backend(|host| {
        let (kept, left) = (host.network(1, false), host.network(2, false));
        assert_eq!(remove_unclaimed(&host.host, &[&kept]).len(), 0);
        let found = observe(&host.host.engine).expect("readable");
        assert_eq!(found.links.iter().map(|l| &l.name).collect::<Vec<_>>(), [&kept.bridge]);
        assert_eq!(found.tables.len(), 2, "the kept one and the guard: {:?}", found.tables);
        assert_eq!(unclaimed(&found, &host.host.engine, &[&kept]), Observed::default());
        assert_eq!(unclaimed(&found, &host.host.engine, &[&left]).links, found.links);
        assert_eq!(remove_unclaimed(&host.host, &[]).len(), 0);
        // The kernel frees the bridge in its own time.
        eventually("nothing is left", || observe(&host.host.engine).expect("readable") == Observed::default());
    });
}

#[test]
fn routes_and_addresses_are_listed() {
    on_a_host(|host| {
        let remote = host.remote();
        let taken = link::taken().expect("readable");
        assert!(taken.routes.contains(&"192.0.2.0/24".parse().expect("a net")), "{taken:?}");
        assert!(taken.addresses.iter().any(|(_, a)| a.addr() == Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(taken.default_link, None);
        within(&remote, || {
            assert_eq!(link::taken().expect("readable").default_link, Some(find("eth0").index));
        });
    });
}

#[test]
fn a_udp_sender_that_never_stops_reaches_a_port_published_later() {
    with_each_backend(|host| {
        let network = host.network(1, false);
        let (server, remote) = (host.container(&network, 2), host.remote());
        let receiver = within(&server, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("a free port"));
        receiver.set_read_timeout(Some(QUICK)).expect("it can be");
        let sender = within(&remote, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port"));
        let to = (Ipv4Addr::new(192, 0, 2, 1), 5353);
        let port =
            PublishedPort { host_ip: Ipv4Addr::UNSPECIFIED, host_port: 5353, target: 53, protocol: Transport::Udp };
        let arrives = || {
            // Something is refused while nobody listens; the next send works again.
            let _ = sender.send_to(b"x", to).or_else(|_| sender.send_to(b"x", to));
            receiver.recv_from(&mut [0; 9]).is_ok()
        };
        assert!(!arrives());
        publish(&network.table, &[(port, server.address)]).expect("a free port");
        eventually("a packet arrives", arrives);
        unpublish(&network.table, &[(port, server.address)]).expect("it is there");
        while receiver.recv_from(&mut [0; 9]).is_ok() {}
        assert!(!arrives(), "the flow is forgotten");
    });
}
