//! Terminals: `exec` and `attach` in one, seen from the user's chair.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::project::TestProject;
use super::support::run::{Run, Running};
use super::support::tmux::Tmux;
use super::support::{Secs as _, eventually, holds, require_root};

/// What is typed at a shell goes to bash: busybox's asks its terminal where the cursor is, and drops what follows the answer.
const BOX: &str = "
services:
  web:
    image: debian
    hostname: box
    command: sleep 100000
";

/// The prompt of bash in the container.
const PROMPT: &str = "root@box:/#";

/// Compares what a terminal shows with what is committed.
macro_rules! assert_screen {
    ($name:literal, $screen:expr) => {
        insta::with_settings!({snapshot_path => "../data/terminal", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, $screen);
        });
    };
}

/// Waits until the container's first terminal has heard of its size.
fn wait_size(project: &TestProject, size: &str) {
    eventually(20.secs(), "its new size", || holds(project.shell("web", "stty -F /dev/pts/0 size") == size));
}

fn kill_worker(project: &TestProject) {
    let before = project.supervisor().worker_pid;
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("it runs");
    eventually(20.secs(), "another worker", || holds(project.supervisor().worker_pid != before));
}

#[test]
fn a_shell_in_a_container_has_the_terminal_and_gives_it_back() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    tmux.line("hoist exec -it web bash");
    tmux.wait_last(PROMPT);
    tmux.line("tty; stty size; echo $TERM");
    tmux.wait("its answer", |s| s.ends_with(&format!("\nxterm\n{PROMPT}")));
    tmux.resize(100, 30);
    wait_size(&shop, "30 100");
    tmux.line("stty size");
    tmux.wait("the new size", |s| s.ends_with(&format!("\n30 100\n{PROMPT}")));
    // The program is interrupted, neither the shell around it nor hoist.
    tmux.line("sleep 1000");
    eventually(20.secs(), "it sleeps", || {
        holds(shop.shell("web", "cat /proc/[0-9]*/cmdline").contains("sleep\x001000"))
    });
    tmux.key("C-c");
    tmux.wait("the prompt", |s| s.ends_with(&format!("^C\n{PROMPT}")));
    tmux.line("echo $?");
    tmux.wait("the exit code of an interrupt", |s| s.ends_with(&format!("\n130\n{PROMPT}")));
    tmux.line("exit 3");
    tmux.wait_last("#");
    tmux.line("echo $?");
    let screen = tmux.wait("its exit code", |s| s.ends_with("\n3\n#"));
    assert_screen!("exec-bash", screen);
    tmux.resize(80, 24);
    tmux.wait_settings(&before);
}

#[test]
fn a_large_paste_arrives_whole_also_when_the_program_does_not_read_yet() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let tmux = Tmux::open(&shop);
    tmux.line("hoist exec web bash");
    tmux.wait_last(PROMPT);
    tmux.line("stty raw -echo; echo ready; until [ -e /go ]; do :; done; head -c 100000 | sha256sum; stty sane");
    tmux.wait("ready", |s| s.lines().any(|l| l.trim() == "ready"));
    let lines: String = (0..100_000 / 50).map(|n| format!("{n:049}\n")).collect();
    assert_eq!(lines.len(), 100_000);
    tmux.paste(&lines);
    shop.shell("web", "touch /go");
    let mut sum = std::process::Command::new("sha256sum");
    sum.arg(shop.path("terminal/paste"));
    let wanted = Run::of(sum, 20.secs()).ok();
    let wanted = wanted.split(' ').next().expect("a checksum");
    tmux.wait("the checksum", |s| s.contains(wanted));
    tmux.line("exit");
    tmux.wait_last("#");
}

