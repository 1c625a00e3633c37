//! A container's output as lines on disk, in the format of Docker's json-file driver plus one field.
//!
//! Each line is `{"log":"text\n","stream":"stdout","time":"…Z","end":N}`: `end` is the number of bytes that the stream
//! had given up to and including this line, so that what a killed worker had logged already is known from the log
//! itself. Lines longer than 16 KiB are split there, as Docker splits them; a text without its newline at the end is the
//! first half of a split line or the last words of a process. Bytes that are not UTF-8 become U+FFFD.
//!
//! When the disk refuses lines they are given up, so that the container does not hang because the disk is full; a line of
//! our own says how many bytes are missing, as soon as there is room for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Longest text of one line in the log.
pub(super) const LONGEST_LINE: usize = 16 << 10;

/// About how much is written at a time: what one container says must not keep the others waiting, nor grow us.
const AT_ONCE: usize = 192 << 10;

/// How much of a log is read to find out what it has: more than one look at each stream, every byte of it escaped.
const TAIL: u64 = 4 << 20;

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
}

/// A log file that is being written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Bytes of each stream that are in the log.
    ends: [u64; 2],
    /// Bytes of each stream that were given up, and that the log does not say yet.
    lost: [u64; 2],
    /// Why they were.
    why: String,
}

impl Log {
    /// Opens or makes the log, cuts off a line that was only half written, and finds out what it has of each stream.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut ends = [0; 2];
        let mut whole = length;
        // The last lines say it. A stream that has been silent for longer counts from 0 again: only bytes that were
        // logged and not taken out of the pipe yet can come twice, and of those there is at most one look's worth, which
        // is at the end of the file. A log can be larger than memory.
        for window in [64 << 10, TAIL] {
            let start = length.saturating_sub(window);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(window).read_to_end(&mut bytes)?;
            let cut = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            whole = start + u64::try_from(cut).unwrap_or(0);
            ends = [0; 2];
            for line in bytes[..cut].split(|b| *b == b'\n') {
                if let Ok(line) = serde_json::from_slice::<Line>(line)
                    && let Some(source) = Source::BOTH.iter().find(|s| s.name() == line.stream)
                {
                    ends[source.index()] = line.end;
                }
            }
            if start == 0 || ends.iter().all(|e| *e > 0) {
                break;
            }
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        Ok(Self { file, ends, lost: [0; 2], why: String::new() })
    }

    /// Returns how many bytes of a stream are in the log.
    pub(super) fn end(&self, source: Source) -> u64 {
        self.ends[source.index()]
    }

    /// Writes what is whole of `bytes`, the next bytes of a stream after offset `from`, stamped `now`; returns how many
    /// bytes are in the log now or were before. With `last` a line without its newline counts as whole. At most about
    /// [`AT_ONCE`] is written, made in `text`; the rest is for the next time.
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
        self.say_what_is_lost(source, now, text)?;
        while text.len() < AT_ONCE
            && let Some(length) = next_line(&bytes[taken..], last)
        {
            let line = String::from_utf8_lossy(&bytes[taken..taken + length]);
            taken += length;
            end += u64::try_from(length).unwrap_or(0);
            put_line(text, &line, source, now, end)?;
        }
        if !text.is_empty() {
            self.write(text)?;
            self.ends[source.index()] = end;
            self.lost[source.index()] = 0;
        }
        Ok(taken)
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
        put_line(text, &line, source, now, self.end(source))
    }

    /// Writes whole lines or nothing.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let start = self.file.stream_position()?;
        self.file.write_all(text).inspect_err(|_| {
            let _ = self.file.set_len(start); // no half line stays; the bytes are still in the pipe
            let _ = self.file.seek(SeekFrom::Start(start));
        })
    }
}

