//! Caches that go from one store to another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::exchange::{CacheFrom, CachePlace, CacheTo};
use super::execute::*;
use super::tests::{Setup, setup};
use super::tests_of_explain::Writes;
use crate::diag::Report;
use crate::event::{Event, Progress, Sink};
use crate::image::cache::{Records, layout};
use crate::image::digest::Digest;
use crate::image::steps::StepRecord;

const TEXT: &str = "FROM test:1 AS tools\nCOPY src /src\nRUN make tools\nFROM test:1\nWORKDIR /srv/new\nCOPY src /app\nRUN make\nCOPY --from=tools /src/b /b\n";

#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Sink for Listener {
    fn send(&self, event: Event) {
        let text = match event {
            Event::Warning(text) => text,
            Event::Progress { subject, progress: Progress::Done(word), detail, .. } => {
                format!("{} {word} {}", subject.name(), detail.unwrap_or_default())
            }
            _ => return,
        };
        self.0.lock().expect("no panic").push(text);
    }
}

/// Returns a store and a context of their own, whose files are so many seconds old.
fn store(age: u64) -> Setup {
    let setup = setup(TEXT, &[("src/a", "A"), ("src/b", "B")]);
    for name in ["src/a", "src/b"] {
        let file = File::options().append(true).open(setup.context.join(name)).expect("there");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("ours");
    }
    setup
}

impl Setup {
    /// Builds; returns the image's id, how many programs ran, and what was told.
    fn exchanged(&self) -> (Result<Digest, Report>, usize, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (runner, listener) = (Writes { setup: self, ran: RefCell::new(0) }, Listener::default());
        let built = runtime.block_on(build(&self.spec, &self.fixture.store, &runner, self.fetcher(), &listener));
        let told = listener.0.into_inner().expect("no panic").join("\n");
        (built.map(|built| built.image.id), *runner.ran.borrow(), told)
    }

    fn to(mut self, dir: &Path, all_stages: bool) -> Self {
        let place = CachePlace::Local(dir.to_owned());
        self.spec.cache_to = vec![CacheTo { place, all_stages, ignore_error: false }];
        self
    }

    fn from(mut self, dir: &Path) -> Self {
        self.spec.cache_from = vec![CacheFrom::Local(dir.to_owned())];
        self
    }
}

/// Returns the files of a directory with the digests of their content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Digest> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("there").flatten() {
        let (path, name) = (entry.path(), PathBuf::from(entry.file_name()));
        match path.is_dir() {
            true => all.extend(files(&path).into_iter().map(|(below, digest)| (name.join(below), digest))),
            false => drop(all.insert(name, Digest::of(&fs::read(&path).expect("readable")))),
        }
    }
    all
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
}

/// The manifest of a cache and its records, with the paths of their blobs.
fn documents(dir: &Path) -> [(PathBuf, Value); 2] {
    let blob = |digest: &Value| dir.join("blobs/sha256").join(&digest.as_str().expect("a digest")[7..]);
    let manifest = blob(&json_of(&dir.join("index.json"))["manifests"][0]["digest"]);
    let value = json_of(&manifest);
    let records = blob(&value["config"]["digest"]);
    let document = json_of(&records);
    [(manifest, value), (records, document)]
}

