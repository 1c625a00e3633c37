//! Programs of a build, run by the engine's `Building` on a host of the test's own.
//!
//! The engine starts its supervisor from its own program, so this one is both: with the hidden command it is a supervisor.
//! With `inside` and a name it is the client of that test, on the host that the test has made for it. Else it runs the tests
//! whose names contain what it is given.

#[expect(dead_code, unused_imports, unused_macros, reason = "the other test program needs the rest")]
#[path = "it/support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use hoist::build::run::{Job, JobMount, JobNetwork, JobSource, Ran, Runner as _, SecretVariables, Surroundings};
use hoist::diag::Report;
use hoist::engine::building::{Building, JobContainer};
use hoist::engine::local::Local;
use hoist::fault::{self, Role};
use hoist::image::store::Store;
use hoist::paths::Paths;

use support::host::Host;
use support::run::{Run, Running};
use support::{Secs as _, eventually, holds};

/// A test: its name, what the client does, and what is looked at from outside if that is more than that nothing is left.
type Test = (&'static str, fn(), fn(&Host));

const TESTS: &[Test] = &[
    ("output_is_whole_and_codes_are_told", output_is_whole_and_codes_are_told, leaves_nothing),
    ("a_program_is_as_it_was_asked_for", a_program_is_as_it_was_asked_for, leaves_nothing),
    ("networks_are_those_of_the_job", networks_are_those_of_the_job, leaves_nothing),
    ("what_is_mounted_is_there_and_goes", what_is_mounted_is_there_and_goes, leaves_nothing),
    ("what_was_written_stays_until_it_is_forgotten", what_was_written_stays_until_it_is_forgotten, leaves_nothing),
    ("a_program_that_cannot_be_run_says_why", a_program_that_cannot_be_run_says_why, leaves_nothing),
    ("memory_is_limited", memory_is_limited, leaves_nothing),
    ("programs_run_beside_each_other", programs_run_beside_each_other, leaves_nothing),
    ("what_nobody_waits_for_ends", what_nobody_waits_for_ends, leaves_nothing),
    ("a_worker_may_die", a_worker_may_die, leaves_nothing),
    ("a_program_ends_with_its_client", a_long_program, a_program_ends_with_its_client),
    ("a_build_goes_on_when_its_worker_dies", a_short_build, a_build_goes_on_when_its_worker_dies),
    ("a_killed_build_leaves_nothing_to_the_next", a_short_build, a_killed_build_leaves_nothing_to_the_next),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(hoist::supervisor::COMMAND) => supervise(&arguments[2..]),
        Some("inside") => inside(&arguments[2]),
        _ => run_tests(&arguments[1..]),
    }
}

fn armed(role: Role) -> std::io::Result<()> {
    let (at, report) = (std::env::var(fault::FAULT).ok(), std::env::var_os(fault::REPORT).map(PathBuf::from));
    fault::arm(role, at.as_deref(), report.as_deref()).map_err(std::io::Error::other)
}

fn supervise(arguments: &[String]) -> ExitCode {
    let role = if arguments.first().is_some_and(|role| role == "worker") { Role::Worker } else { Role::Holder };
    match armed(role).and_then(|()| hoist::supervisor::main(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            drop(writeln!(std::io::stderr(), "{e}"));
            ExitCode::FAILURE
        }
    }
}

fn inside(name: &str) -> ExitCode {
    armed(Role::Command).expect("the variables make sense");
    let (_, client, _) = TESTS.iter().find(|(known, ..)| *known == name).expect("a test");
    client();
    ExitCode::SUCCESS
}

