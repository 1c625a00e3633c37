//! Images for tests: each archive is loaded once into a store of its own, which the projects' stores borrow layers from.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::fcntl::{Flock, FlockArg};

use super::run::Run;
use super::{Secs as _, binary};

/// Returns the folder with `busybox.tar` and the others: `HOIST_TEST_IMAGES`, else where `./dev images` puts them.
pub(crate) fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("HOIST_TEST_IMAGES") {
        return folder.into();
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("hoist/base-images")
}

/// Returns an image's archive.
pub(crate) fn archive(image: &str) -> PathBuf {
    folder().join(format!("{image}.tar"))
}

/// Puts an image into the store at `store`: names and small files as copies, layers as links into the template.
pub(crate) fn install(image: &str, store: &Path) {
    let template = template(image).join("images");
    for entry in list(&template) {
        match entry.as_str() {
            "layers" => {
                fs::create_dir_all(store.join("layers")).expect("a directory for layers");
                for layer in list(&template.join("layers")) {
                    match layer.as_str() {
                        "tmp" => fs::create_dir_all(store.join("layers/tmp")).expect("a directory"),
                        "blobs" => copy(&template.join("layers/blobs"), &store.join("layers/blobs")),
                        _ => link(&template.join("layers").join(&layer), &store.join("layers").join(&layer)),
                    }
                }
            }
            "fixups" => {
                fs::create_dir_all(store.join("fixups")).expect("a directory for fix-ups");
                for fixup in list(&template.join("fixups")) {
                    link(&template.join("fixups").join(&fixup), &store.join("fixups").join(&fixup));
                }
            }
            other => copy(&template.join(other), &store.join(other)),
        }
    }
}

/// Returns an engine's root whose store holds just this image; loads it when the archive or hoist has changed.
fn template(image: &str) -> PathBuf {
    let archive = archive(image);
    let mut hasher = DefaultHasher::new();
    for file in [archive.as_path(), binary()] {
        let meta = fs::metadata(file).expect("checked by `requirements`");
        let modified = meta.modified().expect("a time").duration_since(UNIX_EPOCH).expect("after 1970");
        (file, meta.len(), modified).hash(&mut hasher);
    }
    // Not that of another binary, which may be tested at the same time.
    let mut of_binary = DefaultHasher::new();
    binary().hash(&mut of_binary);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images").join(image);
    let base = base.join(format!("{:016x}", of_binary.finish()));
    fs::create_dir_all(&base).expect("a directory for the template");
    let lock = File::create(base.join("lock")).expect("a lock file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("locked");
    let root = base.join(format!("{:016x}", hasher.finish()));
    if root.join("loaded").exists() {
        return root;
    }
    for old in list(&base).into_iter().filter(|name| name != "lock") {
        fs::remove_dir_all(base.join(old)).expect("an old template is removed");
    }
    let mut load = std::process::Command::new(binary());
    load.args(["image", "load", "-i"]).arg(&archive);
    load.env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOIST_ROOT", &root)
        .env("HOIST_RUN", root.join("run"));
    Run::of(load, 300.secs()).ok();
    fs::write(root.join("loaded"), "").expect("a mark");
    root
}

fn list(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).expect("copied");
        return;
    }
    fs::create_dir_all(to).expect("a directory");
    for name in list(from) {
        copy(&from.join(&name), &to.join(&name));
    }
}

fn link(from: &Path, to: &Path) {
    if to.symlink_metadata().is_err() {
        symlink(from, to).expect("linked");
    }
}