#[test]
fn what_one_store_has_built_another_one_need_not() {
    if !crate::testing::is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("deep/cache");
    let one = store(1000).to(&cache, true);
    let (id, ran, told) = one.exchanged();
    let id = id.expect("built");
    assert_eq!(ran, 2, "{told}");
    assert!(told.contains(&format!("[cache] {} Exported", cache.display())), "{told}");
    let first = files(&cache);
    // All of it is known now, and the cache is the same.
    assert_eq!(one.exchanged().1, 0);
    assert_eq!(files(&cache), first);
    assert_eq!(json_of(&cache.join("oci-layout"))["imageLayoutVersion"], "1.0.0");

    // The files of the other one have other times.
    let two = store(5000).from(&cache);
    let (other, ran, told) = two.exchanged();
    assert_eq!((other.expect("built"), ran), (id.clone(), 0), "{told}");
    assert!(told.contains("[cache]") && told.contains(" Read"), "{told}");
    // It needs the cache no more.
    fs::rename(&cache, dir.path().join("away")).expect("ours");
    assert_eq!(two.exchanged().1, 0);
    fs::rename(dir.path().join("away"), &cache).expect("ours");

    // A changed file is seen, and what does not depend on it is known all the same.
    let three = store(1000).from(&cache);
    fs::write(three.context.join("src/a"), "changed").expect("writable");
    let (other, ran, told) = three.exchanged();
    assert_eq!(ran, 2, "{told}");
    assert_ne!(other.expect("built"), id);

    // Every step is carried out when that is asked for.
    let mut four = store(1000).from(&cache);
    four.spec.no_cache = true;
    assert_eq!(four.exchanged().1, 2);

    // A cache that is not there is no mistake.
    let (_, ran, told) = store(1000).from(&dir.path().join("none")).exchanged();
    assert_eq!(ran, 2);
    assert!(told.contains("none Not found"), "{told}");
}

#[test]
fn the_small_cache_has_what_the_image_is_built_upon() {
    if !crate::testing::is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (small, large) = (dir.path().join("small"), dir.path().join("large"));
    let one = store(1000).to(&small, false);
    let id = one.exchanged().0.expect("built");
    let one = one.to(&large, true);
    one.exchanged().0.expect("built");
    let count = |dir: &Path| documents(dir)[1].1["steps"].as_array().expect("a list").len();
    assert_eq!((count(&small), count(&large)), (4, 6));
    let (other, ran, _) = store(1000).from(&small).exchanged();
    assert_eq!(ran, 1, "the stage that is only copied from");
    drop((other, id)); // its program may have another time
    // What the new one does not have goes, and what a killed writer has left.
    fs::write(large.join("blobs/sha256/.hoist-left"), "x").expect("writable");
    fs::write(large.join(".hoist-left"), "x").expect("writable");
    let before = files(&large).len();
    store(1000).from(&large).to(&large, false).exchanged().0.expect("built");
    assert_eq!(files(&large), files(&small));
    assert!(files(&large).len() < before - 2);
}

#[test]
fn an_image_may_have_its_own_cache() {
    if !crate::testing::is_root() {
        return;
    }
    let mut one = store(1000);
    let plain = one.exchanged().0.expect("built");
    one.spec.args.insert("BUILDKIT_INLINE_CACHE".into(), Some("1".into()));
    let id = one.exchanged().0.expect("built");
    assert_ne!(id, plain);
    one.spec.args.clear();
    one.spec.cache_to = vec![CacheTo { place: CachePlace::Inline, all_stages: false, ignore_error: false }];
    assert_eq!(one.exchanged().0.expect("built"), id);
    let image = one.fixture.store.image(&id).expect("readable").expect("there");
    let inline = &image.config.other["hoist.build-cache.v1"];
    assert_eq!(inline["steps"].as_array().expect("a list").len(), 4, "{inline}");
    // The store forgets its steps, and the image knows them.
    fs::remove_dir_all(one.fixture.dir.path().join("images/build")).expect("there");
    one.spec.cache_from = vec![CacheFrom::Image(one.spec.tags[0].clone())];
    let (again, ran, told) = one.exchanged();
    assert_eq!((again.expect("built"), ran), (id, 1), "{told}");
    // What is built upon the image has its own steps alone.
    one.spec.cache_to.clear();
    one.spec.cache_from.clear();
    fs::write(&one.file, "FROM shop-web\nCOPY src /more\n").expect("writable");
    let derived = one.exchanged().0.expect("built");
    let image = one.fixture.store.image(&derived).expect("readable").expect("there");
    assert!(image.config.other.is_empty(), "{:?}", image.config.other);
}

/// Replaces the records of a cache, and what points at them.
fn with_records(dir: &Path, change: impl FnOnce(&mut Value)) {
    let [(_, mut manifest), (_, mut records)] = documents(dir);
    change(&mut records);
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).expect("writable");
        json!(digest)
    };
    manifest["config"]["digest"] = put(records.to_string().as_bytes());
    let digest = put(manifest.to_string().as_bytes());
    fs::write(dir.join("index.json"), json!({"manifests": [{"digest": digest}]}).to_string()).expect("writable");
}

