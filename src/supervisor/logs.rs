//! A container's output as lines on disk, in the format of Docker's json-file driver plus one field.
//!
//! Each line is `{"log":"text\n","stream":"stdout","time":"…Z","end":N}`: `end` is the number of bytes that the stream
//! had given up to and including this line, so that what a killed worker had logged already is known from the log
//! itself. Lines longer than 16 KiB are split there, as Docker splits them; a text without its newline at the end is the
//! first half of a split line or the last words of a process. Bytes that are not UTF-8 become U+FFFD.
//!
//! Where a file may only become so large, lines go on in a new one (`state/logs.rs`). The first line of that has one field
//! more, `after`: how much of each stream is in older files, which may be gone. A file appears with its first lines in it,
//! so that what was logged is known at every moment.
//! A follower gets its time: the file that it is at is not removed while it reads, for [`PATIENCE`] at most.
//!
//! When the disk refuses lines they are given up, so that the container does not hang because the disk is full; a line of
//! our own says how many bytes are missing, as soon as there is room for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fault;
use crate::state::logs as files;
use crate::state::record::LogPolicy;

/// Longest text of one line in the log.
pub(super) const LONGEST_LINE: usize = 16 << 10;

/// About how much is written at a time: what one container says must not keep the others waiting, nor grow us.
const AT_ONCE: usize = 192 << 10;

/// How much of a log is read to find out what it has: more than one look at each stream, every byte of it escaped.
const TAIL: u64 = 4 << 20;

/// For how long who reads a file may keep it from being removed. After that it is not waited for again until it has come
/// to a newer one: a follower that does not read holds a container up once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the first line of a file can be: its text with every byte escaped, and the rest.
const FIRST_LINE: u64 = 6 * (16 << 10) + 512;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

impl Source {
    pub(super) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// The fields that are read back.
#[derive(serde::Deserialize)]
struct Line {
    stream: String,
    end: u64,
    #[serde(default)]
    after: Option<[u64; 2]>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<(Source, Self)> {
        let line: Self = serde_json::from_slice(line).ok()?;
        Some((*Source::BOTH.iter().find(|s| s.name() == line.stream)?, line))
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    policy: LogPolicy,
    /// The newest file; `None` when the next line begins one.
    file: Option<File>,
    /// Its length.
    size: u64,
    /// The only file of the log that the one before this has replaced: a follower may be at it yet.
    replaced: Option<File>,
    /// An earlier process may have replaced one, of which nothing is known; until then who is at it has time to leave it.
    replaced_before: Option<Instant>,
    /// No line is written since then, because what would go is being read.
    held_since: Option<Instant>,
    /// It was waited for in vain, and is not again.
    impatient: bool,
    /// Bytes of each stream that are in the log.
    ends: [u64; 2],
    /// Bytes of each stream that were given up, and that the log does not say yet.
    lost: [u64; 2],
    /// Why they were.
    why: String,
}

impl Log {
    /// Opens or makes the log, cuts off a line that was only half written, and finds out what it has of each stream.
    pub(super) fn open(directory: &Path, policy: LogPolicy) -> io::Result<Self> {
        if let Err(e) = fs::remove_file(files::next_file(directory))
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e);
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(files::file(directory, 0))?;
        let (mut ends, size) = ends_of(&mut file)?;
        file.set_len(size)?;
        file.seek(SeekFrom::Start(size))?;
        if size == 0 {
            // It may have been killed before the first line of this file, perhaps under another policy.
            match File::open(files::file(directory, 1)) {
                Ok(mut before) => ends = ends_of(&mut before)?.0,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            policy,
            file: Some(file),
            size,
            replaced: None,
            replaced_before: (size > 0 && policy.max_files == 1).then(|| Instant::now() + PATIENCE),
            held_since: None,
            impatient: false,
            ends: ends.map(|end| end.unwrap_or(0)),
            lost: [0; 2],
            why: String::new(),
        })
    }

    /// Goes on under another policy, which keeps the log where it is and has as many files at least: those that are there are
    /// among its own, and the next line begins a new one if it has to.
    pub(super) fn follow(&mut self, policy: LogPolicy) {
        self.policy = policy;
        if policy.max_files > 1 {
            self.replaced = None; // from now on none is
        }
    }

