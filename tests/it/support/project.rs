//! A project on a host of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hoist::state::record::{ContainerRecord, ContainerStatus, NetworkRecord, State, SupervisorRecord};

use super::host::Host;
use super::run::{Run, Running};
use super::{Secs as _, eventually, pause};

/// How long a command may take before the test fails. Far more than any needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct LogLine {
    pub(crate) log: String,
    pub(crate) stream: String,
    pub(crate) time: String,
}

/// A folder with a compose file. When it goes away, so does all that it brought up, or the test fails.
pub(crate) struct TestProject {
    host: Rc<Host>,
    name: String,
    folder: PathBuf,
}

impl TestProject {
    /// Makes a project on a host of its own that has the image `busybox`.
    pub(crate) fn new(name: &str, compose: &str) -> Self {
        Self::with_images(name, &["busybox"], compose)
    }

    /// Makes a project on a host of its own that has these images.
    pub(crate) fn with_images(name: &str, images: &[&str], compose: &str) -> Self {
        Self::on(Rc::new(Host::new(images)), name, compose)
    }

    /// Makes another project on the same host.
    pub(crate) fn beside(&self, name: &str, compose: &str) -> Self {
        Self::on(Rc::clone(&self.host), name, compose)
    }

    /// Makes a project of an example's files.
    pub(crate) fn of_example(name: &str, images: &[&str]) -> Self {
        let project = Self::on(Rc::new(Host::new(images)), name, "");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compose").join(name), &project.folder);
        project
    }

    fn on(host: Rc<Host>, name: &str, compose: &str) -> Self {
        let folder = host.directory().join("projects").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        host.projects.borrow_mut().push((name.to_owned(), folder.clone()));
        let project = Self { host, name: name.to_owned(), folder };
        if !compose.is_empty() {
            project.write("compose.yaml", compose);
        }
        project
    }

    /// Makes the host look once for what was left, instead of waiting for it to go.
    pub(crate) fn be_impatient(&mut self) {
        Rc::get_mut(&mut self.host).expect("one project on the host").patience = Duration::ZERO;
    }