#[test]
fn keys_detach_and_the_program_goes_on() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    tmux.line("hoist exec -it web bash");
    tmux.wait_last(PROMPT);
    // A first key of the sequence alone is for the program.
    tmux.line("cat >/typed");
    // What is typed before the shell has given the terminal away is the shell's, or arrives without its meaning.
    eventually(20.secs(), "it reads", || {
        holds(shop.hoist(&["exec", "-T", "web", "test", "-e", "/typed"]).code == Some(0))
    });
    tmux.key("C-p");
    tmux.text("x");
    tmux.key("Enter");
    tmux.key("C-d");
    eventually(20.secs(), "the key arrives", || holds(shop.shell("web", "cat /typed") == "\x10x"));
    tmux.line("clear; n=0; until [ -e /read ]; do n=$((n+1)); echo $n >/n; echo 0123456789012345678901234567890; done");
    eventually(20.secs(), "it counts", || holds(!shop.shell("web", "cat /n 2>/dev/null || true").is_empty()));
    tmux.key("C-p");
    tmux.key("C-q");
    tmux.wait_last("#");
    tmux.line("code=$?; clear; echo $code");
    let screen = tmux.wait("the prompt", |s| s.ends_with("\n#"));
    assert_eq!(screen, "1\n#");
    tmux.wait_settings(&before);
    // More than its terminal holds, so somebody takes it; a new worker does not change that.
    let count = || shop.shell("web", "cat /n").parse::<u64>().unwrap_or(0);
    let seen = count();
    eventually(20.secs(), "it goes on", || holds(count() > seen + 3000));
    kill_worker(&shop);
    let seen = count();
    eventually(20.secs(), "it still goes on", || holds(count() > seen + 3000));
}

#[test]
fn the_terminal_is_put_back_when_the_client_is_killed() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    for (signal, shown) in [(Signal::SIGKILL, "137"), (Signal::SIGTERM, "143"), (Signal::SIGHUP, "129")] {
        tmux.line("clear");
        tmux.wait("an empty screen", |s| s == "#");
        let client = tmux.exec("hoist exec -it web bash");
        tmux.wait_last(PROMPT);
        assert_ne!(tmux.settings(), before);
        tmux.line("sleep 1234");
        let sleeps = || shop.shell("web", "cat /proc/[0-9]*/cmdline").contains("sleep\x001234");
        eventually(20.secs(), "it sleeps", || holds(sleeps()));
        kill(client, signal).expect("it runs");
        tmux.wait_settings(&before);
        tmux.wait("the prompt", |s| s.lines().last().is_some_and(|line| line.trim() == "#"));
        tmux.line("code=$?; clear; echo code $code, and the keys are shown");
        tmux.wait("its exit code", |s| s == format!("code {shown}, and the keys are shown\n#"));
        // Nobody has its terminal any more, so the program was hung up.
        eventually(20.secs(), "the program has ended", || holds(!sleeps()));
    }
}

#[test]
fn a_killed_worker_does_not_disturb_an_exec() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let tmux = Tmux::open(&shop);
    tmux.line("hoist exec -it web bash");
    tmux.wait_last(PROMPT);
    kill_worker(&shop);
    tmux.line("clear; echo still $((6 * 7))");
    tmux.wait("an answer", |s| s.starts_with("still 42\n"));
    kill_worker(&shop);
    tmux.line("exit 7");
    tmux.wait_last("#");
    tmux.line("code=$?; clear; echo $code");
    tmux.wait("its exit code", |s| s == "7\n#");

    // The same without a terminal; and a command that ends while no worker is there.
    let mut exec = shop.command(&["exec", "-T", "web", "sh", "-c", "echo ready; read line; echo got $line; exit 9"]);
    let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut said = std::io::BufReader::new(exec.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("read");
    assert_eq!(line, "ready\n");
    kill_worker(&shop);
    exec.stdin.take().expect("piped").write_all(b"hello\n").expect("written");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("read");
    assert_eq!((rest.as_str(), exec.wait().expect("ours").code()), ("got hello\n", Some(9)));

    let exec = shop.spawn(&["exec", "-T", "web", "sh", "-c", "echo $$ >/pid; until [ -e /end ]; do :; done; exit 5"]);
    eventually(20.secs(), "it runs", || holds(!shop.shell("web", "cat /pid 2>/dev/null || true").is_empty()));
    let worker = shop.supervisor().worker_pid;
    let root = format!("/proc/{}/root/end", shop.pid("web"));
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("it runs");
    std::fs::write(root, "").expect("written");
    let _ = exec.finish(20.secs()).code(5);
}