    /// Returns how many bytes of a stream are in the log.
    pub(super) fn end(&self, source: Source) -> u64 {
        self.ends[source.index()]
    }

    /// Writes what is whole of `bytes`, the next bytes of a stream after offset `from`, stamped `now`; returns how many
    /// bytes are in the log now or were before. With `last` a line without its newline counts as whole. At most about
    /// [`AT_ONCE`] is written, made in `text`; the rest is for the next time. So is what needs a new file while the oldest
    /// is being read: [`Log::is_held`].
    ///
    /// # Errors
    /// When the disk refuses; then nothing counts as written.
    pub(super) fn append(
        &mut self,
        source: Source,
        from: u64,
        bytes: &[u8],
        last: bool,
        now: &str,
        text: &mut Vec<u8>,
    ) -> io::Result<usize> {
        text.clear();
        let known = usize::try_from(self.end(source).saturating_sub(from)).unwrap_or(usize::MAX).min(bytes.len());
        let mut taken = known;
        let mut end = from + u64::try_from(known).unwrap_or(0);
        let mut written = 0;
        self.say_what_is_lost(source, now, text)?;
        while written + text.len() < AT_ONCE
            && let Some(length) = next_line(&bytes[taken..], last)
        {
            let line = String::from_utf8_lossy(&bytes[taken..taken + length]);
            let line_end = end + u64::try_from(length).unwrap_or(0);
            let begins = text.len();
            put_line(text, &line, source, now, line_end, None)?;
            if self.is_too_much(begins, text.len()) {
                text.truncate(begins);
                written += begins;
                self.write_lines(text, source, end)?;
                if !self.begin_file()? {
                    return Ok(taken);
                }
                put_line(text, &line, source, now, line_end, Some(self.ends))?;
            }
            taken += length;
            end = line_end;
        }
        self.write_lines(text, source, end)?;
        Ok(taken)
    }

    /// Writes lines of a stream up to offset `end`, if there are any.
    fn write_lines(&mut self, text: &mut Vec<u8>, source: Source, end: u64) -> io::Result<()> {
        if !text.is_empty() {
            self.write(text)?;
            self.ends[source.index()] = end;
            self.lost[source.index()] = 0;
            text.clear();
        }
        Ok(())
    }

    /// Returns whether a file would be larger than it may be with `length` bytes of lines, of which the last begins at
    /// `begins`. A line that is too long by itself has a file of its own.
    fn is_too_much(&self, begins: usize, length: usize) -> bool {
        let with = |more: usize| self.size.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        self.policy.max_size.is_some_and(|max| with(length) > max) && with(begins) > 0
    }

    /// Makes room for a new file, which the next line begins; `false` when who reads the oldest is to have its time first.
    fn begin_file(&mut self) -> io::Result<bool> {
        let count = self.policy.max_files;
        if let Some(until) = self.replaced_before {
            let is_left = self.file.as_ref().is_some_and(files::is_being_read); // a follower that is here has left it
            if !is_left && Instant::now() < until {
                self.held_since.get_or_insert_with(Instant::now);
                return Ok(false);
            }
            (self.replaced_before, self.held_since) = (None, None);
        }
        let goes = match count {
            1 => self.replaced.take(),
            _ => files::goes(&self.directory, count)?,
        };
        if self.waits_for(goes.as_ref()) {
            self.replaced = goes.filter(|_| count == 1);
            return Ok(false);
        }
        if count > 1 {
            files::make_room(&self.directory, count)?;
            self.file = None;
        } else {
            self.replaced = self.file.take();
        }
        self.size = 0;
        Ok(true)
    }

    /// Returns whether a file that is to go is waited for.
    fn waits_for(&mut self, goes: Option<&File>) -> bool {
        if !goes.is_some_and(files::is_being_read) {
            self.impatient = false;
        } else if !self.impatient {
            self.impatient = self.held_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE;
            if !self.impatient {
                return true;
            }
        }
        self.held_since = None;
        false
    }

    /// Returns whether lines wait for a reader.
    pub(super) fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Notes that the bytes of a stream up to offset `to` were given up without being written.
    pub(super) fn lose(&mut self, source: Source, to: u64, why: &io::Error) {
        let end = &mut self.ends[source.index()];
        self.lost[source.index()] += to.saturating_sub(*end);
        *end = to.max(*end);
        self.why = why.to_string();
    }

