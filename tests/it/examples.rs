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

#[test]
fn node_builds_pages_that_nginx_serves() {
    require_root!("nginx", "node");
    let site = TestProject::of_example("node-nginx-build", &["nginx", "node"]);
    let before = site.host().objects();
    let said = site.hoist(&["--progress", "plain", "up", "-d"]).code(0).stderr;
    assert!(said.contains("| index.md -> index.html"), "{said}");
    let first = page("127.0.0.1:8080", "/");
    assert!(first.contains("<title>Notes</title>") && first.contains("<em>Markdown</em>"), "{first}");
    let _ = site.hoist(&["exec", "-T", "web", "node", "--version"]).fails();
    // An edit of a page is seen, and no more is done for it than it takes.
    site.write("site/content/other.md", "# Edited\n");
    let said = site.hoist(&["--progress", "plain", "up", "-d", "--build"]).code(0).stderr;
    let steps: Vec<&str> = said.lines().filter(|line| line.contains("Step") && !line.contains("Building")).collect();
    let known = steps.iter().filter(|line| line.trim_end().ends_with("Cached")).count();
    assert_eq!((known, steps.len()), (3, 6), "{said}");
    assert!(page("127.0.0.1:8080", "/other.html").contains("Edited"));
    assert_eq!(page("127.0.0.1:8080", "/"), first);
    site.down();
    site.host().is_again(&before);
}

#[test]
fn postgres_is_filled_once_and_keeps_its_data() {
    require_root!("postgres");
    let shop = TestProject::of_example("postgres", &["postgres"]);
    let before = shop.host().objects();
    let visit = |number: u32| {
        let line = format!("visit {number}");
        shop.wait_log("report", &line, |found| found == line);
        assert_eq!(shop.wait_exit("report"), 0);
    };
    let scripts = || {
        let text = shop.log_text("db");
        ["10-schema.sql", "20-products.sh"]
            .map(|name| text.matches(&format!("running /docker-entrypoint-initdb.d/{name}")).count())
    };
    let ask = |sql: &str| shop.hoist(&["exec", "-T", "db", "psql", "-U", "shop", "-Atc", sql]).ok();
    shop.up();
    assert_eq!(shop.status("db").health, Some(hoist::state::record::Health::Healthy));
    visit(1);
    assert_eq!(scripts(), [1, 1]);
    assert_eq!(ask("SELECT sum(price) FROM products"), "17\n");
    let as_postgres = shop.shell("db", "stat -c '%U %a' $PGDATA; cat /proc/1/comm; stat -c %u /proc/1; echo $LANG");
    assert_eq!(as_postgres, "postgres 700\npostgres\n999\nen_US.utf8");
    let _ = shop.hoist(&["exec", "-T", "db", "touch", "/docker-entrypoint-initdb.d/file"]).fails();

    // It is asked to stop with the signal that ends all sessions, and has done so in peace.
    shop.hoist(&["stop"]).ok();
    assert_eq!(shop.wait_exit("db"), 0);
    assert!(shop.log_text("db").contains("received fast shutdown request"), "{}", shop.log_text("db"));
    shop.hoist(&["start"]).ok();
    visit(2);
    assert_eq!(scripts(), [1, 1], "once, as the container keeps its log");

    shop.down();
    shop.up();
    visit(3);
    assert_eq!(scripts(), [0, 0], "the volume is not empty");
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&before);
    shop.up();
    visit(1);
    assert_eq!(scripts(), [1, 1], "it is empty again");
    shop.hoist(&["down", "-v"]).ok();
}