#[test]
fn streams_without_a_terminal_are_binary_and_end_by_halves() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let all: Vec<u8> = (0..=255_u8).cycle().take(256 * 1024).collect();
    for flags in [&["exec", "-T", "web", "cat"][..], &["exec", "-i", "web", "cat"]] {
        let mut cat = shop.command(flags);
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let mut stdin = cat.stdin.take().expect("piped");
        let bytes = all.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes)); // and closes it
        let mut got = Vec::new();
        cat.stdout.take().expect("piped").read_to_end(&mut got).expect("read");
        writer.join().expect("ended").expect("written");
        assert!(got == all, "{} bytes came back", got.len());
        assert_eq!(cat.wait().expect("ours").code(), Some(0));
    }
    // Its output goes on after its input has ended.
    let counted = Run::of(
        {
            let mut sh = shop.command(&["exec", "-T", "web", "sh", "-c", "wc -c; echo done >&2; exit 4"]);
            sh.stdin(Stdio::null());
            sh
        },
        20.secs(),
    )
    .code(4);
    assert_eq!((counted.stdout.as_str(), counted.stderr.as_str()), ("0\n", "done\n"));
    let given = shop.hoist(&["exec", "--interactive=false", "web", "cat"]).code(0);
    assert_eq!(given.stdout, "");
}

#[test]
fn flags_of_exec_are_composes() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], BOX);
    shop.up();
    let all = shop.hoist(&["exec", "-T", "--privileged", "web", "sh", "-c", "grep CapEff /proc/self/status"]).ok();
    let bounding = std::fs::read_to_string("/proc/self/status").expect("ours");
    let bounding = bounding.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).expect("there is one").to_owned();
    assert_eq!(all.trim(), format!("CapEff:\t{bounding}"));
    assert_eq!(shop.hoist(&["exec", "-d", "web", "sh", "-c", "tty >/tty; echo hello; echo done >/done"]).ok(), "");
    eventually(20.secs(), "it is done", || holds(shop.shell("web", "cat /done 2>/dev/null || true") == "done"));
    assert_eq!(shop.shell("web", "cat /tty"), "not a tty");
    let wrong = shop.hoist(&["exec", "-d", "web", "nope"]).code(127);
    assert!(wrong.stderr.contains("cannot run `nope`"), "{wrong}");
    let env = shop.hoist(&[
        "exec",
        "-T",
        "-e",
        "A=b",
        "-u",
        "www-data",
        "-w",
        "/tmp",
        "web",
        "sh",
        "-c",
        "echo $A; id -un; pwd",
    ]);
    assert_eq!(env.ok(), "b\nwww-data\n/tmp\n");

    let tmux = Tmux::open(&shop);
    tmux.line("echo x | hoist exec web cat");
    tmux.wait("the refusal", |s| s.contains("error: the input device is not a TTY\n"));
    tmux.line("clear; echo x | hoist exec -T web cat");
    tmux.wait("its answer", |s| s == "x\n#");
    tmux.line(
        "clear; hoist exec -u www-data -e TERM=dumb web sh -c 'echo $TERM; stat -c %U $(tty); test -t 2 && echo yes'",
    );
    tmux.wait("a terminal of the user's", |s| s == "dumb\nwww-data\nyes\n#");
    tmux.line("clear; hoist exec -d web sh -c 'tty >/tty2; echo 1 >/done2'");
    eventually(20.secs(), "it is done", || holds(shop.shell("web", "cat /done2 2>/dev/null || true") == "1"));
    assert_eq!(shop.shell("web", "cat /tty2"), "/dev/pts/0");
}