    /// Returns whether something was given up that the log does not say yet.
    pub(super) fn has_lost(&self) -> bool {
        self.lost.iter().any(|bytes| *bytes > 0)
    }

    /// Says in the log what was given up, if there is room by now.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn tell_lost(&mut self, now: &str) -> io::Result<()> {
        let mut text = Vec::new();
        for source in Source::BOTH {
            self.say_what_is_lost(source, now, &mut text)?;
        }
        self.write(&text)?;
        self.lost = [0; 2];
        Ok(())
    }

    fn say_what_is_lost(&self, source: Source, now: &str, text: &mut Vec<u8>) -> io::Result<()> {
        let lost = self.lost[source.index()];
        if lost == 0 {
            return Ok(());
        }
        let line =
            format!("hoist: {lost} bytes of output are missing here: the log could not be written ({})\n", self.why);
        put_line(text, &line, source, now, self.end(source), None)
    }

    /// Writes whole lines or nothing.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return self.write_file(text) };
        file.write_all(text).inspect_err(|_| {
            let _ = file.set_len(self.size); // no half line stays; the bytes are still in the pipe
            let _ = file.seek(SeekFrom::Start(self.size));
        })?;
        self.size += u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }

    /// Writes whole lines or nothing as a new file.
    fn write_file(&mut self, text: &[u8]) -> io::Result<()> {
        let path = files::file(&self.directory, 0);
        let new = files::next_file(&self.directory);
        let begun = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new);
        let written = begun.and_then(|mut file| file.write_all(text).map(|()| file));
        fault::point("log.file-made");
        let made = written.and_then(|file| fs::rename(&new, path).map(|()| file));
        self.file = Some(made.inspect_err(|_| drop(fs::remove_file(&new)))?); // else it is in the way of nobody
        fault::point("log.file-begun");
        self.size = u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }

    /// Returns the bytes of a stream behind offset `from` that are in the log: for a client whose worker was killed, so it
    /// is little. Bytes that are not UTF-8 are in the log as U+FFFD.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn since(&self, source: Source, from: u64) -> io::Result<Vec<u8>> {
        since(&self.directory, source, from)
    }
}

/// Returns what a file has of each stream, if it says so, and how long it is without a line that was half written.
fn ends_of(file: &mut File) -> io::Result<([Option<u64>; 2], u64)> {
    let length = file.metadata()?.len();
    let mut ends = [None; 2];
    let mut whole = length;
    // The last lines say it. A stream that has been silent for longer counts from 0 again: only bytes that were
    // logged and not taken out of the pipe yet can come twice, and of those there is at most one look's worth, which
    // is at the end of the file. A log can be larger than memory.
    for window in [64 << 10, TAIL] {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(window).read_to_end(&mut bytes)?;
        let cut = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        whole = start + u64::try_from(cut).unwrap_or(0);
        ends = [None; 2];
        for (source, line) in bytes[..cut].split(|b| *b == b'\n').filter_map(Line::parse) {
            ends[source.index()] = Some(line.end);
        }
        if start == 0 || ends.iter().all(Option::is_some) {
            break;
        }
    }
    if ends.iter().any(Option::is_none) {
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(FIRST_LINE).read_to_end(&mut bytes)?;
        let first = bytes.split(|b| *b == b'\n').next().and_then(Line::parse);
        if let Some(after) = first.and_then(|(_, line)| line.after) {
            ends = [0, 1].map(|index| ends[index].or(Some(after[index])));
        }
    }
    Ok((ends, whole))
}

/// Adds a line of the log to `text`.
fn put_line(
    text: &mut Vec<u8>,
    line: &str,
    source: Source,
    now: &str,
    end: u64,
    after: Option<[u64; 2]>,
) -> io::Result<()> {
    text.extend_from_slice(b"{\"log\":");
    serde_json::to_writer(&mut *text, line)?;
    write!(text, ",\"stream\":\"{}\",\"time\":\"{now}\",\"end\":{end}", source.name())?;
    if let Some([stdout, stderr]) = after {
        write!(text, ",\"after\":[{stdout},{stderr}]")?;
    }
    writeln!(text, "}}")
}

