//! Reads what containers wrote: the log files of the supervisors, in order of time, and what comes after.
//!
//! A file holds one JSON object a line: `log` (text, with its newline if the line ended), `stream`, `time` (RFC 3339,
//! nanoseconds, UTC). A line that was too long for one object goes on in the next one. A log may have several files, which
//! move while they are read: see `state/logs.rs`.

mod reader;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{self, PollFd, PollFlags};
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::sync::Notify;

use self::reader::Reader;
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
    /// Following goes on when no container runs: some are going to.
    pub stays: bool,
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
            if !selection.stays && !selected(&actual, selection).any(|c| c.is_up()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_the_name_without_the_project() {
        let project = ProjectName::new("shop").expect("a test name");
        assert_eq!(label(&project, "shop-web-1"), "web-1");
        assert_eq!(label(&project, "own-name"), "own-name");
        assert_eq!(label(&project, "shopper"), "shopper");
    }
}
