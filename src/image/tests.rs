//! Loading archives that are made here, honest and hostile ones, into a store in a temporary directory.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::event::Silent;
use crate::image::Error;
use crate::image::compression::tests::{bzip2, xz};
use crate::image::digest::Digest;
use crate::image::load::LoadedImage;
use crate::image::reference::Reference;
use crate::image::store::{Image, Store};
use crate::image::tarball::tests::TarBuilder;

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(crate) fn config(diff_ids: &[Digest], more: serde_json::Value) -> Vec<u8> {
    json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "config": more,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
    })
    .to_string()
    .into_bytes()
}

/// A Docker archive: layers first or last.
pub(crate) fn docker(tag: &str, layers: &[Vec<u8>], layers_first: bool) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l)).collect();
    docker_with(tag, layers, &config(&diff_ids, json!({"Cmd": ["sh"]})), layers_first)
}

pub(crate) fn docker_with(tag: &str, layers: &[Vec<u8>], config: &[u8], layers_first: bool) -> Vec<u8> {
    let names: Vec<_> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).to_string();
    let documents = |tar: TarBuilder| tar.file("manifest.json", manifest.as_bytes()).file("config.json", config);
    let mut tar = TarBuilder::default();
    if !layers_first {
        tar = documents(tar);
    }
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.file(name, layer);
    }
    if layers_first {
        tar = documents(tar);
    }
    tar.end()
}

/// An OCI layout; each layer is given as its plain tar and the blob that holds it.
pub(crate) fn oci(name: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let blob = |d: &Digest| format!("blobs/sha256/{}", d.hex());
    let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| Digest::of(tar)).collect();
    let config = config(&diff_ids, json!({}));
    let mut tar = TarBuilder::default().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).dir("blobs/");
    for (_, bytes) in layers {
        tar = tar.file(&blob(&Digest::of(bytes)), bytes);
    }
    let descriptors: Vec<_> =
        layers.iter().map(|(_, b)| json!({"mediaType": "x", "digest": Digest::of(b), "size": b.len()})).collect();
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media, "layers": descriptors,
        "config": {"mediaType": "x", "digest": Digest::of(&config), "size": config.len()}})
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": media, "size": manifest.len(),
        "digest": Digest::of(manifest.as_bytes()), "annotations": {"io.containerd.image.name": name}}]})
    .to_string();
    tar.file(&blob(&Digest::of(&config)), &config)
        .file(&blob(&Digest::of(manifest.as_bytes())), manifest.as_bytes())
        .file("index.json", index.as_bytes())
        .end()
}

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("images")).expect("opens");
    Fixture { dir, store }
}

impl Fixture {
    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, Error> {
        self.store.load(archive, &Silent)
    }

    pub(crate) fn image(&self, layers: &[Vec<u8>]) -> Image {
        self.load(&docker("test:1", layers, true)).unwrap_or_else(|e| panic!("{e}"));
        self.store.resolve("test:1").expect("readable").expect("there")
    }

    /// All files in the store, directories left out.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, all: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                    walk(&path, all);
                } else {
                    all.push(path);
                }
            }
        }
        let mut all = Vec::new();
        walk(self.dir.path(), &mut all);
        all
    }

    pub(crate) fn refuses(&self, layer: Vec<u8>) -> String {
        let error = self.load(&docker("bad:1", &[layer], true)).expect_err("must be refused");
        assert_eq!(self.files(), Vec::<PathBuf>::new(), "left behind after: {error}");
        error.to_string()
    }
}

