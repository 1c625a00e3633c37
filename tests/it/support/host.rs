//! A host of the test's own: network and mount namespace, an engine's two roots, and a look at what was left behind.
//!
//! The test's thread enters the namespaces and stays in them, and so do the commands and threads that it starts. The
//! network starts with a loopback device and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::run::Run;
use super::{Secs as _, binary, images, pause};

/// Returns why tests cannot run here, if they cannot.
pub(crate) fn requirements(wanted: &[&str]) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    for image in wanted {
        let archive = images::archive(image);
        if !archive.is_file() {
            return Err(format!("`{}` is not there: make it with `./dev images`", archive.display()));
        }
    }
    Ok(())
}

/// Says, past the test runner's capture, that a test was left out; fails it when `HOIST_REQUIRE_ROOT` is set.
pub(crate) fn skip(module: &str, line: u32, why: &str) {
    assert!(std::env::var_os("HOIST_REQUIRE_ROOT").is_none(), "{why}");
    drop(writeln!(std::io::stderr(), "skipped: {module}, line {line}: {why}"));
}

/// Says, past the test runner's capture, that something is left out because this kernel does not have it.
pub(crate) fn leave_out(module: &str, why: &str) {
    drop(writeln!(std::io::stderr(), "left out: {module}: {why}"));
}

/// The host.
pub(crate) struct Host {
    directory: TempDir,
    run: TempDir,
    before: Objects,
    /// `HOIST_FIREWALL` of its commands.
    firewall: Cell<Option<&'static str>>,
    /// How long it may take until what `down` removed is gone: links vanish asynchronously.
    pub(super) patience: Duration,
    /// Name and folder of every project that was made on it.
    pub(super) projects: RefCell<Vec<(String, PathBuf)>>,
}

impl Host {
    /// Enters namespaces of our own and makes an engine there whose store holds these images.
    pub(crate) fn new(wanted: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("hoist-it-").tempdir().expect("a directory");
        // A tmpfs, as /run is: an engine mounts none of its own there.
        let run = tempfile::Builder::new().prefix("hoist-it-").tempdir_in("/dev/shm").expect("a directory on a tmpfs");
        let store = directory.path().join("root/images");
        fs::create_dir_all(&store).expect("a directory for the store");
        for image in wanted {
            images::install(image, &store);
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("mounts of our own");
        command("ip", &["link", "set", "lo", "up"]);
        let mut host = Self {
            directory,
            run,
            before: Objects::default(),
            firewall: Cell::default(),
            patience: 10.secs(),
            projects: RefCell::default(),
        };
        host.before = host.objects();
        host
    }

    /// Returns `HOIST_ROOT`.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Returns `HOIST_RUN`.
    pub(crate) fn run(&self) -> &Path {
        self.run.path()
    }

    /// Returns the directory in which all but `HOIST_RUN` is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the mark of the engine's kernel objects; there is none before its first command.
    pub(crate) fn engine_id(&self) -> Option<String> {
        fs::read_to_string(self.root().join("engine-id")).ok().map(|text| text.trim().to_owned())
    }

    /// Returns the command `hoist` with a cleared environment and the engine's roots, in a directory.
    pub(crate) fn hoist(&self, cwd: &Path) -> Command {
        let mut command = Command::new(binary());
        self.prepare(&mut command, cwd);
        command
    }

    /// Gives a command the environment that hoist has in tests.
    pub(crate) fn prepare(&self, command: &mut Command, cwd: &Path) {
        command
            .env_clear()
            .current_dir(cwd)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.directory()).env("HOIST_ROOT", self.root()).env("HOIST_RUN", self.run());
        // The same tests, with the other backend.
        let of_all = || std::env::var_os("HOIST_FIREWALL");
        if let Some(firewall) = self.firewall.get().map(Into::into).or_else(of_all) {
            command.env("HOIST_FIREWALL", firewall);
        }
    }

    /// Has networks made with one of hoist's firewall backends from now on.
    pub(crate) fn set_firewall(&self, word: &'static str) {
        self.firewall.set(Some(word));
    }

    /// Returns all that an engine can leave on this host.
    pub(crate) fn objects(&self) -> Objects {
        Objects { tables: tables(), ..self.objects_but_tables() }
    }