fn run_tests(arguments: &[String]) -> ExitCode {
    let say = |text: &str| drop(writeln!(std::io::stdout(), "{text}"));
    if arguments.iter().any(|a| a == "--list") {
        TESTS.iter().for_each(|(name, ..)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    if let Err(why) = support::host::requirements(&["busybox"]) {
        support::host::skip("jobs", line!(), &why);
        return ExitCode::SUCCESS;
    }
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => skipped.extend(words.next()),
            "--test-threads" | "--color" | "--format" => drop(words.next()), // one after the other, and plain
            option if option.starts_with('-') => {}
            _ => filters.push(word),
        }
    }
    let is_in = |name: &str, words: &[&String]| words.iter().any(|word| name.contains(word.as_str()));
    let mut failed = false;
    for (name, _, outside) in TESTS {
        if is_in(name, &skipped) || !(filters.is_empty() || is_in(name, &filters)) {
            continue;
        }
        // Each thread enters namespaces of its own.
        let test = std::thread::Builder::new().name((*name).to_owned()).spawn(|| outside(&Host::new(&["busybox"])));
        let passed = test.expect("a thread").join().is_ok();
        say(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failed |= !passed;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns the client of a test on a host.
fn client(host: &Host) -> Command {
    client_of(host, std::thread::current().name().expect("named after its test"))
}

fn client_of(host: &Host, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our program"));
    command.args(["inside", name]);
    host.prepare(&mut command, host.directory());
    command.env("RUST_BACKTRACE", "0");
    command
}

fn leaves_nothing(host: &Host) {
    prepare(host);
    let before = host.objects();
    let _ = Run::of(client(host), 60.secs()).code(0);
    host.is_again(&before);
}

/// Makes the engine's root, so that what is compared is what a build leaves.
fn prepare(host: &Host) {
    let _ = Local::open(&Paths::new(host.root(), host.run())).expect("an engine");
}

/// An engine, and what a build on busybox is told.
struct Builder {
    root: PathBuf,
    local: Local,
    layers: Vec<PathBuf>,
}

impl Builder {
    /// That of this process' environment.
    fn here() -> Self {
        let at = |name: &str| PathBuf::from(std::env::var_os(name).expect("the test sets it"));
        let paths = Paths::new(at("HOIST_ROOT"), at("HOIST_RUN"));
        let store = Store::open(&paths.images()).expect("a store");
        let layers = store.resolve("busybox").expect("read").expect("installed").layers;
        Self { root: paths.root().to_owned(), local: Local::open(&paths).expect("an engine"), layers }
    }

    fn building(&self) -> Building<'_> {
        Building::new(&self.local)
    }

    /// Returns a job that runs a shell's script.
    fn job(&self, script: &str) -> Job {
        Job {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            working_dir: "/".to_owned(),
            layers: self.layers.clone(),
            around: Surroundings { network: JobNetwork::None, ..Surroundings::default() },
            ..Job::default()
        }
    }
}

fn block_on<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, task)
}

/// Runs a job; returns how it went and all that it said.
async fn run(building: &Building<'_>, job: &Job) -> (Result<Ran<JobContainer>, Report>, String) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        fs::File::from(read).read_to_end(&mut bytes).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let ran = building.run(job, write).await;
    (ran, reading.await.expect("it read"))
}

#[track_caller]
fn ok<T>(result: Result<T, Report>) -> T {
    result.unwrap_or_else(|report| panic!("{}", report.render(false)))
}

/// Runs a job that succeeds, forgets it, and returns what it said.
async fn said(building: &Building<'_>, job: &Job) -> String {
    let (ran, text) = run(building, job).await;
    let ran = ok(ran);
    assert_eq!(ran.code, 0, "{text}");
    ok(building.forget(ran.container).await);
    text
}

fn output_is_whole_and_codes_are_told() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("echo out; echo err >&2; exit 7");
        let (ran, text) = run(&building, &job).await;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!((lines, ok(ran).code), (vec!["err", "out"], 7));
        // More than any pipe or memory of the supervisor holds, and a last line without an end.
        job.argv[2] = "seq 1 400000; printf last".to_owned();
        let text = said(&building, &job).await;
        let whole: String = (1..=400_000).map(|n| format!("{n}\n")).chain(["last".to_owned()]).collect();
        assert!(text == whole, "{} of {} bytes", text.len(), whole.len());
        job.argv[2] = "sh -c 'kill -9 $$'; exit $?".to_owned();
        assert_eq!(ok(run(&building, &job).await.0).code, 137);
        ok(building.finish().await);
    });
}

