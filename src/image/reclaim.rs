//! What is kept of builds, how much that is, and how some of it goes.
//!
//! Kept are the layers that steps have made, with the records that lead to them (`steps.rs`), and the caches of `RUN
//! --mount=type=cache`.
//!
//! **Who counts on a layer that nothing names yet holds the store** ([`Store::hold`]): a shared flock(2) on its directory. A build
//! does so for its whole life, since a step that is found known is in an image only at the end; a pull, a load and a commit from
//! their first look at what is there until the image is listed; `up` from its images to its containers' records. Who removes has the
//! store alone ([`Store::close`]) and never waits for that: while somebody holds it, nothing goes. It is alone while it looks and
//! renames, which takes milliseconds, and no longer while it empties directories. What a process held ends with it.
//!
//! **What is needed stays**: layers of images that have a name or are on the list, of the images of containers, and whatever a
//! container's record leads to, as the caller says ([`Standing`]). Of the rest only what records of steps lead to is looked at:
//! a layer that came with an image which is not on the list any more is not of a build, unless a step gave the same one.
//!
//! **Order.** A layer's directory is renamed to where unfinished things are, then its records go: a record of a layer that is gone
//! says nothing, while a layer without a record would be found by nobody. So who is killed in between leaves a layer whole, or none
//! and a record that the next one removes. The renames are on disk before the first file goes, so that a power cut leaves no half
//! of a layer in its place.
//!
//! What was used longest ago goes first. A use of a layer is also one of those that its step stands upon, and they go after it.
//!
//! For a collection of all that no image needs, only the list of what is looked at has to grow: whoever counts on a layer holds
//! the store already.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, FlockOperation};
use rustix::io::Errno;

use crate::fault;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::steps::StepRecord;
use crate::image::store::{Store, list_dir, make_dirs, read, read_json, remove_file};
use crate::image::unpack::LayerMeta;
use crate::image::{Error, store_error};
use crate::sys::tree;

/// How often it is looked at least whether more is kept than there may be.
const LOOK: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody counts on what is in the store: nothing of it is removed while this lives.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

/// The store is ours alone: nobody counts on what nothing names.
#[derive(Debug)]
pub struct Closed<'a> {
    store: &'a Store,
    lock: File,
}

/// What the disk has for caches: bytes by the names of their directories.
pub type Sizes = BTreeMap<String, u64>;

/// What containers stand on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Names of directories of layers and caches, without what is before and after them; other names do no harm.
    pub directories: BTreeSet<String>,
    /// Their images.
    pub images: BTreeSet<Digest>,
}

/// What a thing of the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a step gave.
    Step,
    /// A cache of `RUN --mount=type=cache`.
    Mount,
}

/// A thing that is kept of builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub kind: Kind,
    /// The digits of a layer's digest, or of a step's that gave none; a cache's name.
    pub id: String,
    /// Bytes: content of a layer's files, or what the disk has for a cache.
    pub size: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When a build had a use for it last.
    pub used: SystemTime,
    /// The step that made it, if that is known.
    pub made_by: Option<String>,
    /// An image or a container has it: a layer stays then, and so does a cache.
    pub in_use: bool,
    /// Names of records that lead to it.
    records: Vec<String>,
    place: Option<PathBuf>,
}

/// Which things are meant; all of it has to fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Beginnings of the digits of layers, or whole names of caches: one has to fit; none is all.
    pub ids: Vec<String>,
    /// One of them; none is all.
    pub kinds: Vec<Kind>,
    /// Not used since.
    pub unused_since: Option<SystemTime>,
}

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prune {
    /// Also caches, and the records of steps whose layers an image has.
    pub all: bool,
    /// Which things are meant.
    pub filter: Filter,
    /// So many bytes may stay, what was used last first; `None` is nothing.
    pub budget: Option<u64>,
}

impl Kept {
    /// Returns whether images or containers have it as well.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.in_use && self.kind == Kind::Step
    }

    /// Returns the bytes that are free when it has gone.
    #[must_use]
    pub fn frees(&self) -> u64 {
        if self.in_use { 0 } else { self.size }
    }
}

impl Filter {
    /// Returns whether a thing is meant.
    #[must_use]
    pub fn fits(&self, kept: &Kept) -> bool {
        let named = |id: &String| match kept.kind {
            Kind::Step => !id.is_empty() && kept.id.starts_with(id.strip_prefix("sha256:").unwrap_or(id)),
            Kind::Mount => kept.id == *id,
        };
        (self.ids.is_empty() || self.ids.iter().any(named))
            && (self.kinds.is_empty() || self.kinds.contains(&kept.kind))
            && self.unused_since.is_none_or(|since| kept.used < since)
    }

