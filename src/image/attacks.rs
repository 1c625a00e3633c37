//! Every way in which an archive of strangers was used against an image loader that we know of, as an archive: refused
//! with one error that names the entry, or harmless. `tests.rs` has the plainer ones.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::image::compression::tests::{bzip2, xz};
use crate::image::digest::Digest;
use crate::image::load::unpack_stream_within;
use crate::image::tarball::tests::TarBuilder;
use crate::image::tests::{Fixture, config, docker, docker_with, fixture, gzip, is_opaque, oci};
use crate::image::unpack::{Limits, unpack};

fn tar() -> TarBuilder {
    TarBuilder::default()
}

/// Returns the names in a directory of a layer, sorted.
fn names(fixture: &Fixture, layer: &[u8], below: &str) -> Vec<String> {
    let image = fixture.image(&[layer.to_vec()]);
    let entries = fs::read_dir(image.layers[0].join(below)).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// Loads what must be refused; nothing may stay.
#[track_caller]
fn refused(fixture: &Fixture, archive: &[u8]) -> String {
    let error = fixture.load(archive).expect_err("must be refused").to_string();
    assert_eq!(fixture.files(), Vec::<PathBuf>::new(), "left behind after: {error}");
    error
}

#[test]
fn an_entry_that_comes_again_replaces_the_first_and_writes_through_nothing() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let layer = tar()
        .dir("./")
        .dir_mode("merged/", 0o700)
        .file("merged/x", b"")
        .dir_mode("merged/", 0o711)
        .dir("file/")
        .file("file/x", b"")
        .file("file", b"now a file")
        .dir("link/")
        .file("link/x", b"")
        .symlink("link", "merged")
        .file("link/y", b"")
        .file("dir", b"")
        .dir("dir/")
        .file("dir/x", b"")
        // A file that replaces one end of a hard link leaves the other end alone.
        .file("one", b"1")
        .hardlink("other", "one")
        .file("one", b"2")
        // A file in the place of a link does not follow it.
        .symlink("to-one", "one")
        .file("to-one", b"3")
        // A hard link to a symbolic link is that link.
        .symlink("to-dir", "dir")
        .hardlink("same", "to-dir")
        .end();
    let image = fixture.image(&[layer]);
    let at = |name: &str| image.layers[0].join(name);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(fs::metadata(at("merged")).expect("there").mode() & 0o7777, 0o711);
    assert!(at("merged/x").exists() && at("merged/y").exists(), "merged, and reached by the link");
    assert_eq!(read("file"), "now a file");
    assert!(at("link").symlink_metadata().expect("there").is_symlink() && at("link/x").exists());
    assert!(at("dir/x").exists() && is_opaque(&at("dir")), "what lies below a file's place is not merged");
    assert_eq!((read("one"), read("other"), read("to-one")), ("2".into(), "1".into(), "3".into()));
    assert!(at("same").symlink_metadata().expect("there").is_symlink());
    assert_eq!(fs::metadata(at("merged")).expect("there").mtime(), 1_700_000_000, "set after what is in it");
}

#[test]
fn names_of_whiteouts_are_no_way_out() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    for name in [".wh.", "d/.wh.", ".wh..", "d/.wh..", ".wh...", "d/.wh...", ".wh.../x", "d/.wh.x/y", ".wh.d/.wh.x"] {
        let error = fixture.refuses(tar().file(name, b"").end());
        assert!(error.contains(name) && error.contains("whiteout"), "{name}: {error}");
    }
    // What the AUFS driver left beside the files is neither kept nor an error.
    let left = tar().dir("./").file(".wh..wh.aufs", b"").dir(".wh..wh.plnk/").file(".wh..wh.plnk/1.2", b"").end();
    assert_eq!(names(&fixture, &left, ""), Vec::<String>::new());
    // Nor are names that only look like them.
    let near = tar().dir("./").file(".w", b"").file("wh.x", b"").file(".whx", b"").end();
    assert_eq!(names(&fixture, &near, ""), [".w", ".whx", "wh.x"]);
}