fn a_program_is_as_it_was_asked_for() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("");
        job.argv = ["/bin/env", "-"].map(str::to_owned).to_vec();
        job.argv.truncate(1);
        job.env = ["A=b c", "PATH=/sbin:/bin", "EMPTY="].map(str::to_owned).to_vec();
        assert_eq!(said(&building, &job).await, "A=b c\nPATH=/sbin:/bin\nEMPTY=\nHOME=/root\n");
        job.env = vec!["HOME=/mine".to_owned()];
        let default = format!("PATH={}\n", hoist::runtime::DEFAULT_PATH);
        assert_eq!(said(&building, &job).await, format!("{default}HOME=/mine\n"));

        let mut job =
            builder.job("id -u; id -g; pwd; hostname; cat; readlink /proc/self/fd/0; ls -ld /new | cut -c1-10");
        (job.user, job.working_dir) = ("daemon".to_owned(), "/new/deep".to_owned());
        assert_eq!(said(&building, &job).await, "1\n1\n/new/deep\nbuildkitsandbox\n/dev/null\ndrwxr-xr-x\n");

        let caps = "grep CapEff /proc/self/status | cut -f2; grep Seccomp: /proc/self/status | cut -f2; df -k /dev/shm | \
            tail -1 | tr -s ' ' | cut -d' ' -f2; ulimit -n; cat /sys/fs/cgroup/cgroup.controllers >/dev/null; mount | \
            grep -c ' on /proc/sys .*ro,' || true";
        let mut job = builder.job(caps);
        let text = said(&building, &job).await;
        assert!(text.contains("\n2\n65536\n") && text.ends_with("\n1\n"), "{text}");
        (job.around.privileged, job.around.shm_size) = (true, Some(1 << 20));
        job.around.ulimits = vec![("nofile".to_owned(), 100, 200)];
        let text = said(&building, &job).await;
        assert!(text.contains("\n0\n1024\n100\n"), "{text}");
        ok(building.finish().await);
    });
}

fn networks_are_those_of_the_job() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let listener = std::net::TcpListener::bind("0.0.0.0:8080").expect("a port of the host");
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut to, _) = listener.accept().expect("somebody");
                to.write_all(b"the other side\n").expect("it listens");
            }
        });
        let mut job = builder.job("grep host /etc/hosts; nc host 8080; ip link | grep -c eth0");
        job.around.network = JobNetwork::Default;
        job.around.extra_hosts = vec![("host".to_owned(), None), ("six".to_owned(), "::1".parse().ok())];
        let text = said(&building, &job).await;
        assert!(text.contains("the other side\n1\n") && text.contains("\thost\n"), "{text}");
        // Our resolver knows it by its id, which is in the path of a file that it is given.
        let id = "sed -n 's,.*containers/\\([0-9a-f]\\{12\\}\\)[^ ]*/hosts /etc/hosts .*,\\1,p' /proc/self/mountinfo";
        job.argv[2] = format!("nslookup $({id}) | grep -A1 ^Name: | tail -1; ip -o -4 addr show eth0");
        let text = said(&building, &job).await;
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words[0].starts_with("Address") && text.contains(&format!("inet {}/24", words[words.len().min(2) - 1])),
            "{text}"
        );
        job.argv[2] = "nc host 8080; grep six /etc/hosts; cat /etc/resolv.conf; ip link".to_owned();
        job.around.network = JobNetwork::Host;
        let text = said(&building, &job).await;
        server.join().expect("it served both");
        let ours = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert!(text.starts_with(&format!("the other side\n::1\tsix\n{ours}")) && text.contains("hb-"), "{text}");
        // Docker's parameters are for namespaces of a container's own.
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("a parameter");
        assert_eq!(start.trim(), "1024");
        job.argv[2] = "ip -o addr | grep -o '127.0.0.1/8'; ip -o link | wc -l; cut -f2 /etc/hosts | grep -cx host; \
            grep buildkit /etc/hosts"
            .to_owned();
        job.around.network = JobNetwork::None;
        assert_eq!(said(&building, &job).await, "127.0.0.1/8\n1\n0\n127.0.0.1\tbuildkitsandbox\n");
        ok(building.finish().await);
    });
}

