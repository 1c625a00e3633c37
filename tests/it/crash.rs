//! `kill -9` of the supervisor's processes: no container, line, exit code, name or page is lost.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hoist::state::record::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::net::{self, Kind};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, is_soak, require_root};

/// How often the worker is killed.
fn rounds() -> u32 {
    if is_soak() { 20 } else { 6 }
}

pub(super) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
}

/// Waits until the project has another worker than this one; returns it.
#[track_caller]
fn next_worker(shop: &TestProject, old: i32) -> i32 {
    eventually(10.secs(), "there is a new worker", || {
        let worker = shop.supervisor().worker_pid;
        (worker != old).then_some(worker)
    })
}

/// Returns the state letter of a process (proc_pid_stat(5)); `None` when there is none.
pub(super) fn process_state(pid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text[text.rfind(')')? + 2..].chars().next()
}

/// Kills both of a project's supervisor's processes and waits until they have ended.
#[track_caller]
pub(super) fn kill_both(shop: &TestProject) {
    let old = shop.supervisor();
    send(old.holder_pid, Signal::SIGKILL);
    let _ = kill(Pid::from_raw(old.worker_pid), Signal::SIGKILL); // it may have seen it and ended
    for pid in [old.holder_pid, old.worker_pid] {
        eventually(10.secs(), "it has ended", || holds(matches!(process_state(pid), None | Some('Z'))));
    }
}

/// Writes numbered lines, 100 in every fiftieth of a second, until told to stop; then says how many they were.
const LOGGER: &str = "\
i=0
while [ ! -e /ctl/stop ]; do
    n=0
    while [ $n -lt 100 ]; do
        i=$((i+1)); n=$((n+1))
        echo \"line $i of a container that has much to say\"
    done
    usleep 20000
done
echo $i > /ctl/total
";

const CROWD: &str = "
services:
  logger:
    image: busybox
    command: sh /ctl/logger.sh
    volumes: [./ctl:/ctl]
  reader:
    image: busybox
    command: cat
    stdin_open: true
  seven:
    image: busybox
    command: sh -c 'until [ -e /ctl/go ]; do usleep 2000; done; echo last words; exit 7'
    volumes: [./ctl:/ctl]
  web:
    image: nginx
    ports: ['8080:80']
    volumes: ['./html:/usr/share/nginx/html:ro']
";

fn crowd() -> TestProject {
    let shop = TestProject::with_images("shop", &["busybox", "nginx"], CROWD);
    shop.write("ctl/logger.sh", LOGGER);
    shop.write("html/index.html", "here\n");
    shop.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "here\n");
    shop
}

/// Asks for the page again and again, on another thread, and counts.
struct Visitor {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u32, Vec<String>)>,
    visits: Arc<AtomicU32>,
}

impl Visitor {
    fn new() -> Self {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&visits));
        let address: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
        // Namespaces are those of the thread that starts it.
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match net::http_get(address, "/") {
                    Ok(page) if page == "here\n" => {}
                    Ok(page) => failures.push(format!("another page: {page:?}")),
                    Err(e) => failures.push(e.to_string()),
                }
                counted.fetch_add(1, Ordering::Relaxed);
                super::support::pause();
            }
            (counted.load(Ordering::Relaxed), failures)
        });
        Self { stop, thread, visits }
    }

    /// Waits until the page was asked for a few times more.
    #[track_caller]
    fn wait(&self) {
        let before = self.visits.load(Ordering::Relaxed);
        eventually(20.secs(), "the page was asked for", || holds(self.visits.load(Ordering::Relaxed) >= before + 5));
    }

    #[track_caller]
    fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (visits, failures) = self.thread.join().expect("it counted");
        assert!(failures.is_empty(), "{} of {visits} requests failed: {failures:?}", failures.len());
        assert!(visits > 0);
    }
}

/// Tells the logger to stop and compares its log with what it wrote: every line once, in order.
#[track_caller]
fn check_log(shop: &TestProject) {
    shop.write("ctl/stop", "");
    shop.wait_status("logger", "exited", |s| s.state == State::Exited);
    let total: usize = shop.read("ctl/total").trim().parse().expect("a number");
    let lines = shop.log("logger");
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line.log, format!("line {} of a container that has much to say\n", i + 1), "of {total}");
    }
    assert_eq!(lines.len(), total);
}

