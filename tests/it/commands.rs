//! `stop`, `start`, `kill`, `pause`, `unpause`, `port` and `top`.

use std::fs;
use std::net::TcpListener;

use hoist::state::record::{Health, State};

use super::support::net::{self, Kind};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

/// A web server, what it depends on, and a job that has ended.
const SHOP: &str = "
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /www
    ports: ['8080:80', '127.0.0.1:8081:81/udp']
    volumes: ['./www:/www:ro']
    depends_on: [db]
  db:
    image: busybox
    command: sleep 1000
  job:
    image: busybox
    command: 'true'
";

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.write("www/index.html", "a page\n");
    shop.up();
    shop.wait_exit("job");
    shop
}

/// Returns what the kernel says of a service's cgroup.
fn is_frozen(shop: &TestProject, service: &str) -> bool {
    let relative = shop.record(service).spec["cgroup"].as_str().expect("a cgroup").to_owned();
    let hierarchy = hoist::runtime::cgroup::Hierarchy::find().expect("cgroup2");
    hierarchy.open(&relative).and_then(|c| c.is_frozen()).expect("it is there")
}

/// Returns the status that `ps` shows for a service.
#[track_caller]
fn shown(shop: &TestProject, service: &str) -> (String, String) {
    let text = shop.hoist(&["ps", "-a", "--format", "json", service]).ok();
    let row: serde_json::Value = serde_json::from_str(&text).expect("one row");
    (row["State"].as_str().expect("text").to_owned(), row["Status"].as_str().expect("text").to_owned())
}

#[test]
fn what_is_stopped_stays_and_starts_again_as_it_was() {
    require_root!();
    let shop = shop();
    let (record, db) = (shop.record("web"), shop.pid("db"));
    shop.shell("web", "echo kept > /file");
    let stop = shop.hoist(&["stop", "web"]).code(0).stderr;
    assert!(stop.contains(" Container shop-web-1 Stopping \n"), "{stop}");
    assert!(stop.contains(" Container shop-web-1 Stopped "), "{stop}");
    assert_eq!(shop.status("web").state, State::Exited);
    assert!(shown(&shop, "web").1.starts_with("Exited ("), "{:?}", shown(&shop, "web"));
    assert_eq!(shop.pid("db"), db, "what it depends on goes on");
    assert_eq!(shop.hoist(&["stop", "web"]).code(0).stderr, "", "there is nothing to do");

    let start = shop.hoist(&["start", "web"]).code(0).stderr;
    assert!(start.contains(" Container shop-web-1 Starting \n Container shop-web-1 Started \n"), "{start}");
    assert!(!start.contains("shop-db-1") && !start.contains("shop-job-1"), "{start}");
    assert_eq!(shop.record("web"), record);
    assert_eq!(shop.shell("web", "cat /file"), "kept");
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
    assert_eq!(net::dns(shop.pid("web"), "db", Kind::A).records, [shop.address("db").to_string()]);
    assert_eq!(shop.hoist(&["start", "web"]).code(0).stderr, "", "it runs");
}

#[test]
fn start_brings_up_what_a_service_depends_on_first() {
    require_root!();
    let shop = shop();
    let stop = shop.hoist(&["stop"]).code(0).stderr;
    let at = |text: &str, what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at(&stop, "shop-web-1 Stopped") < at(&stop, "shop-db-1 Stopping"), "{stop}");
    let start = shop.hoist(&["start", "web"]).code(0).stderr;
    assert!(at(&start, "shop-db-1 Started") < at(&start, "shop-web-1 Starting"), "{start}");
    assert!(!start.contains("shop-job-1"), "{start}");
    let all = shop.hoist(&["start"]).code(0).stderr;
    assert!(all.contains("shop-job-1 Started"), "as in Compose, what has ended runs again: {all}");
}

#[test]
fn start_waits_for_health_and_no_longer_than_it_is_told() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  db:
    image: busybox
    command: sleep 1000
    volumes: [./ctl:/ctl]
    healthcheck:
      test: test -e /ctl/ready
      interval: 100ms
      start_period: 60s