/// A directory that may be a layer, which overlayfs does not take where the root is one itself.
fn layer(at: &Path, files: &[(&str, &str)]) -> PathBuf {
    for (name, text) in files {
        let path = at.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    at.to_owned()
}

fn what_is_mounted_is_there_and_goes() {
    let builder = Builder::here();
    let place = tempfile::tempdir_in(std::env::var_os("HOIST_ROOT").expect("set")).expect("a directory");
    let lower = layer(&place.path().join("lower"), &[("a/one", "1\n"), ("a/two", "2\n"), ("top", "t\n")]);
    let upper = layer(&place.path().join("upper"), &[("a/two", "two\n")]);
    std::os::unix::fs::symlink("/a", upper.join("link")).expect("a link");
    std::os::unix::fs::symlink("../../../../a/one", upper.join("out")).expect("a link");
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o751)).expect("a mode");
    let bind = layer(&place.path().join("bind"), &[("file", "bound\n")]);
    let mount =
        |source: JobSource, target: &str, read_only: bool| JobMount { source, target: target.to_owned(), read_only };
    let part =
        |path: &str| JobSource::Layers { layers: vec![lower.clone(), upper.clone()], path: path.as_bytes().to_vec() };
    block_on(async {
        let building = builder.building();
        let mut job = builder.job(
            "cat /ro/one /ro/two /whole/top /link/one /file /bind/file; stat -c %a /whole; \
             touch /ro/x /whole/y 2>/dev/null; rm /whole/top; echo changed > /whole/a/one; ls /whole /whole/a; \
             echo more > /bind/new; touch /bind-ro/x 2>/dev/null; \
             touch /tmp/x && printf '#!/bin/sh\\necho ran\\n' > /tmpfs/x && chmod +x /tmpfs/x && /tmpfs/x; \
             cat /run/secrets/s; stat -c '%a %u %g' /run/secrets/s; ls /ro; mount | grep -c ' /whole '; echo ${#WORD} $LAST",
        );
        job.secrets = SecretVariables(vec!["WORD=sesame-open too".into(), "LAST=one".into()]);
        let secret = || JobSource::Secret { content: b"sesame-open\n".to_vec(), mode: 0o400, uid: 7, gid: 8 };
        job.mounts = vec![
            mount(part("a"), "/ro", true),
            mount(part(""), "/whole", false),
            mount(part("link"), "/link", false),
            mount(part("out"), "/file", true),
            mount(JobSource::Path(bind.clone()), "/bind", false),
            mount(JobSource::Path(bind.clone()), "/bind-ro", true),
            mount(JobSource::Tmpfs { size: Some(1 << 20) }, "/tmpfs", false),
            mount(secret(), "/run/secrets/s", true),
        ];
        let (ran, text) = run(&building, &job).await;
        let ran = ok(ran);
        let expected = "1\ntwo\nt\n1\n1\nbound\n751\n/whole:\na\nlink\nout\ny\n\n/whole/a:\none\ntwo\nran\nsesame-open\n\
            400 7 8\none\ntwo\n1\n15 one\n";
        assert_eq!(text, expected);
        assert!(!format!("{job:?}").contains("sesame"));
        assert_eq!(fs::read_to_string(bind.join("new")).expect("it was written"), "more\n");
        assert!(!bind.join("x").exists() && !upper.join("y").exists() && lower.join("top").exists());
        assert_eq!(fs::read_to_string(lower.join("a/one")).expect("it is there"), "1\n");
        // A secret is in no file of a disk, while the container is there and after.
        let root = std::env::var("HOIST_ROOT").expect("set");
        let found = || Command::new("grep").args(["-rl", "sesame-open", &root]).output().expect("it looks").stdout;
        assert!(found().is_empty(), "{}", String::from_utf8_lossy(&found()));
        for (target, written) in [("/ro", "ro"), ("/run/secrets/s", "run"), ("/tmpfs", "tmpfs"), ("/whole", "whole")] {
            assert!(ran.upper.places.iter().any(|place| place == target), "{target}");
            assert!(ran.upper.path.join(written).exists(), "{written}");
        }
        assert!(ran.upper.path.join("tmp/x").exists());
        ok(building.forget(ran.container).await);
        assert!(found().is_empty());

        job.mounts = vec![mount(part("nowhere"), "/x", true)];
        let refused = run(&building, &job).await.0.expect_err("it is not there").render(false);
        assert!(refused.contains("cannot mount `/nowhere` of other layers on `/x`"), "{refused}");
        job.mounts = vec![mount(JobSource::Path(place.path().join("nowhere")), "/x", true)];
        let refused = run(&building, &job).await.0.expect_err("it is not there").render(false);
        assert!(refused.contains("nowhere` on `/x`"), "{refused}");
        ok(building.finish().await);
    });
}

fn what_was_written_stays_until_it_is_forgotten() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let (ran, _) = run(&building, &builder.job("echo 1 > /made; rm /etc/passwd; mkdir -p /d/e")).await;
        let ran = ok(ran);
        assert_eq!(ran.upper.layers, builder.layers);
        assert_eq!(fs::read_to_string(ran.upper.path.join("made")).expect("written"), "1\n");
        assert_eq!(fs::symlink_metadata(ran.upper.path.join("etc/passwd")).expect("a whiteout").rdev(), 0);
        // What the next one is on top of.
        let mut job = builder.job("cat /made; ls -d /d/e; test -e /etc/passwd || echo gone");
        job.layers.push(ran.upper.path.clone());
        assert_eq!(said(&building, &job).await, "1\n/d/e\ngone\n");
        let path = ran.upper.path.clone();
        ok(building.forget(ran.container).await);
        assert!(!path.exists());
        // What is not forgotten goes at the end.
        let (ran, _) = run(&building, &builder.job("true")).await;
        let path = ok(ran).upper.path;
        ok(building.finish().await);
        assert!(!path.exists());
        ok(building.finish().await);
        // And it can go on.
        said(&building, &builder.job("true")).await;
        ok(building.finish().await);
    });
}