const SHELL: &str = "
services:
  web:
    image: debian
    hostname: box
    tty: true
    stdin_open: true
    command: bash
    stop_grace_period: 1s
";

#[test]
fn attach_types_into_a_container_and_leaves_it() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], SHELL);
    shop.up();
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    tmux.line("hoist attach web --detach-keys ctrl-x,y");
    // Its prompt, a line without an end, is there already.
    tmux.wait_last(PROMPT);
    tmux.line("clear; stty size; echo one $((1 + 1))");
    tmux.wait("its answer", |s| s == format!("24 80\none 2\n{PROMPT}"));
    tmux.resize(90, 20);
    wait_size(&shop, "20 90");
    tmux.line("clear; stty size");
    tmux.wait("the new size", |s| s == format!("20 90\n{PROMPT}"));
    kill_worker(&shop);
    tmux.line("echo and $((2 + 2))");
    tmux.wait("the answer after the worker's death", |s| s.ends_with(&format!("\nand 4\n{PROMPT}")));
    tmux.key("C-x");
    tmux.text("y");
    tmux.wait_last("#");
    let screen = tmux.screen();
    assert_screen!("attach", screen);
    tmux.resize(80, 24);
    tmux.wait_settings(&before);
    // The same shell goes on; its end is told with its exit code.
    tmux.line("clear; hoist attach web");
    tmux.wait_last(PROMPT);
    tmux.line("exit 6");
    tmux.wait_last("#");
    tmux.line("code=$?; clear; echo $code");
    tmux.wait("its exit code", |s| s == "6\n#");
    assert_eq!(shop.wait_exit("web"), 6);
    // A terminal's output is logged as docker does: on stdout, with the line ends of a terminal.
    let log = shop.log("web");
    assert!(log.iter().all(|line| line.stream == "stdout"), "{log:?}");
    assert!(log.iter().any(|line| line.log == "one 2\r\n"), "{log:?}");
    let refused = shop.hoist(&["attach", "web"]).fails();
    assert!(refused.contains("service \"web\" is not running"), "{refused}");
}

#[test]
fn an_attached_client_that_is_killed_leaves_terminal_and_container_alone() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], SHELL);
    shop.up();
    let pid = shop.pid("web");
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    let client = tmux.exec("hoist attach web");
    tmux.wait_last(PROMPT);
    kill(client, Signal::SIGKILL).expect("it runs");
    tmux.wait_settings(&before);
    tmux.line("clear; hoist attach web");
    tmux.wait_last(PROMPT);
    tmux.line("echo $((40 + 2))");
    tmux.wait("an answer", |s| s.contains("\n42\n"));
    assert_eq!(shop.pid("web"), pid);
    let watching = shop.hoist(&["attach", "web"]).fails();
    assert!(watching.contains("the input device is not a TTY"), "{watching}");
}

#[test]
fn every_line_of_a_terminal_is_logged_once_however_often_the_worker_dies() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    tty: true
    command: sh -c 'i=0; while [ $$i -lt 20000 ]; do echo line $$i; i=$$((i+1)); done; printf last; exit 3'
",
    );
    shop.up();
    for _ in 0..5 {
        kill_worker(&shop);
    }
    assert_eq!(shop.wait_exit("web"), 3);
    let expected: String = (0..20_000).map(|i| format!("line {i}\r\n")).chain(["last".to_owned()]).collect();
    let text = shop.log_text("web");
    assert!(text == expected, "{} bytes instead of {}", text.len(), expected.len());
}

#[test]
fn several_clients_share_a_container_without_a_terminal() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    stdin_open: true
    command: sh -c 'echo begun; while read line; do [ \"$$line\" = end ] && exit 8; echo got $$line; echo also >&2; done'