#[test]
fn a_docker_archive_is_loaded_whatever_its_order() {
    if !crate::testing::is_root() {
        return;
    }
    let layers = [
        TarBuilder::default().dir("./").dir("etc/").file("etc/a", b"A").symlink("link", "/etc/a").end(),
        TarBuilder::default().dir("etc/").file("etc/b", b"BB").end(),
    ];
    for first in [true, false] {
        let fixture = fixture();
        let loaded = fixture.load(&docker("test:1", &layers, first)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded[0].references, [Reference::parse("test:1").expect("valid")]);
        let image = fixture.store.resolve("docker.io/library/test:1").expect("readable").expect("there");
        assert_eq!(image.id, loaded[0].id);
        assert_eq!(image.size, 3);
        assert_eq!(fs::read(image.layers[0].join("etc/a")).expect("there"), b"A");
        assert_eq!(fs::read_link(image.layers[0].join("link")).expect("there"), Path::new("/etc/a"));
        assert_eq!(fs::read(image.layers[1].join("etc/b")).expect("there"), b"BB");
        assert_eq!(fs::metadata(image.layers[0].join("etc")).expect("there").mtime(), 1_700_000_000);
        // Again: nothing changes.
        let before = fixture.files();
        assert_eq!(fixture.load(&docker("test:1", &layers, first)).expect("loads"), loaded);
        assert_eq!(fixture.files(), before);
        // By id and by its first digits.
        assert_eq!(fixture.store.resolve(&image.id.to_string()).expect("readable"), Some(image.clone()));
        assert_eq!(fixture.store.resolve(&image.id.hex()[..12]).expect("readable"), Some(image.clone()));
        assert_eq!(fixture.store.resolve("other").expect("readable"), None);
        let names: Vec<_> = fixture.store.list().expect("readable").into_iter().map(|l| l.reference).collect();
        assert_eq!(names, [Some(Reference::parse("test:1").expect("valid"))]);
    }
}

#[test]
fn an_oci_layout_is_loaded_whatever_its_layers_are_compressed_with() {
    if !crate::testing::is_root() {
        return;
    }
    let tar = |name: &str| TarBuilder::default().dir("./").file(name, b"data").end();
    let members = tar("two");
    let two_members = [gzip(&members[..700]), gzip(&members[700..])].concat();
    let zstd = ruzstd::encoding::compress_to_vec(&tar("zst")[..], ruzstd::encoding::CompressionLevel::Fastest);
    let skippable = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd].concat();
    let layers = [
        (tar("plain"), tar("plain")),
        (tar("gz"), gzip(&tar("gz"))),
        (members, two_members),
        (tar("zst"), skippable),
        (tar("bz2"), bzip2(&tar("bz2"))),
        (tar("xz"), xz(&tar("xz"))),
        (
            [tar("trail"), b"trailing bytes count".to_vec()].concat(),
            gzip(&[tar("trail"), b"trailing bytes count".to_vec()].concat()),
        ),
    ];
    let fixture = fixture();
    let archive = oci("docker.io/library/test:1", &layers);
    for _ in 0..2 {
        fixture.load(&archive).unwrap_or_else(|e| panic!("{e}"));
    }
    for pack in [gzip, bzip2, xz] {
        fixture.load(&pack(&archive)).unwrap_or_else(|e| panic!("{e}"));
    }
    let image = fixture.store.resolve("test:1").expect("readable").expect("there");
    for (layer, name) in image.layers.iter().zip(["plain", "gz", "two", "zst", "bz2", "xz", "trail"]) {
        assert_eq!(fs::read(layer.join(name)).expect(name), b"data");
    }
    // By the digest of its manifest.
    let record =
        fs::read_to_string(fixture.dir.path().join("images/refs/docker.io/library/test/_tags/1")).expect("there");
    let manifest = serde_json::from_str::<serde_json::Value>(&record).expect("JSON")["manifest"].clone();
    let by_digest = format!("test@{}", manifest.as_str().expect("text"));
    assert_eq!(fixture.store.resolve(&by_digest).expect("readable"), Some(image));
}

#[test]
fn an_archive_that_is_cut_short_leaves_nothing_behind() {
    if !crate::testing::is_root() {
        return;
    }
    let layer = TarBuilder::default().dir("etc/").file("etc/a", &[7; 3000]).end();
    let zipped = gzip(&layer);
    for (kind, archive) in [
        ("docker", docker("test:1", &[layer.clone(), layer.clone()], true)),
        ("layers last", docker("test:1", &[layer.clone(), layer.clone()], false)),
        ("oci", oci("test:1", &[(layer.clone(), zipped)])),
    ] {
        // The last needed entry ends before the two blocks of zeros.
        let end = archive.len() - 1024;
        for cut in (0..end - 512).step_by(389).chain([1, 511, 512, 513]) {
            let fixture = fixture();
            let error = fixture.load(&archive[..cut]).expect_err(&format!("{kind} cut at {cut}"));
            assert_eq!(fixture.files(), Vec::<PathBuf>::new(), "{kind} cut at {cut}: {error}");
        }
    }
}

