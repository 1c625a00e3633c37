//! The files of one container's log, read block by block into lines.
//!
//! Invariant: knows one container; which line comes first of several containers is decided by who asks.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Line, Selection, Stream};
use crate::diag::Report;
use crate::name::ServiceName;
use crate::state::logs as files;

#[derive(Deserialize)]
struct Entry {
    log: String,
    stream: Stream,
    time: String,
    /// How much of the stream there was up to here, in bytes.
    end: u64,
    /// How much of each was in older files, in the first entry of a file that has some.
    #[serde(default)]
    after: Option<[u64; 2]>,
}

/// How much of a file is read at once, in bytes: a log may be larger than memory.
const BLOCK: usize = 256 * 1024;

/// A file that is being read.
struct Open {
    file: File,
    inode: u64,
    /// How much of it is still to be read before the reading ends, in bytes; of an older file all.
    left: u64,
}

/// One container's log.
pub(super) struct Reader {
    pub(super) label: String,
    pub(super) service: ServiceName,
    directory: PathBuf,
    tail: Option<usize>,
    file: Option<Open>,
    /// The newest file when the reading began, and how much of it was there.
    until: Option<(u64, u64)>,
    /// Lines that were read and wait for those of other containers, with their places.
    pub(super) queue: VecDeque<(String, Line)>,
    /// Bytes after the last whole object.
    rest: Vec<u8>,
    /// Lines whose end has not come, by output.
    partial: BTreeMap<Stream, Line>,
    /// The latest time of a line so far.
    latest: String,
    /// How much of each output was read, in bytes, where that is known.
    known: [Option<u64>; 2],
}

impl Reader {
    pub(super) fn new(label: String, service: ServiceName, directory: PathBuf, tail: Option<usize>) -> Self {
        Self {
            label,
            service,
            directory,
            tail,
            file: None,
            until: None,
            queue: VecDeque::new(),
            rest: Vec::new(),
            partial: BTreeMap::new(),
            latest: String::new(),
            known: [None; 2],
        }
    }

    /// Returns a line's place among those of other containers: its time, or that of a line before it that is later.
    fn latest(&mut self, time: &str) -> String {
        if self.latest.as_str() < time {
            time.clone_into(&mut self.latest);
        }
        self.latest.clone()
    }

    /// Lets as much be read as there is now: what is written meanwhile is for the next time, however fast it comes.
    pub(super) fn begin(&mut self) {
        let newest = std::fs::metadata(files::file(&self.directory, 0));
        self.until = newest.ok().map(|meta| (meta.ino(), meta.len()));
        let Some(open) = &mut self.file else { return };
        // A half object is read again: a worker that was killed while it wrote it has a successor that cuts it off.
        let rest = i64::try_from(self.rest.len()).unwrap_or(0);
        if rest > 0 && open.file.seek_relative(-rest).is_ok() {
            self.rest.clear();
        }
        let at = open.file.stream_position().unwrap_or(0);
        open.left = left_of(open.inode, at, self.until);
    }

    /// Returns the place of the next line, after reading until there is one; `None` when all was read.
    pub(super) fn next_place(&mut self, selection: &Selection) -> Result<Option<String>, Report> {
        let error = |path: &Path, e: io::Error| Report::message(format!("cannot read `{}`: {e}", path.display()));
        while self.queue.is_empty() {
            if !self.read(selection).map_err(|e| error(&self.directory, e))? {
                return Ok(None);
            }
        }
        Ok(self.queue.front().map(|(place, _)| place.clone()))
    }

    /// Reads a block; goes on with the next file at the end of an older one. Returns whether there may be more.
    pub(super) fn read(&mut self, selection: &Selection) -> io::Result<bool> {
        let Some(Open { file, inode, left }) = &mut self.file else {
            let mut all = files::open_all(&self.directory)?.into_iter();
            let Some(mut first) = all.next() else { return Ok(false) };
            match self.tail.take() {
                // It counts for what there is now only.
                Some(tail) => {
                    let mut missing = tail - seek_to_tail(&mut first, tail)?;
                    while missing > 0
                        && let Some(mut older) = all.next()
                    {
                        missing -= seek_to_tail(&mut older, missing)?;
                        first = older;
                    }
                }
                None => first = all.last().unwrap_or(first),
            }
            self.open(first)?;
            self.begin();
            return Ok(true);
        };
        let block = u64::try_from(BLOCK).unwrap_or(u64::MAX).min(*left);
        let read = file.take(block).read_to_end(&mut self.rest)?;
        *left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        if read > 0 {
            self.take_objects(selection);
            return Ok(true);
        }
        let inode = *inode;
        if self.until.is_some_and(|(newest, _)| newest == inode) {
            return Ok(false);
        }
        let mut newer = files::open_all(&self.directory)?;
        let mut at = None;
        for (number, file) in newer.iter().enumerate() {
            if file.metadata()?.ino() == inode {
                at = Some(number);
            }
        }
        newer.truncate(at.unwrap_or(newer.len()));
        let Some(next) = newer.pop() else { return Ok(false) };
        self.open(next)?;
        if at.is_none() {
            self.begin();
        }
        Ok(true)
    }