    /// Returns whether somebody who says this has asked for caches.
    fn asks_for_mounts(&self) -> bool {
        self.kinds.contains(&Kind::Mount) || (!self.ids.is_empty() && !self.kinds.contains(&Kind::Step))
    }
}

impl Prune {
    /// Returns what goes, what was used longest ago first.
    ///
    /// What a container has mounted stays in any case. Caches go only when they are asked for: with all, by their kind or by their
    /// name. Records of steps whose layers an image has go only with all, and without a budget, as they free nothing.
    fn choose(&self, all: Vec<Kept>) -> Vec<Kept> {
        let may_go = |kept: &Kept| match kept.kind {
            Kind::Step => !kept.in_use || (self.all && self.budget.is_none()),
            Kind::Mount => !kept.in_use && (self.all || self.filter.asks_for_mounts()),
        };
        let mut meant: Vec<Kept> = all.into_iter().filter(|kept| may_go(kept) && self.filter.fits(kept)).collect();
        meant.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
        let Some(budget) = self.budget else { return meant };
        let mut left = meant.iter().fold(0_u64, |sum, kept| sum.saturating_add(kept.size));
        let going = meant.into_iter().take_while(|kept| {
            let over = left > budget;
            left = left.saturating_sub(kept.size);
            over
        });
        going.collect()
    }
}

impl Store {
    /// Holds the store: what is in it stays, whether something names it or not. Waits for who has it alone, which is short.
    ///
    /// # Errors
    /// When the store cannot be made or locked.
    pub fn hold(&self) -> Result<Hold, Error> {
        let lock = self.lock_root(FlockOperation::LockShared)?;
        let never = || store_error("lock", self.root())(io::ErrorKind::WouldBlock.into());
        Ok(Hold { _lock: lock.ok_or_else(never)? })
    }