",
    );
    shop.write("ctl/ready", "");
    shop.up();
    shop.hoist(&["stop"]).ok();
    shop.hoist(&["start", "--wait"]).ok();
    assert_eq!(shop.status("db").health, Some(Health::Healthy));
    shop.hoist(&["stop"]).ok();
    fs::remove_file(shop.path("ctl/ready")).expect("removed");
    let message = shop.hoist(&["start", "--wait", "--wait-timeout", "1"]).code(12).stderr;
    assert!(message.contains("application not healthy after 1s: container shop-db-1"), "{message}");
    assert_eq!(shop.status("db").state, State::Running, "it goes on");
}

#[test]
fn a_service_without_a_container_is_not_started() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let message = shop.hoist(&["start", "web"]).code(1).stderr;
    insta::assert_snapshot!(message, @r#"
    error: service "web" has no container to start
    help: make it with: hoist up -d web
    "#);
    let message = shop.hoist(&["start"]).code(1).stderr;
    assert!(message.contains("service \"db\" has no container to start"), "{message}");
    for command in ["stop", "pause", "unpause", "top"] {
        let run = shop.hoist(&[command]).code(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{command}");
    }
    assert_eq!(shop.hoist(&["kill"]).code(0).stderr, "No container to kill\n");
}

#[test]
fn an_unknown_service_is_told_with_the_nearest_name() {
    require_root!();
    let shop = shop();
    let commands: [&[&str]; 7] = [
        &["stop", "wbe"],
        &["start", "wbe"],
        &["kill", "wbe"],
        &["pause", "wbe"],
        &["unpause", "wbe"],
        &["port", "wbe", "80"],
        &["top", "wbe"],
    ];
    for command in commands {
        let message = shop.hoist(command).code(1).stderr;
        assert_eq!(message, "error: no such service: wbe\nhelp: did you mean `web`?\n", "{command:?}");
    }
    let message = shop.hoist(&["kill", "-s", "NOPE"]).code(1).stderr;
    assert!(message.contains("NOPE") && message.contains("RTMIN+1"), "{message}");
    assert_eq!(shop.status("web").state, State::Running);
}

#[test]
fn a_service_that_was_stopped_gives_its_ports_to_who_wants_them() {
    require_root!();
    let shop = shop();
    let message = shop.hoist(&["port", "web", "80"]).ok();
    assert_eq!(message, "0.0.0.0:8080\n");
    TcpListener::bind("0.0.0.0:8080").expect_err("held");
    shop.hoist(&["stop", "web"]).ok();
    let listener = TcpListener::bind("0.0.0.0:8080").expect("free at once");
    let udp = std::net::UdpSocket::bind("127.0.0.1:8081").expect("free at once");
    // Whoever comes reaches the new owner.
    let to: std::net::SocketAddr = "127.0.0.1:8080".parse().expect("an address");
    drop(std::net::TcpStream::connect(to).expect("it listens"));
    let link = &shop.record("web").endpoints[0].host_link;
    eventually(10.secs(), "its link is gone", || holds(!shop.host().objects().links.contains(link)));
    let before = shop.host().objects();
    for command in [&["start", "web"][..], &["up", "-d"]] {
        let message = shop.hoist(command).code(1).stderr;
        let pid = format!("(pid {})", std::process::id());
        for part in ["0.0.0.0:8080/tcp", "127.0.0.1:8081/udp"] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
        assert_eq!(message.matches(&pid).count(), 2, "{message}");
        assert_eq!(shop.status("web").state, State::Exited);
        assert_eq!(shop.host().objects(), before);
    }
    drop((listener, udp));
    shop.hoist(&["start", "web"]).ok();
    TcpListener::bind("0.0.0.0:8080").expect_err("held again");
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
}

#[test]
fn another_project_gets_the_port_of_one_that_was_stopped_and_is_named_then() {
    require_root!();
    let shop = shop();
    let blog = shop.beside("blog", SHOP);
    blog.write("www/index.html", "another page\n");
    shop.hoist(&["stop"]).ok();
    blog.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "another page\n");
    let message = shop.hoist(&["start"]).code(1).stderr;
    assert!(message.contains("port 0.0.0.0:8080/tcp is in use by service `web` of project `blog`"), "{message}");
    assert_eq!(shop.status("db").state, State::Exited, "nothing was started");
    blog.down();
    shop.hoist(&["start"]).ok();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page\n");
}