#[test]
fn a_killed_worker_loses_nothing() {
    require_root!("nginx");
    let shop = crowd();
    let services = ["logger", "reader", "web"];
    let pids = services.map(|service| shop.pid(service));
    let seven = shop.pid("seven");
    let holder = shop.supervisor().holder_pid;
    let visitor = Visitor::new();
    let mut longest = Duration::ZERO;
    for round in 0..rounds() {
        let worker = shop.supervisor().worker_pid;
        let written = shop.log("logger").len();
        let mut killed = Instant::now();
        if round == 1 {
            // One ends while there is no worker, and the holder cannot hurry: it is held until the end has happened.
            send(holder, Signal::SIGSTOP);
            send(worker, Signal::SIGKILL);
            shop.write("ctl/go", "");
            eventually(10.secs(), "it has ended", || holds(process_state(seven) == Some('Z')));
            send(holder, Signal::SIGCONT);
            killed = Instant::now();
        } else {
            send(worker, Signal::SIGKILL);
        }
        let next = next_worker(&shop, worker);
        // Names are answered, commands obeyed, lines written, pages shown: before the next blow.
        let answered = eventually(10.secs(), "a name is answered again", || {
            net::try_dns(pids[2], "reader", Kind::A, Duration::from_millis(20))
        });
        longest = longest.max(killed.elapsed());
        assert_eq!(answered.records, [shop.address("reader").to_string()]);
        if round % 3 == 0 {
            assert_eq!(shop.shell("web", "echo here"), "here");
        }
        eventually(10.secs(), "lines are written again", || holds(shop.log("logger").len() > written));
        visitor.wait();
        assert_eq!(services.map(|service| shop.pid(service)), pids);
        assert_eq!(shop.supervisor().holder_pid, holder);
        assert_eq!(shop.supervisor().worker_pid, next);
    }
    visitor.leave();
    assert_eq!(shop.wait_exit("seven"), 7);
    assert_eq!(shop.log_text("seven"), "last words\n");
    check_log(&shop);
    if is_soak() {
        // A figure for people: no test asserts a time.
        drop(writeln!(std::io::stderr(), "names were answered {longest:?} after a kill at the latest"));
    }
    // The end that came while it was away did not make the policy act, nor did anything else.
    for service in ["logger", "reader", "seven", "web"] {
        assert_eq!(shop.status(service).restarts, 0, "{service}");
    }
    shop.down();
}

#[test]
fn both_processes_killed_the_next_command_takes_up_what_runs() {
    require_root!("nginx");
    let shop = crowd();
    // The pipe of an open stdin ends with the holder: it is the one thing that cannot be given back.
    let services = ["logger", "web"];
    let pids = services.map(|service| shop.pid(service));
    let visitor = Visitor::new();
    let old = shop.supervisor();
    kill_both(&shop);
    visitor.wait();
    // One ends while nobody looks: nobody can know its code.
    let seven = shop.pid("seven");
    shop.write("ctl/go", "");
    eventually(10.secs(), "it has ended", || holds(matches!(process_state(seven), None | Some('Z'))));

    let table = shop.hoist(&["ps", "-a"]).ok();
    for service in services {
        assert!(table.lines().any(|l| l.contains(&format!("shop-{service}-1")) && l.contains("Up ")), "{table}");
    }
    let new = shop.supervisor();
    assert!(new.holder_pid != old.holder_pid && new.worker_pid != old.worker_pid, "{new:?}");
    assert_eq!(services.map(|service| shop.pid(service)), pids);
    let gone = shop.wait_status("seven", "seen to have ended", |s| s.state == State::Exited);
    assert_eq!(gone.exit_code, None, "nobody could know it");
    assert_eq!(shop.shell("web", "echo here"), "here");
    assert_eq!(net::dns(pids[1], "logger", Kind::A).records, [shop.address("logger").to_string()]);
    visitor.wait();
    visitor.leave();
    check_log(&shop);
    // What was adopted is still stopped, and its end still seen.
    shop.hoist(&["restart", "-t", "5", "web"]).ok();
    assert_ne!(shop.pid("web"), pids[1]);
    assert_eq!(net::page("127.0.0.1:8080", "/"), "here\n");
    shop.down();
}

#[test]
fn a_worker_that_dies_during_up_is_replaced_and_up_goes_on() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  db:
    image: busybox
    command: sh -c 'until [ -e /ctl/ready ]; do usleep 5000; done; exec sleep 1000'
    volumes: [./ctl:/ctl]
    healthcheck:
      test: test -e /ctl/ready
      interval: 100ms
      start_period: 60s
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      db:
        condition: service_healthy
",
    );
    shop.make_dir("ctl");
    let up = shop.spawn(&["up", "-d"]);
    shop.wait_status("db", "running", |s| s.state == State::Running);
    let worker = shop.supervisor().worker_pid;
    send(worker, Signal::SIGKILL);
    next_worker(&shop, worker);
    shop.write("ctl/ready", "");
    let _ = up.finish(30.secs()).code(0);
    shop.pid("web");
}