    /// Returns the host.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Returns a path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file in its folder, making directories.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Makes a directory in its folder.
    pub(crate) fn make_dir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).expect("a directory");
    }

    /// Reads a file in its folder.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Returns `hoist` in its folder, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.hoist(&self.folder);
        command.args(arguments);
        command
    }

    /// Runs `hoist` in its folder.
    #[track_caller]
    pub(crate) fn hoist(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments), PATIENCE)
    }

    /// Starts `hoist` in its folder.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments), None)
    }

    /// Runs `hoist up -d`, which must succeed; returns its progress.
    #[track_caller]
    pub(crate) fn up(&self) -> String {
        self.hoist(&["up", "-d"]).code(0).stderr
    }

    /// Runs `hoist down`, which must succeed; returns its progress.
    #[track_caller]
    pub(crate) fn down(&self) -> String {
        self.hoist(&["down"]).code(0).stderr
    }

    /// Runs a shell script in a service's container, which must succeed; returns its stdout without space at its end.
    #[track_caller]
    pub(crate) fn shell(&self, service: &str, script: &str) -> String {
        self.hoist(&["exec", "-T", service, "sh", "-c", script]).ok().trim_end().to_owned()
    }

    /// Returns what was written down about every container of the project.
    pub(crate) fn records(&self) -> Vec<ContainerRecord> {
        let entries = fs::read_dir(self.host.root().join("containers")).into_iter().flatten();
        let records = entries.filter_map(|e| fs::read(e.expect("an entry").path().join("config.json")).ok());
        let records = records.map(|bytes| serde_json::from_slice::<ContainerRecord>(&bytes).expect("a record"));
        records.filter(|record| record.project.as_str() == self.name).collect()
    }

    /// Returns what was written down about a service's container.
    #[track_caller]
    pub(crate) fn record(&self, service: &str) -> ContainerRecord {
        let mut found = self.records().into_iter().filter(|record| record.service.as_str() == service);
        let record = found.next().unwrap_or_else(|| panic!("service `{service}` has no container"));
        assert!(found.next().is_none(), "service `{service}` has more than one container");
        record
    }

    /// Returns what was written down about a network, by its full name.
    #[track_caller]
    pub(crate) fn network(&self, name: &str) -> NetworkRecord {
        let entries = fs::read_dir(self.host.root().join("networks")).expect("networks");
        let records = entries.map(|e| fs::read(e.expect("an entry").path()).expect("a record"));
        let mut records = records.map(|bytes| serde_json::from_slice::<NetworkRecord>(&bytes).expect("a record"));
        records.find(|record| record.name == name).unwrap_or_else(|| panic!("there is no network `{name}`"))
    }

    /// Returns a service's container's address on its first network.
    #[track_caller]
    pub(crate) fn address(&self, service: &str) -> std::net::Ipv4Addr {
        self.record(service).endpoints.first().expect("it has an endpoint").address
    }

    /// Returns what the supervisor says of a service's container; `None` before it was ever started.
    pub(crate) fn try_status(&self, service: &str) -> Option<ContainerStatus> {
        let of_service = self.records().into_iter().filter(|record| record.service.as_str() == service);
        // A replica rather than a container of `run`.
        let record = of_service.min_by_key(|record| record.labels["com.docker.compose.oneoff"] == "True")?;
        let path = self.run_dir().join("containers").join(format!("{}.json", record.id));
        let bytes = fs::read(path).ok()?;
        Some(serde_json::from_slice(&bytes).expect("a status"))
    }

    /// Returns what the supervisor says of a service's container.
    #[track_caller]
    pub(crate) fn status(&self, service: &str) -> ContainerStatus {
        self.try_status(service).unwrap_or_else(|| panic!("service `{service}` has no status"))
    }

    /// Waits until a container's status is as wanted; returns it.
    #[track_caller]
    pub(crate) fn wait_status(
        &self,
        service: &str,
        what: &str,
        wanted: impl Fn(&ContainerStatus) -> bool,
    ) -> ContainerStatus {
        let begun = Instant::now();
        loop {
            let status = self.try_status(service);
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(begun.elapsed() < 20.secs(), "`{service}` is not {what}: {status:?}");
            pause();
        }
    }

    /// Waits until a container has ended for good; returns its exit code.
    #[track_caller]
    pub(crate) fn wait_exit(&self, service: &str) -> i32 {
        let status = self.wait_status(service, "exited", |s| s.state == State::Exited);
        status.exit_code.unwrap_or_else(|| panic!("nobody knows the exit code of `{service}`"))
    }

    /// Returns the process id of a service's container, which must run.
    #[track_caller]
    pub(crate) fn pid(&self, service: &str) -> i32 {
        let status = self.status(service);
        status.process.unwrap_or_else(|| panic!("`{service}` does not run: {:?}", status.state)).pid
    }

    /// Returns the process ids of its supervisor.
    #[track_caller]
    pub(crate) fn supervisor(&self) -> SupervisorRecord {
        let bytes = fs::read(self.run_dir().join("supervisor.json")).expect("a supervisor");
        serde_json::from_slice(&bytes).expect("a record")
    }

    /// Returns the lines that a service's container wrote, as they are in its log.
    pub(crate) fn log(&self, service: &str) -> Vec<LogLine> {
        let path = self.host.root().join("containers").join(self.record(service).id.as_str()).join("log/json.log");
        let text = fs::read_to_string(path).unwrap_or_default();
        // The last line may be being written.
        let whole = &text[..text.rfind('\n').map_or(0, |i| i + 1)];
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// Returns the text of what a service's container wrote.
    pub(crate) fn log_text(&self, service: &str) -> String {
        self.log(service).into_iter().map(|line| line.log).collect()
    }

    /// Waits until a service's container has written a line that fits; returns it.
    #[track_caller]
    pub(crate) fn wait_log(&self, service: &str, what: &str, fits: impl Fn(&str) -> bool) -> String {
        eventually(20.secs(), &format!("`{service}` writes {what}"), || {
            self.log(service).into_iter().map(|line| line.log.trim_end().to_owned()).find(|line| fits(line))
        })
    }

    /// Returns the project's volatile directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.host.run().join("projects").join(&self.name)
    }

    /// Returns the directory of a volume's files.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.host.root().join("volumes").join(format!("{}_{name}", self.name)).join("_data")
    }

    /// Replaces the machine's own part of a message: folders, so that it can be compared.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(self.folder.to_str().expect("UTF-8"), "[DIR]")
            .replace(self.host.directory().to_str().expect("UTF-8"), "[HOST]")
            .replace(self.host.run().to_str().expect("UTF-8"), "[RUN]")
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).expect("copied");
        return;
    }
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let name = entry.expect("an entry").file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}