    /// Returns what is there and was not, for people. Firewall tables, for which programs have to be asked, are looked at
    /// once the rest is gone: much is still going when this is asked for the first time, and the next.
    pub(crate) fn left_since(&self, before: &Objects) -> String {
        let now = self.objects_but_tables();
        let left = before.added_in(&now);
        if left.is_empty() { before.added_in(&Objects { tables: tables(), ..now }) } else { left }
    }

    fn objects_but_tables(&self) -> Objects {
        let engine = self.engine_id();
        Objects {
            processes: processes(engine.as_deref(), self.run()).into_iter().map(|p| p.to_string()).collect(),
            cgroups: cgroups(engine.as_deref()).iter().map(|p| p.display().to_string()).collect(),
            links: links(),
            tables: BTreeSet::new(),
            mounts: mounts(),
            files: self.files(),
        }
    }

    /// Waits until there is nothing more on this host than there was before.
    #[track_caller]
    pub(crate) fn is_again(&self, before: &Objects) {
        self.is_again_after(before, "it all");
    }

    /// As [`Host::is_again`]; `what` was done before, for the message.
    #[track_caller]
    pub(crate) fn is_again_after(&self, before: &Objects, what: &str) {
        let begun = Instant::now();
        loop {
            if self.left_since(before).is_empty() {
                return;
            }
            if begun.elapsed() >= self.patience {
                let left = before.added_in(&self.objects());
                assert!(left.is_empty(), "left behind after {what}:\n{left}");
                return;
            }
            pause();
        }
    }

    /// Returns records and volatile files of containers, networks, volumes and projects.
    fn files(&self) -> BTreeSet<String> {
        let root = self.root();
        let run = self.run();
        let places = [
            root.join("containers"),
            root.join("networks"),
            root.join("volumes"),
            run.join("projects"),
            run.join("networks"),
            run.join("netns"),
        ];
        let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten());
        entries.map(|e| e.expect("an entry").path().display().to_string()).collect()
    }

    /// Takes every project down, volumes too; returns what went wrong.
    fn take_down(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, folder) in self.projects.borrow().iter() {
            if !self.run().join("projects").join(name).exists() && !self.has_records() {
                continue;
            }
            let mut down = self.hoist(folder);
            // By name alone: the test may have broken the file.
            down.args(["-p", name, "--project-directory"]).arg(folder).args(["down", "-v", "-t", "1"]);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Run::of(down, 60.secs())));
            match result {
                Ok(run) if run.code == Some(0) => {}
                Ok(run) => wrong.push(run.to_string()),
                Err(_) => wrong.push(format!("`down` of {name} did not end")),
            }
        }
        wrong
    }

    fn has_records(&self) -> bool {
        !self.files().is_empty()
    }

    /// Ends by force what `down` has left, so that one failing test does not disturb the next.
    fn sweep(&self) {
        let engine = self.engine_id();
        let deadline = Instant::now() + 5.secs();
        while Instant::now() < deadline {
            let left = processes(engine.as_deref(), self.run());
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // it may have ended by now
            }
            pause();
        }
        for top in cgroups(engine.as_deref()) {
            remove_cgroup(&top);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut wrong = self.take_down();
        let deadline = Instant::now() + self.patience;
        let left = loop {
            let left = self.left_since(&self.before);
            if left.is_empty() {
                break left;
            }
            if Instant::now() > deadline {
                break self.before.added_in(&self.objects());
            }
            pause();
        };
        self.sweep();
        if !left.is_empty() {
            wrong.push(format!("left behind:\n{left}"));
        }
        if wrong.is_empty() {
            return;
        }
        let wrong = wrong.join("\n");
        if std::thread::panicking() {
            drop(writeln!(std::io::stderr(), "after the test failed, `down` did not clean up: {wrong}"));
        } else {
            panic!("{wrong}");
        }
    }
}

/// What an engine can leave on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) processes: BTreeSet<String>,
    pub(crate) cgroups: BTreeSet<String>,
    pub(crate) links: BTreeSet<String>,
    pub(crate) tables: BTreeSet<String>,
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) files: BTreeSet<String>,
}

