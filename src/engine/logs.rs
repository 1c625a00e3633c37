//! Reads what containers wrote: the log files of the supervisors, in order of time, and what comes after.
//!
//! A file holds one JSON object a line: `log` (text, with its newline if the line ended), `stream`, `time` (RFC 3339,
//! nanoseconds, UTC). A line that was too long for one object goes on in the next one. A log may have several files, which
//! move while they are read: see `state/logs.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{self, PollFd, PollFlags};
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::diag::Report;
use crate::engine::Engine;
use crate::engine::actual::{Actual, ActualContainer};
use crate::engine::backend::Backend;
use crate::name::{ContainerId, ProjectName, ServiceName};
use crate::paths::Paths;
use crate::state::logs as files;
use crate::state::record::{ContainerRecord, ContainerStatus, State};

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
}

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line.
    Line(Line),
    /// A container ended.
    Exited {
        /// Short name of the container.
        label: String,
        /// Its service.
        service: ServiceName,
        /// Its exit code, if anybody saw it.
        code: Option<i32>,
        /// The restart policy starts it again.
        restarting: bool,
        /// The kernel killed processes of it for want of memory.
        out_of_memory: bool,
    },
}

/// One line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Short name of the container: without the project.
    pub label: String,
    /// Its service.
    pub service: ServiceName,
    /// Which output.
    pub stream: Stream,
    /// When, as written.
    pub time: String,
    /// The text without its newline.
    pub text: String,
}

impl Item {
    /// Returns the service that it is about.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Line(line) => &line.service,
            Self::Exited { service, .. } => service,
        }
    }
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The services; none is all.
    pub services: Vec<String>,
    /// The replicas with this number; `None` is all.
    pub index: Option<u32>,
    /// At most so many of each container's last lines; `None` is all.
    pub tail: Option<usize>,
    /// No lines from before this time, RFC 3339 in UTC with nine digits, as in the files.
    pub since: Option<String>,
    /// No lines from this time on, written in the same way.
    pub until: Option<String>,
    /// Also of containers whose output is not kept, which have no more than the last of it.
    pub unkept: bool,
}

impl Selection {
    fn holds(&self, line: &Line) -> bool {
        self.since.as_ref().is_none_or(|since| line.time >= *since)
            && self.until.as_ref().is_none_or(|until| line.time < *until)
    }
}

/// Returns a time as the files have it: RFC 3339 in UTC with nine digits.
#[must_use]
pub fn time(at: jiff::Timestamp) -> String {
    format!("{at:.9}")
}

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// No container of the selection runs any more.
    AllExited,
    /// It was told to.
    Stopped,
}

/// Returns the container's name as a log line shows it: without the project's prefix.
#[must_use]
pub fn label(project: &ProjectName, name: &str) -> String {
    name.strip_prefix(project.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name).to_owned()
}

impl<B: Backend> Engine<B> {
    /// Returns the labels of the selected containers, for the width of the prefix.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn log_labels(&self, project: &ProjectName, selection: &Selection) -> Result<Vec<String>, Report> {
        let actual = self.backend().observe(project)?;
        Ok(selected(&actual, selection).map(|c| label(project, c.record.name.as_str())).collect())
    }

    /// Returns the names of the selected containers whose output is not kept.
    ///
    /// # Errors
    /// When what exists cannot be read.
    pub fn unkept(&self, project: &ProjectName, selection: &Selection) -> Result<Vec<String>, Report> {
        let actual = self.backend().observe(project)?;
        let all = Selection { unkept: true, ..selection.clone() };
        let unkept = selected(&actual, &all).filter(|c| !c.record.policy.log.kept);
        Ok(unkept.map(|c| c.record.name.to_string()).collect())
    }

    /// Shows the lines that are there, over all containers in order of time.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn logs(&self, project: &ProjectName, selection: &Selection, show: &mut dyn FnMut(Item)) -> Result<(), Report> {
        let actual = self.backend().observe(project)?;
        let mut readers = Readers::new(project, self.backend().paths(), selection);
        readers.add(&actual);
        readers.read(show)?;
        readers.flush(show);
        Ok(())
    }

    /// Shows the lines that are there and those that come, of new and restarted containers too, until no selected
    /// container runs or `stop` is ready.
    ///
    /// # Errors
    /// When a file or a status cannot be read.
    pub async fn follow(
        &self,
        project: &ProjectName,
        selection: &Selection,
        show: &mut dyn FnMut(Item),
        stop: impl Future<Output = ()>,
    ) -> Result<End, Report> {
        let mut readers = Readers::new(project, self.backend().paths(), selection);
        let watch = Watch::new().map_err(|e| Report::message(format!("cannot watch log files: {e}")))?;
        let mut stop = std::pin::pin!(stop);
        let mut known: Vec<ContainerStatus> = Vec::new();
        let mut first = true;
        let since = selection.since.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        loop {
            let actual = self.backend().observe(project)?;
            readers.add(&actual);
            for container in selected(&actual, selection) {
                watch.add(&files::directory(self.backend().paths(), &container.record));
            }
            let mut statuses: Vec<ContainerStatus> = actual.containers.iter().map(|c| c.status.clone()).collect();
            statuses.sort_by(|a, b| a.id.cmp(&b.id));
            readers.read(show)?;
            if first {
                // Of the ends before this only those count that belong to what is shown.
                let earlier = |s: &&ContainerStatus| s.finished.map(i128::from) < since.map(|t| t.as_nanosecond());
                known = statuses.iter().filter(|s| since.is_none() || earlier(s)).cloned().collect();
            }
            readers.tell_ends(&known, &statuses, show);
            first = false;
            known = statuses;
            if !selected(&actual, selection).any(|c| c.is_up()) {
                readers.read(show)?;
                readers.flush(show);
                return Ok(End::AllExited);
            }
            let mut changed = std::pin::pin!(self.backend().changed(project, &known));
            loop {
                tokio::select! {
                    biased;
                    () = &mut stop => return Ok(End::Stopped),
                    result = &mut changed => {
                        result?;
                        break;
                    }
                    () = watch.wait() => readers.read(show)?,
                }
            }
        }
    }
}