#[test]
fn what_is_damaged_or_hostile_is_not_used() {
    if !crate::testing::is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let whole = dir.path().join("whole");
    let one = store(1000).to(&whole, true);
    one.exchanged().0.expect("built");
    let outside = dir.path().join("outside");
    fs::write(&outside, "not for you").expect("writable");
    let layers = |dir: &Path| -> Vec<PathBuf> {
        let [(_, manifest), _] = documents(dir);
        let all = manifest["layers"].as_array().expect("a list").iter();
        all.map(|l| dir.join("blobs/sha256").join(&l["digest"].as_str().expect("text")[7..])).collect()
    };
    type Damage<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, &'a str);
    let each = |change: fn(&Path)| move |dir: &Path| layers(dir).iter().for_each(|layer| change(layer));
    let cases: Vec<Damage<'_>> = vec![
        (
            "cut",
            Box::new(each(|l| File::options().write(true).open(l).expect("there").set_len(20).expect("ours"))),
            "has the digest",
        ),
        ("gone", Box::new(each(|l| fs::remove_file(l).expect("there"))), "cannot read `blobs/sha256/"),
        ("other", Box::new(each(|l| fs::write(l, "other").expect("ours"))), "has the digest"),
        (
            "link",
            Box::new(|dir: &Path| {
                for l in layers(dir) {
                    fs::rename(&l, l.with_extension("x")).expect("ours");
                    symlink(l.with_extension("x"), &l).expect("ours");
                }
            }),
            "cannot read `blobs/sha256/",
        ),
        (
            "pipe",
            Box::new(each(|l| {
                fs::remove_file(l).expect("there");
                rustix::fs::mknodat(rustix::fs::CWD, l, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0)
                    .expect("ours");
            })),
            "it is no file",
        ),
        (
            "index",
            Box::new(|dir: &Path| fs::write(dir.join("index.json"), "{").expect("ours")),
            "`index.json` is no JSON",
        ),
        (
            "large",
            Box::new(|dir: &Path| File::create(dir.join("index.json")).expect("ours").set_len(5 << 20).expect("ours")),
            "larger than",
        ),
        (
            "path",
            Box::new(|dir: &Path| {
                let text = json!({"manifests": [{"digest": "sha256:../../../outside"}]}).to_string();
                fs::write(dir.join("index.json"), text).expect("ours");
            }),
            "is not a sha256 digest",
        ),
        (
            "index link",
            Box::new(|dir: &Path| {
                fs::rename(dir.join("index.json"), dir.join("i")).expect("ours");
                symlink("i", dir.join("index.json")).expect("ours");
            }),
            "cannot read `index.json`",
        ),
        (
            "folder link",
            Box::new(|dir: &Path| {
                fs::rename(dir.join("blobs"), dir.join("b")).expect("ours");
                symlink("b", dir.join("blobs")).expect("ours");
            }),
            "cannot read `blobs/sha256/",
        ),
        (
            "records",
            Box::new(|dir: &Path| fs::write(&documents(dir)[1].0, "{}").expect("ours")),
            "has another digest than its name",
        ),
        ("form", Box::new(|dir: &Path| with_records(dir, |r| r["format"] = json!(2))), "of another form: 2"),
        ("no layers", Box::new(|dir: &Path| with_records(dir, |r| r["layers"] = json!({}))), "which it does not have"),
        (
            "size",
            Box::new(|dir: &Path| {
                with_records(dir, |r| {
                    for (_, blob) in r["layers"].as_object_mut().expect("a map") {
                        blob["size"] = json!(1);
                    }
                });
            }),
            "has the digest",
        ),
        (
            "swapped",
            Box::new(|dir: &Path| {
                with_records(dir, |r| {
                    let map = r["layers"].as_object_mut().expect("a map");
                    let mut blobs: Vec<Value> = map.values().cloned().collect();
                    blobs.rotate_left(1);
                    map.values_mut().zip(blobs).for_each(|(to, from)| *to = from);
                });
            }),
            "holds the layer",
        ),
        (
            "buildkit",
            Box::new(|dir: &Path| {
                let [(path, mut manifest), _] = documents(dir);
                manifest["config"]["mediaType"] = json!("application/vnd.buildkit.cacheconfig.v0");
                let bytes = manifest.to_string();
                let digest = Digest::of(bytes.as_bytes());
                fs::write(path.with_file_name(digest.hex()), bytes).expect("ours");
                fs::write(dir.join("index.json"), json!({"manifests": [{"digest": digest}]}).to_string())
                    .expect("ours");
            }),
            "Skipped it is a cache of buildkit's",
        ),
    ];
    for (name, damage, expected) in cases {
        let copy = dir.path().join(name);
        let copied = std::process::Command::new("cp").arg("-a").args([&whole, &copy]).status().expect("cp runs");
        assert!(copied.success());
        damage(&copy);
        let two = store(1000).from(&copy);
        let (built, ran, told) = two.exchanged();
        let id = built.unwrap_or_else(|report| panic!("{name}: {}", report.render(false)));
        assert_eq!(ran, 2, "{name}: {told}");
        assert!(told.contains(expected), "{name}: {told}");
        let image = two.fixture.store.image(&id).expect("readable").expect("there");
        let b = image.view().expect("opens").read(b"b", 10).expect("readable");
        assert_eq!(b.as_deref(), Some(&b"B"[..]), "{name}");
        assert_eq!(fs::read_dir(two.fixture.dir.path().join("images/layers/tmp")).expect("there").count(), 0, "{name}");
    }
}

