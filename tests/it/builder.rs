//! `builder du`, `builder prune`, and what builds keep by themselves.

use std::fs;
use std::time::{Duration, Instant};

use super::faults::{faults, of_parts, run, struck, tell};
use super::images::archive_of_layer;
use super::support::project::TestProject;
use super::support::registry::{FakeRegistry, Fault, Image, digest, layer, noise};
use super::support::run::{Run, Running};
use super::support::{Secs as _, eventually, holds, require_root};

const COMPOSE: &str = "services: {app: {build: .}}\n";

/// A stage that the image does not have, a cache, and a layer of the image's own.
const DOCKERFILE: &str = "FROM busybox AS made
COPY one /one
RUN --mount=type=cache,id=packages,target=/cache mkdir -p /cache && echo kept >> /cache/file && cat /one /cache/file > /two
FROM busybox
COPY --from=made /two /srv/two
CMD [\"sleep\", \"1000\"]
";

fn shop() -> TestProject {
    let shop = TestProject::new("shop", COMPOSE);
    shop.write("Dockerfile", DOCKERFILE);
    shop.write("one", "1\n");
    shop
}

/// What `builder du` says.
#[derive(Debug, PartialEq)]
struct Kept {
    id: String,
    kind: String,
    free: bool,
    size: u64,
    made_by: String,
}

fn kept(shop: &TestProject) -> Vec<Kept> {
    let text = shop.hoist(&["builder", "du", "--format", "json"]).ok();
    let one = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object");
        let text = |key: &str| object[key].as_str().expect("a text").to_owned();
        Kept {
            id: text("ID"),
            kind: text("Type"),
            free: object["Reclaimable"].as_bool().expect("a truth"),
            size: object["Size"].as_u64().expect("a number"),
            made_by: text("Description"),
        }
    };
    text.lines().map(one).collect()
}

fn is_cache(kept: &Kept) -> bool {
    kept.kind == "exec.cachemount"
}

/// Builds, and returns what was done and what was known.
fn build(shop: &TestProject) -> (usize, usize) {
    let said = shop.hoist(&["--progress", "plain", "build"]).code(0).stderr;
    let ended = |how| said.lines().filter(|line| line.contains("Step app") && line.contains(how)).count();
    (ended(" Built"), ended(" Cached"))
}

fn build_with(shop: &TestProject, budget: &str) -> Run {
    let mut command = shop.command(&["build"]);
    command.env("HOIST_BUILD_CACHE", budget);
    Run::of(command, 60.secs())
}

#[test]
fn what_builds_keep_is_shown_and_goes_when_asked_and_a_build_after_that_is_right() {
    require_root!();
    let shop = shop();
    assert_eq!(build(&shop), (3, 0));
    let all = kept(&shop);
    let (caches, steps): (Vec<&Kept>, Vec<&Kept>) = all.iter().partition(|kept| is_cache(kept));
    assert_eq!((caches.len(), caches[0].id.as_str(), caches[0].free), (1, "packages", true), "{all:?}");
    assert!(caches[0].size > 0, "{all:?}");
    let mut told: Vec<_> = steps.iter().map(|kept| (kept.made_by.as_str(), kept.free, kept.size)).collect();
    told.sort_unstable();
    let run = DOCKERFILE.lines().nth(2).expect("a line").chars().take(80).collect::<String>();
    let run = format!("app [made 2/2] {run}");
    assert_eq!(
        told,
        [
            ("app [made 1/2] COPY one /one", true, 2),
            (run.as_str(), true, 7),
            ("app [stage-1 1/2] COPY --from=made /two /srv/two", false, 7),
        ]
    );
    let text = shop.hoist(&["builder", "du"]).ok();
    assert!(text.contains("packages") && text.contains("LAST ACCESSED") && text.contains("\nTotal:  "), "{text}");
    let verbose = shop.hoist(&["builder", "du", "--verbose", "--filter", "type=exec.cachemount"]).ok();
    assert!(verbose.starts_with("ID:            packages\n") && !verbose.contains("regular"), "{verbose}");
    // Who does not say yes has said no.
    let asked = shop.hoist(&["builder", "prune"]).ok();
    assert!(asked.contains("Are you sure?") && !asked.contains("Total"), "{asked}");
    assert_eq!(kept(&shop), all);
    // Too young.
    let said = shop.hoist(&["builder", "prune", "-f", "--filter", "until=24h"]).ok();
    assert_eq!(said, "Total reclaimed space: 0B\n");
    let said = shop.hoist(&["builder", "prune", "-f"]).ok();
    assert!(
        said.starts_with("Deleted build cache objects:\n") && said.ends_with("\nTotal reclaimed space: 9B\n"),
        "{said}"
    );
    let left = kept(&shop);
    assert_eq!(left.iter().map(is_cache).collect::<Vec<_>>().len(), 2, "the cache, and what the image has: {left:?}");
    assert!(left.iter().any(is_cache));
    // The program runs again and finds its cache; what it writes is new.
    assert_eq!(build(&shop), (3, 0));
    shop.up();
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept\nkept");
    let said = shop.hoist(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]).ok();
    assert!(said.starts_with("Deleted build cache objects:\npackages\n\nTotal"), "{said}");
    assert!(!kept(&shop).iter().any(is_cache));
    assert_eq!(build(&shop), (0, 3), "steps are still known");
    shop.hoist(&["builder", "prune", "-af"]).ok();
    assert_eq!(kept(&shop), []);
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept\nkept", "it has what it had");
    assert_eq!(build(&shop), (3, 0));
    shop.hoist(&["up", "-d"]).ok();
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept", "the cache began anew");
}