#[test]
fn content_that_does_not_match_its_digest_is_refused() {
    if !crate::testing::is_root() {
        return;
    }
    let layer = TarBuilder::default().file("a", b"A").end();
    let other = Digest::of(b"other");
    let fixture = fixture();
    let error = fixture
        .load(&docker_with("x", std::slice::from_ref(&layer), &config(&[other], json!({})), true))
        .expect_err("diff id");
    assert!(error.to_string().starts_with("layer `0/layer.tar` has the digest sha256:"), "{error}");
    let mut archive = oci("x", &[(layer.clone(), layer)]);
    let at = archive.windows(2).position(|w| w == b"A\0").expect("the file's content");
    archive[at] = b'B';
    let error = fixture.load(&archive).expect_err("blob");
    assert!(error.to_string().contains("as promised"), "{error}");
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}

#[test]
fn documents_are_strict_and_names_are_only_keys() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let layer = TarBuilder::default().file("a", b"A").end();
    let config = config(&[Digest::of(&layer)], json!({}));
    let with = |manifest: serde_json::Value| {
        TarBuilder::default()
            .file("../../../../../etc/hoist-evil", &layer)
            .file("c.json", &config)
            .file("manifest.json", manifest.to_string().as_bytes())
            .end()
    };
    let cases = [
        (with(json!({})), "`manifest.json` in the image archive is not valid"),
        (with(json!([{"Config": "/etc/passwd", "RepoTags": ["x"], "Layers": []}])), "does not contain `/etc/passwd`"),
        (with(json!([{"Config": "c.json", "RepoTags": ["x"], "Layers": ["nope"]}])), "does not contain `nope`"),
        (with(json!([{"Config": "c.json", "RepoTags": ["x"], "Layers": []}])), "promises 1 layers, the manifest has 0"),
        (
            with(json!([{"Config": "c.json", "RepoTags": ["../x"], "Layers": ["etc/hoist-evil"]}])),
            "not a valid image reference",
        ),
        (TarBuilder::default().file("a", b"").end(), "neither a `manifest.json` nor an `index.json`"),
        (TarBuilder::default().file("a", b"").file("./a", b"").end(), "contains `./a` twice"),
        (b"this is not a tar at all, and is longer than nothing".to_vec(), "damaged"),
        (Vec::new(), "neither"),
    ];
    for (archive, expected) in cases {
        let error = fixture.load(&archive).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\nlacks {expected}");
        assert_eq!(fixture.files(), Vec::<PathBuf>::new(), "{error}");
    }
    // The same name, used as a key, is harmless.
    fixture.load(&with(json!([{"Config": "c.json", "RepoTags": ["x"], "Layers": ["etc/hoist-evil"]}]))).expect("loads");
    assert!(!Path::new("/etc/hoist-evil").exists());
}

