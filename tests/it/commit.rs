//! `commit`: what of a container becomes an image, what never does, and that the container goes on whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hoist::state::record::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::faults::{faults, of, run, struck, tell};
use super::images::tree;
use super::support::project::TestProject;
use super::support::run::Running;
use super::support::{Secs as _, eventually, holds, require_root};

const WEB: &str = "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
";

/// Says of every file in a container's root what it is, without what is mounted.
const LIST: &str = r"cd /
find . -xdev ! -type d ! -path './etc/host*' ! -path ./etc/resolv.conf -exec stat -c '%n %F %a %u:%g %s %h %Y' {} + | sort
find . -xdev -type d ! -path . -exec stat -c '%n %a %u:%g' {} + | sort
find . -xdev -type l -exec readlink {} + | sort
find . -xdev -type f ! -path './etc/host*' ! -path ./etc/resolv.conf -exec md5sum {} + | sort
stat -c %Y /srv/a";

fn store(shop: &TestProject) -> PathBuf {
    shop.host().root().join("images")
}

/// Commits and returns the id that the progress tells.
#[track_caller]
fn commit(shop: &TestProject, arguments: &[&str]) -> String {
    let run = shop.hoist(&[&["commit"], arguments].concat()).code(0);
    assert_eq!(run.stdout, "", "as with docker compose");
    let line = run.stderr.lines().find_map(|line| line.split_once(" Committed as "));
    line.unwrap_or_else(|| panic!("{run}")).1.trim_end().to_owned()
}

/// Reads an image's configuration.
#[track_caller]
fn config(shop: &TestProject, id: &str) -> Value {
    let hex = id.strip_prefix("sha256:").expect("an id");
    let path = store(shop).join("blobs/sha256").join(&hex[..2]).join(hex);
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
}

/// Returns the directory of an image's last layer.
fn last_layer(shop: &TestProject, config: &Value) -> PathBuf {
    let layers = config["rootfs"]["diff_ids"].as_array().expect("layers");
    let last = layers.last().and_then(Value::as_str).expect("a digest");
    store(shop).join("layers").join(last.strip_prefix("sha256:").expect("a digest")).join("fs")
}

/// Returns the files of the store in which a text is.
fn with_text(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            found.extend(with_text(&path, text));
        } else if kind.is_file() && fs::read(&path).is_ok_and(|b| b.windows(text.len()).any(|w| w == text.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn what_a_container_has_changed_is_in_its_image_and_nothing_else() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell(
        "web",
        "echo new > /etc/new; rm /etc/group; rm -r /var/www 2>/dev/null; mkdir -p /srv/a /var/www; echo w > /var/www/i;
         echo x > /srv/f; chown 12:34 /srv/f; chmod 4750 /srv/f; ln /srv/f /srv/a/g; ln -s /etc/new /srv/l; mkfifo /srv/p;
         rm -r /home; mkdir /home; touch -d '2020-01-02 03:04:05' /srv/f /srv/a; chmod 1777 /srv",
    );
    let before = shop.shell("web", LIST);
    assert!(before.contains("./srv/p fifo"), "{before}");
    let id = commit(&shop, &["web", "shop-web:changed"]);
    assert_eq!(shop.status("web").state, State::Running);
    assert!(!shop.status("web").paused && !shop.status("web").borrowed);
    let listed = shop.hoist(&["image", "ls"]).ok();
    let line = listed.lines().find(|line| line.starts_with("shop-web")).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("changed") && line.contains(&id["sha256:".len()..][..12]), "{line}");
    let made = config(&shop, &id);
    let layer = last_layer(&shop, &made);
    let names: BTreeSet<String> = tree(&layer).into_keys().map(|path| path.display().to_string()).collect();
    for never in ["etc/hosts", "etc/hostname", "etc/resolv.conf", "proc", "sys", "dev"] {
        assert!(!names.iter().any(|name| name.ends_with(never)), "{never}: {names:?}");
    }
    let other = shop.beside("other", &WEB.replace("busybox", "shop-web:changed"));
    other.up();
    let after = other.shell("web", LIST);
    assert_eq!(after, before);
    assert_eq!(other.shell("web", "stat -c %i /srv/f"), other.shell("web", "stat -c %i /srv/a/g"));
    // Another image takes the name, and what was made of the first keeps that.
    shop.shell("web", "echo newer > /etc/new");
    let second = commit(&shop, &["web", "shop-web:changed"]);
    assert_ne!(second, id);
    let layers = |id: &str| config(&shop, id)["rootfs"]["diff_ids"].as_array().expect("layers").len();
    assert_eq!(layers(&second), layers(&id), "it is one of the container's image as well");
    assert_eq!(other.shell("web", "cat /etc/new"), "new");
    other.up();
    assert_eq!(other.shell("web", "cat /etc/new"), "newer");
    // `images` shows what it was made of; an image of an image has one more layer.
    assert!(other.hoist(&["images"]).ok().contains("changed"));
    let third = commit(&other, &["web"]);
    assert_eq!(layers(&third), layers(&second), "nothing has changed in it, so that it has no layer of its own");
    let history = config(&other, &third)["history"].as_array().expect("a history").clone();
    assert_eq!(history.last().expect("a step")["empty_layer"], true);
    assert!(shop.hoist(&["image", "ls"]).ok().lines().any(|line| line.starts_with("<none>")), "it has no name");
}

