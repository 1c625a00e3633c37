//! Makes paths of a container what paths of the host are: the copying of `watch`.
//!
//! The container's side goes the way of `cp`: resolved inside its root by the kernel, made new by descriptor. On the host's
//! side no symbolic link is followed at all, so that what is copied is what was seen. What is mounted in the container is
//! never removed, and nothing is copied onto itself where a mount shows the host's own file.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::pack::{Found, Sink, entry, pack};
use super::rules::{base, parent};
use super::unpack::{Directory, Keep};
use crate::diag::{Diagnostic, Report};
use crate::image::tarball::{Entry, Kind};
use crate::sys::tree;

/// What one path of the container is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Item {
    /// What it is on the host, by an absolute path without links. When that is not there, it goes.
    pub(in crate::engine) host: PathBuf,
    /// What is there goes first, whatever it is.
    pub(in crate::engine) replace: bool,
    /// A directory that is there already gets the host's mode.
    pub(in crate::engine) fresh: bool,
}

/// Items by their paths in the container, from its root on, clean, without a slash at their ends.
pub(in crate::engine) type Items = BTreeMap<Vec<u8>, Item>;

/// How many errors are told in full.
const TOLD: usize = 3;

/// What became of a copy.
#[derive(Debug, Default)]
pub(in crate::engine) struct Outcome {
    /// The first errors.
    pub(in crate::engine) errors: Vec<Diagnostic>,
    /// How many more there were.
    pub(in crate::engine) more: usize,
}

impl Outcome {
    fn note(&mut self, result: Result<(), Error>) {
        let Err(error) = result else { return };
        if self.errors.len() < TOLD {
            self.errors.push(Diagnostic::from_error(&error));
        } else {
            self.more += 1;
        }
    }
}

/// Makes the container with this root have what the host has. What is made belongs to `owner`, user and group.
pub(in crate::engine) fn sync(root: BorrowedFd<'_>, items: &Items, owner: (u32, u32)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut there = Vec::new();
    for (target, item) in items {
        let found = host(item);
        if item.replace || matches!(found, Ok(None)) {
            outcome.note(remove(root, target));
        }
        match found {
            Ok(Some(_)) => there.push((target, item)),
            Ok(None) => {}
            Err(error) => outcome.note(Err(error)),
        }
    }
    let opened = tree::open_in_root(root, b"/", OFlags::RDONLY | OFlags::DIRECTORY);
    let mut directory = match opened.map_err(Error::act("open", b"/")) {
        Ok(opened) => Directory::new(opened, Keep { owner: true, privileges: true }).owned_by(owner.0, owner.1),
        Err(error) => {
            outcome.note(Err(error));
            return outcome;
        }
    };
    for (target, item) in there {
        // It was looked at only to see that it is there: a burst may be larger than the number of open files.
        let put =
            host(item).and_then(|found| found.map_or(Ok(()), |f| put(root, &mut directory, target, item, &f, owner)));
        let full = matches!(&put, Err(Error::Act { source, .. }) if is_full(source));
        outcome.note(put);
        if full {
            break;
        }
    }
    outcome.note(directory.finish());
    outcome
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Finds what is on the host; a path that leads through a link is none of what was seen.
fn host(item: &Item) -> Result<Option<Found>, Error> {
    let path = item.host.as_os_str().as_encoded_bytes();
    match tree::open_plain(&item.host, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(handle) => Found::of(handle).map(Some).map_err(Error::act("look at", path)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(Error::act("find", path)(e)),
    }
}

fn put(
    root: BorrowedFd<'_>,
    directory: &mut Directory,
    target: &[u8],
    item: &Item,
    found: &Found,
    owner: (u32, u32),
) -> Result<(), Error> {
    let there = tree::open_in_root(root, target, OFlags::PATH | OFlags::NOFOLLOW).and_then(Found::of).ok();
    let itself = |t: &Found| (t.stat.st_dev, t.stat.st_ino) == (found.stat.st_dev, found.stat.st_ino);
    if there.as_ref().is_some_and(itself) {
        return Ok(());
    }
    match found.kind() {
        FileType::Directory => {
            // Also by a link, as a path through it is.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            if let Ok(opened) = tree::open_in_root(root, target, flags) {
                let mode = Mode::from_raw_mode(found.stat.st_mode & 0o7777);
                return match item.fresh {
                    true => rustix::fs::fchmod(opened, mode).map_err(Error::act("change", target)),
                    false => Ok(()),
                };
            }
            let entry = Entry { kind: Kind::Directory, uid: owner.0, gid: owner.1, ..entry(&found.stat, target) };
            directory.put(&entry, &mut io::empty())
        }
        FileType::RegularFile | FileType::Symlink => pack(found, target, &mut Owned { directory, owner }),
        // They came in the place of what was seen, and mean nothing elsewhere.
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            Ok(())
        }
    }
}

