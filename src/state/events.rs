//! What has happened to containers, as lines in a file of the engine: what `hoist events` tells.
//!
//! `run/events` lies on a tmpfs, with room for some thousand events; when it is full it becomes `events.before`, and a new
//! one begins. It survives the death of any process of ours and the removal of any project, and goes with a reboot, as the
//! containers' processes do.
//!
//! **Several write it**: every project's worker tells what its containers do, commands what they create and remove. A line is
//! one write(2) to a file opened for appending, which the kernel does not mix with another's, and begins and ends with a new
//! line, so that one that was cut short by a full file system spoils no other. Nobody ever waits for anybody: whoever finds
//! the file full tries the lock that only such renames take, and leaves it to the other who has it.
//!
//! **Each thing is told once.** A worker tells what a status says beyond what it has told ([`Told`]), after the status was
//! written. One that takes over reads here what was told, and tells the rest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::record::{ContainerRecord, ContainerStatus, Health, State as Life};
use crate::fault;
use crate::name::{ContainerId, ProjectName, ServiceName};
use crate::paths::Paths;

/// How large the file may get before a new one begins.
const LIMIT: u64 = 512 << 10;

/// One thing that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When: nanoseconds since the epoch.
    pub time: i64,
    /// The container's project.
    pub project: ProjectName,
    /// Its service.
    pub service: ServiceName,
    /// Which.
    pub id: ContainerId,
    /// `run` made it.
    #[serde(default)]
    pub one_off: bool,
    /// What.
    pub action: Action,
    /// Image, name and labels of the container, without Compose's, and what belongs to the action.
    pub attributes: BTreeMap<String, String>,
    /// The start that it belongs to, as its status has it: nanoseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
}

/// What happened, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was made.
    Create,
    /// Its program runs.
    Start,
    /// Its program has ended.
    Die,
    /// It has ended because somebody asked.
    Stop,
    /// It was sent a signal.
    Kill,
    /// It was stopped and started by one command.
    Restart,
    /// Its processes are held.
    Pause,
    /// They go on.
    Unpause,
    /// The kernel has killed processes of it, for want of memory.
    Oom,
    /// Its health check has changed its mind.
    #[serde(rename = "health_status: healthy")]
    Healthy,
    /// The same, to the worse.
    #[serde(rename = "health_status: unhealthy")]
    Unhealthy,
    /// It was removed.
    Destroy,
}

impl Action {
    /// Returns Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Die => "die",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Oom => "oom",
            Self::Healthy => "health_status: healthy",
            Self::Unhealthy => "health_status: unhealthy",
            Self::Destroy => "destroy",
        }
    }
}

impl Happened {
    /// Returns an event of a container, with what Docker says of every one.
    #[must_use]
    pub fn new(record: &ContainerRecord, time: i64, action: Action) -> Self {
        let compose = |name: &str| name.starts_with("com.docker.compose.");
        let labels = record.labels.iter().filter(|(name, _)| !compose(name));
        let mut attributes: BTreeMap<String, String> = labels.map(|(k, v)| (k.clone(), v.clone())).collect();
        attributes.insert("image".to_owned(), record.image.clone());
        attributes.insert("name".to_owned(), record.name.to_string());
        let one_off = record.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True");
        Self {
            time,
            project: record.project.clone(),
            service: record.service.clone(),
            id: record.id.clone(),
            one_off,
            action,
            attributes,
            run: None,
        }
    }

    /// Adds what belongs to the action.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds the start that it belongs to.
    #[must_use]
    pub fn of_run(self, run: Option<i64>) -> Self {
        Self { run, ..self }
    }
}

/// What was told of one container so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The last start that anything was told of.
    run: Option<i64>,
    /// It was told to run, and not to have ended.
    running: bool,
    paused: bool,
    health: Option<Health>,
}

impl Told {
    /// Returns what was told of a container by these events, whatever else they are about.
    #[must_use]
    pub fn by(events: &[Happened], id: &ContainerId) -> Self {
        let mut told = Self::default();
        for event in events.iter().filter(|event| event.id == *id) {
            told.take(event);
        }
        told
    }

    fn take(&mut self, event: &Happened) {
        match event.action {
            Action::Start => *self = Self { run: event.run, running: true, paused: false, health: None },
            Action::Die => *self = Self { run: event.run, ..Self::default() },
            Action::Pause => self.paused = true,
            Action::Unpause => self.paused = false,
            Action::Healthy => self.health = Some(Health::Healthy),
            Action::Unhealthy => self.health = Some(Health::Unhealthy),
            Action::Create | Action::Stop | Action::Kill | Action::Restart | Action::Oom | Action::Destroy => {}
        }
    }

