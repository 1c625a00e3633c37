//! Names and variables that a service gets from besides the compose file and its networks.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::support::net::{self, Answer, Kind};
use super::support::project::TestProject;
use super::support::require_root;

#[test]
fn variables_come_from_files_in_their_order_and_a_change_is_a_new_container() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    env_file:
      - a.env
      - {path: b.env, format: raw}
      - {path: missing.env, required: false}
    environment: {DIRECT: file, EXPLICIT: 'yes'}
  other:
    image: busybox
    command: sleep 1000
",
    );
    shop.write("a.env", "A=one\nB=\"from a\"\nDIRECT=env\nBOTH=${A}-${EXPLICIT}\n");
    shop.write("b.env", "B='as it is' $A\n");
    shop.up();
    let value = |name: &str| shop.shell("web", &format!("echo \"${name}\""));
    assert_eq!(value("A"), "one");
    assert_eq!(value("B"), "'as it is' $A");
    assert_eq!(value("DIRECT"), "file");
    assert_eq!(value("BOTH"), "one-yes");
    let id = shop.record("web").id;
    shop.up();
    assert_eq!(shop.record("web").id, id);
    shop.write("a.env", "A=two\n");
    shop.up();
    assert_ne!(shop.record("web").id, id);
    assert_eq!(shop.shell("web", "echo $A$BOTH"), "two");

    fs::remove_file(shop.path("b.env")).expect("it was there");
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("b.env` of service `web` does not exist") && said.contains("--> compose.yaml:8:9"), "{said}");
    shop.write("b.env", "");
    shop.write("a.env", "A=1\nno variable\n");
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("the variable name `no variable` contains a space"), "{said}");
    assert!(said.contains("--> a.env:2:1"), "{said}");
    // What needs no variables does not read them.
    shop.hoist(&["ps"]).ok();
    shop.hoist(&["up", "-d", "other"]).ok();
}

#[test]
fn hosts_are_known_by_the_names_in_the_file_and_the_gateway_is_the_host() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    extra_hosts:
      - db=192.0.2.7
      - 'six:[2001:db8::1]'
      - the-host=host-gateway
  inside:
    image: busybox
    command: sleep 1000
    networks: [closed]
networks:
  closed: {internal: true}
",
    );
    shop.up();
    let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"from the host\n")
    });
    let hosts = shop.shell("web", "cat /etc/hosts");
    assert!(hosts.lines().any(|line| line == "192.0.2.7\tdb"), "{hosts}");
    assert!(hosts.lines().any(|line| line == "2001:db8::1\tsix"), "{hosts}");
    let greeting = shop.shell("web", &format!("nc -w 5 the-host {port} </dev/null"));
    assert_eq!(greeting, "from the host");
    served.join().expect("no panic").expect("served");

    let text = fs::read_to_string(shop.path("compose.yaml")).expect("it");
    shop.write(
        "compose.yaml",
        &text.replace("    networks: [closed]", "    networks: [closed]\n    extra_hosts: ['h=host-gateway']"),
    );
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("`host-gateway` of service `inside` has no address"), "{said}");
    assert!(said.contains("--> compose.yaml:14:19"), "{said}");
}

/// Answers every question with one address, until the test ends.
fn nameserver(at: Ipv4Addr, address: Ipv4Addr) {
    let socket = UdpSocket::bind((at, 53)).expect("port 53 is free on a host of our own");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The question's name ends at its first empty label; type and class follow (RFC 1035, 4.1).
            let Some(end) = buffer[12..length].iter().position(|b| *b == 0).map(|at| 12 + at + 5) else { continue };
            let mut reply = buffer[..end].to_vec();
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            reply.extend(address.octets());
            let _ = socket.send_to(&reply, from); // as if it was lost
        }
    });
}

#[test]
fn a_service_asks_its_own_servers_with_its_own_search() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  own:
    image: busybox
    command: sleep 1000
    dns: [127.0.0.54]
    dns_search: [corp.example, lab.example]
    dns_opt: ['ndots:3', use-vc]
  none:
    image: busybox
    command: sleep 1000
    dns: 127.0.0.55
    dns_search: .
",
    );
    let (one, other) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
    nameserver(Ipv4Addr::new(127, 0, 0, 54), one);
    nameserver(Ipv4Addr::new(127, 0, 0, 55), other);
    shop.up();
    let found = |address: Ipv4Addr| Answer { code: 0, records: vec![address.to_string()] };
    assert_eq!(net::dns(shop.pid("own"), "example.com", Kind::A), found(one));
    assert_eq!(net::dns(shop.pid("none"), "example.com", Kind::A), found(other));
    assert_eq!(net::dns(shop.pid("own"), "none", Kind::A), found(shop.address("none")), "its networks come first");
    let conf = shop.shell("own", "cat /etc/resolv.conf");
    assert_eq!(conf, "nameserver 127.0.0.11\nsearch corp.example lab.example\noptions ndots:3 use-vc");
    assert!(!shop.shell("none", "cat /etc/resolv.conf").contains("search"));
    // A new worker asks the same servers.
    let worker = shop.supervisor().worker_pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).expect("killed");
    assert_eq!(net::dns(shop.pid("own"), "example.com", Kind::A), found(one));
}
