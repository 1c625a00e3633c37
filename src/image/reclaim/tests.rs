use std::os::unix::fs::symlink;

use super::*;
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::image::tarball::tests::TarBuilder;
use crate::image::tests::{Fixture, fixture};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn kept(kind: Kind, id: &str, size: u64, used: u64, in_use: bool) -> Kept {
    Kept {
        kind,
        id: id.to_owned(),
        size,
        created: at(1),
        used: at(used),
        made_by: None,
        in_use,
        records: Vec::new(),
        place: None,
    }
}

/// A layer of an image, three that nobody needs, two caches of which a program has one.
fn all() -> Vec<Kept> {
    vec![
        kept(Kind::Step, "aa", 1, 10, true),
        kept(Kind::Step, "bb", 20, 40, false),
        kept(Kind::Step, "bc", 300, 20, false),
        kept(Kind::Step, "cc", 4000, 30, false),
        kept(Kind::Mount, "npm", 50_000, 15, false),
        kept(Kind::Mount, "b", 600_000, 5, true),
    ]
}

#[test]
fn what_was_used_longest_ago_goes_first_and_caches_only_when_asked() {
    let everything = Prune { all: true, ..Prune::default() };
    let within = |budget| Prune { budget: Some(budget), ..Prune::default() };
    let with = |filter| Prune { filter, ..Prune::default() };
    let ids = |ids: &[&str]| Filter { ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..Filter::default() };
    let kinds = |kinds: &[Kind]| Filter { kinds: kinds.to_vec(), ..Filter::default() };
    let since = |seconds| Filter { unused_since: Some(at(seconds)), ..Filter::default() };
    for (prune, gone) in [
        (Prune::default(), "bc cc bb"),
        (everything.clone(), "aa npm bc cc bb"),
        (within(4321), ""),
        (within(4320), ""),
        (within(4319), "bc"),
        (within(4020), "bc"),
        (within(4019), "bc cc"),
        (within(19), "bc cc bb"),
        (within(0), "bc cc bb"),
        (Prune { budget: Some(4020), ..everything.clone() }, "npm bc"),
        (with(kinds(&[Kind::Mount])), "npm"),
        (with(kinds(&[Kind::Step])), "bc cc bb"),
        (with(ids(&["npm"])), "npm"),
        (with(ids(&["np"])), ""),
        (with(ids(&["b"])), "bc bb"),
        (with(ids(&["sha256:bc", "npm"])), "npm bc"),
        (with(ids(&["aa"])), ""),
        (with(since(30)), "bc"),
        (with(Filter { kinds: vec![Kind::Mount], ..since(15) }), ""),
        (Prune { filter: since(31), ..everything }, "aa npm bc cc"),
        (Prune { budget: Some(4000), ..with(since(31)) }, "bc"),
    ] {
        let chosen = prune.choose(all());
        assert_eq!(chosen.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>().join(" "), gone, "{prune:?}");
    }
    assert_eq!(all().iter().map(Kept::frees).sum::<u64>(), 54_320, "what somebody needs frees nothing");
}

#[test]
fn it_is_time_to_look_when_too_much_was_made_and_once_a_day() {
    let now = at(1_000_000);
    let day = 24 * 60 * 60;
    for (text, due) in [
        ("7\n".to_owned(), true), // nobody has looked yet
        ("50 1000000\n".to_owned(), false),
        (format!("50 {}\n", 1_000_000 - day + 1), false),
        (format!("50 {}\n", 1_000_000 - day), true),
        ("50 1000001\n".to_owned(), true), // the clock was set back
        ("50 1000000\n30\n20\n".to_owned(), false),
        ("50 1000000\n30\n20\n1\n".to_owned(), true),
        ("50 1000000\n18446744073709551615\n".to_owned(), true),
        ("50 1000000\nx\n".to_owned(), false),
    ] {
        assert_eq!(is_due(&text, 100, now), due, "{text}");
    }
}

#[test]
fn a_tree_is_measured_as_du_does() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("deep")).expect("writable");
    let empty = on_disk(&tree).expect("readable");
    fs::write(tree.join("deep/file"), vec![1; 100_000]).expect("writable");
    let one = on_disk(&tree).expect("readable");
    assert!((100_000..200_000).contains(&(one - empty)), "{empty} {one}");
    fs::hard_link(tree.join("deep/file"), tree.join("again")).expect("writable");
    fs::write(dir.path().join("outside"), vec![1; 1_000_000]).expect("writable");
    symlink(dir.path(), tree.join("out")).expect("writable");
    let linked = on_disk(&tree).expect("readable");
    assert!(linked - one < 50_000, "{one} {linked}");
    assert_eq!(on_disk(&dir.path().join("missing")).expect("no error"), 0);
}