#[test]
fn hostile_layers_are_refused_and_leave_nothing_behind() {
    if !crate::testing::is_root() {
        return;
    }
    let tar = TarBuilder::default;
    let fixture = fixture();
    let outside = fixture.dir.path().join("outside");
    let deep = "d/".repeat(600);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("dot dot", tar().file("../evil", b"x").end(), "contains `..`"),
        ("dot dot inside", tar().file("a/../../evil", b"x").end(), "contains `..`"),
        ("dot dot directory", tar().dir("../evil/").end(), "contains `..`"),
        ("absolute", tar().file(outside.to_str().expect("text"), b"x").end(), "is absolute"),
        ("pax path", tar().pax(&[("path", b"../../evil")]).file("ok", b"x").end(), "contains `..`"),
        ("long name", tar().raw(b'L', b"L", b"", b"/abs/evil\0", |_| {}).file("ok", b"x").end(), "is absolute"),
        ("hard link out", tar().hardlink("a", "../../../../etc/passwd").end(), "link target leaves the layer"),
        ("hard link nowhere", tar().hardlink("a", "/etc/passwd").end(), "no layer has as a file"),
        ("hard link to itself", tar().file("a", b"").hardlink("a", "a").end(), "to itself"),
        ("hard link to directory", tar().dir("d/").hardlink("a", "d").end(), "to a directory"),
        ("root is a link", tar().symlink("./", "/").end(), "must be a directory"),
        ("root is a file", tar().file(".", b"x").end(), "must be a directory"),
        ("file as directory", tar().file("a", b"").file("a/b", b"").end(), "is not a directory"),
        ("circle", tar().symlink("a", "b").symlink("b", "a").file("a/x", b"").end(), "too many symbolic links"),
        ("forged whiteout", tar().raw(b'3', b"a", b"", b"", |_| {}).end(), "taken for a whiteout"),
        ("whiteout of nothing", tar().file("d/.wh.", b"").end(), "whiteout of no name"),
        ("whiteout of dot", tar().file("d/.wh..", b"").end(), "whiteout of no name"),
        ("whiteout of dot dot", tar().file("d/.wh...", b"").end(), "whiteout of no name"),
        ("below a whiteout", tar().file(".wh.d/x", b"").end(), "below a whiteout"),
        ("deep", tar().pax(&[("path", deep.as_bytes())]).file("ok", b"").end(), "512 directories"),
        ("long", tar().pax(&[("path", &[b'x'; 5000])]).file("ok", b"").end(), "longer than 4096"),
        ("unknown type", tar().raw(b'Z', b"a", b"", b"", |_| {}).end(), "unknown type"),
        ("sparse", tar().raw(b'S', b"a", b"", b"", |_| {}).end(), "sparse"),
        ("empty link", tar().symlink("a", "").end(), "link target is empty"),
        ("huge", tar().raw(b'0', b"a", b"", b"", |h| h[124..136].copy_from_slice(b"77777777777\0")).end(), ""),
    ];
    for (name, layer, expected) in cases {
        let error = fixture.refuses(layer);
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!outside.exists(), "{name}");
    }
}

#[test]
fn links_in_a_layer_never_lead_out_of_it() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).expect("writable");
    let before = fs::metadata(&outside).expect("there").mode();
    let target = outside.to_str().expect("text");
    let up = format!("../../../../../../../..{target}");
    let image = fixture.image(&[TarBuilder::default()
        .dir("./")
        .symlink("abs", target)
        .file("abs/a", b"1")
        .symlink("rel", &up)
        .file("rel/b", b"2")
        // A file or directory in place of a link replaces the link, and its mode goes to nothing else.
        .symlink("chmod", target)
        .dir_mode("chmod/", 0o777)
        .symlink("file", &format!("{target}/f"))
        .file("file", b"3")
        .symlink("lib", "usr/lib")
        .file("lib/x", b"4")
        .end()]);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    assert_eq!(fs::metadata(&outside).expect("there").mode(), before);
    let fs_dir = &image.layers[0];
    let inside = fs_dir.join(target.trim_start_matches('/'));
    assert_eq!(fs::read(inside.join("a")).expect("inside"), b"1");
    assert_eq!(fs::read(inside.join("b")).expect("inside"), b"2");
    assert!(fs::symlink_metadata(fs_dir.join("chmod")).expect("there").is_dir());
    assert_eq!(fs::read(fs_dir.join("file")).expect("there"), b"3");
    assert_eq!(fs::read(fs_dir.join("usr/lib/x")).expect("there"), b"4");
    assert!(fs::symlink_metadata(fs_dir.join("lib")).expect("there").is_symlink());
}

pub(crate) fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

pub(crate) fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok() && value == *b"y"
}