fn since(directory: &Path, source: Source, from: u64) -> io::Result<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        log: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        stream: std::borrow::Cow<'a, str>,
        end: u64,
    }
    let (mut parts, mut room) = (Vec::new(), TAIL);
    for mut file in files::open_all(directory)? {
        let start = file.metadata()?.len().saturating_sub(room);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(room).read_to_end(&mut bytes)?;
        room = room.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        parts.push(bytes);
        if room == 0 {
            break;
        }
    }
    let mut found = Vec::new();
    let (mut known, mut begins) = (from, None);
    for line in parts.iter().rev().flat_map(|bytes| bytes.split(|b| *b == b'\n')) {
        let Ok(line) = serde_json::from_slice::<Whole<'_>>(line) else { continue }; // the first may be cut
        if line.stream != source.name() {
            continue;
        }
        let begins = begins.replace(line.end);
        if line.end <= known {
            continue;
        }
        // Of the line in which it broke off, the rest. Of the others all: a text has another length than what was said
        // where that is not UTF-8.
        let is_whole = known == 0 || begins.is_some_and(|begins| known <= begins);
        let rest = if is_whole { usize::MAX } else { usize::try_from(line.end - known).unwrap_or(usize::MAX) };
        let text = line.log.as_bytes();
        found.extend_from_slice(&text[text.len().saturating_sub(rest)..]);
        known = line.end;
    }
    Ok(found)
}

/// Returns the length of the first line of `bytes`, its newline included, if it is whole or must be split.
fn next_line(bytes: &[u8], last: bool) -> Option<usize> {
    let window = &bytes[..bytes.len().min(LONGEST_LINE)];
    match window.iter().position(|b| *b == b'\n') {
        Some(i) => Some(i + 1),
        None if window.len() == LONGEST_LINE => Some(split_at(window)),
        None if last && !window.is_empty() => Some(window.len()),
        None => None,
    }
}

