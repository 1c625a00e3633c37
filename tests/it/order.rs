//! `depends_on`: who starts when, and what happens when that cannot be.

use super::support::project::TestProject;
use super::support::require_root;

#[test]
fn a_service_starts_after_what_it_depends_on() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on: [app]
  app:
    image: busybox
    command: sleep 1000
    depends_on:
      db:
        condition: service_started
  db:
    image: busybox
    command: sleep 1000
",
    );
    shop.up();
    let started = |service: &str| shop.status(service).started.expect("it was started");
    assert!(started("db") < started("app"), "db before app");
    assert!(started("app") < started("web"), "app before web");
}

#[test]
fn a_service_waits_until_its_dependency_is_healthy() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'test -e /ctl/ready && exec sleep 1000'
    volumes: [./ctl:/ctl]
    depends_on:
      db:
        condition: service_healthy
  db:
    image: busybox
    command: sh -c 'usleep 300000; touch /ctl/ready; exec sleep 1000'
    volumes: [./ctl:/ctl]
    healthcheck:
      test: [CMD, test, -e, /ctl/ready]
      interval: 1s
",
    );
    shop.make_dir("ctl");
    shop.up();
    shop.pid("web");
    assert_eq!(shop.status("db").health, Some(hoist::state::record::Health::Healthy));
}

#[test]
fn a_service_waits_until_its_dependency_has_completed() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      migrate:
        condition: service_completed_successfully
  migrate:
    image: busybox
    command: usleep 300000
",
    );
    shop.up();
    let migrate = shop.status("migrate");
    assert_eq!(migrate.exit_code, Some(0));
    assert!(migrate.finished.expect("it has ended") <= shop.status("web").started.expect("it was started"));
    let pid = shop.pid("web");
    shop.up();
    assert_eq!(shop.pid("web"), pid);
}

#[test]
fn a_dependency_that_fails_stops_up_and_is_named() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      migrate:
        condition: service_completed_successfully
  migrate:
    image: busybox
    command: sh -c 'echo no database; exit 3'
",
    );
    let message = shop.hoist(&["--progress", "quiet", "up", "-d"]).fails();
    assert!(message.contains("migrate") && message.contains("exit 3"), "{message}");
    assert!(shop.try_status("web").is_none_or(|s| s.started.is_none()), "web was started");
}

#[test]
fn an_unhealthy_dependency_stops_up_and_is_named() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      db:
        condition: service_healthy
  db:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: 'false'
      interval: 100ms
      retries: 2
",
    );
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("shop-db-1") && message.contains("unhealthy"), "{message}");
    assert!(shop.try_status("web").is_none_or(|s| s.started.is_none()), "web was started");
}

#[test]
fn down_stops_dependents_first() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'trap \"date +%s.%N > /ctl/web; exit\" TERM; touch /ctl/web-ready; while :; do sleep 0.05; done'
    volumes: [./ctl:/ctl]
    depends_on: [db]
  db:
    image: busybox
    command: sh -c 'trap \"test -e /ctl/web && touch /ctl/in-order; exit\" TERM; touch /ctl/db-ready; while :; do sleep 0.05; done'
    volumes: [./ctl:/ctl]
",
    );
    shop.make_dir("ctl");
    shop.up();
    for name in ["ctl/web-ready", "ctl/db-ready"] {
        super::support::eventually(super::support::Secs::secs(10), name, || {
            super::support::holds(shop.path(name).exists())
        });
    }
    shop.down();
    assert!(shop.path("ctl/in-order").exists(), "db was stopped before web had ended");
}