#[test]
fn whiteouts_concern_lower_layers_wherever_they_stand() {
    if !crate::testing::is_root() {
        return;
    }
    let base =
        TarBuilder::default().dir("./").file("gone", b"").file("kept", b"old").dir("d/").file("d/old", b"").end();
    let upper = TarBuilder::default()
        .dir("./")
        .file(".wh.gone", b"")
        .file("kept", b"new")
        .file(".wh.kept", b"")
        .file(".wh.before", b"")
        .file("before", b"new")
        .file(".wh.dir-before", b"")
        .dir("dir-before/")
        .dir("dir-after/")
        .file("dir-after/x", b"")
        .file(".wh.dir-after", b"")
        .file(".wh.implied", b"")
        .file("implied/x", b"")
        .dir("d/")
        .file("d/new", b"")
        .file("d/.wh..wh..opq", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .file("twice", b"1")
        .dir("twice/")
        .end();
    let fixture = fixture();
    let image = fixture.image(&[base, upper]);
    let top = &image.layers[1];
    assert!(is_whiteout(&top.join("gone")));
    assert_eq!(fs::read(top.join("kept")).expect("there"), b"new");
    assert_eq!(fs::read(top.join("before")).expect("there"), b"new");
    for dir in ["dir-before", "dir-after", "implied", "d", "twice"] {
        assert!(is_opaque(&top.join(dir)), "{dir}");
    }
    assert!(top.join("dir-after/x").exists() && top.join("implied/x").exists() && top.join("d/new").exists());
    assert!(!top.join(".wh..wh.plnk").exists());
    // What overlayfs makes of it.
    let mount = image.mount().expect("mounts");
    let read = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, path, flags, Mode::empty()).map(|fd| {
            let mut text = String::new();
            fs::File::from(fd).read_to_string(&mut text).map(|_| text).unwrap_or_default()
        })
    };
    assert_eq!(read("gone"), Err(rustix::io::Errno::NOENT));
    assert_eq!(read("d/old"), Err(rustix::io::Errno::NOENT));
    assert_eq!(read("kept").as_deref(), Ok("new"));
    assert!(rustix::fs::mkdirat(&mount, "x", Mode::from_raw_mode(0o755)).is_err(), "it is read-only");
    // And our own view agrees.
    let view = image.view().expect("opens");
    assert!(view.lookup(b"gone").expect("readable").is_none());
    assert!(view.lookup(b"d/old").expect("readable").is_none());
    assert_eq!(view.read(b"kept", 10).expect("readable").as_deref(), Some(&b"new"[..]));
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    if !crate::testing::is_root() {
        return;
    }
    let base = TarBuilder::default().dir("./").file("old", b"").end();
    let upper = TarBuilder::default().dir("./").file(".wh..wh..opq", b"").file("new", b"").end();
    let fixture = fixture();
    let image = fixture.image(&[base, upper]);
    assert_eq!(image.layers.len(), 1);
    let mount = image.mount().expect("mounts");
    rustix::fs::statat(&mount, "new", rustix::fs::AtFlags::empty()).expect("there");
    let error = rustix::fs::mkdirat(&mount, "x", Mode::from_raw_mode(0o755));
    assert_eq!(error, Err(rustix::io::Errno::ROFS), "one layer is read-only too");
}

#[test]
fn implied_parents_keep_the_attributes_of_lower_layers() {
    if !crate::testing::is_root() {
        return;
    }
    let base = TarBuilder::default().dir("./").dir_mode("tmp/", 0o1777).dir_mode("tmp/deep/", 0o700).dir("usr/").end();
    let upper = TarBuilder::default().file("tmp/deep/a", b"").file("usr/b", b"").file("new/c", b"").end();
    let fixture = fixture();
    let image = fixture.image(&[base.clone(), upper.clone()]);
    assert_eq!(image.layers.len(), 3, "two layers and a fix-up");
    let mount = image.mount().expect("mounts");
    let mode =
        |path: &str| rustix::fs::statat(&mount, path, rustix::fs::AtFlags::empty()).expect(path).st_mode & 0o7777;
    assert_eq!((mode("tmp"), mode("tmp/deep"), mode("usr"), mode("new")), (0o1777, 0o700, 0o755, 0o755));
    rustix::fs::statat(&mount, "tmp/deep/a", rustix::fs::AtFlags::empty()).expect("still there");
    // A chain with equal attributes needs none.
    let plain = TarBuilder::default().dir("./").dir("tmp/").dir("tmp/deep/").dir("usr/").end();
    assert_eq!(fixture.image(&[plain, upper]).layers.len(), 2);
    // Through a lower link we cannot write.
    let linked = TarBuilder::default().dir("./").symlink("tmp", "usr").end();
    let upper = TarBuilder::default().file("tmp/x", b"").end();
    let error = fixture.load(&docker("bad:1", &[linked, upper], true)).expect_err("refused").to_string();
    assert!(error.contains("symbolic link in a layer below"), "{error}");
}