    /// Goes on with the beginning of a file, or where it stands.
    fn open(&mut self, mut file: File) -> io::Result<()> {
        files::begin_reading(&file)?;
        let (inode, at) = (file.metadata()?.ino(), file.stream_position()?);
        self.rest.clear();
        self.file = Some(Open { file, inode, left: left_of(inode, at, self.until) });
        Ok(())
    }

    fn take_objects(&mut self, selection: &Selection) {
        let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let bytes: Vec<u8> = self.rest.drain(..whole).collect();
        for object in bytes.split(|b| *b == b'\n').filter(|object| !object.is_empty()) {
            match serde_json::from_slice::<Entry>(object) {
                Ok(entry) => {
                    self.count(&entry);
                    if let Some(line) = self.take(entry).filter(|line| selection.holds(line)) {
                        // A clock that was set back changes no container's own order.
                        let place = self.latest(&line.time);
                        self.queue.push_back((place, line));
                    }
                }
                // A crash can leave half an object behind; what comes after it is whole again.
                Err(error) => tracing::debug!(%error, path = %self.directory.display(), "damaged log entry"),
            }
        }
    }

    /// Counts what was read. Files may have gone before they could be: then it says so.
    fn count(&mut self, entry: &Entry) {
        if let Some(after) = entry.after {
            let gone: u64 = after.iter().zip(self.known).map(|(a, k)| a.saturating_sub(k.unwrap_or(*a))).sum();
            if gone > 0 {
                let text =
                    format!("hoist: {gone} bytes of output are missing here: they came faster than they were read");
                let (label, service) = (self.label.clone(), self.service.clone());
                let line = Line { label, service, stream: Stream::Stderr, time: entry.time.clone(), text };
                let place = self.latest(&entry.time);
                self.queue.push_back((place, line));
            }
            self.known = after.map(Some);
        }
        self.known[entry.stream as usize] = Some(entry.end);
    }

    /// Returns the line that an entry ends, if it does.
    fn take(&mut self, entry: Entry) -> Option<Line> {
        let Entry { log, stream, time, .. } = entry;
        let line = self.partial.entry(stream).or_insert_with(|| Line {
            label: self.label.clone(),
            service: self.service.clone(),
            stream,
            time,
            text: String::new(),
        });
        line.text.push_str(log.strip_suffix('\n').unwrap_or(&log));
        if log.ends_with('\n') { self.partial.remove(&stream) } else { None }
    }

    /// Returns the lines whose end will not come.
    pub(super) fn flush(&mut self, selection: &Selection) -> impl Iterator<Item = Line> {
        std::mem::take(&mut self.partial).into_values().filter(|line| selection.holds(line))
    }
}

/// Returns how much of a file is to be read from an offset on, when the newest was `until`.
fn left_of(inode: u64, at: u64, until: Option<(u64, u64)>) -> u64 {
    match until {
        Some((newest, length)) if newest == inode => length.saturating_sub(at),
        _ => u64::MAX,
    }
}

