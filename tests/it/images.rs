//! `image load` and `image ls`: hostile and broken archives leave the store as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::support::project::TestProject;
use super::support::{images, require_root};

/// Returns every file below a directory with what it holds.
pub(crate) fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let meta = path.symlink_metadata().expect("there");
        if meta.is_dir() {
            found.extend(tree(&path));
        }
        let content = if meta.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        found.insert(path, content);
    }
    found
}

/// One entry of a layer.
pub(crate) enum Entry<'a> {
    File(&'a str, &'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

/// Makes a tar whose names are taken as they are, unlike those of a well-meant writer.
pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (name, kind, target, content) = match entry {
            Entry::File(name, content) => (name, tar::EntryType::Regular, "", *content),
            Entry::Symlink(name, target) => (name, tar::EntryType::Symlink, *target, ""),
            Entry::Hardlink(name, target) => (name, tar::EntryType::Link, *target, ""),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        let raw = header.as_gnu_mut().expect("GNU");
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes a docker-archive with one layer, whose digest is promised to be this.
fn archive_promising(layer: &[u8], diff_id: &str) -> Vec<u8> {
    archive_with(layer, diff_id, &serde_json::json!({"Cmd": ["sh"]}))
}

/// Makes a docker-archive with one layer and what the image says of its containers.
fn archive_with(layer: &[u8], diff_id: &str, config: &serde_json::Value) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    })
    .to_string();
    let config_name = format!("{}.json", sha256(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": ["hostile:latest"], "Layers": ["layer.tar"]}])
            .to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 3] =
        [(&config_name, config.as_bytes()), ("layer.tar", layer), ("manifest.json", manifest.as_bytes())];
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).expect("memory");
    }
    builder.into_inner().expect("memory")
}

/// Makes a docker-archive with this one layer.
pub(crate) fn archive_of_layer(layer: &[u8]) -> Vec<u8> {
    archive_promising(layer, &sha256(layer))
}

fn archive_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let layer = tar(entries);
    archive_promising(&layer, &sha256(&layer))
}

/// Loads an archive that must be refused; returns the message.
#[track_caller]
fn refused(shop: &TestProject, archive: &[u8]) -> String {
    fs::write(shop.path("bad.tar"), archive).expect("written");
    let before = tree(shop.host().directory());
    let message = shop.hoist(&["image", "load", "-i", "bad.tar"]).fails();
    let after = tree(shop.host().directory());
    let changed: Vec<_> =
        after.iter().filter(|(path, content)| before.get(*path) != Some(content)).map(|c| c.0).collect();
    assert!(changed.is_empty(), "{changed:?}\n{message}");
    assert_eq!(after.len(), before.len(), "something was removed");
    shop.redact(&message)
}

#[test]
fn a_hostile_layer_is_refused_and_nothing_stays() {
    require_root!();
    let shop = TestProject::new("shop", "");
    shop.hoist(&["image", "ls"]).ok();
    for (entries, word) in [
        (vec![Entry::File("../evil", "x")], "../evil"),
        (vec![Entry::File("a/../../evil", "x")], "a/../../evil"),
        (vec![Entry::File("good", "x"), Entry::Hardlink("link", "../../../../etc/passwd")], "link"),
        (vec![Entry::File("good", "x"), Entry::Hardlink("link", "/etc/passwd")], "link"),
    ] {
        let message = refused(&shop, &archive_of(&entries));
        assert!(message.contains(word), "{message}");
    }
    assert!(!shop.hoist(&["image", "ls"]).ok().contains("hostile"));
}

#[test]
fn absolute_names_and_links_out_stay_inside_the_image_or_are_refused() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: hostile\n    command: sleep 1000\n");
    let outside = shop.host().directory().join("outside");
    fs::create_dir(&outside).expect("a directory");
    let target = outside.to_str().expect("UTF-8");
    let absolute = format!("{target}/absolute");
    let through = "out/through";
    for entries in [
        vec![Entry::File(&absolute, "x")],
        vec![Entry::Symlink("out", target), Entry::File(through, "x")],
        vec![Entry::Symlink("out", "../../../../../../../../.."), Entry::File("out/tmp/hoist-evil", "x")],
        vec![Entry::Symlink("a", "."), Entry::Symlink("a/b", ".."), Entry::File("a/b/../evil", "x")],
    ] {
        fs::write(shop.path("bad.tar"), archive_of(&entries)).expect("written");
        let _ = shop.hoist(&["image", "load", "-i", "bad.tar"]);
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
        assert!(!Path::new("/tmp/hoist-evil").exists());
        assert!(!shop.host().directory().join("evil").exists());
    }
}

#[test]
fn a_wrong_digest_is_refused() {
    require_root!();
    let shop = TestProject::new("shop", "");
    shop.hoist(&["image", "ls"]).ok();
    let layer = tar(&[Entry::File("file", "x")]);
    let message = refused(&shop, &archive_promising(&layer, &"0".repeat(64)));
    assert!(message.contains(&sha256(&layer)), "{message}");
}

