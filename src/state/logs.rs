//! The files of a container's log: what they are called, how they make room, and how they are read in order.
//!
//! Lines go to `json.log`. When that is as large as it may be it becomes `json.log.1`, what had that name becomes
//! `json.log.2` and so on, and the oldest goes. Each step of that is a rename, so that a process that is killed between
//! two of them leaves at most a number that is not taken: nothing is removed while there is one. The files move towards
//! higher numbers alone; that is why reading the names upwards finds each, however often they move meanwhile.
//!
//! Who reads a file holds a shared lock on it (flock(2)), and whoever removes files may wait for that: see `supervisor::logs`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::fault;
use crate::paths::Paths;
use crate::state::record::ContainerRecord;

/// How often the files are looked through anew because they moved meanwhile, at most.
const LOOKS: usize = 100;

/// Returns the directory of a container's log: on disk, or in memory when it is not kept.
#[must_use]
pub fn directory(paths: &Paths, record: &ContainerRecord) -> PathBuf {
    match record.policy.log.kept {
        true => paths.container_logs(&record.id),
        false => paths.run_container(&record.project, &record.id).join("log"),
    }
}

/// Returns the path of a file of a log: 0 is the one that is written to.
#[must_use]
pub fn file(directory: &Path, number: u32) -> PathBuf {
    directory.join(match number {
        0 => "json.log".to_owned(),
        number => format!("json.log.{number}"),
    })
}

/// Returns the path at which a file is made that is to take the place of the only one of a log.
#[must_use]
pub fn next_file(directory: &Path) -> PathBuf {
    directory.join("json.next")
}

/// Opens the files of a log, the newest first; there may be none.
///
/// # Errors
/// When they are there and cannot be opened.
pub fn open_all(directory: &Path) -> io::Result<Vec<File>> {
    let newest = file(directory, 0);
    for _ in 1..LOOKS {
        let before = inode_at(&newest)?;
        let found = open_once(directory)?;
        if inode_at(&newest)? == before {
            return Ok(found);
        }
    }
    open_once(directory)
}

fn open_once(directory: &Path) -> io::Result<Vec<File>> {
    let mut highest: u32 = 0;
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                let number = name.to_str().and_then(|name| name.strip_prefix("json.log.")?.parse().ok());
                highest = highest.max(number.unwrap_or(0));
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    }
    let (mut found, mut inodes) = (Vec::new(), Vec::new());
    // One moves by one while the names are gone through.
    for number in 0..=highest.saturating_add(1) {
        match File::open(file(directory, number)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                if !inodes.contains(&inode) {
                    inodes.push(inode);
                    found.push(file);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Returns the inode of a file, if there is one.
fn inode_at(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Says that a file is being read, until it is closed: it is not removed at once.
///
/// # Errors
/// When the file system has no locks.
pub fn begin_reading(file: &File) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| flock(file, FlockOperation::LockShared))?)
}

/// Returns whether somebody is reading a file.
#[must_use]
pub fn is_being_read(file: impl AsFd) -> bool {
    let lock = |operation| rustix::io::retry_on_intr(|| flock(file.as_fd(), operation));
    match lock(FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let _ = lock(FlockOperation::Unlock); // it goes with the descriptor otherwise
            false
        }
        Err(e) => e == rustix::io::Errno::WOULDBLOCK,
    }
}

/// Returns which file goes when one of `count` is to make room; `None` while a number is free.
///
/// # Errors
/// When it cannot be known.
pub fn goes(directory: &Path, count: u32) -> io::Result<Option<File>> {
    for number in 1..count {
        if inode_at(&file(directory, number))?.is_none() {
            return Ok(None);
        }
    }
    File::open(file(directory, count.saturating_sub(1))).map(Some)
}

/// Makes room for a new file among `count`, at least two: removes the oldest where no number is free and moves the others.
///
/// # Errors
/// When a file cannot be moved; the rest is done by the next call.
pub fn make_room(directory: &Path, count: u32) -> io::Result<()> {
    let mut free = 1;
    while free < count && inode_at(&file(directory, free))?.is_some() {
        free += 1;
    }
    if free == count {
        free = count - 1;
        fs::remove_file(file(directory, free))?;
        fault::point("log.oldest-removed");
    }
    for number in (0..free).rev() {
        fs::rename(file(directory, number), file(directory, number + 1))?;
        fault::point("log.moved");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn texts(directory: &Path) -> Vec<String> {
        let mut files = open_all(directory).expect("opened");
        files.reverse();
        let text = |file: &mut File| {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("text");
            text
        };
        files.iter_mut().map(text).collect()
    }

    #[test]
    fn the_oldest_goes_when_no_number_is_free() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert!(open_all(&dir.join("nowhere")).expect("none").is_empty());
        for n in 0..5 {
            if n > 0 {
                assert_eq!(goes(dir, 3).expect("known").is_some(), n > 2, "{n}");
                make_room(dir, 3).expect("room");
            }
            fs::write(file(dir, 0), n.to_string()).expect("written");
        }
        assert_eq!(texts(dir), ["2", "3", "4"]);
        // As a process leaves them that was killed after each of the moves: nothing more goes.
        for (from, to) in [(1, 2), (0, 1)] {
            if from == 1 {
                fs::remove_file(file(dir, 2)).expect("removed");
            }
            fs::rename(file(dir, from), file(dir, to)).expect("moved");
            assert_eq!(texts(dir), ["3", "4"]);
        }
        fs::write(file(dir, 0), "5").expect("written");
        assert_eq!(texts(dir), ["3", "4", "5"]);
        fs::remove_file(file(dir, 1)).expect("removed");
        make_room(dir, 3).expect("room");
        assert_eq!(texts(dir), ["3", "5"]);
    }

    #[test]
    fn files_that_move_are_all_found_and_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        fs::write(file(&path, 0), "0").expect("written");
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (stopped, directory) = (stop.clone(), path.clone());
        let writer = std::thread::spawn(move || {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                make_room(&directory, 4).expect("room");
                fs::write(next_file(&directory), n.to_string()).expect("written");
                fs::rename(next_file(&directory), file(&directory, 0)).expect("renamed");
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        for _ in 0..500 {
            let numbers: Vec<u32> = texts(&path).iter().map(|text| text.parse().expect("a number")).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("it wrote");
    }

    #[test]
    fn a_file_is_being_read_until_its_reader_closes_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = file(dir.path(), 0);
        fs::write(&path, "").expect("written");
        let [reader, other] = [(); 2].map(|()| File::open(&path).expect("opened"));
        assert!(!is_being_read(&other));
        begin_reading(&reader).expect("locked");
        assert!(is_being_read(&other) && is_being_read(&other));
        drop(reader);
        assert!(!is_being_read(&other));
    }
}