impl Objects {
    /// Returns, for people, what is in `after` and not here; empty when there is nothing.
    pub(crate) fn added_in(&self, after: &Self) -> String {
        let mut text = String::new();
        let kinds = [
            ("process", &self.processes, &after.processes),
            ("cgroup", &self.cgroups, &after.cgroups),
            ("link", &self.links, &after.links),
            ("firewall table", &self.tables, &after.tables),
            ("mount", &self.mounts, &after.mounts),
            ("file", &self.files, &after.files),
        ];
        for (kind, before, after) in kinds {
            for name in after.difference(before) {
                let _ = writeln!(text, "  {kind} {}", describe(kind, name)); // a String
            }
        }
        text
    }
}

fn describe(kind: &str, name: &str) -> String {
    if kind != "process" {
        return name.to_owned();
    }
    let command = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
    format!("{name} {}", String::from_utf8_lossy(&command).replace('\0', " "))
}

/// Returns the live processes in the engine's cgroups, and those that were given its volatile root as an argument.
fn processes(engine: Option<&str>, run: &Path) -> BTreeSet<i32> {
    let run = run.to_str().expect("UTF-8").as_bytes();
    let mark = engine.map(|engine| format!("/hoist-{engine}/"));
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("a list of processes").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default(); // it may end at any time
        let state = read("stat");
        let after_name = state.iter().rposition(|b| *b == b')').map_or(0, |i| i + 2);
        if state.get(after_name).is_none_or(|state| matches!(state, b'Z' | b'X')) {
            continue; // it has ended and waits for its parent, which may be the host's first process
        }
        let of_engine = mark.as_ref().is_some_and(|mark| contains(&read("cgroup"), mark.as_bytes()));
        if of_engine || contains(&read("cmdline"), run) {
            found.insert(pid);
        }
    }
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Returns the engine's topmost cgroups in every hierarchy that is mounted.
fn cgroups(engine: Option<&str>) -> Vec<PathBuf> {
    let Some(engine) = engine else { return Vec::new() };
    let text = fs::read_to_string("/proc/thread-self/mountinfo").expect("a list of mounts");
    let is_cgroup = |line: &&str| line.contains(" - cgroup2 ") || line.contains(" - cgroup ");
    let points = text.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4));
    points.map(|point| Path::new(point).join(format!("hoist-{engine}"))).filter(|path| path.is_dir()).collect()
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path); // reported as left behind already
}

/// Returns the links of the network namespace that we are in.
pub(crate) fn links() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("a list of links");
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Returns the nf_tables tables of the network namespace that we are in, and the chains and rules of both kinds of
/// iptables. Their own tables and built-in chains stay once they were used, by whomever.
pub(crate) fn tables() -> BTreeSet<String> {
    let nft = command("nft", &["list", "tables"]);
    let built_in = ["raw", "mangle", "nat", "filter", "security"].map(|name| format!("table ip {name}"));
    let mut found: BTreeSet<String> =
        nft.lines().filter(|line| !built_in.iter().any(|b| b == line)).map(ToOwned::to_owned).collect();
    for variant in ["nft", "legacy"] {
        if variant == "nft" && !nft.contains("table ip ") {
            continue; // the program would make some
        }
        let mut kind = String::new();
        for line in command(&format!("iptables-{variant}-save"), &[]).lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut kind);
            }
            let chain = line.strip_prefix(':').filter(|chain| chain.contains(" - "));
            if let Some(part) = chain.and_then(|c| c.split(' ').next()).or_else(|| line.strip_prefix("-A ")) {
                found.insert(format!("iptables-{variant} {kind} {part}"));
            }
        }
    }
    found
}

/// Returns mount point, file system and source of each mount of the namespace that we are in.
fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").expect("a list of mounts");
    let of = |line: &str| {
        let (fields, kind) = line.split_once(" - ")?;
        Some(format!("{} {}", fields.split(' ').nth(4)?, kind))
    };
    text.lines().filter_map(of).collect()
}

/// Runs a program of the host, which must succeed; returns its stdout.
#[track_caller]
pub(crate) fn command(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    Run::of(command, Duration::from_secs(20)).ok()
}