    /// Returns what a status says beyond what was told, in order, and takes it for told.
    pub fn rest(&mut self, record: &ContainerRecord, status: &ContainerStatus, now: i64) -> Vec<Happened> {
        let mut events = Vec::new();
        let run = status.started;
        let mut tell = |told: &mut Self, event: Happened| {
            told.take(&event);
            events.push(event);
        };
        let runs = status.state == Life::Running;
        let ended = matches!(status.state, Life::Exited | Life::Restarting);
        // An earlier run is over, and nobody has seen how.
        if self.running && self.run != run {
            let earlier = self.run;
            tell(self, Happened::new(record, now, Action::Die).of_run(earlier));
        }
        // This one is; when it was not told to run, it never came to, or nobody was there to see it do so.
        if ended && run.is_some() && (self.running || self.run != run) {
            if status.out_of_memory.is_some() {
                tell(self, Happened::new(record, now, Action::Oom).of_run(run));
            }
            let mut die = Happened::new(record, now, Action::Die).of_run(run);
            if let Some(code) = status.exit_code {
                die = die.with("exitCode", code);
            }
            if let (Some(begin), Some(end)) = (run, status.finished) {
                die = die.with("execDuration", end.saturating_sub(begin).max(0) / 1_000_000_000);
            }
            tell(self, die);
            if status.stopped_by_user {
                tell(self, Happened::new(record, now, Action::Stop).of_run(run));
            }
        }
        if !runs {
            return events;
        }
        if self.run != run || !self.running {
            tell(self, Happened::new(record, now, Action::Start).of_run(run));
        }
        if self.paused != status.paused {
            let action = if status.paused { Action::Pause } else { Action::Unpause };
            tell(self, Happened::new(record, now, action).of_run(run));
        }
        if self.health != status.health {
            let action = match status.health {
                Some(Health::Healthy) => Some(Action::Healthy),
                Some(Health::Unhealthy) => Some(Action::Unhealthy),
                Some(Health::Starting) | None => None,
            };
            if let Some(action) = action {
                tell(self, Happened::new(record, now, action).of_run(run));
            }
        }
        events
    }
}

/// Writes an event down. One that finds no room is lost: nothing may fail for it.
pub fn tell(paths: &Paths, event: &Happened) {
    if let Err(e) = try_tell(paths, event, LIMIT) {
        tracing::debug!("event `{}` of container {}: {e}", event.action.word(), event.id.short());
    }
}

fn try_tell(paths: &Paths, event: &Happened, limit: u64) -> io::Result<()> {
    let path = paths.events();
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, event)?;
    line.push(b'\n');
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let mut file = open()?;
    if file.metadata()?.len() >= limit && begin_anew(paths, &file)? {
        fault::point("events.renamed");
        file = open()?;
    }
    file.write_all(&line)
}

/// Renames a file that is full; returns whether it has another name now.
fn begin_anew(paths: &Paths, full: &File) -> io::Result<bool> {
    if rustix::fs::flock(full, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false); // another process is at it
    }
    let (path, ours) = (paths.events(), full.metadata()?);
    if fs::metadata(&path).is_ok_and(|there| is_same(&there, &ours)) {
        fs::rename(&path, paths.events_before())?;
    }
    Ok(true)
}

fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Reads events as they come.
#[derive(Debug)]
pub struct Reader {
    paths: Paths,
    /// The file of that name and, when it is the newer, the one before: a line may still come to that.
    files: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// What was read of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Begins with all that there is.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn new(paths: &Paths) -> io::Result<Self> {
        let mut reader = Self { paths: paths.clone(), files: Vec::new() };
        // The newer first: should it be renamed meanwhile, it is met twice and taken once.
        let (newer, before) = (open(&paths.events())?, open(&paths.events_before())?);
        for file in [before, newer].into_iter().flatten() {
            reader.add(file)?;
        }
        Ok(reader)
    }

    fn add(&mut self, file: File) -> io::Result<()> {
        let ours = file.metadata()?;
        for known in &self.files {
            if is_same(&known.file.metadata()?, &ours) {
                return Ok(());
            }
        }
        self.files.push(Open { file, rest: Vec::new() });
        Ok(())
    }

    /// Returns what has come since the last time, each file's in the order in which it was written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Happened>> {
        let mut events = Vec::new();
        for open in &mut self.files {
            open.read(&mut events)?;
        }
        if let Some(file) = open(&self.paths.events())? {
            let before = self.files.len();
            self.add(file)?;
            if self.files.len() > before {
                for open in &mut self.files {
                    open.read(&mut events)?;
                }
                while self.files.len() > 2 {
                    self.files.remove(0);
                }
            }
        }
        Ok(events)
    }

    /// Leaves out all that there is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn skip(&mut self) -> io::Result<()> {
        for open in &mut self.files {
            open.file.seek(SeekFrom::End(0))?;
            open.rest.clear();
        }
        Ok(())
    }
}