    /// Takes the store for ourselves; `None` when somebody holds it.
    ///
    /// # Errors
    /// When the store cannot be made or locked.
    pub fn close(&self) -> Result<Option<Closed<'_>>, Error> {
        let lock = self.lock_root(FlockOperation::NonBlockingLockExclusive)?;
        fault::point("prune.alone");
        Ok(lock.map(|lock| Closed { store: self, lock }))
    }

    fn lock_root(&self, how: FlockOperation) -> Result<Option<File>, Error> {
        make_dirs(self.root())?;
        let root = File::open(self.root()).map_err(store_error("open", self.root()))?;
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&root, how)) {
            Ok(()) => Ok(Some(root)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(store_error("lock", self.root())(e.into())),
        }
    }

    /// Returns what is kept of builds, what was used last first. Takes no lock: it is what was there.
    ///
    /// # Errors
    /// When the store is damaged or cannot be read.
    pub fn kept(&self, standing: &Standing) -> Result<Vec<Kept>, Error> {
        let (mut all, _) = self.look(standing, &self.sizes_of_mounts()?)?;
        all.sort_by(|a, b| (b.used, &a.id).cmp(&(a.used, &b.id)));
        Ok(all)
    }

    /// Returns what is kept of builds, and the names of records that lead nowhere.
    fn look(&self, standing: &Standing, sizes: &Sizes) -> Result<(Vec<Kept>, Vec<String>), Error> {
        let needed = self.needed(standing)?;
        let (mut all, mut rubbish) = (Vec::new(), Vec::new());
        let mut by_layer: BTreeMap<Digest, Vec<(String, StepRecord, SystemTime)>> = BTreeMap::new();
        // When what stands upon a layer was used last.
        let mut above: BTreeMap<Digest, SystemTime> = BTreeMap::new();
        for name in list_dir(&self.steps())? {
            let path = self.steps().join(&name);
            // One that cannot be read is as good as none.
            let Ok(record) = read_json::<StepRecord>(&path) else {
                rubbish.push(name);
                continue;
            };
            let (Some(record), Some(used)) = (record, modified(&path)?) else { continue };
            for layer in &record.upon {
                let last = above.entry(layer.clone()).or_insert(used);
                *last = used.max(*last);
            }
            match record.layer.clone() {
                Some(layer) => by_layer.entry(layer).or_default().push((name, record, used)),
                None => all.push(Kept {
                    kind: Kind::Step,
                    id: name.clone(),
                    size: 0,
                    created: used,
                    used,
                    made_by: record.made_by,
                    in_use: false,
                    records: vec![name],
                    place: None,
                }),
            }
        }
        for (layer, records) in by_layer {
            let place = self.layer_dir(&layer);
            let names = records.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>();
            if !place.is_dir() {
                rubbish.extend(names);
                continue;
            }
            let own = records.iter().map(|(.., used)| *used).max();
            // It goes after them: without it nobody finds them.
            let above = above.get(&layer).and_then(|used| used.checked_add(Duration::from_nanos(1)));
            let Some(used) = own.max(above) else { continue };
            // What was left half on disk by a power cut counts nothing.
            let meta = read_json::<LayerMeta>(&place.join("meta.json")).ok().flatten();
            all.push(Kept {
                kind: Kind::Step,
                id: layer.hex().to_owned(),
                size: meta.map_or(0, |meta| meta.bytes),
                created: modified(&place.join("meta.json"))?.unwrap_or(used),
                used,
                made_by: records.into_iter().find_map(|(_, record, _)| record.made_by),
                in_use: needed.contains(layer.hex()),
                records: names,
                place: Some(place),
            });
        }
        for name in self.mounts()? {
            let place = self.root().join("build/mounts").join(&name);
            // The directory changes when the cache is made, the file when it is mounted.
            let (made, used) = (modified(&place)?, modified(&place.join("meta.json"))?);
            let Some(created) = made else { continue };
            let meta = read_json::<serde_json::Value>(&place.join("meta.json")).ok().flatten();
            let id = meta.as_ref().and_then(|meta| meta.get("id")?.as_str());
            all.push(Kept {
                kind: Kind::Mount,
                id: id.unwrap_or(&name).to_owned(),
                size: sizes.get(&name).copied().unwrap_or(0),
                created,
                used: used.unwrap_or(created),
                made_by: None,
                in_use: standing.directories.contains(&name),
                records: Vec::new(),
                place: Some(place),
            });
        }
        Ok((all, rubbish))
    }

    /// Does what takes long and is in nobody's way, before the store is closed: removes what crashed ones left, and measures the
    /// caches that may go.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn measure(&self, prune: &Prune) -> Result<Sizes, Error> {
        self.sweep()?;
        match prune.all || prune.filter.asks_for_mounts() {
            true => self.sizes_of_mounts(),
            false => Ok(Sizes::new()),
        }
    }

    /// Returns the names of the directories of caches.
    fn mounts(&self) -> Result<Vec<String>, Error> {
        let mut names = list_dir(&self.root().join("build/mounts"))?;
        names.retain(|name| Digest::from_hex(name).is_ok());
        Ok(names)
    }

    /// Returns what the disk has for each cache, in bytes.
    fn sizes_of_mounts(&self) -> Result<Sizes, Error> {
        let mounts = self.root().join("build/mounts");
        let size = |name: String| {
            let size = on_disk(&mounts.join(&name)).map_err(store_error("measure", mounts.join(&name)))?;
            Ok((name, size))
        };
        self.mounts()?.into_iter().map(size).collect()
    }

    /// Returns the digits of the layers that images and containers have.
    fn needed(&self, standing: &Standing) -> Result<BTreeSet<String>, Error> {
        let mut needed = standing.directories.clone();
        let mut images = self.wanted_ids()?;
        images.extend(standing.images.iter().cloned());
        for id in images {
            let path = self.blob(&id);
            let Some(bytes) = read(&path)? else { continue };
            let config: ImageConfig =
                serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })?;
            needed.extend(config.rootfs.diff_ids.iter().map(|diff| diff.hex().to_owned()));
        }
        Ok(needed)
    }

    /// Notes how much a step has made, before its record is written. The caller holds the store.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn note_growth(&self, record: &StepRecord) -> Result<(), Error> {
        let meta = record.layer.as_ref().map(|layer| self.layer(layer)).transpose()?.flatten();
        let dir = self.root().join("build");
        make_dirs(&dir)?;
        let (path, line) = (dir.join(GROWN), format!("{}\n", meta.map_or(0, |meta| meta.bytes)));
        // A line goes to the end in one piece, whoever else writes one (open(2), `O_APPEND`).
        let write = || File::options().create(true).append(true).open(&path)?.write_all(line.as_bytes());
        write().map_err(store_error("write", &path))
    }

    /// Returns whether it is time to look whether more is kept than `budget`: as far as is noted, or once a day.
    #[must_use]
    pub fn is_due(&self, budget: u64, now: SystemTime) -> bool {
        // Nothing was made yet, or it cannot be told: the next build asks again.
        fs::read_to_string(self.root().join("build").join(GROWN)).is_ok_and(|text| is_due(&text, budget, now))
    }

    /// Returns how large the file system is that the store is on, in bytes.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn capacity(&self) -> Result<u64, Error> {
        make_dirs(self.root())?;
        let stat = rustix::fs::statvfs(self.root()).map_err(|e| store_error("measure", self.root())(e.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }
}

/// How much may be kept: a line with what was kept at the last look and when that was, then one for each step.
const GROWN: &str = "grown";

fn is_due(text: &str, budget: u64, now: SystemTime) -> bool {
    let mut sum = 0_u64;
    let mut looked = None;
    for line in text.lines() {
        let mut words = line.split(' ').map(str::parse::<u64>);
        sum = sum.saturating_add(words.next().and_then(Result::ok).unwrap_or(0));
        if let Some(Ok(seconds)) = words.next() {
            looked = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        }
    }
    // Also when the clock was set back since.
    sum > budget || looked.is_none_or(|at| now.duration_since(at).map_or(true, |ago| ago >= LOOK))
}