#[test]
fn a_container_keeps_its_layers_whatever_becomes_of_its_image() {
    require_root!();
    let shop = shop();
    shop.up();
    // Nothing leads to any image any more.
    fs::remove_dir_all(shop.host().root().join("images/refs")).expect("there");
    let said = shop.hoist(&["builder", "prune", "-af"]).ok();
    assert!(said.contains("Total reclaimed space"), "{said}");
    assert_eq!(kept(&shop), []);
    shop.hoist(&["restart", "-t", "0"]).ok();
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept");
    shop.hoist(&["kill"]).ok();
    shop.hoist(&["start"]).ok();
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept");
}

#[test]
fn builds_keep_no_more_than_they_may() {
    require_root!();
    let shop = shop();
    let message = build_with(&shop, "much").fails();
    assert!(message.contains("HOIST_BUILD_CACHE: `much` is not a size"), "{message}");
    build_with(&shop, "none").ok();
    let (_, steps): (Vec<_>, Vec<_>) = kept(&shop).into_iter().partition(is_cache);
    assert_eq!(steps.len(), 3);
    // A build that makes nothing looks for nothing; one that does leaves what its image has, and caches.
    build_with(&shop, "20g").ok();
    assert_eq!(kept(&shop).len(), 4);
    let large = shop.path("one");
    fs::write(&large, vec![b'x'; 300_000]).expect("written");
    build_with(&shop, "0").ok();
    let left = kept(&shop);
    assert!(left.iter().all(|kept| is_cache(kept) || !kept.free), "{left:?}");
    assert!(left.iter().any(is_cache), "{left:?}");
    // The image has what it copied; the other stage is done again, and is too large to stay.
    shop.write("one", "2\n");
    build_with(&shop, "100k").ok();
    let free: Vec<u64> = kept(&shop).iter().filter(|kept| kept.free && !is_cache(kept)).map(|kept| kept.size).collect();
    assert!(free.iter().sum::<u64>() <= 100 << 10, "{free:?}");
    assert!(free.contains(&2), "what was used last stays: {free:?}");
}

#[test]
fn a_prune_while_a_build_runs_removes_nothing_and_says_so() {
    require_root!();
    let shop = shop();
    build(&shop);
    shop.write("slow/Dockerfile", "FROM busybox\nRUN echo begun; sleep 60\n");
    let mut slow = shop.spawn(&["--progress", "plain", "image", "build", "slow"]);
    slow.wait_for("it runs", |line| line.ends_with("| begun"));
    let before = kept(&shop);
    let message = shop.hoist(&["builder", "prune", "-af"]).fails();
    assert!(message.contains("nothing was removed: another command builds"), "{message}");
    assert_eq!(kept(&shop), before);
    slow.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = slow.finish(20.secs());
    shop.hoist(&["builder", "prune", "-af"]).ok();
    assert_eq!(kept(&shop), []);
    assert_eq!(build(&shop), (3, 0));
}

#[test]
fn an_up_that_makes_containers_keeps_their_images() {
    require_root!();
    let compose = "
services:
  app:
    build: .
    healthcheck: {test: test -e /tmp/well, interval: 1h, start_period: 1h, start_interval: 100ms}
  other:
    image: busybox
    command: sleep 1000
    depends_on: {app: {condition: service_healthy}}
";
    let shop = TestProject::new("shop", compose);
    shop.write("Dockerfile", DOCKERFILE);
    shop.write("one", "1\n");
    let up = shop.spawn(&["up", "-d"]);
    eventually(20.secs(), "the first runs", || shop.try_status("app")?.process.map(drop));
    let message = shop.hoist(&["builder", "prune", "-f"]).fails();
    assert!(message.contains("nothing was removed"), "{message}");
    shop.shell("app", "touch /tmp/well");
    up.finish(20.secs()).ok();
    shop.hoist(&["builder", "prune", "-f"]).ok();
    assert_eq!(shop.shell("app", "cat /srv/two"), "1\nkept");
}

#[test]
fn where_nothing_was_built_nothing_is_kept() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    assert_eq!(kept(&shop), []);
    assert_eq!(shop.hoist(&["builder", "prune", "-af"]).ok(), "Total reclaimed space: 0B\n");
    fs::remove_dir_all(shop.host().root().join("images")).expect("there");
    assert_eq!(kept(&shop), []);
}

