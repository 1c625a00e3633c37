//! What is in `examples/compose/`, as its user would run it.

use super::support::net::page;
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

#[test]
fn nginx_html_shows_an_edit_at_once() {
    require_root!("nginx");
    let site = TestProject::of_example("nginx-html", &["nginx"]);
    let before = site.host().objects();
    site.up();
    assert_eq!(page("127.0.0.1:8080", "/"), site.read("html/index.html"));
    site.write("html/index.html", "<p>edited</p>\n");
    assert_eq!(page("127.0.0.1:8080", "/"), "<p>edited</p>\n");
    let _ = site.hoist(&["exec", "-T", "web", "touch", "/usr/share/nginx/html/file"]).fails();
    site.down();
    site.host().is_again(&before);
}

#[test]
fn nginx_node_redis_counts_hits_and_leaves_nothing() {
    require_root!("nginx", "node", "redis");
    let counter = TestProject::of_example("nginx-node-redis", &["nginx", "node", "redis"]);
    let before = counter.host().objects();
    counter.up();
    for service in ["api", "redis"] {
        assert_eq!(counter.status(service).health, Some(hoist::state::record::Health::Healthy), "{service}");
    }
    for hit in 1..=10 {
        assert_eq!(page("127.0.0.1:8080", "/"), format!("Hits: {hit}\n"));
    }
    counter.hoist(&["restart", "redis"]).ok();
    assert_eq!(page("127.0.0.1:8080", "/"), "Hits: 11\n");
    let pids = ["web", "api", "redis"].map(|service| counter.pid(service));
    counter.up();
    assert_eq!(["web", "api", "redis"].map(|service| counter.pid(service)), pids);

    counter.down();
    let volume = format!("{}", counter.volume("data").parent().expect("it has one").display());
    eventually(10.secs(), "nothing but the volume is left", || {
        let left = before.added_in(&counter.host().objects());
        holds(left.lines().all(|line| line.trim() == format!("file {volume}")))
    });
    counter.up();
    assert_eq!(page("127.0.0.1:8080", "/"), "Hits: 12\n", "the volume survived");
    counter.hoist(&["down", "-v"]).ok();
    counter.host().is_again(&before);
}