impl Closed<'_> {
    /// Removes what is to go and returns it, what was used longest ago first. The store is everybody's again as soon as nothing
    /// leads to it any more; then its files go. `sizes` are what [`Store::measure`] has found.
    ///
    /// # Errors
    /// When the store is damaged or cannot be written; what has gone by then stays gone.
    pub fn prune(self, standing: &Standing, prune: &Prune, sizes: &Sizes) -> Result<Vec<Kept>, Error> {
        let (all, rubbish) = self.store.look(standing, sizes)?;
        self.remove(prune.choose(all), rubbish, None)
    }

    /// Removes what nobody needs beyond a budget, caches apart, and notes how much is left.
    ///
    /// # Errors
    /// As [`Closed::prune`].
    pub fn keep_to(self, standing: &Standing, budget: u64, now: SystemTime) -> Result<Vec<Kept>, Error> {
        let (all, rubbish) = self.store.look(standing, &Sizes::default())?;
        let sum = |all: &[Kept]| {
            let steps = all.iter().filter(|kept| kept.kind == Kind::Step);
            steps.fold(0_u64, |sum, kept| sum.saturating_add(kept.frees()))
        };
        let before = sum(&all);
        let going = Prune { budget: Some(budget), ..Prune::default() }.choose(all);
        let left = before.saturating_sub(sum(&going));
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.remove(going, rubbish, Some(&format!("{left} {seconds}\n")))
    }

    /// Removes things and records of what is gone, and writes the note.
    fn remove(self, going: Vec<Kept>, rubbish: Vec<String>, note: Option<&str>) -> Result<Vec<Kept>, Error> {
        let Self { store, lock } = self;
        let scratch = match going.is_empty() {
            true => None,
            false => Some(store.scratch()?),
        };
        for (number, kept) in going.iter().enumerate() {
            if let (Some(place), Some(scratch)) = (kept.place.as_ref().filter(|_| !kept.in_use), &scratch) {
                take(kept.kind, place, &scratch.path(&number.to_string()))?;
            }
            for record in &kept.records {
                remove_file(&store.steps().join(record))?;
                fault::point("prune.forgotten");
            }
        }
        for record in rubbish {
            remove_file(&store.steps().join(record))?;
        }
        if let Some(note) = note {
            store.replace(&store.root().join("build"), GROWN, note.as_bytes(), false)?;
            fault::point("prune.noted");
        }
        drop(lock);
        fault::point("prune.open");
        if let Some(scratch) = scratch {
            for dir in ["layers", "build/mounts"].map(|dir| store.root().join(dir)) {
                match File::open(&dir) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    opened => opened.and_then(|dir| dir.sync_all()).map_err(store_error("sync", dir))?,
                }
            }
            fault::point("prune.synced");
            drop(scratch);
        }
        Ok(going)
    }
}

/// Takes a directory out of its place.
fn take(kind: Kind, from: &Path, to: &Path) -> Result<(), Error> {
    if kind == Kind::Mount {
        // Who builds holds the store, so nobody has it.
        remove_file(&from.with_extension("lock"))?;
        fault::point("prune.lock-gone");
    }
    match fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(store_error("remove", from)(e)),
        _ => {}
    }
    fault::point("prune.taken");
    Ok(())
}

/// Returns when something was changed; `None` when it is gone.
fn modified(path: &Path) -> Result<Option<SystemTime>, Error> {
    match fs::symlink_metadata(path).and_then(|found| found.modified()) {
        Ok(at) => Ok(Some(at)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(store_error("read", path)(e)),
    }
}

/// Returns what the disk has for a directory and all in it, in bytes: `st_blocks`, as du(1) counts. A file with several names counts
/// once; links are not followed, and what is mounted there is left out.
fn on_disk(dir: &Path) -> io::Result<u64> {
    match File::open(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        opened => below(opened?.into(), &mut HashSet::new()),
    }
}

fn below(dir: OwnedFd, seen: &mut HashSet<u64>) -> io::Result<u64> {
    let mut sum = 0_u64;
    let names = match tree::names(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0), // it is being removed
        names => names?,
    };
    for name in names {
        let stat = match rustix::fs::statat(dir.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // it may be in use
            stat => stat?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 && !seen.insert(stat.st_ino) {
            continue;
        }
        if is_dir {
            match tree::is_mounted_on(&dir, name.to_bytes()) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
            match tree::open_dir_at(&dir, name.to_bytes()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                inner => sum = sum.saturating_add(below(inner?, seen)?),
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        sum = sum.saturating_add(blocks.saturating_mul(512));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