const THREE: &str = "
services:
  one:
    image: busybox
    command: sleep 1000
    volumes: [data:/data]
  two:
    image: busybox
    command: sleep 1000
    depends_on: [one]
    ports: ['8080:80']
  three:
    image: busybox
    command: sleep 1000
    depends_on: [two]
volumes:
  data:
";

const HELD: &str = "
services:
  web:
    image: busybox
    command: sh -c 'trap \"exit 3\" TERM; while :; do usleep 2000; done'
    ports: ['8080:80']
    restart: always
";

/// Runs a command while the worker is killed: as soon as it is sent, or a little later, or when its first line is there.
#[track_caller]
fn run_and_kill_worker(shop: &TestProject, arguments: &[&str], round: u32) {
    let worker = shop.supervisor().worker_pid;
    let mut run = shop.spawn(arguments);
    match round % 3 {
        0 => {}
        1 => super::support::pause(),
        _ => drop(run.has_next_line()),
    }
    send(worker, Signal::SIGKILL);
    let _ = run.finish(30.secs()).code(0);
    next_worker(shop, worker);
}

#[test]
fn stop_kill_and_pause_are_obeyed_whatever_happens_to_the_worker() {
    require_root!();
    let shop = TestProject::new("shop", HELD);
    shop.up();
    let frozen = || {
        let relative = shop.record("web").spec["cgroup"].as_str().expect("a cgroup").to_owned();
        let hierarchy = hoist::runtime::cgroup::Hierarchy::find().expect("cgroup2");
        hierarchy.open(&relative).and_then(|c| c.is_frozen()).expect("it is there")
    };
    let is_free = || std::net::TcpListener::bind("0.0.0.0:8080").is_ok();
    for round in 0..rounds() {
        run_and_kill_worker(&shop, &["pause"], round);
        assert!(frozen(), "round {round}");
        // The next one hears from the kernel that it is paused.
        let worker = shop.supervisor().worker_pid;
        send(worker, Signal::SIGKILL);
        next_worker(&shop, worker);
        assert!(shop.status("web").paused && frozen(), "round {round}");
        if round % 2 == 0 {
            run_and_kill_worker(&shop, &["unpause"], round);
            eventually(10.secs(), "it goes on", || holds(!frozen() && !shop.status("web").paused));
        }
        assert!(!is_free(), "round {round}");
        run_and_kill_worker(&shop, &["stop"], round);
        assert_eq!(shop.status("web").exit_code, Some(3), "round {round}: it took its signal");
        eventually(10.secs(), "the port is free", || holds(is_free()));
        run_and_kill_worker(&shop, &["start"], round);
        shop.pid("web");
        assert!(!is_free(), "round {round}");
        run_and_kill_worker(&shop, &["kill"], round);
        let status = shop.status("web");
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(137)), "round {round}");
        eventually(10.secs(), "the port is free", || holds(is_free()));
        run_and_kill_worker(&shop, &["start"], round);
    }
    let name = shop.record("web").endpoints[0].host_link.clone();
    assert!(shop.host().objects().links.contains(&name));
    shop.down();
}

#[test]
fn a_pause_outlives_both_processes_and_so_does_a_stop() {
    require_root!();
    let shop = TestProject::new("shop", HELD);
    shop.up();
    shop.hoist(&["pause"]).ok();
    let pid = shop.pid("web");
    kill_both(&shop);
    let table = shop.hoist(&["ps"]).ok();
    assert!(table.contains("(Paused)"), "{table}");
    assert_eq!(shop.pid("web"), pid);
    kill_both(&shop);
    shop.hoist(&["unpause"]).ok();
    shop.hoist(&["stop"]).ok();
    assert_eq!(shop.status("web").state, State::Exited);
    kill_both(&shop);
    // Nobody has the port now: whoever takes it is told.
    let listener = std::net::TcpListener::bind("0.0.0.0:8080").expect("free");
    let message = shop.hoist(&["start"]).fails();
    assert!(message.contains("port 0.0.0.0:8080/tcp is in use by"), "{message}");
    drop(listener);
    shop.hoist(&["start"]).ok();
    std::net::TcpListener::bind("0.0.0.0:8080").expect_err("held again");
    assert_eq!(shop.status("web").state, State::Running);
}

/// Moments at which a command is killed: after so many lines of its progress.
fn moments() -> Vec<usize> {
    if is_soak() { (1..=24).collect() } else { vec![1, 2, 3, 5, 8, 12] }
}

