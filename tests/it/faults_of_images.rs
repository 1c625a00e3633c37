//! Images that are loaded, pulled and built by commands that end at every boundary of their work: the next command finishes
//! it, and the store is then as if nothing had happened.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::faults::{faults, faults_by_name, of, of_parts, run, struck, tell};
use super::images::{Entry, archive_of_layer, tar, tree};
use super::support::images::archive;
use super::support::project::TestProject;
use super::support::registry::{FakeRegistry, Image, digest, layer, noise};
use super::support::{Secs as _, require_root};

/// Returns everything in the store, by name.
fn names(shop: &TestProject) -> BTreeSet<PathBuf> {
    tree(&shop.host().root().join("images")).into_keys().collect()
}

/// Makes the store as it was.
#[track_caller]
fn make_again(shop: &TestProject, clean: &BTreeSet<PathBuf>) {
    for path in names(shop).iter().rev().filter(|path| !clean.contains(*path)) {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path)); // from the deepest upwards
    }
    assert_eq!(&names(shop), clean);
}

#[test]
fn an_image_load_that_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", "");
    fs::write(shop.path("image.tar"), archive_of_layer(&tar(&[Entry::File("etc/motd", "here")]))).expect("written");
    let load = |fault: Option<&str>| run(&shop, fault, &["image", "load", "-i", "image.tar"]);
    let clean = names(&shop);
    let (first, met) = load(None);
    let _ = first.code(0);
    let loaded = names(&shop);
    let mut tried = 0;
    for fault in faults("command", &met) {
        make_again(&shop, &clean);
        let (killed, met) = load(Some(&fault));
        tried += usize::from(struck(&fault, &met, &killed));
        shop.hoist(&["image", "load", "-i", "image.tar"]).ok();
        assert_eq!(names(&shop), loaded, "after {fault}");
        assert!(shop.hoist(&["image", "ls"]).ok().contains("hostile"), "after {fault}");
    }
    tell("image load", tried, of("command", &met));
}

/// Several layers, one of them larger than what is under way at once, one with a file that is a link into the one below.
fn image() -> Image {
    let layers = [
        tar(&[Entry::File("etc/motd", "here")]),
        tar(&[Entry::Hardlink("etc/other", "etc/motd")]),
        layer("noise", &noise(3 << 20)),
    ];
    Image::new("amd64", &layers)
}

#[test]
fn an_image_pull_that_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let fake = FakeRegistry::start();
    fake.push("lab/app", "1", &image());
    let name = format!("{}/lab/app:1", fake.address);
    let pull = ["image", "pull", "--platform", "linux/amd64", &name];
    let clean = names(&shop);
    let (first, met) = run(&shop, None, &pull);
    let _ = first.code(0);
    let pulled = names(&shop);
    let is_whole = |fault: &str, wanted: &str| {
        assert_eq!(names(&shop), pulled, "{wanted} {fault}");
        assert!(shop.hoist(&["image", "ls"]).ok().contains("lab/app"), "{wanted} {fault}");
    };
    let mut tried = 0;
    for fault in faults("command", &met) {
        make_again(&shop, &clean);
        let (killed, met) = run(&shop, Some(&fault), &pull);
        tried += usize::from(struck(&fault, &met, &killed));
        shop.hoist(&pull).ok();
        is_whole(&fault, "after");
        // Another one at the same time waits for the layers of the first, or has them first, and misses nothing.
        make_again(&shop, &clean);
        let other = shop.spawn(&pull);
        let _ = run(&shop, Some(&fault), &pull);
        let _ = other.finish(60.secs()).code(0);
        // What the killed one was about to write goes with the next command.
        shop.hoist(&pull).ok();
        is_whole(&fault, "beside");
    }
    // What is here is only asked for.
    let (killed, met_again) = run(&shop, Some("pull.confirmed"), &pull);
    assert!(struck("pull.confirmed@1", &met_again, &killed));
    shop.hoist(&pull).ok();
    is_whole("pull.confirmed", "after");
    tell("image pull", tried, of("command", &met));
}