fn a_program_that_cannot_be_run_says_why() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("");
        job.argv = vec!["nowhere".to_owned()];
        let (ran, text) = run(&building, &job).await;
        let ran = ok(ran);
        assert_eq!(ran.code, 127);
        let expected =
            "cannot run the program: `nowhere`: the command is not in the image: executable file not found in $PATH\n";
        assert_eq!(text, expected);
        ok(building.forget(ran.container).await);
        job.argv = vec!["/etc/passwd".to_owned()];
        let (ran, text) = run(&building, &job).await;
        assert_eq!(ok(ran).code, 126);
        assert!(text.contains("permission denied"), "{text}");
        let mut job = builder.job("true");
        job.user = "nobody-here".to_owned();
        let refused = run(&building, &job).await.0.expect_err("there is no such user").render(false);
        assert!(refused.contains("nobody-here"), "{refused}");
        job.around.ulimits = vec![("nofiles".to_owned(), 1, 1)];
        let refused = run(&building, &job).await.0.expect_err("there is no such limit").render(false);
        assert!(refused.contains("nofiles") && !refused.contains("service"), "{refused}");
        job.argv.clear();
        assert!(run(&building, &job).await.0.is_err());
        let left = fs::read_dir(builder.root.join("containers")).expect("a list").count();
        assert_eq!(left, 1, "of those that failed nothing is left");
        ok(building.finish().await);
    });
}

fn memory_is_limited() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("x=x; while true; do x=$x$x; done");
        job.around.memory = Some(16 << 20);
        let (ran, text) = run(&building, &job).await;
        assert_eq!(ok(ran).code, 137, "{text}");
        assert!(text.contains("out of memory") && text.contains("16777216"), "{text}");
        ok(building.finish().await);
    });
}

fn programs_run_beside_each_other() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut jobs: Vec<Job> = (0..6).map(|n| builder.job(&format!("echo {n}; ip -o -4 addr show eth0"))).collect();
        jobs.iter_mut().for_each(|job| job.around.network = JobNetwork::Default);
        let all = futures_util::future::join_all(jobs.iter().map(|job| run(&building, job))).await;
        let mut addresses = std::collections::BTreeSet::new();
        for (n, (ran, text)) in all.into_iter().enumerate() {
            assert_eq!(ok(ran).code, 0);
            assert!(text.starts_with(&format!("{n}\n")), "{text}");
            addresses.insert(text.split_whitespace().nth(4).expect("an address").to_owned());
        }
        assert_eq!(addresses.len(), 6, "{addresses:?}");
        ok(building.finish().await);
    });
}

fn what_nobody_waits_for_ends() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let job = builder.job("echo begun; exec sleep 1000");
        let mut line = [0; 6];
        {
            let mut running = std::pin::pin!(building.run(&job, write));
            let reading = tokio::task::spawn_blocking(move || {
                fs::File::from(read).read_exact(&mut line).expect("it begins");
            });
            tokio::select! {
                ran = &mut running => panic!("{ran:?}"),
                read = reading => read.expect("it read"),
            }
        }
        ok(building.finish().await);
    });
}

fn a_worker_may_die() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let job = builder.job("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); usleep 10000; done; exit 5");
        let killer = std::thread::spawn(|| {
            for _ in 0..2 {
                let old = eventually(20.secs(), "a supervisor", || supervisor().filter(|pid| is_worker(*pid)));
                std::thread::sleep(std::time::Duration::from_millis(300)); // somewhere in its work
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(old), nix::sys::signal::Signal::SIGKILL);
                eventually(20.secs(), "another", || supervisor().filter(|pid| *pid != old));
            }
        });
        let (ran, text) = run(&building, &job).await;
        killer.join().expect("it killed");
        let whole: String = (0..200).map(|n| format!("line {n}\n")).collect();
        assert_eq!((ok(ran).code, text), (5, whole));
        ok(building.finish().await);
    });
}

/// Returns the worker of the one build's supervisor.
fn supervisor() -> Option<i32> {
    let run = PathBuf::from(std::env::var_os("HOIST_RUN")?);
    let project = fs::read_dir(run.join("projects")).ok()?.next()?.ok()?.path();
    let text = fs::read(project.join("supervisor.json")).ok()?;
    let record: hoist::state::record::SupervisorRecord = serde_json::from_slice(&text).ok()?;
    Some(record.worker_pid)
}