",
    );
    shop.up();
    shop.wait_log("web", "its first line", |line| line == "begun");
    let attach = || {
        let mut attach = shop.command(&["attach", "web"]);
        let mut child =
            attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let stdin = child.stdin.take().expect("piped");
        (child, stdin)
    };
    let (first, mut input) = attach();
    let (mut second, other) = attach();
    let line = |input: &mut std::process::ChildStdin, text: &str| {
        input.write_all(text.as_bytes()).expect("written");
    };
    let logged = |text: &str| drop(shop.wait_log("web", text, |line| line == text));
    // The second one is there when it has shown something.
    let mut shown = std::io::BufReader::new(second.stdout.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut shown, &mut line).expect("read");
        (line, shown)
    });
    eventually(20.secs(), "both are attached", || {
        line(&mut input, "one\n");
        holds(reader.is_finished())
    });
    let (begun, mut shown) = reader.join().expect("ended");
    assert_eq!(begun, "got one\n");
    line(&mut input, "ready\n");
    logged("got ready");
    drop(other); // the end of one client's input is not that of the container's
    kill_worker(&shop);
    line(&mut input, "two\n");
    logged("got two");
    line(&mut input, "end\n");
    let first = first.wait_with_output().expect("ours");
    let first_out = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first_out.starts_with("got one\n") && first_out.ends_with("got one\ngot ready\ngot two\n"), "{first_out}");
    let mut second_out = String::new();
    shown.read_to_string(&mut second_out).expect("read");
    assert!(second_out.ends_with("got ready\ngot two\n"), "{second_out}");
    let second = second.wait_with_output().expect("ours");
    for run in [&first, &second] {
        assert!(String::from_utf8_lossy(&run.stderr).ends_with("also\nalso\n"), "{run:?}");
        assert_eq!(run.status.code(), Some(8));
    }
    // Each has every line once: what the first had from the beginning is what is in the log.
    let log: String = shop.log("web").iter().filter(|l| l.stream == "stdout").map(|l| l.log.clone()).collect();
    assert_eq!(format!("begun\n{first_out}"), log);
}

/// Says which signals it gets, until one ends it. It never stops talking, so that a client knows when it is attached.
const LISTENER: &str = r#"
services:
  web:
    image: busybox
    stdin_open: true
    command:
      - sh
      - -c
      - |
        trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo tstp' TSTP
        trap 'echo last words; exit 5' TERM; trap 'echo int; exit 6' INT
        echo ready >&2
        while :; do echo .; sleep 0.02; done
    restart: always
"#;

#[test]
fn signals_to_an_attached_client_go_to_the_container() {
    require_root!();
    let shop = TestProject::new("shop", LISTENER);
    shop.up();
    shop.wait_log("web", "ready", |line| line == "ready");
    let pid = shop.pid("web");
    let mut attach = shop.spawn(&["attach", "web"]);
    assert!(attach.has_next_line());
    for (signal, said) in [(Signal::SIGHUP, "hup"), (Signal::SIGUSR1, "usr1"), (Signal::SIGTSTP, "tstp")] {
        attach.signal(signal);
        shop.wait_log("web", said, |line| line == said);
    }
    kill_worker(&shop);
    attach.signal(Signal::SIGUSR1);
    attach.wait_for("the signal that a new worker passed on", |line| line == "usr1");
    // Two clients: who was interrupted says so, the other has the container's exit code. Neither is restarted, as after
    // `kill` with the stop signal.
    let mut watch = shop.spawn(&["attach", "--no-stdin", "--sig-proxy=true", "web"]);
    assert!(watch.has_next_line());
    assert_eq!(shop.pid("web"), pid);
    attach.signal(Signal::SIGTERM);
    let run = attach.finish(20.secs()).code(130);
    assert!(run.stdout.ends_with("last words\n"), "{run}");
    let run = watch.finish(20.secs()).code(5);
    assert!(run.stdout.ends_with("last words\n"), "{run}");
    assert_eq!(shop.wait_exit("web"), 5);
}