#[test]
fn one_that_ends_by_itself_gives_its_ports_back_too_but_not_between_two_runs() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  once:
    image: busybox
    command: sh -c 'until [ -e /ctl/go ]; do usleep 2000; done'
    ports: ['8080:80']
    volumes: [./ctl:/ctl]
  again:
    image: busybox
    command: sh -c 'until [ -e /ctl/go ]; do usleep 2000; done; exit 1'
    ports: ['8082:80']
    restart: always
    volumes: [./ctl:/ctl]
",
    );
    shop.make_dir("ctl");
    shop.up();
    for port in [8080, 8082] {
        TcpListener::bind(("0.0.0.0", port)).expect_err("held");
    }
    shop.write("ctl/go", "");
    shop.wait_exit("once");
    let listener = eventually(10.secs(), "the port is free", || TcpListener::bind("0.0.0.0:8080").ok());
    shop.wait_status("again", "between two runs", |s| s.state == State::Restarting && s.restarts > 1);
    TcpListener::bind("0.0.0.0:8082").expect_err("held");
    let message = shop.hoist(&["up", "-d"]).code(1).stderr;
    assert!(message.contains("0.0.0.0:8080/tcp is in use") && message.contains("compose.yaml:6"), "{message}");
    drop(listener);
    fs::remove_file(shop.path("ctl/go")).expect("removed");
    shop.up();
    TcpListener::bind("0.0.0.0:8080").expect_err("held again");
    shop.hoist(&["stop", "-t", "0"]).ok();
    TcpListener::bind("0.0.0.0:8082").expect("free at once");
}

#[test]
fn a_restart_keeps_the_ports_all_the_while() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'trap \"until [ -e /ctl/go ]; do usleep 2000; done; exit 0\" TERM; while :; do usleep 2000; done'
    ports: ['8080:80']
    volumes: [./ctl:/ctl]
    init: false
  late:
    image: busybox
    command: sleep 1000
",
    );
    shop.make_dir("ctl");
    shop.up();
    let first = shop.pid("web");
    let restart = shop.spawn(&["restart", "web"]);
    shop.wait_status("web", "being stopped", |s| s.stopped_by_user);
    shop.write("ctl/go", "");
    let mut taken = 0;
    eventually(20.secs(), "it runs again", || {
        taken += u32::from(TcpListener::bind("0.0.0.0:8080").is_ok());
        holds(shop.status("web").process.is_some_and(|p| p.pid != first))
    });
    let _ = restart.finish(20.secs()).code(0);
    assert_eq!(taken, 0);
}

#[test]
fn kill_sends_any_signal_and_by_default_the_one_that_kills() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    restart: always
    command: sh -c 'trap \"echo got HUP\" HUP; trap \"echo got 35\" 35; while :; do usleep 2000; done'
  db:
    image: busybox
    command: sleep 1000
    restart: always
",
    );
    shop.up();
    let pid = shop.pid("web");
    for (signal, line) in [("SIGHUP", "got HUP"), ("rtmin+1", "got 35"), ("1", "got HUP"), ("35", "got 35")] {
        let before = shop.log("web").len();
        let run = shop.hoist(&["kill", "-s", signal, "web"]).code(0).stderr;
        assert_eq!(run, " Container shop-web-1 Killing \n Container shop-web-1 Killed \n");
        eventually(10.secs(), line, || holds(shop.log("web")[before..].iter().any(|l| l.log.trim_end() == line)));
    }
    assert_eq!(shop.pid("web"), pid, "it goes on");
    // One that was killed by a command is not started again by its policy, as with Docker.
    shop.hoist(&["kill", "web"]).ok();
    assert_eq!(shop.wait_exit("web"), 137);
    assert_eq!(shop.status("web").restarts, 0);
    assert_eq!(shop.hoist(&["kill", "web"]).code(0).stderr, "No container to kill\n");
    shop.pid("db");
    shop.hoist(&["kill", "-s", "9"]).ok();
    assert_eq!(shop.wait_exit("db"), 137);
    // A command that starts it gives it its policy back.
    shop.hoist(&["start", "db"]).ok();
    let first = shop.pid("db");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    shop.wait_status("db", "started again", |s| s.restarts == 1 && s.state == State::Running);
}