#[test]
fn an_archive_that_is_cut_short_is_refused_wherever_it_is_cut() {
    require_root!();
    let shop = TestProject::new("shop", "");
    shop.hoist(&["image", "ls"]).ok();
    let mut whole = Vec::new();
    fs::File::open(images::archive("busybox")).and_then(|mut f| f.read_to_end(&mut whole)).expect("read");
    // Another image than the one that is in the store: its layers are not known.
    let other = archive_of(&[Entry::File("file", &"x".repeat(100_000))]);
    for length in [0, 1, 511, 512, 700, 1500, 5000, other.len() / 2, other.len() - 1024 - 600] {
        refused(&shop, &other[..length]);
    }
    refused(&shop, &whole[..whole.len() / 2]);
    refused(&shop, b"this is no tar at all, but long enough to look like a header of one\n".repeat(20).as_slice());
}

#[test]
fn an_archive_that_is_no_image_is_refused_with_a_way_out() {
    require_root!();
    let shop = TestProject::new("shop", "");
    shop.hoist(&["image", "ls"]).ok();
    insta::assert_snapshot!(refused(&shop, &tar(&[Entry::File("file", "x")])), @r#"
    error: the file is no image archive: it has neither a `manifest.json` nor an `index.json`
    help: make one with `docker save`, `podman save` or `skopeo copy … oci-archive:`
    "#);
    let missing = shop.hoist(&["image", "load", "-i", "no-such-file.tar"]).fails();
    assert!(missing.contains("no-such-file.tar"), "{missing}");
}

#[test]
fn an_image_is_loaded_listed_and_runs() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let listed = shop.hoist(&["image", "ls"]).ok();
    assert!(listed.lines().any(|l| l.starts_with("busybox") && l.contains("latest")), "{listed}");
    // From stdin; the layers are there already.
    let archive = fs::read(images::archive("busybox")).expect("read");
    let mut load = shop.command(&["image", "load"]);
    fs::write(shop.path("image.tar"), archive).expect("written");
    load.stdin(fs::File::open(shop.path("image.tar")).expect("opened"));
    let output = load.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Loaded image: busybox:latest\n");
}

/// Returns the layer of busybox.
fn busybox_layer() -> Vec<u8> {
    let mut archive = tar::Archive::new(fs::File::open(images::archive("busybox")).expect("opened"));
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        if entry.size() > 1_000_000 {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("read");
            return bytes;
        }
    }
    panic!("busybox is one layer");
}

#[test]
fn a_working_directory_that_is_a_descriptor_leads_nowhere() {
    require_root!();
    // CVE-2024-21626: a descriptor of the host that the runtime forgot to close, as the image's directory.
    let shop = TestProject::new("shop", "");
    shop.write("canary", "of the host\n");
    let canary =
        format!("{}{}", "../".repeat(16), shop.path("canary").to_str().expect("UTF-8").trim_start_matches('/'));
    let config = serde_json::json!({"Cmd": ["cat", canary], "WorkingDir": "/proc/self/fd/7"});
    fs::write(shop.path("hostile.tar"), archive_with(&busybox_layer(), &sha256(&busybox_layer()), &config))
        .expect("written");
    shop.hoist(&["image", "load", "-i", "hostile.tar"]).ok();
    let mut text = "services:\n  plain:\n    image: busybox\n    command: sleep 1000\n".to_owned();
    text += "  image:\n    image: hostile\n";
    for n in 3..16 {
        text += &format!("  fd{n}:\n    image: hostile\n    working_dir: /proc/self/fd/{n}\n");
    }
    shop.write("compose.yaml", &text);
    shop.hoist(&["up", "-d", "plain"]).ok();
    for service in (3..16).map(|n| format!("fd{n}")).chain(["image".to_owned()]) {
        let up = shop.hoist(&["up", "-d", &service]);
        if up.code == Some(0) {
            assert_ne!(shop.wait_exit(&service), 0, "{service}");
        }
        assert!(!shop.log_text(&service).contains("of the host"), "{service}");
    }
    for n in 3..16 {
        let run = shop.hoist(&["exec", "-T", "-w", &format!("/proc/self/fd/{n}"), "plain", "cat", &canary]);
        assert!(run.code != Some(0) && !run.stdout.contains("of the host"), "{run}");
    }
}

#[test]
fn whiteouts_hide_what_is_below() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: layered\n    command: sleep 1000\n");
    // The busybox layer with another on top that removes a file and empties a directory.
    let base = busybox_layer();
    let top =
        tar(&[Entry::File("etc/.wh.group", ""), Entry::File("var/.wh..wh..opq", ""), Entry::File("var/new", "new\n")]);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers",
            "diff_ids": [format!("sha256:{}", sha256(&base)), format!("sha256:{}", sha256(&top))]},
    })
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": name, "RepoTags": ["layered:latest"], "Layers": ["a.tar", "b.tar"]}]).to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 4] =
        [(&name, config.as_bytes()), ("a.tar", &base), ("b.tar", &top), ("manifest.json", manifest.as_bytes())];
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).expect("memory");
    }
    fs::write(shop.path("layered.tar"), builder.into_inner().expect("memory")).expect("written");
    assert_eq!(shop.hoist(&["image", "load", "-i", "layered.tar"]).ok(), "Loaded image: layered:latest\n");
    shop.up();
    assert_eq!(shop.shell("web", "ls /etc/passwd; ls /etc/group 2>/dev/null; ls -A /var"), "/etc/passwd\nnew");
}
