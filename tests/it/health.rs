//! Health checks.

use hoist::state::record::Health;

use super::support::project::TestProject;
use super::support::require_root;

#[test]
fn health_follows_the_check() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: test -e /ctl/well
      interval: 100ms
      timeout: 5s
      retries: 2
    volumes: [./ctl:/ctl]
",
    );
    shop.write("ctl/well", "");
    shop.up();
    shop.wait_status("web", "healthy", |s| s.health == Some(Health::Healthy));
    let table = shop.hoist(&["ps"]).ok();
    assert!(table.contains("(healthy)"), "{table}");
    std::fs::remove_file(shop.path("ctl/well")).expect("removed");
    shop.wait_status("web", "unhealthy", |s| s.health == Some(Health::Unhealthy));
    shop.write("ctl/well", "");
    shop.wait_status("web", "healthy again", |s| s.health == Some(Health::Healthy));
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: [CMD, sleep, '1000']
      interval: 100ms
      timeout: 100ms
      retries: 2
",
    );
    shop.up();
    shop.wait_status("web", "unhealthy", |s| s.health == Some(Health::Unhealthy));
    // The probe itself is gone: the container's cgroup has its own process, and at most the probe of now.
    let left = shop.shell("web", "ps | grep -c '[s]leep 1000'");
    assert!(left.parse::<u32>().expect("a number") <= 2, "{left} processes");
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: [CMD-SHELL, 'echo probe >> /ctl/probes; test $$(wc -l < /ctl/probes) -ge 5']
      interval: 100ms
      start_period: 60s
      start_interval: 100ms
      retries: 1
    volumes: [./ctl:/ctl]
",
    );
    shop.make_dir("ctl");
    shop.up();
    let status = shop.wait_status("web", "decided", |s| s.health != Some(Health::Starting));
    assert_eq!(status.health, Some(Health::Healthy));
}

#[test]
fn a_service_without_a_check_has_no_health() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
  off:
    image: busybox
    command: sleep 1000
    healthcheck:
      disable: true
",
    );
    shop.up();
    assert_eq!(shop.status("web").health, None);
    assert_eq!(shop.status("off").health, None);
}