/// A store with an image and one that has lost its name, each of a layer of its own and with records of steps.
fn two() -> (Fixture, Image, Image) {
    let fixture = fixture();
    let other = fixture.image(&[TarBuilder::default().dir("./").file("other", b"12345").end()]);
    fixture.store.untag(&Reference::parse("test:1").expect("valid")).expect("written");
    let image = fixture.image(&[TarBuilder::default().dir("./").file("own", b"123").end()]);
    for (of, names) in [(&image, ["a", "b"]), (&other, ["c", "d"])] {
        let layer = Some(of.config.rootfs.diff_ids[0].clone());
        let record = StepRecord::of(layer, None, Some("RUN x".into()));
        names.iter().for_each(|name| {
            fixture.store.write_step(&Digest::of(name.as_bytes()), &record).expect("written");
        });
    }
    (fixture, image, other)
}

fn layer(image: &Image) -> &Digest {
    &image.config.rootfs.diff_ids[0]
}

fn close(store: &Store) -> Closed<'_> {
    store.close().expect("writable").expect("nobody holds it")
}

fn steps(store: &Store) -> usize {
    list_dir(&store.steps()).expect("readable").len()
}

#[test]
fn what_an_image_or_a_container_has_stays_and_the_rest_goes_with_its_records() {
    if !crate::testing::is_root() {
        return;
    }
    let (fixture, image, other) = two();
    let store = &fixture.store;
    let shown: Vec<_> =
        store.kept(&Standing::default()).expect("readable").into_iter().map(|k| (k.id, k.size, k.in_use)).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.contains(&(layer(&image).hex().to_owned(), 3, true)), "{shown:?}");
    assert!(shown.contains(&(layer(&other).hex().to_owned(), 5, false)), "{shown:?}");
    let prune = |standing: &Standing, prune: &Prune| {
        let gone = close(store).prune(standing, prune, &store.measure(prune).expect("readable")).expect("pruned");
        gone.into_iter().map(|kept| kept.id).collect::<Vec<_>>()
    };
    // A container stands on it, or has the image that is not listed any more.
    let by_path = Standing { directories: [layer(&other).hex().to_owned()].into(), ..Standing::default() };
    let by_image = Standing { images: [other.id.clone()].into(), ..Standing::default() };
    for standing in [by_path, by_image] {
        assert_eq!(prune(&standing, &Prune::default()), [""; 0]);
        assert_eq!(store.layer(layer(&other)).expect("readable").map(|meta| meta.bytes), Some(5));
    }
    assert!(store.resolve(&other.id.to_string()).expect("readable").is_some());
    assert_eq!(prune(&Standing::default(), &Prune::default()), [layer(&other).hex()]);
    assert!(!store.layer_dir(layer(&other)).exists());
    assert_eq!(steps(store), 2, "its records are gone");
    assert_eq!(store.resolve(&other.id.to_string()).expect("no error"), None, "it was removed, and is gone now");
    assert_eq!(fs::read_dir(store.tmp()).expect("there").count(), 0);
    assert_eq!(prune(&Standing::default(), &Prune::default()), [""; 0]);
    // With all, what is known of the steps goes, and the image is whole.
    assert_eq!(prune(&Standing::default(), &Prune { all: true, ..Prune::default() }), [layer(&image).hex()]);
    assert_eq!(steps(store), 0);
    assert_eq!(store.resolve("test:1").expect("readable").expect("there"), image);
    assert!(image.view().expect("opens").read(b"own", 9).expect("readable").is_some());
}

#[test]
fn what_others_stand_upon_goes_after_them() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let store = &fixture.store;
    let file = |name: &str| TarBuilder::default().dir("./").file(name, b"12345").end();
    let image = fixture.image(&[file("a"), file("b"), file("c")]);
    store.untag(&Reference::parse("test:1").expect("valid")).expect("written");
    let layers = &image.config.rootfs.diff_ids;
    // Each was done long after the one below; the last one not by a program.
    for (n, upon) in [(0, 0..0), (1, 0..1), (2, 0..0)] {
        let key = Digest::of(&[n]);
        let n = usize::from(n);
        let record = StepRecord { upon: layers[upon].to_vec(), ..StepRecord::of(Some(layers[n].clone()), None, None) };
        store.write_step(&key, &record).expect("written");
        let file = File::options().append(true).open(store.steps().join(key.hex())).expect("there");
        file.set_modified(at([10, 30, 20][n])).expect("written");
    }
    let within = |budget| Prune { budget: Some(budget), ..Prune::default() };
    let gone = |budget| {
        let (all, _) = store.look(&Standing::default(), &Sizes::new()).expect("readable");
        let ids = within(budget).choose(all).into_iter().map(|kept| Digest::from_hex(&kept.id).expect("a digest"));
        ids.map(|id| layers.iter().position(|layer| *layer == id).expect("a layer")).collect::<Vec<_>>()
    };
    assert_eq!((gone(14), gone(9), gone(4)), (vec![2], vec![2, 1], vec![2, 1, 0]));
}