/// Moves to the first of the last `count` lines, reading the file from its end; returns how many of them it has.
fn seek_to_tail(file: &mut File, count: usize) -> io::Result<usize> {
    const BLOCK: u64 = 64 * 1024;
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut newlines = 0;
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.by_ref().take(at - start).read_to_end(&mut block)?;
        for (offset, byte) in block.iter().enumerate().rev() {
            if *byte != b'\n' {
                continue;
            }
            newlines += 1;
            if newlines == count + 1 {
                file.seek(SeekFrom::Start(start + offset as u64 + 1))?;
                return Ok(count);
            }
        }
        at = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(newlines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn entry(log: &str, stream: &str, second: u32) -> String {
        format!(
            "{{\"log\":{log:?},\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{second:02}.000000000Z\",\"end\":1}}\n"
        )
    }

    /// Returns the texts of all that there is to read.
    fn read(reader: &mut Reader) -> Vec<String> {
        let all = Selection::default();
        reader.begin();
        while reader.read(&all).expect("read") {}
        std::mem::take(&mut reader.queue).into_iter().map(|(_, line)| line.text).collect()
    }

    #[test]
    fn a_clock_that_is_set_back_changes_no_order_within_a_container() {
        let mut reader = Reader::new("web-1".into(), web(), PathBuf::from("/nowhere"), None);
        let places: Vec<String> = ["10:00", "10:02", "09:00", "09:01", "10:03"].map(|time| reader.latest(time)).into();
        assert_eq!(places, ["10:00", "10:02", "10:02", "10:02", "10:03"]);
    }

    #[test]
    fn lines_are_joined_and_rotation_is_followed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("json.log");
        let mut reader = Reader::new("web-1".into(), web(), dir.path().to_owned(), None);
        assert_eq!(read(&mut reader), [""; 0], "a missing file is fine");
        let mut file = File::create(&path).expect("created");
        write!(file, "{}{}", entry("one\n", "stdout", 1), entry("half", "stdout", 2)).expect("written");
        write!(file, "{}", &entry("err\n", "stderr", 3)[..10]).expect("written");
        assert_eq!(read(&mut reader), ["one"]);
        write!(file, "{}{}", &entry("err\n", "stderr", 3)[10..], entry(" whole\n", "stdout", 4)).expect("written");
        assert_eq!(read(&mut reader), ["err", "half whole"]);
        write!(file, "{}", entry("late\n", "stdout", 5)).expect("written");
        std::fs::rename(&path, dir.path().join("json.log.1")).expect("rotated");
        std::fs::write(&path, entry("new", "stdout", 5)).expect("written");
        assert_eq!(read(&mut reader), ["late"]);
        assert_eq!(reader.flush(&Selection::default()).map(|line| line.text).collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("json.log");
        let text: String = (0..5000).map(|n| entry(&format!("line {n}\n"), "stdout", n % 60)).collect();
        std::fs::write(&path, text).expect("written");
        for (tail, first, count) in [
            (Some(0), None, 0),
            (Some(3), Some("line 4997"), 3),
            (Some(9000), Some("line 0"), 5000),
            (None, Some("line 0"), 5000),
        ] {
            let lines = read(&mut Reader::new("web-1".into(), web(), dir.path().to_owned(), tail));
            assert_eq!((lines.first().map(String::as_str), lines.len()), (first, count), "{tail:?}");
        }
    }

    /// Makes files as a log has them, the oldest first.
    fn rotated(directory: &Path, texts: &[&[&str]]) {
        for (number, lines) in texts.iter().rev().enumerate() {
            let after: usize = texts.iter().take(texts.len() - 1 - number).map(|lines| lines.len()).sum();
            let entry = |(n, text): (usize, &&str)| {
                let first = if n == 0 && after > 0 { format!(",\"after\":[{after},0]") } else { String::new() };
                let end = after + n + 1;
                format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"\",\"end\":{end}{first}}}\n")
            };
            let text: String = lines.iter().enumerate().map(entry).collect();
            let path = files::file(directory, u32::try_from(number).expect("small"));
            let _ = std::fs::remove_file(&path); // there may be none
            std::fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn older_files_come_first_and_the_tail_may_reach_into_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        rotated(dir.path(), &[&["1", "2"], &["3"], &["4", "5"]]);
        for (tail, shown) in
            [(None, "12345"), (Some(0), ""), (Some(2), "45"), (Some(3), "345"), (Some(4), "2345"), (Some(9), "12345")]
        {
            let lines = read(&mut Reader::new("web-1".into(), web(), dir.path().to_owned(), tail));
            assert_eq!(lines.concat(), shown, "{tail:?}");
        }
    }

    #[test]
    fn what_was_gone_before_it_could_be_read_is_said() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut reader = Reader::new("web-1".into(), web(), dir.path().to_owned(), None);
        rotated(dir.path(), &[&["1", "2"], &["3"]]);
        assert_eq!(read(&mut reader).concat(), "123");
        rotated(dir.path(), &[&["1", "2"], &["3"], &["4"]]);
        std::fs::remove_file(files::file(dir.path(), 2)).expect("removed");
        std::fs::remove_file(files::file(dir.path(), 1)).expect("removed");
        assert_eq!(read(&mut reader).concat(), "4", "nothing is missing");
        std::fs::remove_file(files::file(dir.path(), 0)).expect("removed");
        rotated(dir.path(), &[&["1", "2", "3", "4", "5", "6"], &["7"], &["8"]]);
        std::fs::remove_file(files::file(dir.path(), 2)).expect("removed");
        let said = "hoist: 2 bytes of output are missing here: they came faster than they were read";
        assert_eq!(read(&mut reader), [said, "7", "8"]);
    }

    #[test]
    fn half_an_object_is_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut reader = Reader::new("web-1".into(), web(), dir.path().to_owned(), None);
        let path = files::file(dir.path(), 0);
        std::fs::write(&path, entry("one\n", "stdout", 1) + "{\"log\":\"half of a line that will be another\"")
            .expect("written");
        assert_eq!(read(&mut reader), ["one"]);
        let mut file = File::options().write(true).open(&path).expect("opened");
        let first = entry("one\n", "stdout", 1).len() as u64;
        file.set_len(first).expect("cut off");
        file.seek(SeekFrom::Start(first)).expect("its end");
        write!(file, "{}", entry("two\n", "stdout", 2)).expect("written");
        assert_eq!(read(&mut reader), ["two"]);
    }

    fn web() -> ServiceName {
        ServiceName::new("web").expect("a name")
    }
}
