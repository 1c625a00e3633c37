//! Several networks, isolation, the way out.

use std::net::TcpStream;

use super::support::net::{self, Kind, Neighbour};
use super::support::project::TestProject;
use super::support::{Secs as _, require_root};

const TWO_NETWORKS: &str = "
services:
  web:
    image: busybox
    command: httpd -f -p 80
    networks: [front]
  app:
    image: busybox
    command: httpd -f -p 80
    networks: [front, back]
  db:
    image: busybox
    command: httpd -f -p 80
    networks: [back]
networks:
  front:
  back:
";

/// Whether a connection from a service's container to an address is answered, even with a refusal.
fn reaches(shop: &TestProject, service: &str, to: std::net::Ipv4Addr) -> bool {
    let netns = net::netns_of(shop.pid(service));
    net::in_netns(netns, || match TcpStream::connect_timeout(&(to, 80).into(), 1.secs()) {
        Ok(_) => true,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
    })
}

#[test]
fn a_service_reaches_those_on_its_networks_and_no_others() {
    require_root!();
    let shop = TestProject::new("shop", TWO_NETWORKS);
    shop.up();
    let app = shop.record("app");
    assert_eq!(app.endpoints.len(), 2);
    let on = |name: &str| {
        let id = shop.network(name).id;
        app.endpoints.iter().find(|e| e.network == id).expect("an endpoint").address
    };
    let (app_front, app_back) = (on("shop_front"), on("shop_back"));
    let (web, db) = (shop.address("web"), shop.address("db"));
    assert!(reaches(&shop, "web", app_front), "web → app");
    assert!(reaches(&shop, "app", web), "app → web");
    assert!(reaches(&shop, "app", db), "app → db");
    assert!(reaches(&shop, "db", app_back), "db → app");
    assert!(!reaches(&shop, "web", db), "web → db");
    assert!(!reaches(&shop, "db", web), "db → web");
    assert!(!reaches(&shop, "db", app_front), "db → the other address of app");
    // Names follow the networks.
    assert_eq!(net::dns(shop.pid("web"), "app", Kind::A).records, [app_front.to_string()]);
    assert_eq!(net::dns(shop.pid("db"), "app", Kind::A).records, [app_back.to_string()]);
    let hidden = net::dns(shop.pid("web"), "db", Kind::A);
    assert_eq!(hidden.records, Vec::<String>::new());
    assert_ne!(hidden.code, 0, "a name of another network exists");
}

#[test]
fn two_projects_do_not_see_each_other() {
    require_root!();
    const ONE: &str = "services:\n  web:\n    image: busybox\n    command: httpd -f -p 80\n";
    let shop = TestProject::new("shop", ONE);
    let blog = shop.beside("blog", ONE);
    shop.up();
    blog.up();
    assert_ne!(shop.address("web"), blog.address("web"));
    assert!(reaches(&shop, "web", shop.address("web")), "itself");
    assert!(!reaches(&shop, "web", blog.address("web")), "shop → blog");
    assert!(!reaches(&blog, "web", shop.address("web")), "blog → shop");
    assert_eq!(net::dns(blog.pid("web"), "web", Kind::A).records, [blog.address("web").to_string()]);
    assert!(net::dns(blog.pid("web"), "shop-web-1", Kind::A).records.is_empty());
    let pid = blog.pid("web");
    shop.down();
    assert_eq!(blog.pid("web"), pid);
    assert!(reaches(&blog, "web", blog.address("web")), "blog still works");
}

#[test]
fn traffic_to_the_outside_bears_the_hosts_address() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    let served = neighbour.serve_once(7000);
    assert_eq!(shop.shell("web", "nc -w 5 10.99.0.2 7000 < /dev/null"), "hello");
    let from = served.join().expect("it served").expect("a connection");
    assert_eq!(from.ip(), Neighbour::HOST);
    // The other way there is none, except through published ports.
    let address = shop.address("web");
    neighbour.on(|| {
        let net = format!("{address}/32");
        super::support::host::command("ip", &["route", "add", &net, "via", "10.99.0.1"]);
        let error = TcpStream::connect_timeout(&(address, 80).into(), 1.secs()).expect_err("no way in");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    networks: [inside]
  db:
    image: busybox
    command: httpd -f -p 80
    networks: [inside]
networks:
  inside:
    internal: true
",
    );
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    assert!(reaches(&shop, "web", shop.address("db")), "web → db");
    drop(neighbour.serve_once(7000));
    let _ = shop.hoist(&["exec", "-T", "web", "nc", "-w", "1", "10.99.0.2", "7000"]).fails();
}

#[test]
fn an_address_outlives_a_restart() {
    require_root!();
    let shop = TestProject::new("shop", TWO_NETWORKS);
    shop.up();
    let (before, netns) = (shop.record("app").endpoints, inode(shop.pid("app")));
    shop.hoist(&["restart", "-t", "0", "app"]).ok();
    assert_eq!(shop.record("app").endpoints, before);
    assert_eq!(inode(shop.pid("app")), netns);
    assert!(reaches(&shop, "web", before[0].address) || reaches(&shop, "web", before[1].address));
}

fn inode(pid: i32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace")
}