/// Adds a line of the log to `text`.
fn put_line(text: &mut Vec<u8>, line: &str, source: Source, now: &str, end: u64) -> io::Result<()> {
    text.extend_from_slice(b"{\"log\":");
    serde_json::to_writer(&mut *text, line)?;
    writeln!(text, ",\"stream\":\"{}\",\"time\":\"{now}\",\"end\":{end}}}", source.name())
}

/// Returns the bytes of a stream behind offset `from` that are in the log: for a client whose worker was killed, so it is
/// little. Bytes that are not UTF-8 are in the log as U+FFFD.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn since(path: &Path, source: Source, from: u64) -> io::Result<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        log: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        stream: std::borrow::Cow<'a, str>,
        end: u64,
    }
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let mut found = Vec::new();
    let mut known = from;
    for line in bytes.split(|b| *b == b'\n') {
        let Ok(line) = serde_json::from_slice::<Whole<'_>>(line) else { continue }; // the first may be cut
        if line.stream != source.name() || line.end <= known {
            continue;
        }
        // Of the line in which it broke off, the rest.
        let rest = usize::try_from(line.end - known).unwrap_or(usize::MAX);
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
        let mut log = Log::open(&path).expect("opened");
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
        Log::open(&path)
            .expect("opened")
            .append(Source::Stdout, 0, b"a\nb\n", false, NOW, &mut Vec::new())
            .expect("written");
        std::fs::write(&path, [std::fs::read(&path).expect("read"), b"{\"log\":\"half".to_vec()].concat())
            .expect("torn");
        let mut log = Log::open(&path).expect("opened again");
        assert_eq!(log.end(Source::Stdout), 4);
        assert_eq!(log.append(Source::Stdout, 0, b"a\nb\nc\n", false, NOW, &mut Vec::new()).expect("written"), 6);
        let lines: Vec<_> = texts(&path).into_iter().map(|t| t.1).collect();
        assert_eq!(lines, ["a\n", "b\n", "c\n"]);
    }

    #[test]
    fn what_a_client_lacks_is_found_in_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(&path).expect("opened");
        log.append(Source::Stdout, 0, b"one\ntwo\n", false, NOW, &mut Vec::new()).expect("written");
        log.append(Source::Stderr, 0, b"other\n", false, NOW, &mut Vec::new()).expect("written");
        log.append(Source::Stdout, 8, b"three\n", false, NOW, &mut Vec::new()).expect("written");
        for (from, rest) in [(0, "one\ntwo\nthree\n"), (4, "two\nthree\n"), (6, "o\nthree\n"), (14, ""), (99, "")] {
            let found = since(&path, Source::Stdout, from).expect("read");
            assert_eq!(String::from_utf8(found).expect("text"), rest, "{from}");
        }
    }

    #[test]
    fn a_large_log_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        Log::open(&path)
            .expect("opened")
            .append(Source::Stderr, 0, b"early\n", false, NOW, &mut Vec::new())
            .expect("written");
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_len(1 << 40).expect("a sparse file"); // reading this would take all memory
        let mut log = Log { file, ends: [7, 0], lost: [0; 2], why: String::new() };
        log.file.seek(SeekFrom::End(0)).expect("the end");
        log.append(Source::Stdout, 7, b"\nlate\n", false, NOW, &mut Vec::new()).expect("written");
        let mut log = Log::open(&path).expect("opened again");
        assert_eq!((log.end(Source::Stdout), log.end(Source::Stderr)), (13, 0));
        assert_eq!(log.append(Source::Stderr, 6, b"more\n", false, NOW, &mut Vec::new()).expect("written"), 5);
        assert_eq!(log.end(Source::Stderr), 11);
    }

    #[test]
    fn very_many_short_lines_are_written_in_several_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(&path).expect("opened");
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
        let mut log = Log::open(&path).expect("opened");
        log.append(Source::Stdout, 0, b"one\n", false, NOW, &mut Vec::new()).expect("written");
        let file = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").expect("there"));
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

    #[test]
    fn long_lines_are_split_and_characters_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("json.log");
        let mut log = Log::open(&path).expect("opened");
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