/// Starts a command and kills it at a moment of its road, if it has not ended before.
fn kill_at(shop: &TestProject, arguments: &[&str], lines: usize) {
    let mut run = shop.spawn(arguments);
    for _ in 0..lines {
        if !run.has_next_line() {
            break;
        }
    }
    let _ = kill(run.pid(), Signal::SIGKILL); // it may have ended, and is not reaped yet
    assert!(run.finish(10.secs()).code.is_none_or(|code| code == 0), "it failed by itself");
}

#[test]
fn an_up_that_is_killed_is_finished_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", THREE);
    for lines in moments() {
        kill_at(&shop, &["up", "-d", "--force-recreate"], lines);
        shop.up();
        for service in ["one", "two", "three"] {
            assert_eq!(shop.shell(service, "echo here"), "here", "{service}, killed after {lines} lines");
        }
        assert_eq!(shop.records().len(), 3);
        assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "", "killed after {lines} lines");
    }
    shop.down();
}

#[test]
fn a_down_that_is_killed_is_finished_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", THREE);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    for lines in moments() {
        shop.up();
        kill_at(&shop, &["down", "-v"], lines);
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again(&before);
    }
}

#[test]
fn a_first_up_that_is_killed_can_be_taken_down() {
    require_root!();
    let shop = TestProject::new("shop", THREE);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    for lines in moments() {
        kill_at(&shop, &["up", "-d"], lines);
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again(&before);
    }
}

/// A container that ends with an exit code of its own when it is told to.
const ENDING: &str = "
services:
  web:
    image: busybox
    command: sh -c 'trap \"exit 3\" TERM; echo ready; while :; do sleep 0.02; done'
";

#[test]
fn an_end_that_the_holder_has_yet_to_hear_of_is_not_lost_with_the_worker() {
    require_root!();
    let shop = TestProject::new("shop", ENDING);
    shop.up();
    for round in 0..rounds() {
        shop.wait_log("web", "it listens", |line| line == "ready");
        let (holder, worker) = (shop.supervisor().holder_pid, shop.supervisor().worker_pid);
        let web = shop.pid("web");
        // It reaps the worker first, and has started the next one before it reaps the container.
        send(holder, Signal::SIGSTOP);
        send(worker, Signal::SIGKILL);
        send(web, Signal::SIGTERM);
        eventually(10.secs(), "both have ended", || {
            holds([worker, web].into_iter().all(|pid| process_state(pid) == Some('Z')))
        });
        send(holder, Signal::SIGCONT);
        next_worker(&shop, worker);
        assert_eq!(shop.wait_exit("web"), 3, "round {round}");
        shop.hoist(&["up", "-d", "--force-recreate"]).ok();
    }
}

#[test]
fn a_child_that_was_never_let_go_is_no_container_that_runs() {
    require_root!();
    let shop = TestProject::new("shop", ENDING);
    shop.hoist(&["version"]).ok();
    // Whether it was held in time: one that the next worker has started would be held for ever.
    let mut met = 0;
    for round in 0..3 {
        // Held from its first moment on, it does not notice that the worker is gone.
        let mut command = shop.command(&["up", "-d", "--force-recreate"]);
        command.env("HOIST_FAULT", "worker:start.recorded");
        let before: Vec<_> = shop.records().into_iter().map(|r| r.id).collect();
        let up = super::support::run::Running::of(command, None);
        let hierarchy = hoist::runtime::cgroup::Hierarchy::find().expect("cgroup2");
        let begun = Instant::now();
        let freezer = loop {
            let new = shop.records().into_iter().find(|r| !before.contains(&r.id));
            let path = new.map(|r| hierarchy.path().join(r.spec["cgroup"].as_str().expect("a cgroup")));
            match path.map(|path| path.join("cgroup.freeze")).filter(|file| fs::write(file, "1").is_ok()) {
                Some(file) => break file,
                None => assert!(begun.elapsed() < Duration::from_secs(10), "no cgroup"),
            }
        };
        let (done, late) = std::sync::mpsc::channel::<()>();
        let thaw = std::thread::spawn(move || {
            let is_late = late.recv_timeout(10.secs()) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if is_late {
                let _ = fs::write(freezer, "0");
            }
            is_late
        });
        let run = up.finish(30.secs()).code(0);
        drop(done);
        met += usize::from(!thaw.join().expect("ended"));
        assert!(!run.stderr.contains("warning"), "round {round}: {run}");
        assert_eq!(
            shop.shell("web", "ls -d /bin /home; cat /etc/hostname"),
            format!("/bin\n/home\n{}", shop.record("web").id.short())
        );
        shop.hoist(&["down", "-t", "1"]).ok();
    }
    assert!(met > 0, "nothing was held in time");
}