#[test]
fn signals_and_input_stay_with_the_client_that_says_so() {
    require_root!();
    let shop = TestProject::new("shop", LISTENER);
    shop.up();
    shop.wait_log("web", "ready", |line| line == "ready");
    let pid = shop.pid("web");
    let mut attach = shop.spawn(&["attach", "--sig-proxy=false", "web"]);
    assert!(attach.has_next_line());
    attach.signal(Signal::SIGTERM); // SIGINT may be ignored, as by what runs in the background of a script
    assert_eq!(attach.finish(20.secs()).code, None);
    assert_eq!(shop.pid("web"), pid);
    // Its words are docker's.
    shop.hoist(&["pause"]).ok();
    let refused = shop.hoist(&["attach", "web"]).code(1);
    assert!(refused.stderr.contains("cannot attach to a paused container, unpause it first"), "{refused}");
    shop.hoist(&["unpause"]).ok();

    let one_line = "services:\n  web:\n    image: busybox\n    stdin_open: true\n    command: sh -c 'while ! read -t 1 line; do echo waiting; done; echo got $$line'\n";
    let other = shop.beside("other", one_line);
    other.up();
    let with_input = |flags: &[&str], text: &str| {
        let mut command = other.command(&["attach"]);
        command.args(flags).arg("web");
        Running::of(command, Some(text))
    };
    let mut watching = with_input(&["--no-stdin"], "nothing for it\n");
    assert!(watching.has_next_line());
    for client in [with_input(&[], "something\n"), watching] {
        let run = client.finish(20.secs()).code(0);
        assert!(run.stdout.ends_with("got something\n"), "{run}");
    }
}

#[test]
fn keys_of_dockers_configuration_detach() {
    require_root!("debian");
    let shop = TestProject::with_images("shop", &["debian"], SHELL);
    let config = shop.host().directory().join(".docker/config.json");
    std::fs::create_dir_all(config.parent().expect("a folder")).expect("made");
    let keys =
        |text: &str| std::fs::write(&config, format!(r#"{{"auths": {{}}, "detachKeys": "{text}"}}"#)).expect("written");
    shop.up();
    let tmux = Tmux::open(&shop);
    keys("ctrl-x,y");
    for command in ["hoist exec -it web bash", "hoist attach web"] {
        tmux.line(&format!("clear; {command}"));
        tmux.wait_last(PROMPT);
        tmux.key("C-x");
        tmux.text("y");
        tmux.wait("the host's prompt", |s| s.lines().last().is_some_and(|line| line.trim() == "#"));
        tmux.line("code=$?; clear; echo $code");
        tmux.wait("its exit code", |s| s == "1\n#");
    }
    // The option is stronger, and so is DOCKER_CONFIG, where there is no such file.
    for command in ["hoist attach --detach-keys=ctrl-a,ctrl-b web", "DOCKER_CONFIG=/nowhere hoist attach web"] {
        let (first, second) = if command.contains("ctrl-a") { ("C-a", "C-b") } else { ("C-p", "C-q") };
        tmux.line(&format!("clear; {command}"));
        tmux.wait_last(PROMPT);
        tmux.key(first);
        tmux.key(second);
        tmux.wait("the host's prompt", |s| s.lines().last().is_some_and(|line| line.trim() == "#"));
    }
    keys("ctrl-ä");
    let refused = shop.hoist(&["attach", "web"]).code(1);
    assert!(refused.stderr.contains("/.docker/config.json`: invalid detach keys"), "{refused}");
    std::fs::write(&config, "{").expect("written");
    tmux.line("clear; hoist exec web true; echo code $?");
    tmux.wait("a warning", |s| s.contains("cannot read the keys that detach in") && s.ends_with("\ncode 0\n#"));
}

#[test]
fn a_hostile_dev_is_not_followed() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  image:
    build: .
    tty: true
    stdin_open: true
    command: sh
    stop_grace_period: 1s
  volume:
    image: busybox
    tty: true
    command: sh
    volumes: ['./dev:/dev']
",
    );
    shop.write("canary", "sings\n");
    let canary = shop.path("canary");
    for name in ["dev/console", "dev/pts/ptmx", "dev/pts/0", "dev/ptmx"] {
        shop.write(name, "");
        std::fs::remove_file(shop.path(name)).expect("removed");
        std::os::unix::fs::symlink(&canary, shop.path(name)).expect("a link");
    }
    shop.write("Dockerfile", "FROM busybox\nCOPY dev /dev\n");
    // What the image has in /dev is covered, so all is the container's own.
    shop.hoist(&["up", "-d", "image"]).ok();
    let seen =
        shop.shell("image", "test -c /dev/console && stat -c %t:%T /dev/console /dev/pts/ptmx; readlink /dev/ptmx");
    assert_eq!(seen, "88:0\n5:2\npts/ptmx");
    let tmux = Tmux::open(&shop);
    tmux.line("hoist exec image tty");
    tmux.wait("a terminal", |s| s.contains("\n/dev/pts/1\n"));
    // What is mounted over /dev is not, and leads nowhere.
    let refused = shop.hoist(&["up", "-d", "volume"]).fails();
    assert!(refused.contains("the container's /dev/console is a symbolic link"), "{refused}");
    assert_eq!(shop.read("canary"), "sings\n");
}