/// Returns the last lines that a container wrote, of those since a time in nanoseconds since the epoch.
///
/// # Errors
/// When its log cannot be read.
pub(super) fn last_lines(
    paths: &Paths,
    record: &ContainerRecord,
    count: usize,
    since: i64,
) -> Result<Vec<String>, Report> {
    let since = jiff::Timestamp::from_nanosecond(since.into()).ok().map(time);
    let selection = Selection { since, ..Selection::default() };
    let directory = files::directory(paths, record);
    let mut reader = Reader::new(String::new(), record.service.clone(), directory, Some(count));
    reader.begin();
    let mut lines = Vec::new();
    while reader.next_place(&selection)?.is_some() {
        lines.extend(reader.queue.drain(..).map(|(_, line)| line.text));
    }
    lines.extend(reader.flush(&selection).map(|line| line.text));
    Ok(lines)
}

fn selected<'a>(actual: &'a Actual, selection: &'a Selection) -> impl Iterator<Item = &'a ActualContainer> {
    let Selection { services, index, unkept, .. } = selection;
    let named =
        move |c: &ActualContainer| services.is_empty() || services.iter().any(|s| s == c.record.service.as_str());
    let meant = move |c: &&ActualContainer| named(c) && index.is_none_or(|index| index == c.record.number);
    actual.containers.iter().filter(|c| !c.is_one_off()).filter(meant).filter(|c| *unkept || c.record.policy.log.kept)
}

/// Tells when something changes in a directory: a thread that sleeps in poll(2) wakes the one that shows.
pub(super) struct Watch {
    inotify: Arc<OwnedFd>,
    /// Written to when the thread shall end.
    end: Arc<OwnedFd>,
    woken: Arc<Notify>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?);
        let end = Arc::new(event::eventfd(0, event::EventfdFlags::CLOEXEC)?);
        let watch = Self { inotify, end, woken: Arc::new(Notify::new()) };
        let (inotify, end, woken) = (watch.inotify.clone(), watch.end.clone(), watch.woken.clone());
        std::thread::Builder::new().name("log-watch".into()).spawn(move || {
            let mut fds = [PollFd::new(&inotify, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
            let mut buffer = [0_u8; 4096];
            while matches!(event::poll(&mut fds, None), Ok(_) | Err(rustix::io::Errno::INTR)) {
                if fds[1].revents().contains(PollFlags::IN) {
                    break;
                }
                while rustix::io::read(&inotify, &mut buffer).is_ok_and(|n| n > 0) {}
                woken.notify_one();
            }
        })?;
        Ok(watch)
    }

    /// A directory that is gone again has nothing to tell.
    pub(super) fn add(&self, dir: &Path) {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        if let Err(error) = inotify::add_watch(&*self.inotify, dir, flags) {
            tracing::debug!(%error, dir = %dir.display(), "not watched");
        }
    }

    pub(super) async fn wait(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&*self.end, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the log watch ends with the process");
        }
    }
}

