//! Published ports, and who has one already.

use std::net::TcpListener;

use super::support::net::{self, Neighbour};
use super::support::project::TestProject;
use super::support::{Secs as _, require_root};

/// A web server whose one page says who asks.
const WEB: &str = "
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /www
    ports: ['8080:80']
    volumes: ['./www:/www:ro']
";

fn web(name: &str) -> TestProject {
    let project = TestProject::new(name, WEB);
    pages(&project);
    project
}

fn pages(project: &TestProject) {
    use std::os::unix::fs::PermissionsExt as _;
    project.write("www/index.html", "a page\n");
    let script = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s' \"$REMOTE_ADDR\"\n";
    project.write("www/cgi-bin/who", script);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path("www/cgi-bin/who"), executable).expect("executable");
}

#[test]
fn a_published_port_is_reached_on_localhost_and_from_other_hosts() {
    require_root!();
    let shop = web("shop");
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
    assert_eq!(net::page("10.99.0.1:8080", "/"), "a page\n", "the host's own address");
    neighbour.on(|| {
        assert_eq!(net::page("10.99.0.1:8080", "/"), "a page\n");
        // The server sees who asks, not us.
        let seen = net::page("10.99.0.1:8080", "/cgi-bin/who");
        assert!(seen.contains(&Neighbour::ADDRESS.to_string()), "{seen}");
    });
    let itself = shop.shell("web", "wget -q -O - http://10.99.0.1:8080/");
    assert_eq!(itself, "a page", "a container reaches its own published port");
    shop.down();
    let refused = net::http_get("127.0.0.1:8080".parse().expect("an address"), "/").expect_err("nobody is there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_published_on_localhost_is_for_this_host_alone() {
    require_root!();
    let shop = TestProject::new("shop", &WEB.replace("8080:80", "127.0.0.1:8080:80"));
    pages(&shop);
    let neighbour = Neighbour::new(shop.host());
    shop.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
    neighbour.on(|| {
        net::http_get("10.99.0.1:8080".parse().expect("an address"), "/").expect_err("not for others");
        // 127.0.0.1 over the wire, which routing to localhost would otherwise allow (CVE-2020-8558).
        super::support::host::command("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
        super::support::host::command("ip", &["route", "add", "127.0.0.1/32", "via", "10.99.0.1"]);
        net::http_get("127.0.0.1:8080".parse().expect("an address"), "/").expect_err("not for others");
    });
}

#[test]
fn the_same_port_in_two_projects_is_refused_with_project_and_service_and_nothing_is_made() {
    require_root!();
    let shop = web("shop");
    shop.up();
    let blog = shop.beside("blog", WEB);
    let before = shop.host().objects();
    let message = blog.hoist(&["up", "-d"]).fails();
    assert!(message.contains("8080") && message.contains("`shop`") && message.contains("`web`"), "{message}");
    assert_eq!(blog.records(), []);
    // A supervisor without containers may be on its way out.
    shop.host().is_again(&before);
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
    shop.down();
    pages(&blog);
    blog.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
}

#[test]
fn a_port_that_a_process_has_is_refused_with_its_name_and_pid_and_nothing_is_made() {
    require_root!();
    let listener = {
        let shop = web("shop");
        let listener = TcpListener::bind("0.0.0.0:8080").expect("free");
        shop.hoist(&["ps"]).ok();
        let before = shop.host().objects();
        let message = shop.hoist(&["up", "-d"]).fails();
        let pid = format!("(pid {})", std::process::id());
        assert!(message.contains("8080") && message.contains(&pid), "{message}");
        assert_eq!(shop.records(), []);
        shop.host().is_again(&before);
        listener
    };
    drop(listener);
}

#[test]
fn every_conflict_is_reported_at_once() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  a:
    image: busybox
    command: sleep 1000
    ports: ['8081:80', '8082:80']
  b:
    image: busybox
    command: sleep 1000
    ports: ['8083:80']
",
    );
    let _taken = [8081, 8083].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("free"));
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("8081") && message.contains("8083"), "{message}");
    assert_eq!(shop.records(), []);
}

#[test]
fn the_same_port_twice_in_a_project_is_an_error_with_a_place() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  a:
    image: busybox
    command: sleep 1000
    ports: ['8080:80']
  b:
    image: busybox
    command: sleep 1000
    ports: ['8080:81']
",
    );
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("8080") && message.contains("compose.yaml:10:13"), "{message}");
    assert_eq!(shop.records(), []);
}

#[test]
fn a_chosen_port_is_free_shown_and_stays_with_the_container() {
    require_root!();
    let shop = TestProject::new("shop", &WEB.replace("'8080:80'", "'80'"));
    pages(&shop);
    shop.up();
    let port = shop.record("web").endpoints.iter().flat_map(|e| &e.ports).next().expect("a port").host_port;
    assert!(port > 0);
    assert_eq!(net::page(&format!("127.0.0.1:{port}"), "/"), "a page\n");
    let table = shop.hoist(&["ps"]).ok();
    assert!(table.contains(&format!("{port}->80/tcp")), "{table}");
    shop.hoist(&["restart", "-t", "0"]).ok();
    assert_eq!(net::page(&format!("127.0.0.1:{port}"), "/"), "a page\n");
}

#[test]
fn while_a_project_is_up_no_other_program_can_take_its_port() {
    require_root!();
    let shop = web("shop");
    shop.up();
    TcpListener::bind("0.0.0.0:8080").expect_err("held");
    shop.hoist(&["restart", "-t", "0"]).ok();
    TcpListener::bind("0.0.0.0:8080").expect_err("still held");
    shop.down();
    super::support::eventually(10.secs(), "the port is free", || TcpListener::bind("0.0.0.0:8080").ok());
}