#[test]
fn nothing_goes_while_somebody_holds_the_store() {
    let fixture = fixture();
    let store = &fixture.store;
    let (first, second) = (store.hold().expect("held"), store.hold().expect("held"));
    assert!(store.close().expect("no error").is_none());
    drop(first);
    assert!(store.close().expect("no error").is_none());
    drop(second);
    let closed = close(store);
    assert!(store.close().expect("no error").is_none(), "there is one at a time");
    drop(closed);
    drop(store.hold().expect("held"));
}

#[test]
fn records_that_lead_nowhere_go_with_the_next_prune() {
    if !crate::testing::is_root() {
        return;
    }
    let (fixture, _, other) = two();
    let store = &fixture.store;
    // As a prune that was killed leaves it.
    fs::remove_dir_all(store.layer_dir(layer(&other))).expect("there");
    fs::write(store.steps().join("0".repeat(64)), "{").expect("written");
    assert_eq!(store.kept(&Standing::default()).expect("readable").len(), 1);
    assert_eq!(close(store).prune(&Standing::default(), &Prune::default(), &Sizes::new()).expect("pruned"), []);
    assert_eq!(steps(store), 2);
}

#[test]
fn caches_are_found_measured_and_removed_with_their_locks() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let store = &fixture.store;
    let dir = store.cache_mount("npm", 0o755, (0, 0), None).expect("made");
    fs::write(dir.join("file"), vec![1; 100_000]).expect("written");
    store.cache_mount("/root/.cache", 0o755, (0, 0), None).expect("made");
    drop(store.lock_cache("npm").expect("writable").expect("free"));
    let meta = dir.with_file_name("meta.json");
    File::options().append(true).open(&meta).and_then(|f| f.set_modified(at(5))).expect("written");
    let shown = store.kept(&Standing::default()).expect("readable");
    assert_eq!(shown.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["/root/.cache", "npm"]);
    assert_eq!(shown[1].used, at(5));
    assert!(shown[1].size >= 100_000 && shown[1].created > at(5), "{shown:?}");
    store.cache_mount("npm", 0o755, (0, 0), None).expect("there");
    assert!(store.kept(&Standing::default()).expect("readable")[0].used > at(5), "it was used");
    let prune = |standing: &Standing, prune: &Prune| {
        let gone = close(store).prune(standing, prune, &store.measure(prune).expect("readable")).expect("pruned");
        gone.iter().map(|kept| (kept.id.clone(), kept.size >= 100_000)).collect::<Vec<_>>()
    };
    assert_eq!(prune(&Standing::default(), &Prune::default()), []);
    let all = Prune { filter: Filter { kinds: vec![Kind::Mount], ..Filter::default() }, ..Prune::default() };
    let used = list_dir(&store.root().join("build/mounts")).expect("readable").into_iter().collect();
    assert_eq!(prune(&Standing { directories: used, ..Standing::default() }, &all), [], "containers have them");
    let named = Prune { filter: Filter { ids: vec!["npm".into()], ..Filter::default() }, ..Prune::default() };
    assert_eq!(prune(&Standing::default(), &named), [("npm".to_owned(), true)]);
    assert!(!dir.exists());
    assert_eq!(prune(&Standing::default(), &all), [("/root/.cache".to_owned(), false)]);
    assert_eq!(list_dir(&store.root().join("build/mounts")).expect("readable"), [""; 0]);
}

#[test]
fn a_budget_is_kept_and_noted() {
    if !crate::testing::is_root() {
        return;
    }
    let (fixture, image, other) = two();
    let store = &fixture.store;
    let now = at(1_800_000_000);
    assert!(!store.is_due(0, now), "nothing was made");
    let grow = |image: &Image| {
        let record = StepRecord::of(Some(layer(image).clone()), None, None);
        store.note_growth(&record).expect("written");
    };
    grow(&other);
    assert!(store.is_due(9, now));
    assert_eq!(close(store).keep_to(&Standing::default(), 5, now).expect("kept"), []);
    assert!(!store.is_due(5, now) && store.is_due(4, now), "five bytes are kept");
    grow(&image);
    assert!(!store.is_due(8, now) && store.is_due(7, now));
    store.cache_mount("npm", 0o755, (0, 0), None).expect("made");
    let gone = close(store).keep_to(&Standing::default(), 4, now).expect("kept");
    assert_eq!(gone.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), [layer(&other).hex()]);
    assert!(!store.is_due(0, now), "nothing is left that counts");
    assert!(store.layer(layer(&image)).expect("readable").is_some());
    assert_eq!(store.mounts().expect("readable").len(), 1, "nobody asked for caches");
}