#[test]
fn a_pull_counts_on_a_layer_that_a_build_has_left() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let left = layer("left", b"by a build");
    fs::write(shop.path("image.tar"), archive_of_layer(&left)).expect("written");
    shop.hoist(&["image", "load", "-i", "image.tar"]).ok();
    // As if a step had given it, and no image has it any more.
    let store = shop.host().root().join("images");
    let before = fs::read_dir(store.join("refs/_images")).expect("there").count();
    fs::remove_dir_all(store.join("refs")).expect("there");
    fs::create_dir_all(store.join("build/steps")).expect("writable");
    let record = format!(r#"{{"layer": "{}", "newest": null}}"#, digest(&left));
    fs::write(store.join("build/steps").join("0".repeat(64)), record).expect("written");
    let layers = [left, layer("more", &noise(2_000_000))];
    let fake = FakeRegistry::start();
    let app = Image::new("amd64", &layers);
    fake.push("app", "1", &app);
    fake.fail(&digest(&app.blobs[1]), [Fault::Stall(500_000)]);
    let name = format!("{}/app:1", fake.address);
    let mut command = shop.command(&["image", "pull", "--platform", "linux/amd64", &name]);
    command.env("HOIST_REGISTRY_TIMEOUT", "6");
    let pulling = Running::of(command, None);
    eventually(20.secs(), "some of the other layer has come", || holds(fake.sent() >= 500_000));
    let message = shop.hoist(&["builder", "prune", "-af"]).fails();
    assert!(message.contains("nothing was removed"), "{message}");
    pulling.finish(60.secs()).ok();
    assert!(before > 0 && shop.hoist(&["image", "ls"]).ok().contains("app"));
    let said = shop.hoist(&["builder", "prune", "-af"]).ok();
    assert!(said.ends_with("Total reclaimed space: 0B\n"), "{said}");
    assert!(shop.hoist(&["image", "ls"]).ok().contains("app"), "it is whole");
}

#[test]
fn builds_and_prunes_at_once_lose_nothing() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let dockerfile = |n: usize| {
        format!(
            "FROM busybox AS made\nCOPY one /one\nRUN cat /one > /two\nFROM busybox\nCOPY --from=made /one /two /srv/\nENV N={n}\n"
        )
    };
    shop.write("one", "1\n");
    (0..2).for_each(|n| shop.write(&format!("Dockerfile.{n}"), &dockerfile(n)));
    let until = Instant::now() + Duration::from_secs(if super::support::is_soak() { 60 } else { 6 });
    let (mut built, mut pruned, mut refused) = (0, 0, 0);
    let names = ["Dockerfile.0", "Dockerfile.1"];
    while Instant::now() < until {
        let builds = names.map(|name| shop.spawn(&["image", "build", "-f", name, "-t", &name.to_lowercase(), "."]));
        let prunes = [&["builder", "prune", "-f"][..], &["builder", "prune", "-af"]].map(|words| shop.spawn(words));
        for build in builds {
            build.finish(60.secs()).ok();
            built += 1;
        }
        for prune in prunes {
            let run = prune.finish(60.secs());
            match run.stderr.contains("nothing was removed") {
                true => refused += 1,
                false => {
                    run.ok();
                    pruned += 1;
                }
            }
        }
    }
    assert!(built >= 4 && pruned >= 2, "{built} {pruned} {refused}");
    let tmp = fs::read_dir(shop.host().root().join("images/layers/tmp")).expect("there").count();
    shop.hoist(&["builder", "prune", "-af"]).ok();
    assert_eq!((tmp, kept(&shop)), (0, Vec::new()));
}

#[test]
fn a_prune_that_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    let shop = shop();
    let prune = ["builder", "prune", "-af"];
    let store = shop.host().root().join("images");
    build(&shop);
    let (first, met) = run(&shop, None, &prune);
    let _ = first.code(0);
    let met = of_parts(&["prune.", "image."], met);
    let (mut tried, mut times) = (0, 1);
    for fault in faults("command", &met) {
        shop.hoist(&["build"]).ok();
        times += 1;
        assert_eq!(kept(&shop).len(), 4, "before {fault}");
        let (killed, met) = run(&shop, Some(&fault), &prune);
        tried += usize::from(struck(&fault, &met, &killed));
        // A build is right, now before the next prune and now after.
        if times % 2 == 0 {
            shop.hoist(&["up", "-d", "--build"]).ok();
            let said = shop.shell("app", "cat /srv/two");
            assert!(said.starts_with("1\nkept"), "after {fault}: {said}");
            shop.down();
        }
        shop.hoist(&prune).ok();
        assert_eq!(kept(&shop), [], "after {fault}");
        for place in ["build/steps", "build/mounts", "layers/tmp"] {
            let left: Vec<_> = fs::read_dir(store.join(place)).expect("there").collect();
            assert!(left.is_empty(), "after {fault}: {left:?}");
        }
        shop.up();
        let said = shop.shell("app", "cat /srv/two");
        assert!(said.starts_with("1\nkept"), "after {fault}: {said}");
        shop.down();
    }
    tell("builder prune", tried, met.len());
}