#[test]
fn kill_leaves_orphans_alone_unless_asked() {
    require_root!();
    let shop = shop();
    shop.write("compose.yaml", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    shop.hoist(&["kill"]).ok();
    assert_eq!(shop.wait_exit("web"), 137);
    shop.pid("db");
    shop.hoist(&["kill", "--remove-orphans"]).ok();
    assert_eq!(shop.wait_exit("db"), 137);
    shop.hoist(&["down", "--remove-orphans"]).ok();
}

#[test]
fn a_paused_container_is_held_with_its_health_check_and_goes_on() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'while :; do echo tick; usleep 2000; done'
    healthcheck:
      test: echo probe > /proc/1/fd/1
      interval: 20ms
      timeout: 1s
      retries: 1
",
    );
    shop.up();
    shop.wait_status("web", "healthy", |s| s.health == Some(Health::Healthy));
    let pause = shop.hoist(&["pause", "web"]).code(0).stderr;
    assert_eq!(pause, " Container shop-web-1 Pausing \n Container shop-web-1 Paused \n");
    assert!(is_frozen(&shop, "web"));
    let (state, status) = shown(&shop, "web");
    assert!(state == "paused" && status.starts_with("Up ") && status.ends_with(" (Paused)"), "{state} {status}");
    assert!(shop.hoist(&["ps"]).ok().contains("(Paused)"), "it counts as running");

    // What it had said before is in the log soon; then nothing more comes, from a health check neither.
    let mut lines = shop.log("web").len();
    eventually(10.secs(), "silence", || {
        std::thread::sleep(std::time::Duration::from_millis(200)); // ten of its health checks
        let before = std::mem::replace(&mut lines, shop.log("web").len());
        holds(before == lines)
    });
    let message = shop.hoist(&["exec", "-T", "web", "true"]).code(1).stderr;
    insta::assert_snapshot!(message, @r"
    error: container `shop-web-1` is paused
    help: let it go on with: hoist unpause web
    ");
    for command in [&["up", "-d"][..], &["start"], &["start", "web"]] {
        assert_eq!(shop.hoist(command).code(1).stderr, message, "{command:?}");
    }
    let again = shop.hoist(&["pause"]).code(1).stderr;
    assert_eq!(again, "error: container `shop-web-1` is already paused\n");
    assert!(shop.hoist(&["top"]).ok().contains("echo tick"));

    let unpause = shop.hoist(&["unpause", "web"]).code(0).stderr;
    assert_eq!(unpause, " Container shop-web-1 Unpausing \n Container shop-web-1 Unpaused \n");
    let (before, probes) = (shop.log("web").len(), |lines: &[super::support::project::LogLine]| {
        lines.iter().filter(|l| l.log == "probe\n").count()
    });
    eventually(10.secs(), "it goes on", || holds(probes(&shop.log("web")[before..]) > 1));
    let status = shop.status("web");
    assert_eq!((status.health, status.paused), (Some(Health::Healthy), false));
    let again = shop.hoist(&["unpause"]).code(1).stderr;
    assert_eq!(again, "error: container `shop-web-1` is not paused\n");
}