#[test]
fn attributes_come_from_numbers_and_none_forges_what_overlayfs_reads() {
    if !crate::testing::is_root() {
        return;
    }
    let forged: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.kept", b"value"),
        ("LIBARCHIVE.xattr.trusted.overlay.opaque", b"eQ=="),
        ("mtime", b"-1.25"),
    ];
    // A user's name never counts, only the number.
    let named = |h: &mut [u8; 512]| h[265..271].copy_from_slice(b"daemon");
    let layer = tar()
        .dir("./")
        .pax(forged)
        .raw(b'5', b"d", b"", b"", named)
        .pax(&[("SCHILY.xattr.user.on-a-link", b"x")])
        .symlink("l", "d")
        .end();
    let fixture = fixture();
    let image = fixture.image(&[layer]);
    let d = image.layers[0].join("d");
    assert!(!is_opaque(&d));
    let found = crate::sys::tree::xattrs(fs::File::open(&d).expect("opens")).expect("readable");
    let names: Vec<_> = found.iter().map(|(name, _)| name.to_str().expect("text")).collect();
    // A tmpfs of an older kernel keeps no `user.` ones.
    assert!(names.is_empty() || names == ["user.kept"], "{names:?}");
    let meta = fs::metadata(&d).expect("there");
    assert_eq!((meta.uid(), meta.mtime(), meta.mtime_nsec()), (0, -2, 750_000_000));
    assert!(image.layers[0].join("l").symlink_metadata().expect("there").is_symlink());
}

#[test]
fn no_header_makes_us_see_other_entries_than_other_readers_do() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let smuggled = tar().file("evil", b"x").0;
    let zero = |h: &mut [u8; 512]| h[124..136].copy_from_slice(b"00000000000\0");
    let size = smuggled.len().to_string();
    let size: &[(&str, &[u8])] = &[("size", size.as_bytes())];
    let long = [b"long-".repeat(30), b"name".to_vec()].concat();
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        // CVE-2025-62518: the size is in the pax header, the ustar header says 0.
        ("pax size", tar().dir("./").pax(size).raw(b'0', b"outer", b"", &smuggled, zero).file("z", b"").end(), {
            vec!["outer", "z"]
        }),
        // GHSA-3pv8-6f4r-ffg2: a long name stands between the pax header and the file that it is for.
        (
            "pax, long name, file",
            tar()
                .dir("./")
                .pax(size)
                .raw(b'L', b"L", b"", &long, |_| {})
                .raw(b'0', b"x", b"", &smuggled, zero)
                .file("z", b"")
                .end(),
            vec![std::str::from_utf8(&long).expect("text"), "z"],
        ),
        (
            "long name, pax, file",
            tar()
                .dir("./")
                .raw(b'L', b"L", b"", &long, |_| {})
                .pax(size)
                .raw(b'0', b"x", b"", &smuggled, zero)
                .file("z", b"")
                .end(),
            vec![std::str::from_utf8(&long).expect("text"), "z"],
        ),
        // Global records change nothing.
        (
            "global size",
            tar().dir("./").raw(b'g', b"g", b"", b"12 size=1024\n", |_| {}).file("a", b"x").file("z", b"").end(),
            vec!["a", "z"],
        ),
        // Entries without data have none, whatever their size says.
        (
            "directory with a size",
            tar()
                .dir("./")
                .raw(b'5', b"d", b"", b"", |h| h[124..136].copy_from_slice(b"00000001000\0"))
                .file("z", b"")
                .end(),
            vec!["d", "z"],
        ),
        // The end of the archive is where others see it.
        ("entries after the end", [tar().dir("./").file("a", b"").end(), smuggled.clone()].concat(), vec!["a"]),
        ("no end at all", tar().dir("./").file("a", b"").0, vec!["a"]),
    ];
    for (what, layer, expected) in cases {
        assert_eq!(names(&fixture, &layer, ""), expected, "{what}");
    }
    // Long link targets come whole.
    let target = "t/".repeat(90);
    let layer = tar().dir("./").raw(b'K', b"K", b"", target.as_bytes(), |_| {}).symlink("l", "short").end();
    let image = fixture.image(&[layer]);
    assert_eq!(fs::read_link(image.layers[0].join("l")).expect("a link").to_str(), Some(&target[..]));
}