/// What is shown at the bottom while an attached `up` shows its output.
const KEYS: &str = "w Enable Watch   d Detach";

#[test]
fn keys_of_an_attached_up_watch_and_detach() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  web:\n    image: busybox\n    command: sh -c 'while sleep 0.3; do echo tick; done'\n    init: true\n    \
         develop: {watch: [{path: ./src, action: sync, target: /src}]}\n",
    );
    shop.make_dir("src");
    let tmux = Tmux::open(&shop);
    let before = tmux.settings();
    tmux.line("hoist up");
    // The line stays at the bottom, once, while others come.
    for ticks in [1, 4] {
        tmux.wait("lines above the keys", |s| {
            s.matches("tick").count() >= ticks && s.ends_with(KEYS) && s.matches("Detach").count() == 1
        });
    }
    tmux.text("x");
    tmux.text("w");
    tmux.wait("it watches", |s| s.contains("Watch enabled") && s.ends_with("w Disable Watch   d Detach"));
    shop.write("src/new", "here\n");
    eventually(20.secs(), "the file is there", || {
        holds(shop.hoist(&["exec", "-T", "web", "cat", "/src/new"]).stdout == "here\n")
    });
    tmux.text("w");
    tmux.wait("it watches no more", |s| s.matches("Watch disabled").count() == 1 && s.ends_with(KEYS));
    // Stopped and resumed it has the keys again.
    tmux.key("C-z");
    tmux.wait("the shell", |s| s.contains("Stopped"));
    tmux.line("fg");
    tmux.wait("it goes on", |s| s.ends_with(KEYS));
    tmux.text("d");
    // The line that was there when it was stopped is history.
    tmux.wait("the prompt without the keys", |s| s.ends_with('#') && s.matches("Detach").count() == 1);
    tmux.wait_settings(&before);
    assert_eq!(shop.hoist(&["ps", "--services", "--status", "running"]).ok(), "web\n");
    // Ctrl-C is what it is without.
    tmux.line("clear; hoist up");
    tmux.wait("the keys", |s| s.contains("tick") && s.ends_with(KEYS));
    tmux.key("C-c");
    tmux.wait("it is stopped", |s| s.contains("Gracefully Stopping") && s.ends_with('#') && !s.contains("Detach"));
    tmux.wait_settings(&before);
    // Who does not want it has none.
    tmux.line("clear; COMPOSE_MENU=false hoist up");
    tmux.wait("a line of this one", |s| {
        s.contains("tick") && !s.contains("Detach") && !s.contains("Gracefully Stopping")
    });
    tmux.key("C-c");
    tmux.wait("it is stopped", |s| s.contains("Gracefully Stopping") && s.ends_with('#'));
    tmux.wait_settings(&before);
    shop.down();
}