#[test]
fn a_paused_container_can_be_stopped_killed_restarted_replaced_and_taken_down() {
    require_root!();
    let text = "
services:
  web:
    image: busybox
    command: sh -c 'trap \"echo bye; exit 3\" TERM; while :; do usleep 2000; done'
    environment: {COLOUR: red}
";
    let shop = TestProject::new("shop", text);
    shop.up();
    // Before its handler is there, the kernel discards the signal.
    let handles = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        u64::from_str_radix(caught, 16).is_ok_and(|caught| caught & 1 << (nix::libc::SIGTERM - 1) != 0)
    };
    let pause = || {
        eventually(20.secs(), "its handler", || holds(handles(shop.pid("web"))));
        shop.hoist(&["pause"]).ok();
        assert!(is_frozen(&shop, "web"));
    };
    pause();
    shop.hoist(&["stop"]).ok();
    assert_eq!(shop.wait_exit("web"), 3, "it took its signal");
    assert_eq!(shop.log_text("web"), "bye\n");
    shop.hoist(&["start"]).ok();
    assert!(!is_frozen(&shop, "web") && !shop.status("web").paused);
    pause();
    // A signal that does not end it waits until it goes on; one that does lets it go on.
    shop.hoist(&["kill", "-s", "HUP"]).ok();
    assert!(is_frozen(&shop, "web"));
    shop.hoist(&["kill", "-s", "TERM"]).ok();
    shop.wait_exit("web");
    shop.hoist(&["start"]).ok();
    pause();
    shop.hoist(&["kill"]).ok();
    assert_eq!(shop.wait_exit("web"), 137);
    shop.hoist(&["start"]).ok();
    pause();
    let first = shop.pid("web");
    shop.hoist(&["restart"]).ok();
    assert_ne!(shop.pid("web"), first);
    assert!(!is_frozen(&shop, "web"));
    pause();
    let old = shop.record("web").id;
    shop.write("compose.yaml", &text.replace("red", "blue"));
    shop.up();
    assert_ne!(shop.record("web").id, old);
    pause();
    shop.down();
    assert_eq!(shop.records(), []);
}

#[test]
fn unpause_is_not_kept_waiting_by_a_command_that_waits_for_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  db:
    image: busybox
    command: sleep 1000
    volumes: [./ctl:/ctl]
    healthcheck:
      test: test -e /ctl/ready
      interval: 50ms
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
    shop.hoist(&["pause", "db"]).ok();
    shop.write("ctl/ready", "");
    shop.hoist(&["unpause", "db"]).ok();
    let _ = up.finish(30.secs()).code(0);
    shop.pid("web");
}