/// The files of all selected containers.
struct Readers<'a> {
    project: &'a ProjectName,
    paths: &'a Paths,
    selection: &'a Selection,
    readers: BTreeMap<ContainerId, Reader>,
    seen: BTreeSet<ContainerId>,
}

impl<'a> Readers<'a> {
    fn new(project: &'a ProjectName, paths: &'a Paths, selection: &'a Selection) -> Self {
        Self { project, paths, selection, readers: BTreeMap::new(), seen: BTreeSet::new() }
    }

    fn add(&mut self, actual: &Actual) {
        let first = self.seen.is_empty();
        for container in selected(actual, self.selection) {
            let id = &container.record.id;
            if self.seen.insert(id.clone()) {
                let label = label(self.project, container.record.name.as_str());
                // Containers that come later are shown from their first line.
                let tail = self.selection.tail.filter(|_| first);
                self.readers.insert(
                    id.clone(),
                    Reader::new(
                        label,
                        container.record.service.clone(),
                        files::directory(self.paths, &container.record),
                        tail,
                    ),
                );
            }
        }
    }

    fn read(&mut self, show: &mut dyn FnMut(Item)) -> Result<(), Report> {
        let mut readers: Vec<&mut Reader> = self.readers.values_mut().collect();
        // The place of each reader's next line, the first of them on top; those of one time in the order of the readers.
        let mut next = BinaryHeap::new();
        for (number, reader) in readers.iter_mut().enumerate() {
            reader.begin();
            next.extend(reader.next_place(self.selection)?.map(|place| Reverse((place, number))));
        }
        while let Some(Reverse((_, number))) = next.pop() {
            let reader = &mut readers[number];
            if let Some((_, line)) = reader.queue.pop_front() {
                show(Item::Line(line));
            }
            next.extend(reader.next_place(self.selection)?.map(|place| Reverse((place, number))));
        }
        Ok(())
    }

    /// Shows last lines that have no newline.
    fn flush(&mut self, show: &mut dyn FnMut(Item)) {
        for reader in self.readers.values_mut() {
            reader.flush(self.selection).for_each(|line| show(Item::Line(line)));
        }
    }

    fn tell_ends(&mut self, known: &[ContainerStatus], now: &[ContainerStatus], show: &mut dyn FnMut(Item)) {
        for status in now {
            let Some(reader) = self.readers.get_mut(&status.id) else { continue };
            let before = known.iter().find(|k| k.id == status.id);
            if status.finished.is_some() && before.is_none_or(|b| b.finished != status.finished) {
                reader.flush(self.selection).for_each(|line| show(Item::Line(line)));
                let restarting = status.state != State::Exited;
                show(Item::Exited {
                    label: reader.label.clone(),
                    service: reader.service.clone(),
                    code: status.exit_code,
                    restarting,
                    out_of_memory: status.out_of_memory.is_some(),
                });
            }
        }
    }
}

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
struct Reader {
    label: String,
    service: ServiceName,
    directory: PathBuf,
    tail: Option<usize>,
    file: Option<Open>,
    /// The newest file when the reading began, and how much of it was there.
    until: Option<(u64, u64)>,
    /// Lines that were read and wait for those of other containers, with their places.
    queue: VecDeque<(String, Line)>,
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
    fn new(label: String, service: ServiceName, directory: PathBuf, tail: Option<usize>) -> Self {
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
    fn begin(&mut self) {
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
    fn next_place(&mut self, selection: &Selection) -> Result<Option<String>, Report> {
        let error = |path: &Path, e: io::Error| Report::message(format!("cannot read `{}`: {e}", path.display()));
        while self.queue.is_empty() {
            if !self.read(selection).map_err(|e| error(&self.directory, e))? {
                return Ok(None);
            }
        }
        Ok(self.queue.front().map(|(place, _)| place.clone()))
    }

    /// Reads a block; goes on with the next file at the end of an older one. Returns whether there may be more.
    fn read(&mut self, selection: &Selection) -> io::Result<bool> {
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
    fn flush(&mut self, selection: &Selection) -> impl Iterator<Item = Line> {
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

    #[test]
    fn the_label_is_the_name_without_the_project() {
        let project = ProjectName::new("shop").expect("a test name");
        assert_eq!(label(&project, "shop-web-1"), "web-1");
        assert_eq!(label(&project, "own-name"), "own-name");
        assert_eq!(label(&project, "shopper"), "shopper");
    }
}
