//! What of the watched files has been seen, and what has changed since: by comparing, so that it does not matter how many
//! events told of a change, or whether any did.
//!
//! Invariant: pure; what is there is handed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What something is. Devices, pipes and sockets are never looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
}

/// What was seen of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// Of the last change of anything, the inode included.
    pub(super) changed: (i64, i64),
    pub(super) inode: u64,
    /// It was looked at so soon after its last change that another one may have left the same times, as git knows it
    /// ("racily clean").
    pub(super) fresh: bool,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It is new, or its content or mode is.
    Put,
    /// It became something of another kind.
    Replaced,
    /// It is not there any more.
    Gone,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) what: What,
    /// What it is now, or was when it is gone.
    pub(super) kind: Kind,
}

/// How sure it is that something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// It may have: what was seen of it decides.
    Perhaps,
    /// Somebody has written to it.
    Surely,
    /// It came, went or was moved, with all below it.
    Moved,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    seen: BTreeMap<PathBuf, Seen>,
}

impl Manifest {
    /// Returns what was seen last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PathBuf, Kind)> {
        self.seen.iter().map(|(path, seen)| (path, seen.kind))
    }

    /// Takes note of one path, not of what is below it, and returns what happened to it.
    pub(super) fn note(&mut self, path: &Path, now: Option<Seen>, hint: Hint) -> Option<Change> {
        let before = match now {
            Some(now) => self.seen.insert(path.to_owned(), now),
            None => self.seen.remove(path),
        };
        change(path, before, now, hint)
    }

    /// Takes note of all that is at and below `path`; returns what happened there, in the order of the paths. `hint` tells
    /// what else is known.
    pub(super) fn compare(
        &mut self,
        path: &Path,
        now: BTreeMap<PathBuf, Seen>,
        hint: impl Fn(&Path) -> Hint,
    ) -> Vec<Change> {
        let before: Vec<PathBuf> = self.below(path).filter(|p| !now.contains_key(*p)).cloned().collect();
        let gone = before.iter().filter_map(|path| self.note(path, None, Hint::Moved));
        let mut changes: Vec<Change> = gone.collect();
        for (path, seen) in now {
            let hint = hint(&path);
            changes.extend(self.note(&path, Some(seen), hint));
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes
    }

    /// Returns the paths at and below one: they are neighbours, as paths are ordered by their components.
    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.seen.range(path.to_owned()..).map(|(found, _)| found).take_while(move |found| found.starts_with(path))
    }
}

fn change(path: &Path, before: Option<Seen>, now: Option<Seen>, hint: Hint) -> Option<Change> {
    let (what, kind) = match (before, now) {
        (None, None) => return None,
        (None, Some(now)) => (What::Put, now.kind),
        (Some(before), None) => (What::Gone, before.kind),
        (Some(before), Some(now)) if before.kind != now.kind => (What::Replaced, now.kind),
        (Some(before), Some(now)) => {
            let same = match now.kind {
                // What comes and goes in it are changes of their own.
                Kind::Directory => before.mode == now.mode,
                Kind::File | Kind::Symlink => match hint {
                    Hint::Surely => false,
                    // Links and attributes of others make another time of change as well.
                    Hint::Perhaps => (before.mode, before.size, before.modified) == (now.mode, now.size, now.modified),
                    Hint::Moved => !before.fresh && Seen { fresh: false, ..now } == before,
                },
            };
            if same {
                return None;
            }
            (What::Put, now.kind)
        }
    };
    Some(Change { path: path.to_owned(), what, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: Kind, mark: i64) -> Seen {
        Seen { kind, mode: 0o644, size: 1, modified: (mark, 0), changed: (mark, 0), inode: 7, fresh: false }
    }

    fn file(mark: i64) -> Seen {
        seen(Kind::File, mark)
    }

    fn there(entries: &[(&str, Seen)]) -> BTreeMap<PathBuf, Seen> {
        entries.iter().map(|(path, seen)| (PathBuf::from(path), *seen)).collect()
    }

    fn told(changes: &[Change]) -> String {
        let told = changes.iter().map(|c| format!("{:?} {:?} {}", c.what, c.kind, c.path.display()));
        told.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn comparing_finds_what_happened_whatever_was_told() {
        let dir = seen(Kind::Directory, 1);
        let mut manifest = Manifest::default();
        let all = there(&[("/p", dir), ("/p/a", file(1)), ("/p/d", dir), ("/p/d/b", file(1)), ("/p/d-c", file(1))]);
        let first = manifest.compare(Path::new("/p"), all.clone(), |_| Hint::Moved);
        assert_eq!(first.len(), 5);
        assert_eq!(manifest.compare(Path::new("/p"), all.clone(), |_| Hint::Moved), []);
        // A directory moved away, a file put in its place; a neighbour whose name begins like it stays.
        let changes = manifest.compare(Path::new("/p/d"), there(&[("/p/d", file(2))]), |_| Hint::Moved);
        assert_eq!(told(&changes), "Replaced File /p/d, Gone File /p/d/b");
        let changes = manifest.compare(Path::new("/p"), all.clone(), |_| Hint::Moved);
        assert_eq!(told(&changes), "Replaced Directory /p/d, Put File /p/d/b");
        let changes = manifest.compare(Path::new("/p/d"), BTreeMap::new(), |_| Hint::Moved);
        assert_eq!(told(&changes), "Gone Directory /p/d, Gone File /p/d/b");
        let mut later = all;
        later.insert("/p/a".into(), file(2));
        later.remove(Path::new("/p/d-c"));
        let changes = manifest.compare(Path::new("/"), later, |_| Hint::Moved);
        assert_eq!(told(&changes), "Put File /p/a, Put Directory /p/d, Put File /p/d/b, Gone File /p/d-c");
        assert_eq!(manifest.iter().count(), 4);
    }

    #[test]
    fn what_is_the_same_is_no_change_unless_somebody_wrote_to_it() {
        let one = file(1);
        let dir = seen(Kind::Directory, 1);
        for (before, now, hint, wanted) in [
            (one, one, Hint::Perhaps, ""),
            (one, one, Hint::Moved, ""),
            (one, one, Hint::Surely, "Put File /f"),
            (one, Seen { changed: (2, 0), ..one }, Hint::Perhaps, ""),
            (one, Seen { changed: (2, 0), ..one }, Hint::Moved, "Put File /f"),
            (one, Seen { inode: 8, ..one }, Hint::Moved, "Put File /f"),
            (one, Seen { mode: 0o755, ..one }, Hint::Perhaps, "Put File /f"),
            (one, file(2), Hint::Perhaps, "Put File /f"),
            // Looked at in the moment of its last change.
            (Seen { fresh: true, ..one }, one, Hint::Moved, "Put File /f"),
            (one, Seen { fresh: true, ..one }, Hint::Moved, ""),
            (dir, Seen { modified: (2, 0), changed: (2, 0), ..dir }, Hint::Moved, ""),
            (dir, Seen { mode: 0o700, ..dir }, Hint::Perhaps, "Put Directory /f"),
        ] {
            let mut manifest = Manifest::default();
            assert!(manifest.note(Path::new("/f"), Some(before), Hint::Moved).is_some());
            let change = manifest.note(Path::new("/f"), Some(now), hint);
            assert_eq!(told(change.as_slice()), wanted, "{before:?} {now:?} {hint:?}");
        }
        let mut manifest = Manifest::default();
        assert_eq!(manifest.note(Path::new("/f"), None, Hint::Moved), None, "it came and went");
    }
}