#[test]
fn hard_links_are_kept_also_into_lower_layers() {
    if !crate::testing::is_root() {
        return;
    }
    let base = TarBuilder::default().dir("./").dir("bin/").file("bin/a", b"program").end();
    let upper = TarBuilder::default()
        .file("x", b"x")
        .hardlink("y", "./x")
        .hardlink("bin/b", "bin/a")
        .hardlink("bin/c", "/bin/b")
        .end();
    let fixture = fixture();
    let image = fixture.image(&[base, upper]);
    let ino = |p: PathBuf| fs::metadata(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display())).ino();
    assert_eq!(ino(image.layers[1].join("x")), ino(image.layers[1].join("y")));
    assert_eq!(ino(image.layers[2].join("bin/b")), ino(image.layers[2].join("bin/c")));
    let view = image.view().expect("opens");
    assert_eq!(view.read(b"bin/c", 100).expect("readable").as_deref(), Some(&b"program"[..]));
}

#[test]
fn owners_modes_and_xattrs_are_kept_but_not_overlay_ones() {
    if !crate::testing::is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = TarBuilder::default()
        .dir("./")
        .pax(&[
            ("uid", b"1234567"),
            ("gid", b"7654321"),
            ("mtime", b"1000.5"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .raw(b'0', b"f", b"", b"x", |h| h[100..108].copy_from_slice(b"0004755\0"))
        .end();
    let fixture = fixture();
    let image = fixture.image(&[layer]);
    let path = image.layers[0].join("f");
    let meta = fs::metadata(&path).expect("there");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1_234_567, 7_654_321, 0o4755));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1000, 500_000_000));
    let file = fs::File::open(&path).expect("there");
    let names: Vec<_> = crate::sys::tree::xattrs(&file).expect("readable");
    assert_eq!(names, [(c"security.capability".to_owned(), capability.to_vec())]);
}

#[test]
fn what_a_crashed_load_left_is_swept() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let tmp = fixture.dir.path().join("images/layers/tmp");
    fs::create_dir_all(tmp.join("dead/layer-0/fs")).expect("writable");
    fs::write(tmp.join("dead.lock"), b"").expect("writable");
    fs::create_dir_all(tmp.join("lockless")).expect("writable");
    let alive = fixture.store.scratch().expect("makes one");
    alive.layer("busy").expect("makes one");
    fixture.store.sweep().expect("sweeps");
    let left = fs::read_dir(&tmp).expect("there").count();
    assert_eq!(left, 2, "the living one and its lock stay");
    drop(alive);
    assert_eq!(fs::read_dir(&tmp).expect("there").count(), 0);
}

#[test]
fn a_layer_that_was_never_synced_is_not_trusted_after_a_reboot() {
    if !crate::testing::is_root() {
        return;
    }
    let fixture = fixture();
    let layer = TarBuilder::default().dir("./").file("a", b"whole").end();
    let image = fixture.image(std::slice::from_ref(&layer));
    let dir = image.layers[0].parent().expect("the layer").to_owned();
    let meta = fs::read_to_string(dir.join("meta.json")).expect("there");
    let old = meta.replace(&crate::image::store::boot_id(), "another-boot");
    fs::write(dir.join("meta.json"), old).expect("writable");
    assert!(fixture.store.resolve("test:1").is_ok(), "it is durable");
    fs::remove_file(dir.join("durable")).expect("there");
    fs::write(dir.join("fs/a"), b"ha").expect("writable");
    assert!(fixture.store.resolve("test:1").is_err());
    fixture.image(&[layer]);
    assert_eq!(fs::read(dir.join("fs/a")).expect("there"), b"whole");
}