#[test]
fn a_writer_that_is_given_up_leaves_what_was_there() {
    if !crate::testing::is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let one = store(1000).to(dir.path(), true);
    one.exchanged().0.expect("built");
    let first = files(dir.path());
    let layers = one.fixture.store.resolve("shop-web").expect("readable").expect("built").config.rootfs.diff_ids;
    // Another name, so that the directory does not have it.
    let mut records = Records::default();
    for layer in &layers {
        records.steps.insert(layer.clone(), StepRecord::of(Some(layer.clone()), None, None));
    }
    let over = Arc::new(AtomicBool::new(true));
    let error = layout::write(&one.fixture.store, dir.path(), records.clone(), &over).expect_err("given up");
    assert!(error.to_string().contains("it was given up"), "{error}");
    assert_eq!(files(dir.path()), first);
    // While another one writes, it is waited for.
    let held = File::open(dir.path()).expect("there");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("free");
    let error = layout::write(&one.fixture.store, dir.path(), records.clone(), &over).expect_err("given up");
    assert!(error.to_string().contains("cannot lock"), "{error}");
    drop(held);
    layout::write(&one.fixture.store, dir.path(), records, &Arc::default()).expect("written");
    assert_ne!(files(dir.path()), first);
}

#[test]
fn nothing_else_is_written_over() {
    if !crate::testing::is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let other = json!({"manifests": []}).to_string();
    fs::write(dir.path().join("index.json"), &other).expect("writable");
    fs::write(dir.path().join("mine"), "x").expect("writable");
    let mut one = store(1000).to(dir.path(), true);
    let report = one.exchanged().0.expect_err("refused").render(false);
    assert!(report.contains("holds something that is no build cache of hoist's"), "{report}");
    assert!(report.contains("help: name another directory"), "{report}");
    one.spec.cache_to[0].ignore_error = true;
    let (built, _, told) = one.exchanged();
    built.expect("built");
    assert!(told.contains("has no cache now"), "{told}");
    assert_eq!(fs::read_to_string(dir.path().join("index.json")).expect("there"), other);
    assert_eq!(files(dir.path()).len(), 2);
    // One that is damaged is ours again.
    fs::write(dir.path().join("index.json"), "{").expect("writable");
    one.exchanged().0.expect("built");
    assert!(dir.path().join("mine").exists(), "what is not of a cache stays");
    assert_eq!(store(9).from(dir.path()).exchanged().1, 0);
}