#[test]
fn a_build_that_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    // One moment for all, so that a program's layer is the same each time.
    let compose = "services:\n  app:\n    build: {context: ., args: {SOURCE_DATE_EPOCH: '1'}}\n";
    let shop = TestProject::new("shop", compose);
    shop.write(
        "Dockerfile",
        "FROM busybox\nCOPY one /srv/\nENV A=b\nRUN cat /srv/one > /srv/two\nCMD [\"sleep\", \"1000\"]\n",
    );
    shop.write("one", "1\n");
    shop.write("two", "2\n");
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    let up = ["up", "-d", "--build"];
    let clean = names(&shop);
    let (first, met) = run(&shop, None, &up);
    let _ = first.code(0);
    let built = names(&shop);
    shop.down();
    let met = of_parts(&["image.", "build."], met);
    let mut tried = 0;
    for fault in faults_by_name(&met) {
        make_again(&shop, &clean);
        let (killed, met) = run(&shop, Some(&fault), &up);
        assert!(struck(&fault, &met, &killed), "{killed}");
        tried += 1;
        shop.hoist(&up).ok();
        assert_eq!(names(&shop), built, "after {fault}");
        assert_eq!(shop.shell("app", "cat /srv/one /srv/two"), "1\n1");
        shop.down();
        shop.host().is_again_after(&before, &fault);
    }
    tell("up --build", tried, met.len());
}

/// Checks that a directory holds a whole cache; returns its files.
#[track_caller]
fn whole_cache(shop: &TestProject, after: &str) -> BTreeSet<PathBuf> {
    let dir = shop.path("cache");
    let read = |name: &str| fs::read(dir.join(name)).unwrap_or_else(|e| panic!("after {after}: {name}: {e}"));
    let blob = |of: &serde_json::Value| {
        let name = of["digest"].as_str().expect("a digest");
        let bytes = read(&format!("blobs/sha256/{}", &name["sha256:".len()..]));
        assert_eq!(digest(&bytes), name, "after {after}");
        bytes
    };
    let json = |bytes: &[u8]| -> serde_json::Value { serde_json::from_slice(bytes).expect("JSON") };
    let manifest = json(&blob(&json(&read("index.json"))["manifests"][0]));
    blob(&manifest["config"]);
    manifest["layers"].as_array().expect("a list").iter().for_each(|layer| drop(blob(layer)));
    tree(&dir).into_keys().collect()
}

#[test]
fn a_cache_is_the_old_one_or_the_new_one_wherever_its_writer_ends() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let cache = "type=local,dest=cache";
    shop.write("app/Dockerfile", "FROM busybox\nCOPY one /srv/\nCOPY two /srv/\n");
    shop.write("app/one", "1\n");
    shop.write("app/two", "2\n");
    let build = ["image", "build", "-t", "app", "--cache-to", cache, "app"];
    shop.hoist(&build).ok();
    let old = whole_cache(&shop, "the first");
    let keep = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(shop.path(to)); // it may not be there
        let copied = std::process::Command::new("cp").arg("-a").args([shop.path(from), shop.path(to)]).status();
        assert!(copied.expect("cp runs").success());
    };
    keep("cache", "old");
    shop.write("app/one", "another\n");
    let (first, met) = run(&shop, None, &build);
    let _ = first.code(0);
    let new = whole_cache(&shop, "the second");
    assert_ne!(old, new);
    let met = of_parts(&["cache."], met);
    let mut tried = 0;
    for fault in faults_by_name(&met) {
        keep("old", "cache");
        let (killed, met) = run(&shop, Some(&fault), &build);
        assert!(struck(&fault, &met, &killed), "{killed}");
        tried += 1;
        whole_cache(&shop, &fault);
        shop.hoist(&build).ok();
        assert_eq!(whole_cache(&shop, &fault), new, "after {fault}");
    }
    tell("image build --cache-to", tried, met.len());

    // Who reads one may end anywhere too.
    let forget = || {
        fs::remove_dir_all(shop.host().root().join("images")).expect("removed");
        shop.hoist(&["image", "load", "-i", &archive("busybox").display().to_string()]).ok();
    };
    let build = ["image", "build", "-t", "app", "--cache-from", "type=local,src=cache", "app"];
    forget();
    let (first, met) = run(&shop, None, &build);
    let _ = first.code(0);
    let all = names(&shop);
    let met = of_parts(&["cache."], met);
    assert!(!met.is_empty());
    for fault in faults_by_name(&met) {
        forget();
        let (killed, met) = run(&shop, Some(&fault), &build);
        assert!(struck(&fault, &met, &killed), "{killed}");
        let run = shop.hoist(&["--progress", "plain"].iter().chain(&build).copied().collect::<Vec<_>>()).code(0);
        assert_eq!(run.stderr.matches(" Cached").count(), 2, "after {fault}: {run}");
        assert_eq!(names(&shop), all, "after {fault}");
    }
}
