//! Replacing containers: all of it or none, whatever fails, whoever interrupts, and wherever the command is killed.

use std::collections::BTreeMap;
use std::time::Instant;

use hoist::state::record::{Health, State};
use nix::sys::signal::Signal;

use super::faults::{faults, run, struck, tell};
use super::support::host::Objects;
use super::support::net;
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, is_soak, require_root};

/// A job, what is asked for its health, a published page, and one without anything. `.env` says what is in them.
const SHOP: &str = "
x-turn: &turn {TURN: '${TURN}'}
services:
  init:
    image: busybox
    command: 'true'
    environment: *turn
  db:
    image: busybox
    command: sh -c 'echo $TURN > /turn; exec sleep 1000'
    environment: *turn
    volumes: [/scratch]
    healthcheck:
      test: ${TEST:-true}
      interval: 100ms
      retries: 2
    depends_on:
      init:
        condition: service_completed_successfully
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo $$TURN > /www/index.html; exec httpd -f -p 80 -h /www'
    environment: *turn
    ports: ['8080:80']
    depends_on:
      db:
        condition: service_healthy
  tail:
    image: busybox
    command: ${TAIL:-sleep 1000}
    environment: *turn
    depends_on: [web]
";

/// Ids by the names that the containers have.
fn ids(shop: &TestProject) -> BTreeMap<String, String> {
    shop.records().iter().map(|r| (r.name.to_string(), r.id.to_string())).collect()
}

fn page() -> String {
    net::http_get("127.0.0.1:8080".parse().expect("an address"), "/").unwrap_or_default()
}

/// Returns the project, which is up, and what was there before.
fn shop() -> (TestProject, Objects) {
    let shop = TestProject::new("shop", SHOP);
    shop.write(".env", "TURN=old\n");
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    shop.up();
    is_whole(&shop, "old", "the first up");
    (shop, before)
}

/// Takes the project down, and all of it.
#[track_caller]
fn end(shop: &TestProject, before: &Objects) {
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(before);
}

/// Waits until four containers of that turn run as they should, and nothing is left beside them.
#[track_caller]
fn is_whole(shop: &TestProject, turn: &str, after: &str) {
    let names: Vec<String> = ids(shop).into_keys().collect();
    assert_eq!(names, ["shop-db-1", "shop-init-1", "shop-tail-1", "shop-web-1"], "after {after}");
    for service in ["db", "web", "tail"] {
        eventually(10.secs(), &format!("{service} runs after {after}"), || {
            holds(shop.try_status(service).is_some_and(|s| s.state == State::Running && s.process.is_some()))
        });
    }
    eventually(10.secs(), &format!("db is healthy after {after}"), || {
        holds(shop.try_status("db").is_some_and(|s| s.health == Some(Health::Healthy)))
    });
    eventually(10.secs(), &format!("the {turn} page is there after {after}"), || holds(page() == format!("{turn}\n")));
}