/// Returns where to split a long line: before a character that would be torn, if it is UTF-8.
fn split_at(window: &[u8]) -> usize {
    match std::str::from_utf8(window) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => window.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: LogPolicy = LogPolicy { kept: true, max_size: None, max_files: 1 };
    const NOW: &str = "2026-01-02T03:04:05.000000006Z";

    fn texts(path: &Path) -> Vec<(String, String, u64)> {
        let text = std::fs::read_to_string(path).expect("the log");
        text.lines()
            .map(|l| {
                let v: serde_json::Value = serde_json::from_str(l).expect("JSON");
                let field = |k: &str| v[k].as_str().expect("text").to_owned();
                (field("stream"), field("log"), v["end"].as_u64().expect("a number"))
            })
            .collect()
    }

    #[test]
    fn only_whole_lines_are_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        assert_eq!(log.append(Source::Stdout, 0, b"one\ntw", false, NOW, &mut Vec::new()).expect("written"), 4);
        assert_eq!(log.append(Source::Stdout, 4, b"two\n\xff\n", false, NOW, &mut Vec::new()).expect("written"), 6);
        assert_eq!(log.append(Source::Stderr, 0, b"bye", true, NOW, &mut Vec::new()).expect("written"), 3);
        assert_eq!(
            texts(&path),
            [
                ("stdout".into(), "one\n".into(), 4),
                ("stdout".into(), "two\n".into(), 8),
                ("stdout".into(), "\u{fffd}\n".into(), 10),
                ("stderr".into(), "bye".into(), 3)
            ]
        );
    }

    #[test]
    fn what_was_logged_before_a_crash_is_not_logged_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        Log::open(dir.path(), KEPT)
            .expect("opened")
            .append(Source::Stdout, 0, b"a\nb\n", false, NOW, &mut Vec::new())
            .expect("written");
        std::fs::write(&path, [std::fs::read(&path).expect("read"), b"{\"log\":\"half".to_vec()].concat())
            .expect("torn");
        let mut log = Log::open(dir.path(), KEPT).expect("opened again");
        assert_eq!(log.end(Source::Stdout), 4);
        assert_eq!(log.append(Source::Stdout, 0, b"a\nb\nc\n", false, NOW, &mut Vec::new()).expect("written"), 6);
        let lines: Vec<_> = texts(&path).into_iter().map(|t| t.1).collect();
        assert_eq!(lines, ["a\n", "b\n", "c\n"]);
    }

    #[test]
    fn what_a_client_lacks_is_found_in_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        log.append(Source::Stdout, 0, b"one\ntwo\n", false, NOW, &mut Vec::new()).expect("written");
        log.append(Source::Stderr, 0, b"other\n", false, NOW, &mut Vec::new()).expect("written");
        log.append(Source::Stdout, 8, b"th\xff\xff\n", false, NOW, &mut Vec::new()).expect("written");
        let last = "th\u{fffd}\u{fffd}\n";
        let rests =
            [(0, "one\ntwo\n"), (4, "two\n"), (6, "o\n"), (8, "")].map(|(from, rest)| (from, format!("{rest}{last}")));
        for (from, rest) in rests.into_iter().chain([(13, String::new()), (99, String::new())]) {
            let found = since(dir.path(), Source::Stdout, from).expect("read");
            assert_eq!(String::from_utf8(found).expect("text"), rest, "{from}");
        }
    }

    #[test]
    fn a_large_log_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        Log::open(dir.path(), KEPT)
            .expect("opened")
            .append(Source::Stderr, 0, b"early\n", false, NOW, &mut Vec::new())
            .expect("written");
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_len(1 << 40).expect("a sparse file"); // reading this would take all memory
        drop(file);
        let file = OpenOptions::new().append(true).open(&path).expect("opened");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        (log.file, log.size, log.ends) = (Some(file), 1 << 40, [7, 0]);
        log.append(Source::Stdout, 7, b"\nlate\n", false, NOW, &mut Vec::new()).expect("written");
        let mut log = Log::open(dir.path(), KEPT).expect("opened again");
        assert_eq!((log.end(Source::Stdout), log.end(Source::Stderr)), (13, 0));
        assert_eq!(log.append(Source::Stderr, 6, b"more\n", false, NOW, &mut Vec::new()).expect("written"), 5);
        assert_eq!(log.end(Source::Stderr), 11);
    }

    #[test]
    fn very_many_short_lines_are_written_in_several_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        let (bytes, mut text, mut from, mut goes) = ([b'\n'; 64 << 10], Vec::new(), 0, 0);
        while from < bytes.len() {
            let at = u64::try_from(from).expect("small");
            from += log.append(Source::Stdout, at, &bytes[from..], false, NOW, &mut text).expect("written");
            assert!(text.len() < AT_ONCE + 200, "{}", text.len());
            goes += 1;
        }
        assert!(goes > 10);
        let lines = texts(&path);
        assert_eq!((lines.len(), lines.last().expect("a line").2), (bytes.len(), 64 << 10));
    }

    #[test]
    fn what_a_full_disk_refused_is_said_when_there_is_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        log.append(Source::Stdout, 0, b"one\n", false, NOW, &mut Vec::new()).expect("written");
        let full = File::options().write(true).open("/dev/full").expect("there");
        let file = log.file.replace(full);
        let full = log.append(Source::Stdout, 4, b"two\n", false, NOW, &mut Vec::new()).expect_err("it is full");
        log.lose(Source::Stdout, 8, &full);
        log.lose(Source::Stdout, 11, &full);
        assert!(log.has_lost() && log.tell_lost(NOW).is_err() && log.has_lost());
        log.file = file;
        log.append(Source::Stdout, 11, b"three\n", false, NOW, &mut Vec::new()).expect("written");
        assert!(!log.has_lost());
        let said = "hoist: 7 bytes of output are missing here: \
                    the log could not be written (No space left on device (os error 28))\n";
        let expected = [("one\n", 4), (said, 11), ("three\n", 17)];
        assert_eq!(texts(&path), expected.map(|(text, end)| ("stdout".to_owned(), text.to_owned(), end)));
        // Nobody says anything any more: it is told all the same.
        log.lose(Source::Stderr, 5, &full);
        log.tell_lost(NOW).expect("written");
        assert_eq!(texts(&path).last().map(|t| (t.0.clone(), t.2)), Some(("stderr".to_owned(), 5)));
    }

    /// Returns the text of every file, the oldest first.
    fn by_file(directory: &Path) -> Vec<String> {
        let mut found = files::open_all(directory).expect("opened");
        found.reverse();
        let text = |file: File| io::read_to_string(file).expect("text");
        found.into_iter().map(text).collect()
    }

    /// Returns what the lines of a text say.
    fn said(text: &str) -> String {
        let entry = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines().map(|line| entry(line)["log"].as_str().expect("text").trim().to_owned() + " ").collect()
    }

    #[test]
    fn lines_go_on_in_new_files_and_the_oldest_go() {
        for (count, expected) in [(1, &["19 "][..]), (3, &["11 12 13 14 ", "15 16 17 18 ", "19 "])] {
            let dir = tempfile::tempdir().expect("a directory");
            let small = LogPolicy { kept: true, max_size: Some(360), max_files: count };
            let mut log = Log::open(dir.path(), small).expect("opened");
            let all: String = (0..20).map(|n| format!("{n:02}\n")).collect();
            assert_eq!(log.append(Source::Stderr, 0, b"err\n", false, NOW, &mut Vec::new()).expect("written"), 4);
            // Whatever happens between two lines: it goes on where it was, with what the other stream had, too.
            let mut from = 0;
            while from < all.len() {
                let bytes = &all.as_bytes()[from..all.len().min(from + 6)];
                let at = u64::try_from(from).expect("small");
                from += log.append(Source::Stdout, at, bytes, false, NOW, &mut Vec::new()).expect("written");
                log = Log::open(dir.path(), small).expect("opened again");
                assert_eq!(log.replaced_before.take().is_some(), count == 1);
                assert_eq!((log.end(Source::Stdout), log.end(Source::Stderr)), (from as u64, 4));
                assert_eq!(log.append(Source::Stderr, 0, b"err\n", false, NOW, &mut Vec::new()).expect("known"), 4);
            }
            let shown: Vec<String> = by_file(dir.path()).iter().map(|text| said(text)).collect();
            assert_eq!(shown, expected);
            for text in by_file(dir.path()) {
                assert!(text.len() <= 360, "{text}");
                assert!(text.lines().next().expect("a line").contains("\"after\":["), "{text}");
            }
            assert_eq!(since(dir.path(), Source::Stdout, 57).expect("read"), b"19\n");
        }
    }

    #[test]
    fn a_file_whose_first_line_never_came_does_not_hide_what_was_logged() {
        let dir = tempfile::tempdir().expect("a directory");
        let small = LogPolicy { kept: true, max_size: Some(100), max_files: 2 };
        let mut log = Log::open(dir.path(), small).expect("opened");
        log.append(Source::Stdout, 0, b"one\ntwo\n", false, NOW, &mut Vec::new()).expect("written");
        drop(log);
        files::make_room(dir.path(), 2).expect("room");
        fs::write(files::next_file(dir.path()), "{\"log\":\"three").expect("half written");
        let mut log = Log::open(dir.path(), small).expect("opened again");
        assert_eq!(log.end(Source::Stdout), 8);
        assert_eq!(log.append(Source::Stdout, 4, b"two\nthree\n", false, NOW, &mut Vec::new()).expect("written"), 10);
        let shown: String = by_file(dir.path()).iter().map(|text| said(text)).collect();
        assert_eq!(shown, "two three ");
        assert!(!files::next_file(dir.path()).exists());
    }

    #[test]
    fn another_policy_holds_from_the_next_line_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        let write = |log: &mut Log, from: u64, text: &[u8]| {
            let taken = log.append(Source::Stdout, from, text, false, NOW, &mut Vec::new()).expect("written");
            assert_eq!(taken, text.len());
        };
        let shown = || -> Vec<String> { by_file(dir.path()).iter().map(|text| said(text)).collect() };
        write(&mut log, 0, b"one\ntwo\n");
        log.follow(LogPolicy { max_size: Some(1), ..KEPT });
        log.replaced_before = None;
        write(&mut log, 8, b"three\n");
        assert_eq!(shown(), ["three "]);
        log.follow(LogPolicy { max_size: Some(1), max_files: 3, ..KEPT });
        assert!(log.replaced.is_none());
        write(&mut log, 14, b"four\nfive\nsix\n");
        assert_eq!(shown(), ["four ", "five ", "six "]);
        log.follow(LogPolicy { max_files: 3, ..KEPT });
        write(&mut log, 28, b"seven\neight\n");
        assert_eq!(shown(), ["four ", "five ", "six seven eight "]);
        // A process that is killed between two files under one policy is followed by one with the other.
        files::make_room(dir.path(), 3).expect("room");
        let log = Log::open(dir.path(), KEPT).expect("opened again");
        assert_eq!(log.end(Source::Stdout), 40);
    }

    #[test]
    fn a_line_that_is_longer_than_a_file_has_one_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let tiny = LogPolicy { kept: true, max_size: Some(1), max_files: 3 };
        let mut log = Log::open(dir.path(), tiny).expect("opened");
        log.append(Source::Stdout, 0, b"one\ntwo\nthree\nfour\n", false, NOW, &mut Vec::new()).expect("written");
        let shown: Vec<String> = by_file(dir.path()).iter().map(|text| said(text)).collect();
        assert_eq!(shown, ["two ", "three ", "four "]);
    }

    #[test]
    fn a_file_that_is_read_is_waited_for_and_not_for_ever() {
        for count in [1, 2] {
            let dir = tempfile::tempdir().expect("a directory");
            let tiny = LogPolicy { kept: true, max_size: Some(1), max_files: count };
            let mut log = Log::open(dir.path(), tiny).expect("opened");
            let append = |log: &mut Log, text: &str, from: usize| {
                let bytes = text.as_bytes();
                log.append(Source::Stdout, from as u64, bytes, false, NOW, &mut Vec::new()).expect("written")
            };
            assert_eq!(append(&mut log, "one\n", 0), 4);
            let reader = File::open(files::file(dir.path(), 0)).expect("opened");
            files::begin_reading(&reader).expect("locked");
            assert_eq!(append(&mut log, "two\n", 4), 4, "the file is there yet, or open");
            assert_eq!((append(&mut log, "three\n", 8), log.is_held()), (0, true));
            assert_eq!((append(&mut log, "three\n", 8), log.is_held()), (0, true));
            log.held_since = Some(Instant::now() - PATIENCE);
            assert_eq!((append(&mut log, "three\n", 8), log.is_held()), (6, false));
            drop(reader);
            let reader = File::open(files::file(dir.path(), 0)).expect("opened");
            files::begin_reading(&reader).expect("locked");
            assert_eq!(append(&mut log, "four\n", 14), 5);
            assert_eq!((append(&mut log, "five\n", 19), log.is_held()), (0, true), "another reader has its time");
            drop(reader);
            assert_eq!((append(&mut log, "five\n", 19), log.is_held()), (5, false));
        }
    }

    #[test]
    fn who_was_at_a_file_that_an_earlier_process_replaced_has_its_time_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let tiny = LogPolicy { kept: true, max_size: Some(1), max_files: 1 };
        let append = |log: &mut Log, text: &str, from: u64| {
            log.append(Source::Stdout, from, text.as_bytes(), false, NOW, &mut Vec::new()).expect("written")
        };
        append(&mut Log::open(dir.path(), tiny).expect("opened"), "one\n", 0);
        let mut log = Log::open(dir.path(), tiny).expect("opened again");
        assert_eq!((append(&mut log, "two\n", 4), log.is_held()), (0, true));
        let reader = File::open(files::file(dir.path(), 0)).expect("opened");
        files::begin_reading(&reader).expect("locked");
        assert_eq!((append(&mut log, "two\n", 4), log.is_held()), (4, false), "it has come to this one");
        drop((log, reader));
        let mut log = Log::open(dir.path(), tiny).expect("opened again");
        assert_eq!((append(&mut log, "three\n", 8), log.is_held()), (0, true));
        log.replaced_before = Some(Instant::now());
        assert_eq!((append(&mut log, "three\n", 8), log.is_held()), (6, false), "nobody has come");
    }

    #[test]
    fn long_lines_are_split_and_characters_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(dir.path(), KEPT).expect("opened");
        let long = format!("{}ä{}\n", "x".repeat(LONGEST_LINE - 1), "y".repeat(10));
        assert_eq!(
            log.append(Source::Stdout, 0, long.as_bytes(), false, NOW, &mut Vec::new()).expect("written"),
            long.len()
        );
        let parts: Vec<_> = texts(&path).into_iter().map(|t| t.1).collect();
        assert_eq!(parts.concat(), long);
        assert_eq!(parts.len(), 2);
    }
}
