//! DNS at 127.0.0.11.

use super::support::net::{self, Answer, Kind};
use super::support::project::TestProject;
use super::support::require_root;

fn found(record: impl ToString) -> Answer {
    Answer { code: 0, records: vec![record.to_string()] }
}

#[test]
fn a_container_answers_to_service_name_container_name_and_alias() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
  db:
    image: busybox
    command: sleep 1000
    networks:
      default:
        aliases: [database, db.internal]
  named:
    image: busybox
    command: sleep 1000
    container_name: chosen
",
    );
    shop.up();
    let web = shop.pid("web");
    let db = shop.address("db");
    for name in ["db", "DB", "shop-db-1", "database", "db.internal", shop.record("db").id.short()] {
        assert_eq!(net::dns(web, name, Kind::A), found(db), "{name}");
    }
    assert_eq!(net::dns(web, "chosen", Kind::A), found(shop.address("named")));
    assert_eq!(net::dns(web, "web", Kind::A), found(shop.address("web")), "itself");
    // The missing family is no missing name: musl would give up on the other one as well.
    assert_eq!(net::dns(web, "db", Kind::Aaaa), Answer { code: 0, records: vec![] });
    let [a, b, c, d] = db.octets();
    assert_eq!(net::dns(web, &format!("{d}.{c}.{b}.{a}.in-addr.arpa"), Kind::Ptr), found("shop-db-1"));
    // And as programs ask.
    assert_eq!(shop.shell("web", "cat /etc/resolv.conf | grep nameserver"), "nameserver 127.0.0.11");
    let seen = shop.shell("web", "nslookup db 127.0.0.11");
    assert!(seen.contains(&db.to_string()), "{seen}");
    assert!(shop.shell("web", "ping -c 1 -W 5 database").contains("1 packets received"));
}

#[test]
fn a_recreated_service_has_its_new_address_at_once() {
    require_root!();
    let file = |colour: &str| {
        format!(
            "
services:
  web:
    image: busybox
    command: sleep 1000
  db:
    image: busybox
    command: sleep 1000
    environment:
      COLOUR: {colour}
"
        )
    };
    let shop = TestProject::new("shop", &file("red"));
    shop.up();
    let web = shop.pid("web");
    net::dns(web, "db", Kind::A);
    shop.write("compose.yaml", &file("blue"));
    shop.up();
    assert_eq!(shop.pid("web"), web);
    assert_eq!(net::dns(web, "db", Kind::A), found(shop.address("db")));
}

#[test]
fn a_name_that_nobody_has_is_not_answered_with_an_address() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    shop.up();
    // The test's host has no nameserver that can be reached: the answer is a failure, and it comes.
    let answer = net::dns(shop.pid("web"), "no-such-name.example", Kind::A);
    assert!(answer.records.is_empty(), "{answer:?}");
    assert_ne!(answer.code, 0, "{answer:?}");
}
