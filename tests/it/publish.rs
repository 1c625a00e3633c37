//! The forms of `ports` and what they come to: protocols, ranges, host addresses, the way back to oneself.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::support::net::{self, Answer, Kind, Neighbour};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, require_root};

/// Opens a UDP socket in the network namespace of a service's container.
fn udp_in(shop: &TestProject, service: &str, port: u16) -> UdpSocket {
    net::in_netns(net::netns_of(shop.pid(service)), || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free in the container")
    })
}

/// Sends a datagram to `to` until `server` has it, and its answer back until the sender has that.
#[track_caller]
fn talks(client: &UdpSocket, to: &str, server: &UdpSocket) {
    for socket in [client, server] {
        socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("it can be");
    }
    client.connect(to.parse::<SocketAddr>().expect("an address")).expect("a way there");
    let mut buffer = [0; 64];
    let from = eventually(10.secs(), &format!("a datagram arrives by {to}"), || {
        let _ = client.send(b"question"); // refused while nobody listens
        server.recv_from(&mut buffer).ok().map(|(_, from)| from)
    });
    eventually(10.secs(), &format!("the answer from {to} comes back"), || {
        server.send_to(b"answer", from).ok()?;
        // A connected socket takes only what comes from where it sends to.
        client.recv(&mut buffer).ok().filter(|length| &buffer[..*length] == b"answer")
    });
}

#[test]
fn udp_goes_there_and_back_from_everywhere() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    ports: ['9000:5000/udp', '9000:5000']
  other:
    image: busybox
    command: sleep 1000
",
    );
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    let server = udp_in(&shop, "web", 5000);
    let here = || UdpSocket::bind("0.0.0.0:0").expect("a free port");
    talks(&here(), "127.0.0.1:9000", &server);
    talks(&here(), "10.99.0.1:9000", &server);
    talks(&neighbour.on(here), "10.99.0.1:9000", &server);
    talks(&udp_in(&shop, "other", 0), "10.99.0.1:9000", &server);
    talks(&udp_in(&shop, "web", 0), "10.99.0.1:9000", &server);
    let table = shop.hoist(&["ps"]).ok();
    assert!(table.contains("0.0.0.0:9000->5000/tcp, 0.0.0.0:9000->5000/udp"), "{table}");

    // One who sends on and on is led to the new container as well.
    let sender = neighbour.on(here);
    talks(&sender, "10.99.0.1:9000", &server);
    drop(server);
    shop.hoist(&["up", "-d", "--force-recreate", "-t", "0", "web"]).ok();
    talks(&sender, "10.99.0.1:9000", &udp_in(&shop, "web", 5000));
}

#[test]
fn ranges_are_paired_or_chosen_from() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  paired:
    image: busybox
    command: sleep 1000
    ports: ['9090-9092:8080-8082']
  one:
    image: busybox
    command: sleep 1000
    ports: ['8000-8003:80']
  two:
    image: busybox
    command: sleep 1000
    ports: ['8000-8003:80']
  any:
    image: busybox
    command: sleep 1000
    ports: ['7000-7001']
",
    );
    let taken = TcpListener::bind("127.0.0.1:8000").expect("free");
    shop.up();
    let ports = |service: &str| {
        let endpoints = shop.record(service).endpoints;
        let mut found: Vec<(u16, u16)> =
            endpoints.iter().flat_map(|e| &e.ports).map(|p| (p.host_port, p.target)).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(ports("paired"), [(9090, 8080), (9091, 8081), (9092, 8082)]);
    let chosen: BTreeSet<(u16, u16)> = ports("one").into_iter().chain(ports("two")).collect();
    assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [(8001, 80), (8002, 80)], "8000 is in use");
    let any = ports("any");
    assert_eq!(any.iter().map(|(_, target)| *target).collect::<BTreeSet<_>>(), BTreeSet::from([7000, 7001]));
    assert!(any.iter().all(|(host, _)| *host >= 1024), "{any:?}");
    drop(taken);
    // What was chosen stays, though a lower one is free now.
    let before = ports("one");
    shop.hoist(&["up", "-d", "--force-recreate", "-t", "0", "one"]).ok();
    assert_eq!(ports("one"), before);
}

/// Lets the container's web server say its own name.
fn page_of(shop: &TestProject, service: &str) {
    shop.shell(service, &format!("mkdir -p /www && echo {service} >/www/index.html && httpd -p 80 -h /www"));
}

#[test]
fn one_port_on_two_addresses_of_the_host_is_two_services() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  local:
    image: busybox
    command: sleep 1000
    ports: ['127.0.0.1:8080:80']
  wire:
    image: busybox
    command: sleep 1000
    ports:
      - {host_ip: 10.99.0.1, published: '8080', target: 80}
",
    );
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    for service in ["local", "wire"] {
        page_of(&shop, service);
    }
    assert_eq!(net::page("127.0.0.1:8080", "/"), "local\n");
    assert_eq!(net::page("10.99.0.1:8080", "/"), "wire\n");
    assert_eq!(neighbour.on(|| net::page("10.99.0.1:8080", "/")), "wire\n");
    assert_eq!(shop.shell("local", "wget -q -O - http://10.99.0.1:8080/"), "wire", "from another container");
    let text = std::fs::read_to_string(shop.path("compose.yaml")).expect("it");
    shop.write("compose.yaml", &text.replace("127.0.0.1:8080:80", "8080:80"));
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("8080") && said.contains("compose.yaml:"), "all addresses are a conflict: {said}");
}

#[test]
fn an_alias_is_known_on_its_network_and_on_no_other() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  db:
    image: busybox
    command: sleep 1000
    networks:
      front: {aliases: [shown, shared]}
      back: {aliases: [hidden, shared]}
  web:
    image: busybox
    command: sleep 1000
    networks: [front]
  job:
    image: busybox
    command: sleep 1000
    networks: [back]
  both:
    image: busybox
    command: sleep 1000
    networks: [front, back]
networks:
  front:
  back:
",
    );
    shop.up();
    let at = |network: &str| {
        let id = shop.network(&format!("shop_{network}")).id;
        let endpoints = shop.record("db").endpoints;
        endpoints.into_iter().find(|e| e.network == id).expect("it is there").address
    };
    let (front, back) = (at("front"), at("back"));
    let ask = |service: &str, name: &str| {
        let Answer { mut records, .. } = net::dns(shop.pid(service), name, Kind::A);
        records.sort();
        records
    };
    let one = |address: Ipv4Addr| vec![address.to_string()];
    for (service, name, expected) in [
        ("web", "shown", one(front)),
        ("web", "shared", one(front)),
        ("web", "hidden", vec![]),
        ("job", "hidden", one(back)),
        ("job", "shown", vec![]),
        ("both", "shown", one(front)),
        ("both", "hidden", one(back)),
    ] {
        assert_eq!(ask(service, name), expected, "{service} asks for {name}");
    }
    let mut all = [front.to_string(), back.to_string()];
    all.sort();
    assert_eq!(ask("both", "shared"), all);
    assert!(shop.shell("both", "ping -c 1 -W 5 hidden && ping -c 1 -W 5 shown").contains("1 packets received"));
}