/// Gives all entries one owner.
struct Owned<'a> {
    directory: &'a mut Directory,
    owner: (u32, u32),
}

impl Sink for Owned<'_> {
    fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        self.directory.put(&Entry { uid: self.owner.0, gid: self.owner.1, ..entry.clone() }, data)
    }
}

/// Removes a path of the container with all below it, but for what is mounted there.
fn remove(root: BorrowedFd<'_>, target: &[u8]) -> Result<(), Error> {
    let name = base(target);
    if name.is_empty() {
        return Ok(()); // the root
    }
    let directory = match tree::open_in_root(root, parent(target), OFlags::PATH | OFlags::DIRECTORY) {
        Ok(directory) => directory,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        Err(e) => return Err(Error::act("find", target)(e)),
    };
    remove_in(&directory, name).map_err(Error::act("remove", target))
}

fn remove_in(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match tree::is_mounted_on(directory, name) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let inner = tree::open_dir_at(directory, name)?;
    for child in tree::names(inner.as_fd())? {
        remove_in(&inner, child.to_bytes())?;
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        // It holds what is mounted.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::BUSY) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Returns what is left to say of a copy that went wrong.
pub(in crate::engine) fn report(outcome: Outcome, container: &str) -> Option<Report> {
    let mut diagnostics = outcome.errors;
    for diagnostic in &mut diagnostics {
        diagnostic.message = format!("container `{container}`: {}", diagnostic.message);
    }
    if outcome.more > 0 {
        let message = format!("container `{container}`: {} more files could not be copied", outcome.more);
        diagnostics.push(Diagnostic::error(None, message));
    }
    (!diagnostics.is_empty()).then(|| Report { diagnostics, ..Report::default() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use super::*;

    struct Pair {
        _dir: tempfile::TempDir,
        host: PathBuf,
        root: PathBuf,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let real = fs::canonicalize(dir.path()).expect("there");
            let (host, root) = (real.join("host"), real.join("root"));
            fs::create_dir(&host).expect("a directory");
            fs::create_dir_all(root.join("app")).expect("a directory");
            Self { _dir: dir, host, root }
        }

        fn item(&self, host: &str, replace: bool) -> Item {
            Item { host: self.host.join(host), replace, fresh: true }
        }

        fn sync(&self, items: &[(&str, Item)]) -> String {
            let items: Items = items.iter().map(|(target, item)| (target.as_bytes().to_vec(), item.clone())).collect();
            let meta = fs::metadata(&self.root).expect("there");
            let outcome = sync(fs::File::open(&self.root).expect("there").as_fd(), &items, (meta.uid(), meta.gid()));
            let more = if outcome.more > 0 { format!(" and {} more", outcome.more) } else { String::new() };
            outcome.errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; ") + &more
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.root.join(path)).unwrap_or_else(|e| e.kind().to_string())
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    #[test]
    fn the_container_gets_what_the_host_has() {
        let pair = Pair::new();
        fs::create_dir_all(pair.host.join("d/e")).expect("directories");
        fs::write(pair.host.join("d/e/f"), "one").expect("a file");
        fs::set_permissions(pair.host.join("d/e/f"), fs::Permissions::from_mode(0o640)).expect("a mode");
        symlink("../nowhere", pair.host.join("l")).expect("a link");
        let items = [
            ("app/d", pair.item("d", false)),
            ("app/d/e/f", pair.item("d/e/f", false)),
            ("app/l", pair.item("l", false)),
        ];
        assert_eq!(pair.sync(&items), "");
        assert_eq!(pair.read("app/d/e/f"), "one");
        assert_eq!(mode(&pair.root.join("app/d/e/f")), 0o640);
        assert_eq!(fs::read_link(pair.root.join("app/l")).expect("a link"), Path::new("../nowhere"));
        // Again, and with what the container has besides.
        fs::write(pair.root.join("app/d/own"), "own").expect("a file");
        fs::write(pair.host.join("d/e/f"), "two").expect("a file");
        fs::set_permissions(pair.host.join("d"), fs::Permissions::from_mode(0o700)).expect("a mode");
        assert_eq!(pair.sync(&items), "");
        assert_eq!((pair.read("app/d/e/f").as_str(), pair.read("app/d/own").as_str()), ("two", "own"));
        assert_eq!(mode(&pair.root.join("app/d")), 0o700);
        // A directory becomes a file, and what was below it went.
        fs::remove_dir_all(pair.host.join("d")).expect("removed");
        fs::write(pair.host.join("d"), "file").expect("a file");
        assert!(pair.sync(&[("app/d", pair.item("d", false))]).contains("cannot overwrite directory"));
        assert_eq!(pair.sync(&[("app/d", pair.item("d", true)), ("app/d/e/f", pair.item("d/e/f", true))]), "");
        assert_eq!(pair.read("app/d"), "file");
        fs::remove_file(pair.host.join("d")).expect("removed");
        assert_eq!(pair.sync(&[("app/d", pair.item("d", false)), ("app/not/there", pair.item("d", true))]), "");
        assert!(!pair.root.join("app/d").exists());
        assert_eq!(pair.sync(&[("", pair.item("gone", true))]), "");
        assert!(pair.root.exists(), "the root is never removed");
    }

    #[test]
    fn neither_side_is_left_through_a_link() {
        let pair = Pair::new();
        let secret = pair.host.with_file_name("secret");
        fs::create_dir(&secret).expect("a directory");
        fs::write(secret.join("f"), "secret").expect("a file");
        symlink(&secret, pair.host.join("d")).expect("a link");
        // On the host: what was a directory is a link now, so that nothing of it is there.
        assert_eq!(pair.sync(&[("app/d/f", pair.item("d/f", false))]), "");
        assert!(!pair.root.join("app/d").exists());
        // In the container: an absolute link is resolved in its root, and one that leads out leads nowhere.
        fs::write(pair.host.join("f"), "new").expect("a file");
        symlink("/real", pair.root.join("app/in")).expect("a link");
        fs::create_dir(pair.root.join("real")).expect("a directory");
        symlink(&secret, pair.root.join("app/out")).expect("a link");
        symlink(secret.join("f"), pair.root.join("app/file")).expect("a link");
        let items = [
            ("app/in/f", pair.item("f", false)),
            ("app/out/f", pair.item("f", false)),
            ("app/file", pair.item("f", false)),
        ];
        assert!(!pair.sync(&items).is_empty());
        assert_eq!((pair.read("real/f").as_str(), pair.read("app/file").as_str()), ("new", "new"));
        assert_eq!(pair.sync(&[("app/out/f", pair.item("gone", true)), ("app/file", pair.item("gone", true))]), "");
        assert_eq!(fs::read_to_string(secret.join("f")).expect("there"), "secret");
    }

    #[test]
    fn a_file_is_not_copied_onto_itself() {
        let pair = Pair::new();
        fs::write(pair.host.join("f"), "text").expect("a file");
        fs::hard_link(pair.host.join("f"), pair.root.join("app/f")).expect("a link");
        let before = fs::metadata(pair.host.join("f")).expect("there").ino();
        assert_eq!(pair.sync(&[("app/f", pair.item("f", false))]), "");
        assert_eq!(fs::metadata(pair.root.join("app/f")).expect("there").ino(), before);
    }

    #[test]
    fn a_few_errors_are_told_and_the_rest_counted() {
        let pair = Pair::new();
        let names: Vec<String> = (0..5).map(|n| format!("app/{n}")).collect();
        for name in &names {
            fs::create_dir(pair.root.join(name)).expect("a directory");
        }
        fs::write(pair.host.join("f"), "").expect("a file");
        let items: Vec<(&str, Item)> = names.iter().map(|name| (name.as_str(), pair.item("f", false))).collect();
        let told = pair.sync(&items);
        assert!(told.ends_with("`app/2` with what is none and 2 more"), "{told}");
    }
}