#[test]
fn when_it_fails_the_old_ones_are_back() {
    require_root!();
    let (shop, before) = shop();
    let old = ids(&shop);
    shop.hoist(&["exec", "-T", "db", "touch", "/here"]).ok();
    shop.write(".env", "TURN=new\nTAIL=/no/such/program\n");
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    let error = &told[told.find("error:").expect("an error")..];
    insta::assert_snapshot!(shop.redact(error), @r"
    error: cannot start container `shop-tail-1`: `/no/such/program`: the command is not in the image: executable file not found in $PATH
    help: see `command` and `entrypoint` of service `tail`
          24 of 30 steps were done; not finished: shop-db-1, shop-init-1, shop-tail-1, shop-web-1. The containers that were to be replaced are back.
    ");
    assert_eq!(ids(&shop), old);
    is_whole(&shop, "old", "a program that is not there");
    shop.hoist(&["exec", "-T", "db", "test", "-e", "/here"]).ok();

    shop.write(".env", "TURN=new\nTEST=false\n");
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    assert!(told.contains("container shop-db-1 is unhealthy") && told.contains("are back"), "{told}");
    assert_eq!(ids(&shop), old);
    is_whole(&shop, "old", "a check that says no");

    // The last to be asked, when all others run.
    shop.write(".env", "TURN=new\nTAIL=sh -c 'exit 3'\n");
    let told = shop.hoist(&["up", "-d", "--force-recreate", "--wait"]);
    assert!(matches!(told.code, Some(1 | 11)), "{told}");

    shop.write(".env", "TURN=new\n");
    shop.up();
    is_whole(&shop, "new", "one that went well");
    assert!(old.values().all(|id| !ids(&shop).values().any(|new| new == id)), "all were replaced");
    end(&shop, &before);
}

#[test]
fn a_wreck_is_kept_if_asked_and_the_next_up_goes_on() {
    require_root!();
    let (shop, before) = shop();
    let old = ids(&shop);
    shop.write(".env", "TURN=new\nTAIL=/no/such/program\n");
    let told = shop.hoist(&["up", "-d", "--keep-failed"]).code(1).stderr;
    assert!(told.contains("All is left as it is, for a look"), "{told}");
    // Nothing that only looks goes back.
    for looks in [&["ps", "-a"][..], &["logs"], &["ps"]] {
        shop.hoist(looks).ok();
        assert_eq!(page(), "new\n");
    }
    let kept = ids(&shop);
    assert_eq!(kept.len(), 8, "{kept:?}");
    assert!(old.iter().all(|(name, id)| kept.get(&format!("{}_{name}", &id[..12])) == Some(id)), "{kept:?}");
    let table = shop.hoist(&["ps", "-a"]).ok();
    assert_eq!(table.matches("shop-tail-1").count(), 1, "those that were set aside are not shown:\n{table}");
    shop.write(".env", "TURN=new\n");
    let told = shop.up();
    assert!(told.contains("those are back"), "{told}");
    is_whole(&shop, "new", "going on");
    end(&shop, &before);
}

#[test]
fn when_it_is_interrupted_the_old_ones_are_back() {
    require_root!();
    let (shop, before) = shop();
    let old = ids(&shop);
    for line in [&["up", "-d"][..], &["up"]] {
        shop.write(".env", "TURN=new\nTEST=sh -c 'touch /asked; sleep 1000'\n");
        let up = shop.spawn(line);
        eventually(20.secs(), "the new db is asked", || {
            let of_new = shop.records().into_iter().find(|r| r.service.as_str() == "db" && r.aside.is_none());
            holds(of_new.is_some_and(|r| {
                !old.values().any(|id| *id == r.id.to_string())
                    && shop.run_dir().join("containers").join(format!("{}.json", r.id)).exists()
            }))
        });
        up.signal(Signal::SIGINT);
        let told = up.finish(60.secs()).code(130).stderr;
        assert!(told.contains("are back"), "{told}");
        assert_eq!(ids(&shop), old, "{line:?}");
        is_whole(&shop, "old", "an interrupt");
    }
    end(&shop, &before);
}

#[test]
fn wherever_it_is_killed_the_next_command_makes_it_whole() {
    require_root!();
    let (shop, before) = shop();
    let (clean, met) = {
        shop.write(".env", "TURN=t0\n");
        run(&shop, None, &["up", "-d"])
    };
    let _ = clean.code(0);
    is_whole(&shop, "t0", "a clean up");
    let (mut tried, mut new) = (0, 0);
    let mut turn = "t0".to_owned();
    // Commands of every kind: which look, which work in a container, which take the lock.
    let nexts: [&[&str]; 5] = [&["ps"], &["exec", "-T", "tail", "true"], &["start"], &["top"], &["up", "-d", "tail"]];
    for (number, fault) in faults("command", &met).into_iter().enumerate() {
        let old = ids(&shop);
        let next = format!("t{}", number + 1);
        shop.write(".env", &format!("TURN={next}\n"));
        let (up, met) = run(&shop, Some(&fault), &["up", "-d"]);
        let killed = struck(&fault, &met, &up);
        tried += usize::from(killed);
        let command = nexts[number % nexts.len()];
        if command[0] == "up" {
            shop.write(".env", &format!("TURN={turn}\n")); // as if nobody had touched the file
        }
        shop.hoist(command).ok();
        let after = format!("{fault}, then {command:?}");
        let now: BTreeMap<String, String> = ids(&shop).into_iter().filter(|(name, _)| !name.contains('_')).collect();
        let is_old = now == old;
        if !is_old {
            assert!(now.values().all(|id| !old.values().any(|o| o == id)) || command[0] == "up", "a mix after {after}");
            if command[0] == "up" {
                // It asked for the file as it was; the page may take a moment.
                let either = [format!("{turn}\n"), format!("{next}\n")];
                eventually(10.secs(), &format!("a page is there after {after}"), || holds(either.contains(&page())));
            }
            new += 1;
        }
        // Of what was set aside the disk may still have something, which goes with the next `up` or `down`.
        for service in ["db", "web", "tail"] {
            eventually(10.secs(), &format!("{service} runs after {after}"), || {
                holds(shop.hoist(&["ps", "--status", "running", "--services"]).ok().lines().any(|line| line == service))
            });
        }
        shop.write(".env", &format!("TURN={next}\n"));
        shop.up();
        is_whole(&shop, &next, &after);
        turn = next;
    }
    assert!(new < tried, "nothing was ever taken back");
    end(&shop, &before);
    tell("up that replaces", tried, met.len());
}

/// Ten services in three layers, of which the last is published.
fn ten() -> String {
    let mut text =
        "x-it: &it\n  image: busybox\n  environment: {TURN: '${TURN}'}\n  command: sleep 1000\nservices:\n".to_owned();
    for n in 0..9 {
        let needs = if n < 3 { String::new() } else { format!(", depends_on: [s{}, s{}]", n - 3, (n - 3) / 3) };
        text.push_str(&format!("  s{n}: {{<<: *it{needs}}}\n"));
    }
    text.push_str(
        "  web:\n    <<: *it\n    command: sh -c 'mkdir /www; echo $$TURN > /www/index.html; exec httpd -f -p 80 -h /www'\n    \
         ports: ['8080:80']\n    depends_on: [s6, s7, s8]\n",
    );
    text
}

#[test]
fn ten_services_killed_at_any_moment_are_the_old_or_the_new_ones() {
    require_root!();
    let shop = TestProject::new("ten", &ten());
    shop.write(".env", "TURN=t0\n");
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    shop.up();
    shop.write(".env", "TURN=t1\n");
    let start = Instant::now();
    shop.up();
    let whole = start.elapsed();
    let kills: u32 = if is_soak() { 100 } else { 8 };
    let (mut serving, mut olds, mut news) = (1, 0, 0);
    // Moments in an order that looks like none, as far as a little after the end: 61 has no divisor with either count.
    for (turn, kill) in (2..).zip(0..kills) {
        let old = ids(&shop);
        shop.write(".env", &format!("TURN=t{turn}\n"));
        let moment = whole * (kill * 61 % kills) * 11 / (kills * 10);
        let up = shop.spawn(&["up", "-d"]);
        std::thread::sleep(moment);
        up.signal(Signal::SIGKILL);
        let _ = up.finish(60.secs());
        shop.hoist(if kill % 2 == 0 { &["start"] } else { &["exec", "-T", "s0", "true"] }).ok();
        let now: BTreeMap<String, String> = ids(&shop).into_iter().filter(|(name, _)| !name.contains('_')).collect();
        let same = now.iter().filter(|(name, id)| old.get(*name) == Some(id)).count();
        assert!(
            now.len() == 10 && [0, 10].contains(&same),
            "{same} of 10 are the old ones, killed after {moment:?}: {now:?}"
        );
        if same == 10 {
            olds += 1;
        } else {
            news += 1;
            serving = turn;
        }
        eventually(10.secs(), &format!("all run, killed after {moment:?}"), || {
            holds(shop.hoist(&["ps", "--status", "running", "--services"]).ok().lines().count() == 10)
        });
        eventually(10.secs(), &format!("the page of turn {serving} is there"), || {
            holds(page() == format!("t{serving}\n"))
        });
    }
    #[expect(clippy::print_stderr, reason = "the figures of a soak are read in its log")]
    {
        eprintln!("killed {kills} times: {olds} times the old ones were there after, {news} times the new ones");
    }
    assert!(olds > 0, "never was it killed in time");
    end(&shop, &before);
}