#[test]
fn port_tells_where_a_port_is_published() {
    require_root!();
    let shop = shop();
    assert_eq!(shop.hoist(&["port", "web", "80"]).ok(), "0.0.0.0:8080\n");
    assert_eq!(shop.hoist(&["port", "--protocol", "UDP", "web", "81"]).ok(), "127.0.0.1:8081\n");
    assert_eq!(shop.hoist(&["port", "--index", "1", "web", "80"]).ok(), "0.0.0.0:8080\n");
    let told = |arguments: &[&str]| shop.hoist(arguments).code(1).stderr;
    assert_eq!(told(&["port", "web", "81"]), "error: no port 81/tcp for container shop-web-1: 80/tcp, 81/udp\n");
    insta::assert_snapshot!(told(&["port", "db", "1"]), @r"
    error: no port 1/tcp for container shop-db-1
    help: publish it with `ports` in the file
    ");
    let message = told(&["port", "--index", "2", "web", "80"]);
    assert!(message.starts_with("error: service \"web\" is not running container #2\n"), "{message}");
    shop.hoist(&["stop", "web"]).ok();
    let message = told(&["port", "web", "80"]);
    assert!(message.starts_with("error: service \"web\" is not running\n"), "{message}");
}

#[test]
fn top_shows_the_processes_of_every_container() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'sleep 1001 & exec sleep 1000'
    user: '4711'
  db:
    image: busybox
    command: [tail, -f, /dev/null, \"a\\nb\\e[31mc\"]
  once:
    image: busybox
    command: 'true'
",
    );
    shop.up();
    shop.wait_exit("once");
    let row = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<String>>();
    let rows: Vec<Vec<String>> = eventually(10.secs(), "the shell has become its program", || {
        let rows: Vec<_> = shop.hoist(&["top"]).ok().lines().map(row).collect();
        (rows.len() == 4 && !rows[2..].iter().any(|row| row[9] == "sh")).then_some(rows)
    });
    assert_eq!(rows[0], ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!((rows[1][0].as_str(), rows[1][2].as_str()), ("db", "root"));
    assert_eq!(rows[1][9..].join(" "), "tail -f /dev/null a?b?[31mc");
    let web: Vec<_> = rows[2..].iter().map(|r| [&r[0], &r[1], &r[2], &r[7]].map(String::as_str)).collect();
    assert_eq!(web, [["web", "1", "4711", "?"]; 2], "a user that nobody knows is a number");
    assert_eq!(rows[2][3], shop.pid("web").to_string());
    assert_eq!(rows[3][4], rows[2][3], "the second is the first one's child");
    let text = shop.hoist(&["top", "web"]).ok();
    assert!(text.contains("sleep 1000\n") && text.contains("sleep 1001\n") && !text.contains("db"), "{text}");
    assert_eq!(shop.hoist(&["top", "once"]).ok(), "");
}

#[test]
fn one_that_hears_the_stop_signal_and_one_that_is_not_alone_keep_their_whole_grace() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  handler:
    image: busybox
    command: sh -c 'trap \"echo asked\" TERM; echo ready; while :; do sleep 0.02; done'
    stop_grace_period: 600ms
  shell:
    image: busybox
    command: sh -c 'echo ready; sleep 1000; echo never'
    stop_grace_period: 600ms
",
    );
    shop.up();
    for service in ["handler", "shell"] {
        shop.wait_log(service, "ready", |line| line == "ready");
    }
    eventually(10.secs(), "the shell has its child", || {
        holds(shop.shell("shell", "ps").lines().any(|line| line.contains("sleep 1000") && !line.contains("sh -c")))
    });
    let asked = jiff::Timestamp::now().as_nanosecond();
    let stop = shop.hoist(&["stop"]).code(0).stderr;
    assert!(!stop.contains("killed at once"), "{stop}");
    for (service, said) in [("handler", "ready\nasked\n"), ("shell", "ready\n")] {
        let status = shop.status(service);
        assert_eq!((status.exit_code, status.unheard), (Some(137), false), "{service}");
        let had = i128::from(status.finished.expect("it has ended")) - asked;
        assert!(had >= 600_000_000, "{service} had {had} ns of its grace");
        assert_eq!(shop.log_text(service), said);
    }
}

#[test]
fn a_stop_that_cannot_be_heard_says_so_and_waits_only_when_it_is_told() {
    require_root!();
    let text = "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 1s\n";
    let shop = TestProject::new("shop", text);
    shop.up();
    let note = "killed at once: its first process has no handler for the stop signal";
    let stop = shop.hoist(&["stop"]).code(0).stderr;
    assert!(stop.contains(&format!(" Container shop-web-1 Stopped ({note}) \n")), "{stop}");
    let status = shop.status("web");
    assert_eq!((status.exit_code, status.unheard), (Some(137), true));
    shop.hoist(&["start"]).ok();
    assert!(!shop.status("web").unheard);
    let ran = |status: &hoist::state::record::ContainerStatus| {
        status.finished.expect("it has ended") - status.started.expect("it was started")
    };
    for command in [&["stop", "--strict-grace"][..], &["restart", "--strict-grace"], &["down", "--strict-grace"]] {
        shop.hoist(&["start"]).ok();
        let text = shop.hoist(command).code(0).stderr;
        assert!(!text.contains("killed at once"), "{command:?}: {text}");
        if command[0] == "stop" {
            let status = shop.status("web");
            assert!(!status.unheard);
            assert!(ran(&status) >= 1_000_000_000, "it had its whole grace: {status:?}");
        }
    }
    shop.up();
    let down = shop.down();
    assert!(down.contains(note), "{down}");
}