#[test]
fn the_image_says_of_its_containers_what_was_said_of_this_one() {
    require_root!();
    let compose = "
services:
  web:
    build: .
    command: [run, 'two words']
    environment: {LEVEL: debug, MODE: }
    labels: {kind: test}
    ports: ['127.0.0.1:8085:80']
    stop_signal: SIGUSR1
    user: www-data
    healthcheck: {test: 'true', interval: 7s}
";
    let shop = TestProject::new("shop", compose);
    shop.write("run.sh", "#!/bin/sh\nexec sleep 1000\n");
    shop.write(
        "Dockerfile",
        "FROM busybox\nENV MODE=a GREETING=hello\nCOPY --chmod=755 run.sh /start\nEXPOSE 53/udp\nVOLUME /data\nWORKDIR /srv\n\
         ENTRYPOINT [\"/start\"]\nCMD [\"x\"]\n",
    );
    shop.up();
    shop.hoist(&["exec", "-T", "-u", "0", "web", "sh", "-c", "echo x > /f; echo kept > /data/f"]).ok();
    let plain = config(&shop, &commit(&shop, &["web", "plain"]));
    let said = &plain["config"];
    assert_eq!(said["Entrypoint"], json!(["/start"]));
    assert_eq!(said["Cmd"], json!(["run", "two words"]));
    let env: Vec<&str> = said["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"LEVEL=debug") && env.contains(&"GREETING=hello"), "{env:?}");
    assert!(!env.iter().any(|e| e.starts_with("MODE=") || e.starts_with("HOSTNAME=")), "{env:?}");
    assert_eq!(said["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(said["Volumes"], json!({"/data": {}}));
    assert_eq!(said["Healthcheck"], json!({"Test": ["CMD-SHELL", "true"], "Interval": 7_000_000_000_i64}));
    assert_eq!((&said["User"], &said["WorkingDir"]), (&json!("www-data"), &json!("/srv")));
    assert_eq!(said["StopSignal"], "SIGUSR1");
    assert_eq!(
        (&said["Labels"]["kind"], &said["Labels"]["com.docker.compose.service"]),
        (&json!("test"), &json!("web"))
    );
    let step = plain["history"].as_array().and_then(|all| all.last()).expect("a step");
    assert_eq!(step["created_by"], "run two words");
    assert_eq!((step.get("comment"), step.get("author"), plain.get("author")), (None, None, None));
    assert_eq!(step["created"], plain["created"]);
    let layer = last_layer(&shop, &plain);
    assert!(layer.join("f").is_file() && !layer.join("data").exists(), "what is in a volume is not the container's");
    let changed = commit(
        &shop,
        &[
            "-a",
            "Ada <ada@example.org>",
            "-m",
            "as it was",
            "-c",
            "ENV PATH=/opt:$PATH",
            "-c",
            "CMD [\"y\"]",
            "--change",
            "EXPOSE 90\nLABEL kind=other",
            "--change",
            "workdir sub",
            "web",
            "localhost/changed:1",
        ],
    );
    let changed = config(&shop, &changed);
    let (said, step) = (&changed["config"], changed["history"].as_array().and_then(|a| a.last()).expect("a step"));
    assert_eq!(
        (&changed["author"], &step["author"]),
        (&json!("Ada <ada@example.org>"), &json!("Ada <ada@example.org>"))
    );
    assert_eq!((&step["comment"], &step["created_by"]), (&json!("as it was"), &json!("run two words")));
    assert_eq!((&said["Entrypoint"], &said["Cmd"]), (&json!(["/start"]), &json!(["y"])));
    assert_eq!((&said["WorkingDir"], &said["Labels"]["kind"]), (&json!("/srv/sub"), &json!("other")));
    assert!(said["ExposedPorts"].as_object().is_some_and(|ports| ports.contains_key("90/tcp")));
    let path =
        said["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).find(|e| e.starts_with("PATH="));
    assert!(path.is_some_and(|path| path.starts_with("PATH=/opt:/")), "{path:?}");
    // It runs as the first did, with nothing but its name.
    let again = shop.beside("again", "services: {web: {image: 'plain'}}\n");
    again.up();
    let seen = again.shell("web", "id -u; pwd; cat /f; echo $LEVEL$GREETING$MODE; test -e /data/f || echo none");
    assert_eq!(seen, "33\n/srv\nx\ndebughello\nnone");
    assert_eq!(again.record("web").policy.health.as_ref().map(|h| h.interval_ms), Some(7000));
    assert_eq!(again.record("web").policy.stop_signal, 10);
}

#[test]
fn what_is_refused_changes_nothing() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell("web", "echo x > /f");
    let names = || tree(&store(&shop)).into_keys().collect::<BTreeSet<PathBuf>>();
    let clean = names();
    for (arguments, why) in [
        (&["-c", "RUN make", "web", "x"][..], "RUN is not a valid change command"),
        (&["-c", "ONBUILD FROM x", "web", "x"], "FROM cannot follow ONBUILD"),
        (&["-c", "ENV A=1", "-c", "EXPSE 80", "web", "x"], "did you mean `EXPOSE`?"),
        (&["-c", "EXPOSE 80000", "web", "x"], "--change:1:8"),
        (&["web", "Shop"], "Shop"),
        (&["web", "shop@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"], "has a digest"),
        (&["--index", "7", "web", "x"], "service \"web\" is not running container #7"),
        (&["wbe", "x"], "did you mean `web`?"),
    ] {
        let message = shop.hoist(&[&["commit"], arguments].concat()).fails();
        assert!(message.contains(why), "{arguments:?}: {message}");
        assert_eq!(names(), clean, "{arguments:?}");
    }
    let said = shop.hoist(&["--dry-run", "commit", "web", "shop-web:1"]).ok();
    assert_eq!((said.as_str(), names()), ("commit shop-web-1 as shop-web:1\n", clean));
    assert!(!shop.status("web").paused);
}

#[test]
fn nothing_that_is_mounted_gets_into_an_image() {
    require_root!();
    let compose = "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
    environment: [A=b]
    secrets: [token, {source: token, target: /opt/deep/token}]
    configs: [{source: page, target: /var/run/page}]
    volumes: ['data:/data/in', './bind:/bind', './file:/made/for/file']
    tmpfs: /scratch
secrets: {token: {file: token}}
configs: {page: {content: the-page-of-the-config}}
volumes: {data: }
";
    let shop = TestProject::new("shop", compose);
    shop.write("token", "hunter-of-the-secret");
    shop.write("file", "content-of-the-file");
    shop.write("bind/f", "content-of-the-bind");
    shop.up();
    let quiet = config(&shop, &commit(&shop, &["web", "quiet"]));
    assert_eq!(quiet["history"].as_array().and_then(|all| all.last()).expect("a step")["empty_layer"], true);
    shop.shell(
        "web",
        "cat /run/secrets/token /opt/deep/token /var/run/page > /dev/null
         echo content-of-the-volume > /data/in/f; echo content-of-the-tmpfs > /scratch/f; echo content-of-shm > /dev/shm/f
         echo content-of-its-own > /opt/mine; echo mine > /run/mine",
    );
    let id = commit(&shop, &["web", "shop-web"]);
    for text in [
        "hunter-of",
        "the-page-of",
        "content-of-the-volume",
        "content-of-the-bind",
        "content-of-the-tmpfs",
        "content-of-shm",
        "content-of-the-file",
    ] {
        assert_eq!(with_text(&store(&shop), text), [""; 0], "{text}");
    }
    assert_eq!(with_text(&store(&shop), "content-of-its-own").len(), 1);
    let layer = last_layer(&shop, &config(&shop, &id));
    let mut names: Vec<String> = tree(&layer).into_keys().map(|path| path.display().to_string()).collect();
    names.sort();
    let names = names.join("\n").replace(&format!("{}/", layer.display()), "");
    assert!(names.lines().all(|name| ["opt", "opt/mine", "run", "run/mine"].contains(&name)), "{names}");
    assert!(names.contains("opt/mine") && names.contains("run/mine"), "{names}");
}

#[test]
fn a_container_that_does_not_run_or_is_paused_is_committed_as_it_is() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.hoist(&["create"]).ok();
    let created = config(&shop, &commit(&shop, &["web", "created"]));
    assert_eq!(created["history"].as_array().and_then(|all| all.last()).expect("a step")["empty_layer"], true);
    shop.up();
    shop.shell("web", "echo x > /f");
    shop.hoist(&["pause"]).ok();
    let paused = config(&shop, &commit(&shop, &["web", "paused"]));
    assert!(last_layer(&shop, &paused).join("f").is_file());
    assert!(shop.status("web").paused, "it stays paused");
    shop.hoist(&["unpause"]).ok();
    shop.hoist(&["stop", "-t", "0"]).ok();
    let stopped = config(&shop, &commit(&shop, &["web", "stopped"]));
    assert_eq!(stopped["rootfs"], paused["rootfs"]);
    // One that runs is meant before one that does not.
    shop.hoist(&["up", "-d", "--scale", "web=2"]).ok();
    shop.hoist(&["exec", "-T", "--index", "2", "web", "sh", "-c", "echo two > /f"]).ok();
    let second = config(&shop, &commit(&shop, &["--index", "2", "-p=false", "web"]));
    assert_eq!(fs::read_to_string(last_layer(&shop, &second).join("f")).expect("there"), "two\n");
}

/// A file, and one that grows as long as processes run.
const SCRIPT: &str = "echo x > /f; echo > /tick; (while :; do echo >> /tick; sleep 0.01; done) > /dev/null 2>&1 &";

/// How much is unfinished in the store.
fn unfinished(shop: &TestProject) -> usize {
    fs::read_dir(store(shop).join("layers/tmp")).map_or(0, Iterator::count)
}

#[test]
fn a_container_goes_on_whatever_ends_the_command_or_the_supervisor() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell("web", SCRIPT);
    let goes_on = |when: &str| {
        eventually(20.secs(), &format!("it goes on after {when}"), || {
            let status = shop.status("web");
            holds(!status.paused && !status.borrowed)
        });
        let containers = shop.host().root().join("containers");
        let tick = || fs::metadata(containers.join(shop.record("web").id.as_str()).join("upper/tick")).map(|m| m.len());
        let before = tick().expect("there");
        eventually(20.secs(), &format!("its processes run after {when}"), || {
            holds(tick().is_ok_and(|now| now != before))
        });
    };
    // The command, with its container held, and in the middle of the reading.
    for point in ["commit.held", "commit.read", "image.scratch"] {
        let (killed, met) = run(&shop, Some(point), &["commit", "web", "x"]);
        assert!(struck(point, &met, &killed), "{point}");
        goes_on(point);
    }
    assert!(!shop.hoist(&["image", "ls"]).ok().lines().any(|line| line.starts_with("x ")));
    // The worker, just before it asks the kernel: the next one lets go, and is asked anew.
    shop.down();
    let _ = run(&shop, Some("worker:pause.borrowed"), &["up", "-d"]).0.code(0);
    shop.shell("web", SCRIPT);
    let worker = shop.supervisor().worker_pid;
    let made = commit(&shop, &["web", "x"]);
    assert_ne!(shop.supervisor().worker_pid, worker);
    goes_on("the worker");
    assert!(last_layer(&shop, &config(&shop, &made)).join("f").is_file());
    assert_eq!(unfinished(&shop), 0, "what the killed ones left is swept");
}

#[test]
fn a_commit_that_is_interrupted_makes_nothing_and_the_container_goes_on() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell("web", "dd if=/dev/zero of=/big bs=1M count=300 2>/dev/null");
    let running = shop.spawn(&["commit", "web", "x"]);
    eventually(20.secs(), "it is held", || holds(shop.status("web").paused));
    running.signal(Signal::SIGINT);
    let ended = running.finish(20.secs());
    assert_eq!(ended.code, Some(130), "{ended}");
    let status = shop.status("web");
    assert!(!status.paused && !status.borrowed, "{status:?}");
    assert!(!shop.hoist(&["image", "ls"]).ok().lines().any(|line| line.starts_with("x ")));
    assert_eq!(unfinished(&shop), 0);
    // A commit that has begun, and goes on only when it is told to.
    let begun = || {
        let running = shop.spawn(&["commit", "web", "x"]);
        eventually(20.secs(), "it is held", || holds(shop.status("web").paused));
        // Before it knows that, it would have it held again by the next worker.
        eventually(20.secs(), "it is read", || holds(unfinished(&shop) > 0));
        running.signal(Signal::SIGSTOP);
        running
    };
    let end = |running: Running| {
        running.signal(Signal::SIGCONT);
        running.finish(60.secs())
    };
    // The worker dies while it is held: the next one lets go, the image is made, and the user is told.
    let running = begun();
    kill(Pid::from_raw(shop.supervisor().worker_pid), Signal::SIGKILL).expect("killed");
    eventually(20.secs(), "it goes on", || holds(!shop.status("web").paused));
    let ended = end(running);
    assert!(ended.code == Some(0) && ended.stderr.contains("went on, or ended, while it was read"), "{ended}");
    assert_eq!(shop.shell("web", "echo here"), "here");
    // Who pauses it meanwhile has it paused.
    let running = begun();
    shop.hoist(&["pause"]).ok();
    let ended = end(running);
    assert!(ended.code == Some(0) && !ended.stderr.contains("went on"), "{ended}");
    assert!(shop.status("web").paused && !shop.status("web").borrowed);
    shop.hoist(&["unpause"]).ok();
    // And who lets it go on is told what that means.
    let running = begun();
    shop.hoist(&["unpause"]).ok();
    let ended = end(running);
    assert!(ended.code == Some(0) && ended.stderr.contains("went on"), "{ended}");
}

#[test]
fn a_commit_that_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell("web", "echo x > /etc/f; rm /etc/group");
    let id = |run: &str| run.split_once(" Committed as ").map(|(_, id)| id.trim_end().to_owned());
    let (first, met) = run(&shop, None, &["commit", "web", "x"]);
    assert!(id(&first.code(0).stderr).is_some());
    let mut tried = 0;
    for (number, fault) in faults("command", &met).into_iter().enumerate() {
        shop.shell("web", &format!("echo {number} > /etc/f")); // another layer, or there was less to do
        let (killed, met) = run(&shop, Some(&fault), &["commit", "web", "x"]);
        tried += usize::from(struck(&fault, &met, &killed));
        let made = commit(&shop, &["web", "x"]);
        let there = fs::read_to_string(last_layer(&shop, &config(&shop, &made)).join("etc/f"));
        assert_eq!(there.ok(), Some(format!("{number}\n")), "after {fault}");
        assert!(!shop.status("web").paused, "after {fault}");
        assert_eq!(unfinished(&shop), 0, "after {fault}");
    }
    tell("commit", tried, of("command", &met));
}