#[test]
fn what_is_compressed_otherwise_is_named_and_no_program_is_run_for_it() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let bytes = [&b"\x04\x22\x4d\x18"[..], &[7; 2000]].concat();
    let error = refused(&fixture, &docker("x:1", std::slice::from_ref(&bytes), true));
    assert_eq!(error, "`0/layer.tar` in the image archive is compressed with lz4, which is not supported");
    assert_eq!(refused(&fixture, &bytes), "the image archive is compressed with lz4, which is not supported");
    let layer = tar().file("a", b"A").end();
    for pack in [gzip, bzip2, xz] {
        let mut broken = pack(&layer);
        let middle = broken.len() / 2;
        broken[middle] ^= 0xff;
        let error = refused(&fixture, &docker("x:1", &[broken], true));
        assert!(error.contains("0/layer.tar"), "{error}");
    }
}

#[test]
fn documents_are_small_and_of_one_kind() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let layer = tar().file("a", b"A").end();
    let large = vec![b' '; (8 << 20) + 1];
    let error = refused(&fixture, &tar().file("manifest.json", &large).end());
    assert_eq!(error, "`manifest.json` in the image archive is larger than allowed: the limit is 8 MiB for a document");
    let error = refused(&fixture, &docker_with("x:1", std::slice::from_ref(&layer), &large, true));
    assert!(error.starts_with("`config.json` in the image archive is larger"), "{error}");
    let many = (0..9).fold(tar(), |tar, i| tar.file(&format!("{i}.json"), &large[..8 << 20])).end();
    let error = refused(&fixture, &many);
    assert_eq!(error, "the documents of the image archive is larger than allowed: the limit is 64 MiB");
    let links = (0..100_010).fold(tar(), |tar, i| tar.symlink(&format!("{i}"), "x")).end();
    assert!(refused(&fixture, &links).contains("100000 entries"));

    // CVE-2021-41190: what is an index for one reader is a manifest for another.
    let whole = String::from_utf8(oci("x:1", &[(layer.clone(), layer.clone())])).expect("text");
    let index = whole.rfind(r#"{"schemaVersion":2,"manifests""#).expect("the index");
    let end = index + whole[index..].find('\0').expect("the padding");
    let with_index = |text: &str| {
        // The header with the size stands before it.
        let head = &whole.as_bytes()[..index - 512];
        TarBuilder(head.to_vec()).file("index.json", text.as_bytes()).end()
    };
    fixture.load(&with_index(&whole[index..end])).expect("unchanged, it loads");
    let ambiguous =
        whole[index..end].replacen("\"schemaVersion\":2,", r#""schemaVersion":2,"layers":[],"config":{},"#, 1);
    let error = fixture.load(&with_index(&ambiguous)).expect_err("ambiguous").to_string();
    assert_eq!(error, "`index.json` in the image archive is not valid: it is no image index");
    let typed = whole[index..end].replacen(
        "\"schemaVersion\":2,",
        r#""schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
        1,
    );
    let error = fixture.load(&with_index(&typed)).expect_err("another type").to_string();
    assert_eq!(error, "`index.json` in the image archive is not valid: it is no image index");
}

#[test]
fn links_between_names_of_an_archive_lead_nowhere_else() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let layer = tar().file("a", b"A").end();
    let manifest = |config: &str, layer: &str| {
        json!([{"Config": config, "RepoTags": ["x:1"], "Layers": [layer]}]).to_string().into_bytes()
    };
    let config = config(&[Digest::of(&layer)], json!({}));
    let whole = |links: TarBuilder, config_name: &str, layer_name: &str| {
        links
            .file("l.tar", &layer)
            .file("c.json", &config)
            .file("manifest.json", &manifest(config_name, layer_name))
            .end()
    };
    // To a file of the host, by an absolute path, upwards, and round in a circle.
    for (link, target) in
        [("c", "/etc/passwd"), ("c", "../../../../etc/passwd"), ("d/c", "../../etc/passwd"), ("c", "c")]
    {
        let error = refused(&fixture, &whole(tar().symlink(link, target), link, "l.tar"));
        assert_eq!(error, format!("the image archive is incomplete: it does not contain `{link}`"), "{target}");
    }
    let error = refused(&fixture, &whole(tar().symlink("a", "b").symlink("b", "a"), "c.json", "a"));
    assert_eq!(error, "the image archive is incomplete: it does not contain `a`");
    let error = refused(&fixture, &whole(tar().raw(b'3', b"dev", b"", b"", |_| {}), "c.json", "l.tar"));
    assert_eq!(error, "the image archive is damaged: its entry `dev` is a device");
    // To another of its own names, which old archives do for repeated layers.
    fixture.load(&whole(tar().symlink("d/again", "../l.tar"), "c.json", "d/again")).expect("loads");
}