fn is_worker(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(6).any(|word| word == b"worker"))
}

fn a_long_program() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("trap '' TERM INT HUP; echo begun; sleep 1000 & wait");
        job.around.network = JobNetwork::Default;
        let ran =
            building.run(&job, std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned().expect("ours")).await;
        panic!("it ended: {ran:?}");
    });
}

/// Returns the names of the engine's containers' directories.
fn containers(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.root().join("containers")).into_iter().flatten();
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

fn a_program_ends_with_its_client(host: &Host) {
    prepare(host);
    let before = host.objects();
    let mut running = Running::of(client(host), None);
    running.wait_for("the program", |line| line == "begun");
    let list = |arguments: &[&str]| {
        let mut command = host.hoist(host.directory());
        command.args(arguments);
        Run::of(command, 20.secs()).ok()
    };
    assert_eq!(list(&["ls", "-q"]), "", "a build is no project");
    assert!(list(&["ls", "-q", "--all"]).starts_with("hoist-build-"));
    let state = |host: &Host| {
        let [id] = &containers(host)[..] else { return String::new() };
        let run = fs::read_dir(host.run().join("projects")).expect("projects").next().expect("one").expect("an entry");
        fs::read_to_string(run.path().join(format!("containers/{id}.json"))).unwrap_or_default()
    };
    assert!(state(host).contains("running"));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    drop(running.finish(20.secs()));
    eventually(10.secs(), "it ends with its client", || holds(state(host).contains("exited")));
    // The next build finds and removes the rest, whatever it is about.
    let _ = Run::of(client_of(host, "memory_is_limited"), 60.secs()).code(0);
    host.is_again(&before);
    assert_eq!(fs::read_dir(host.root().join("projects")).map_or(0, Iterator::count), 0, "no mark is left");
}

fn a_short_build() {
    let builder = Builder::here();
    block_on(async {
        let building = builder.building();
        let mut job = builder.job("echo begun");
        job.around.network = JobNetwork::Default;
        assert_eq!(said(&building, &job).await, "begun\n");
        ok(building.finish().await);
    });
}

/// Runs the client with a fault, or none; returns how it went and the boundaries met, a line each.
fn with_fault(host: &Host, fault: Option<&str>) -> (Run, String) {
    let report = host.directory().join("report");
    let _ = fs::remove_file(&report); // there is none at first
    let mut command = client(host);
    command.env(fault::REPORT, &report);
    if let Some(fault) = fault {
        command.env(fault::FAULT, fault);
    }
    (Run::of(command, 60.secs()), fs::read_to_string(&report).unwrap_or_default())
}

/// Returns the names of the boundaries that a process met, each once.
fn names<'a>(role: &str, met: &'a str) -> Vec<&'a str> {
    let words = met.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|words| words[0] == role);
    let mut names: Vec<&str> = words.map(|words| words[2]).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn a_build_goes_on_when_its_worker_dies(host: &Host) {
    prepare(host);
    let before = host.objects();
    let (whole, met) = with_fault(host, None);
    let _ = whole.code(0);
    let names = names("worker", &met);
    assert!(names.len() > 20 && names.contains(&"start.recorded"), "{names:?}");
    for name in names {
        let (run, met) = with_fault(host, Some(&format!("worker:{name}")));
        assert!(met.contains(" killed"), "{name} was not met");
        assert_eq!(run.code, Some(0), "{name}: {run}");
        host.is_again_after(&before, name);
    }
}

fn a_killed_build_leaves_nothing_to_the_next(host: &Host) {
    prepare(host);
    let before = host.objects();
    let (whole, met) = with_fault(host, None);
    let _ = whole.code(0);
    host.is_again(&before);
    let names = names("command", &met);
    assert!(names.len() > 30 && names.contains(&"build.marked") && names.contains(&"run.started"), "{names:?}");
    for name in names {
        let (killed, met) = with_fault(host, Some(name));
        assert!(killed.code.is_none() && met.contains(" killed"), "{name}: {killed}");
        let (next, _) = with_fault(host, None);
        assert_eq!(next.code, Some(0), "after {name}: {next}");
        host.is_again_after(&before, name);
        assert_eq!(fs::read_dir(host.root().join("projects")).map_or(0, Iterator::count), 0, "a mark after {name}");
    }
}