impl Open {
    fn read(&mut self, events: &mut Vec<Happened>) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines = self.rest[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
        // A line that was cut short, or that a newer version wrote, is nobody's.
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        self.rest.drain(..whole);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns all that is on record.
///
/// # Errors
/// When it cannot be read.
pub fn all(paths: &Paths) -> Result<Vec<Happened>, super::Error> {
    let read = || Reader::new(paths)?.read();
    read().map_err(|source| super::Error::Read { path: paths.events(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::OutOfMemory;

    fn record() -> ContainerRecord {
        serde_json::from_value(serde_json::json!({
            "id": ContainerId::from_bytes([7; 32]), "name": "shop-web-1", "project": "shop", "service": "web",
            "number": 1, "created": 0, "image": "busybox", "image_id": "", "config_hash": "",
            "labels": {"tier": "front", "com.docker.compose.service": "web"},
            "endpoints": [], "volumes": [], "spec": null, "host_netns": [0, 0],
            "policy": {"restart": "no", "health": null, "stop_signal": 15, "stop_grace_ms": 0, "stdin_open": false},
        }))
        .expect("a record")
    }

    fn status(state: Life, started: i64) -> ContainerStatus {
        let mut status = ContainerStatus::created(record().id);
        status.state = state;
        status.started = Some(started);
        status
    }

    /// Tells what each status adds; returns it as words.
    fn told(told: &mut Told, statuses: &[ContainerStatus]) -> String {
        let mut words = Vec::new();
        for status in statuses {
            for event in told.rest(&record(), status, 5_000_000_000) {
                let code = event.attributes.get("exitCode").map(|code| format!("({code})")).unwrap_or_default();
                words.push(format!("{}{code}", event.action.word()));
            }
        }
        words.join(" ")
    }

    #[test]
    fn a_status_tells_each_thing_once() {
        let running = status(Life::Running, 1);
        let healthy = ContainerStatus { health: Some(Health::Healthy), ..running.clone() };
        let paused = ContainerStatus { paused: true, ..healthy.clone() };
        let stopping = ContainerStatus { stopped_by_user: true, ..healthy.clone() };
        let end = |status: &ContainerStatus, state, code| ContainerStatus {
            state,
            exit_code: Some(code),
            finished: Some(2_000_000_001),
            ..status.clone()
        };
        let stopped = end(&stopping, Life::Exited, 143);
        let mut all = Told::default();
        let story = [status(Life::Starting, 1), running.clone(), healthy, paused.clone(), stopping, stopped.clone()];
        assert_eq!(told(&mut all, &story), "start health_status: healthy pause unpause die(143) stop");
        assert_eq!(told(&mut all, &[stopped.clone(), stopped]), "");

        let crashed = end(&running, Life::Restarting, 1);
        let again = status(Life::Running, 3);
        assert_eq!(told(&mut Told::default(), &[running.clone(), crashed, again.clone()]), "start die(1) start");
        // A worker that took over missed an end and a start.
        let mut all = Told::default();
        assert_eq!(told(&mut all, &[running.clone(), again]), "start die start");
        // It never came to run its program.
        let failed = end(&status(Life::Starting, 4), Life::Exited, 127);
        assert_eq!(told(&mut all, &[failed]), "die die(127)");
        let mut hungry = end(&running, Life::Exited, 137);
        hungry.out_of_memory = Some(OutOfMemory { kills: 1, limit: None });
        assert_eq!(told(&mut Told::default(), &[paused, hungry]), "start pause health_status: healthy oom die(137)");
        assert_eq!(told(&mut Told::default(), &[ContainerStatus::created(record().id)]), "");
    }

    #[test]
    fn what_was_told_is_read_back() {
        let run = [status(Life::Running, 1), ContainerStatus { paused: true, ..status(Life::Running, 1) }];
        let mut live = Told::default();
        let mut events = Vec::new();
        for status in &run {
            events.extend(live.rest(&record(), status, 0));
        }
        assert_eq!(Told::by(&events, &record().id), live);
        assert_eq!(Told::by(&events, &ContainerId::from_bytes([8; 32])), Told::default());
        let event = &events[0];
        let text = serde_json::to_string(event).expect("JSON");
        assert_eq!(serde_json::from_str::<Happened>(&text).expect("an event"), *event);
        assert_eq!(event.attributes.keys().collect::<Vec<_>>(), ["image", "name", "tier"], "without Compose's labels");
    }

    #[test]
    fn the_file_is_bounded_and_readers_miss_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(directory.path().join("root"), directory.path());
        let mut early = Reader::new(&paths).expect("nothing is there yet");
        let tell = |n: i64| {
            try_tell(&paths, &Happened::new(&record(), n, Action::Create), 4096).expect("written");
        };
        let mut seen = Vec::new();
        for n in 0..100 {
            tell(n);
            seen.extend(early.read().expect("read").into_iter().map(|event| event.time));
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let kept = all(&paths).expect("read");
        assert!((10..60).contains(&kept.len()), "{} are left", kept.len());
        assert_eq!(kept.last().map(|event| event.time), Some(99));
        assert!(kept.windows(2).all(|pair| pair[0].time + 1 == pair[1].time), "in order");
        for path in [paths.events(), paths.events_before()] {
            assert!(fs::metadata(path).expect("it is there").len() < 8192);
        }
        let mut late = Reader::new(&paths).expect("opened");
        late.skip().expect("skipped");
        // A process was killed while it wrote.
        let mut file = OpenOptions::new().append(true).open(paths.events()).expect("opened");
        file.write_all(b"\n{\"time\":1,\"proj").expect("written");
        tell(100);
        assert_eq!(late.read().expect("read").into_iter().map(|event| event.time).collect::<Vec<_>>(), [100]);
    }
}