#[test]
fn only_the_names_that_an_archive_gives_are_set() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let id = |name: &str| fixture.store.resolve(name).expect("readable").map(|image| image.id);
    let [one, two] = [b"1", b"2"].map(|text| tar().dir("./").file("a", text).end());
    fixture.load(&docker("mine:1", std::slice::from_ref(&one), true)).expect("loads");
    let mine = id("mine:1");
    let loaded = fixture.load(&docker("theirs:1", std::slice::from_ref(&two), true)).expect("loads");
    let names: Vec<String> = loaded[0].references.iter().map(|r| r.familiar()).collect();
    assert_eq!((id("mine:1"), names), (mine.clone(), vec!["theirs:1".to_owned()]));
    // One that takes a name says so by naming it; the image that had it stays, without a name.
    let loaded = fixture.load(&docker("mine:1", &[two], true)).expect("loads");
    assert_eq!(id("mine:1").as_ref(), Some(&loaded[0].id));
    assert!(id(&mine.expect("it was there").to_string()).is_some());
}

#[test]
fn a_layer_that_is_larger_than_allowed_is_stopped_on_the_way() {
    if !crate::testing::is_root() {
        return;
    }
    let small = Limits { bytes: 10_000, entries: 3, expansion_floor: 1 << 20, has_whiteouts: true };
    let try_unpack = |layer: &[u8]| {
        let dir = tempfile::tempdir().expect("a directory");
        unpack(layer, "l.tar", dir.path(), small).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(try_unpack(&tar().dir("./").file("a", &[1; 10_000]).end()), Ok(()));
    let error = try_unpack(&tar().file("a", &[1; 6000]).file("b", &[1; 6000]).end()).expect_err("too many bytes");
    assert!(error.starts_with("layer `l.tar` is larger than allowed: the limit is 10000 bytes"), "{error}");
    // What a header claims counts before anything is written.
    let claims = tar().raw(b'0', b"a", b"", b"", |h| h[124..136].copy_from_slice(b"77777777777\0")).end();
    assert!(try_unpack(&claims).expect_err("too many bytes").contains("10000 bytes"));
    let error = try_unpack(&tar().file("a", b"").file("b", b"").file("c", b"").file("d", b"").end());
    assert_eq!(error, Err("layer `l.tar` is larger than allowed: the limit is 3 entries".to_owned()));
    let global = tar().raw(b'g', b"g", b"", b"", |h| h[124..136].copy_from_slice(b"00010000000\0")).end();
    assert!(try_unpack(&global).expect_err("too large").contains("larger than 1 MiB"));

    // Out of very little comes very much: zeros after the end cost no disk, but time.
    let bomb = gzip(&[tar().dir("./").end(), vec![0; 4 << 20]].concat());
    let dir = tempfile::tempdir().expect("a directory");
    let source = flate2::read::GzDecoder::new(&bomb[..]);
    let error =
        unpack_stream_within(source, "l.tar", 1000, dir.path(), Limits { entries: 9, bytes: 1 << 30, ..small }, None);
    let error = error.map(drop).expect_err("it grows too much").to_string();
    assert_eq!(error, "layer `l.tar` is larger than allowed: the limit is 1000 times its compressed size");
    let source = flate2::read::GzDecoder::new(&bomb[..]);
    let limits = Limits { entries: 9, bytes: 1 << 30, ..small };
    unpack_stream_within(source, "l.tar", 10_000, dir.path(), limits, None).expect("no more than that");
}

#[test]
fn links_that_grow_a_path_are_stopped() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    // Each link leaves more to go than it takes away.
    let mut layer = tar().dir("./").dir("d/").symlink("l0", "d");
    for i in 1..5 {
        let target = format!("l{}/{}", i - 1, "./".repeat(1500));
        layer = layer.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("l{i}"), "x");
    }
    let error = fixture.refuses(layer.file("l4/x", b"").end());
    assert!(error.contains("l4/x") && error.contains("too long"), "{error}");
    let error = fixture
        .refuses(tar().symlink("a", &"b".repeat(90)).pax(&[("linkpath", &[b'c'; 4096])]).symlink("b", "x").end());
    assert!(error.contains("`b`") && error.contains("too long"), "{error}");
    let error = fixture.refuses(tar().pax(&[("path", b"a\0b")]).file("x", b"").end());
    assert!(error.contains("zero byte"), "{error}");
}
