//! `watch` and `up --watch`: containers follow the files of the host.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use hoist::state::record::State;
use nix::sys::signal::Signal;

use super::support::project::TestProject;
use super::support::run::Running;
use super::support::{Secs as _, eventually, holds, pause, require_root};

/// A program that says when it begins and does nothing else.
const IDLE: &str = "sh -c 'echo began; exec sleep 1000'";

/// Starts `watch`, and waits until it watches.
fn watching(shop: &TestProject, arguments: &[&str]) -> Running {
    let mut watch = shop.spawn(&[&["watch"], arguments].concat());
    watch.wait_for("that it watches", |line| line == " ⦿ Watch enabled");
    watch
}

/// Ends it with Ctrl-C, which leaves the containers.
fn ends(watch: Running) -> String {
    watch.signal(Signal::SIGINT);
    let run = watch.finish(20.secs()).code(130);
    // A command that it has just started may have its last word.
    assert!(run.stderr.lines().any(|line| line == " ⦿ Watch disabled"), "{run}");
    run.stderr
}

/// Waits until a script in a service's container says this.
fn comes_to(shop: &TestProject, service: &str, script: &str, wanted: &str) {
    let mut last = String::new();
    eventually(20.secs(), &format!("`{script}` says {wanted:?}"), || {
        last = shop.hoist(&["exec", "-T", service, "sh", "-c", script]).stdout.trim_end().to_owned();
        holds(last == wanted)
    });
}

/// Returns all below a directory of a container: paths with their kinds, modes, and contents.
fn tree(shop: &TestProject, service: &str, directory: &str) -> String {
    let script = format!(
        "cd {directory} && find . -mindepth 1 | sort | while read -r p; do
           if [ -L \"$p\" ]; then echo \"$p -> $(readlink \"$p\")\";
           elif [ -d \"$p\" ]; then echo \"$p/ $(stat -c %a \"$p\")\";
           else echo \"$p $(stat -c %a \"$p\") $(cat \"$p\")\"; fi; done"
    );
    shop.shell(service, &script)
}

/// Returns the same of a directory of the host.
fn tree_here(shop: &TestProject, directory: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let base = shop.path(directory);
    let mut lines = Vec::new();
    let mut left = vec![base.clone()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).expect("readable") {
            let path = entry.expect("an entry").path();
            let name = format!("./{}", path.strip_prefix(&base).expect("below").display());
            let meta = fs::symlink_metadata(&path).expect("there");
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_symlink() {
                lines.push((name.clone(), format!("{name} -> {}", fs::read_link(&path).expect("a link").display())));
            } else if meta.is_dir() {
                lines.push((name.clone(), format!("{name}/ {mode:o}")));
                left.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("text");
                lines.push((name.clone(), format!("{name} {mode:o} {}", text.trim_end())));
            }
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

/// Waits until a directory of a container has what one of the host has.
fn follows(shop: &TestProject, service: &str, directory: &str, target: &str) {
    let begun = Instant::now();
    loop {
        let (here, there) = (tree_here(shop, directory), tree(shop, service, target));
        if here == there {
            return;
        }
        assert!(begun.elapsed() < 30.secs(), "on the host:\n{here}\nin the container:\n{there}");
        pause();
    }
}

#[test]
fn what_changes_on_the_host_is_the_same_in_every_replica() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  web:
    image: busybox
    init: true
    command: {IDLE}
    develop:
      watch:
        - action: sync
          path: ./src
          target: /app/
          ignore: [node_modules/, '*.log']
          initial_sync: true
"
        ),
    );
    shop.write("src/first", "first");
    shop.write("src/node_modules/m", "not copied");
    shop.hoist(&["up", "-d", "--scale", "web=2"]).ok();
    let mut watch = watching(&shop, &["--no-up"]);
    watch.wait_for("the first copy", |line| line == " ⦿ Syncing 2 paths into container shop-web-1");
    watch.wait_for("the other one", |line| line == " ⦿ Syncing 2 paths into container shop-web-2");
    let cat = |index: &str, path: &str| {
        let run = shop.hoist(&["exec", "-T", "--index", index, "web", "cat", path]);
        run.stdout
    };
    for index in ["1", "2"] {
        eventually(20.secs(), "the first file", || holds(cat(index, "/app/first") == "first"));
    }
    assert_eq!(cat("1", "/app/node_modules/m"), "");
    shop.write("src/a", "a");
    shop.write("src/b.log", "not copied");
    shop.write("src/d/e/f", "f");
    watch.wait_for("the next copy", |line| line.starts_with(" ⦿ Syncing service \"web\" after "));
    for index in ["1", "2"] {
        eventually(20.secs(), "the next files", || {
            holds(cat(index, "/app/a") == "a" && cat(index, "/app/d/e/f") == "f")
        });
        assert_eq!(cat(index, "/app/b.log"), "");
    }
    // Deletes, into one that does not run as well: it needs no program of the image.
    shop.hoist(&["stop", "-t", "0", "web"]).ok();
    fs::remove_file(shop.path("src/first")).expect("removed");
    fs::remove_dir_all(shop.path("src/d")).expect("removed");
    shop.write("src/a", "while it was stopped");
    watch.wait_for("the copy", |line| line.starts_with(" ⦿ Syncing service \"web\" after "));
    shop.write("src/last", "");
    watch.wait_for("one more", |line| line.starts_with(" ⦿ Syncing service \"web\" after "));
    shop.hoist(&["start", "web"]).ok();
    for index in ["1", "2"] {
        eventually(20.secs(), "the deletes", || {
            holds(cat(index, "/app/a") == "while it was stopped" && cat(index, "/app/first").is_empty())
        });
        let run = shop.hoist(&["exec", "-T", "--index", index, "web", "ls", "/app"]).ok();
        assert_eq!(run, "a\nlast\n");
    }
    ends(watch);
    assert!(shop.hoist(&["ps", "-q"]).ok().lines().count() == 2, "they go on");
}

#[test]
fn editors_renames_links_and_bursts_come_to_the_same_tree() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  web:
    image: busybox
    init: true
    command: {IDLE}
    develop:
      watch:
        - action: sync
          path: ./src
          target: /app
        - action: sync
          path: ./one.conf
          target: /etc/one.conf
"
        ),
    );
    shop.write("src/a", "a");
    let mut watch = watching(&shop, &[]);
    // Renamed into place, as editors do, also for a path that is a file.
    for (path, target) in [("src/a", "/app/a"), ("one.conf", "/etc/one.conf")] {
        for text in ["one", "two"] {
            shop.write(&format!("{path}.tmp"), text);
            fs::rename(shop.path(&format!("{path}.tmp")), shop.path(path)).expect("renamed");
            comes_to(&shop, "web", &format!("cat {target}"), text);
        }
    }
    symlink("/etc/passwd", shop.path("src/link")).expect("a link");
    symlink("a", shop.path("src/l2")).expect("a link");
    follows(&shop, "web", "src", "/app");
    // A directory is renamed, another moved in and one out.
    shop.write("src/d/e/f", "f");
    shop.write("outside/x/y", "y");
    follows(&shop, "web", "src", "/app");
    fs::rename(shop.path("src/d"), shop.path("src/renamed")).expect("renamed");
    fs::rename(shop.path("outside"), shop.path("src/inside")).expect("renamed");
    follows(&shop, "web", "src", "/app");
    shop.write("src/renamed/e/f", "changed below its new name");
    fs::rename(shop.path("src/inside"), shop.path("outside")).expect("renamed");
    follows(&shop, "web", "src", "/app");
    // What was a directory becomes a file, and the other way round.
    fs::remove_dir_all(shop.path("src/renamed")).expect("removed");
    shop.write("src/renamed", "a file now");
    fs::remove_file(shop.path("src/a")).expect("removed");
    shop.write("src/a/b", "a directory now");
    follows(&shop, "web", "src", "/app");
    // As when a branch is switched.
    for n in 0..2000 {
        shop.write(&format!("src/many/{}/{n}", n % 7), &n.to_string());
    }
    watch.wait_for("that there are many", |line| line.contains("Large batch of file changes detected"));
    follows(&shop, "web", "src", "/app");
    fs::remove_dir_all(shop.path("src/many")).expect("removed");
    follows(&shop, "web", "src", "/app");
    ends(watch);
}

#[test]
fn a_link_on_either_side_leads_nowhere_else_and_mounts_stay() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  web:
    image: busybox
    init: true
    command: {IDLE}
    volumes: [data:/app/data, ./bound:/app/bound]
    develop:
      watch:
        - {{action: sync, path: ., target: /app, include: [data, bound, trap, d, canary]}}
        - {{action: sync, path: ./bound, target: /elsewhere}}
volumes:
  data:
"
        ),
    );
    shop.write("data/f", "f");
    shop.write("bound/f", "bound");
    shop.write("d/f", "f");
    let canary = shop.host().directory().join("canary");
    fs::write(&canary, "alive").expect("a file");
    let mut watch = shop.spawn(&["watch"]);
    let warning = watch.wait_for("the warning", |line| line.contains("also declared by a bind mount volume"));
    assert!(warning.contains("compose.yaml:") && warning.contains("won't be monitored"), "{warning}");
    watch.wait_for("that it watches", |line| line == " ⦿ Watch enabled");
    shop.shell("web", "echo precious > /app/data/own; mkdir -p /app/d; echo x > /app/d/f");
    // The container sets traps: a link in the place of a directory that is written to and removed.
    let outside = canary.parent().expect("a parent").display();
    shop.shell("web", &format!("ln -s /../../..{outside} /app/trap; ln -s {} /app/canary", canary.display()));
    shop.write("trap/canary", "dead");
    shop.write("canary", "copied");
    comes_to(&shop, "web", "cat /app/canary; test -L /app/canary || echo no link", "copiedno link");
    fs::remove_dir_all(shop.path("trap")).expect("removed");
    // On the host, a directory becomes a link out of the tree.
    fs::remove_dir_all(shop.path("d")).expect("removed");
    symlink(outside.to_string(), shop.path("d")).expect("a link");
    comes_to(&shop, "web", "readlink /app/d", &outside.to_string());
    // What is mounted is neither removed nor copied onto itself.
    fs::remove_dir_all(shop.path("data")).expect("removed");
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(shop.path(path)).expect("there"));
    let before = inode("bound/f");
    shop.write("bound/f", "changed");
    shop.write("canary", "done");
    comes_to(&shop, "web", "cat /app/canary", "done");
    assert_eq!(
        shop.shell("web", "cat /app/data/own /app/bound/f; ls /elsewhere 2>&1 || true").lines().next(),
        Some("precious")
    );
    assert_eq!((inode("bound/f"), shop.read("bound/f").as_str()), (before, "changed"));
    assert_eq!(fs::read_to_string(&canary).expect("there"), "alive");
    ends(watch);
}

#[test]
fn a_rebuild_replaces_the_container_and_one_that_fails_leaves_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  app:
    build: .
    init: true
    develop:
      watch:
        - {action: rebuild, path: app.sh}
        - {action: rebuild, path: Dockerfile}
        - {action: sync, path: ./static, target: /srv/static}
  follower:
    image: busybox
    init: true
    command: sleep 1000
    depends_on: {app: {condition: service_started, restart: true}}
",
    );
    let dockerfile = "FROM busybox\nCOPY app.sh /srv/app.sh\nCMD [\"sh\", \"/srv/app.sh\"]\n";
    shop.write("Dockerfile", dockerfile);
    shop.write("app.sh", "echo one; exec sleep 1000\n");
    shop.write("static/a", "a");
    shop.write("ignored", "");
    let mut watch = watching(&shop, &["--quiet"]);
    shop.wait_log("app", "its first words", |line| line == "one");
    let (first, follower) = (shop.record("app").id, shop.pid("follower"));
    shop.write("static/b", "b");
    comes_to(&shop, "app", "cat /srv/static/b", "b");
    shop.write("app.sh", "echo two; exec sleep 1000\n");
    watch.wait_for("the rebuild", |l| l == " ⦿ Rebuilding service(s) [\"app\"] after changes were detected...");
    watch.wait_for("its end", |line| line == " ⦿ service(s) [\"app\"] successfully built");
    watch.wait_for("who follows", |line| line == " ⦿ service(s) [\"follower\"] restarted");
    shop.wait_log("app", "its new words", |line| line == "two");
    assert_ne!(shop.record("app").id, first);
    assert_ne!(shop.pid("follower"), follower);
    let unnamed = || shop.hoist(&["image", "ls"]).ok().matches("<none>  ").count();
    assert_eq!(unnamed(), 0, "the image before is gone");
    // The new container has what was copied into the old one, and goes on to get what changes.
    comes_to(&shop, "app", "cat /srv/static/b", "b");
    shop.write("static/c", "c");
    comes_to(&shop, "app", "cat /srv/static/c", "c");
    let (second, pid) = (shop.record("app").id, shop.pid("app"));
    shop.write("Dockerfile", "FROM busybox\nCOPY missing /\n");
    watch.wait_for("the failure", |line| line == " ⦿ Build failed, the containers stay as they are");
    watch.wait_for("its reason", |line| line.contains("Dockerfile:2:"));
    assert_eq!((shop.record("app").id, shop.pid("app")), (second, pid));
    shop.write("static/d", "d");
    comes_to(&shop, "app", "cat /srv/static/d", "d");
    shop.write("Dockerfile", dockerfile);
    watch.wait_for("the next build", |line| line == " ⦿ service(s) [\"app\"] successfully built");
    watch.wait_for("who follows", |line| line == " ⦿ service(s) [\"follower\"] restarted");
    let said = ends(watch);
    assert!(!said.contains("Image shop-app Building"), "--quiet: {said}");
    assert_eq!(shop.status("app").state, State::Running);
    let mut watch = watching(&shop, &["--no-up", "--prune=false"]);
    shop.write("app.sh", "echo three; exec sleep 1000\n");
    watch.wait_for("a build that keeps", |line| line == " ⦿ service(s) [\"follower\"] restarted");
    let _ = ends(watch);
    assert!(unnamed() > 0, "the image before stays");
}

#[test]
fn restarts_and_commands_come_after_the_copy() {
    require_root!();
    let shop = TestProject::with_images(
        "shop",
        &["busybox", "nginx"],
        "
services:
  restarted:
    image: busybox
    init: true
    command: sh -c 'cat /conf /both 2>/dev/null; echo began; exec sleep 1000'
    develop:
      watch:
        - {action: restart, path: ./trigger}
        - {action: sync+restart, path: ./both, target: /both}
  web:
    image: nginx
    develop:
      watch:
        - action: sync+exec
          path: ./nginx.conf
          target: /etc/nginx/conf.d/default.conf
          exec: {command: [nginx, -s, reload]}
        - action: sync+exec
          path: ./fails
          target: /fails
          exec: {command: [sh, -c, 'cat /fails; exit 3']}
",
    );
    let page = |text: &str| format!("server {{ listen 80; location / {{ return 200 '{text}'; }} }}\n");
    let mut watch = watching(&shop, &[]);
    let pid = shop.pid("restarted");
    shop.write("trigger", "1");
    watch.wait_for("the restart", |line| line == " ⦿ service(s) [\"restarted\"] restarted");
    assert_ne!(shop.pid("restarted"), pid);
    shop.write("both", "copied first\n");
    watch.wait_for("the copy", |line| line == " ⦿ Syncing service \"restarted\" after 1 changes were detected");
    watch.wait_for("the restart", |line| line == " ⦿ service(s) [\"restarted\"] restarted");
    shop.wait_log("restarted", "the file", |line| line == "copied first");
    // nginx reads its file anew, with the same process.
    let pid = shop.pid("web");
    shop.write("nginx.conf", &page("from the host"));
    watch.wait_for("the command", |line| line == " ⦿ Running in container shop-web-1: nginx -s reload");
    eventually(20.secs(), "the page", || {
        let address = shop.address("web");
        let page = super::support::net::http_get((address, 80).into(), "/").ok()?;
        holds(page.contains("from the host"))
    });
    assert_eq!(shop.pid("web"), pid);
    // One that fails is told, with what it wrote, and ends nothing.
    shop.write("fails", "its words\n");
    // The one is on stdout, the other on stderr: either may be read first.
    let (words, failure) = (Cell::new(false), Cell::new(false));
    watch.wait_for("its words and the failure", |line| {
        words.set(words.get() || line == "its words");
        failure.set(failure.get() || line == " ⦿ Command in container shop-web-1 exited with code 3");
        words.get() && failure.get()
    });
    shop.write("nginx.conf", &page("again"));
    watch.wait_for("the command", |line| line == " ⦿ Running in container shop-web-1: nginx -s reload");
    ends(watch);
}

#[test]
fn the_files_belong_to_the_containers_user_and_node_sees_them() {
    require_root!();
    let shop = TestProject::with_images(
        "shop",
        &["node"],
        "
services:
  app:
    image: node
    init: true
    user: node
    working_dir: /tmp
    command:
      - node
      - -e
      - |
        const fs = require('fs');
        fs.mkdirSync('/tmp/app', {recursive: true});
        fs.watch('/tmp/app', () => { try { console.log(fs.readFileSync('/tmp/app/a', 'utf8')) } catch {} });
        console.log('ready')
    develop:
      watch: [{action: sync, path: ./app, target: /tmp/app}, {action: sync, path: ./new, target: /tmp/made/new}]
",
    );
    shop.make_dir("app");
    let watch = watching(&shop, &[]);
    shop.wait_log("app", "that it is ready", |line| line == "ready");
    shop.write("app/a", "hello\n");
    shop.wait_log("app", "the text", |line| line == "hello");
    shop.write("new/d/f", "f");
    comes_to(&shop, "app", "cat /tmp/made/new/d/f", "f");
    let owners = shop.shell("app", "cd /tmp; stat -c %U app/a made made/new made/new/d made/new/d/f | sort -u");
    assert_eq!(owners, "node");
    ends(watch);
}

#[test]
fn a_container_that_others_replace_gets_what_its_predecessor_had() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  web:
    image: busybox
    init: true
    command: {IDLE}
    develop:
      watch: [{{action: sync, path: ./src, target: /app}}]
"
        ),
    );
    shop.make_dir("src");
    shop.up();
    let mut watch = watching(&shop, &["--no-up"]);
    shop.write("src/a", "a");
    comes_to(&shop, "web", "cat /app/a", "a");
    let before = shop.record("web").id;
    shop.hoist(&["up", "-d", "--force-recreate"]).ok();
    assert_ne!(shop.record("web").id, before);
    comes_to(&shop, "web", "cat /app/a", "a");
    shop.write("src/b", "b");
    comes_to(&shop, "web", "cat /app/b", "b");
    // None at all, and one later.
    shop.down();
    shop.write("src/c", "c");
    watch.wait_for("that there is none", |line| line == " ⦿ Service \"web\" has no container to be changed");
    shop.up();
    comes_to(&shop, "web", "cat /app/a /app/b /app/c", "abc");
    ends(watch);
}

#[test]
fn a_program_that_crashes_gets_the_file_that_mends_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    restart: always
    command: sh -c 'test -e /app/mended && echo mended && exec sleep 1000; exit 1'
    develop:
      watch: [{action: sync+restart, path: ./src, target: /app}]
",
    );
    shop.make_dir("src");
    let watch = watching(&shop, &[]);
    shop.wait_status("web", "started again", |status| status.restarts > 2);
    shop.write("src/mended", "");
    shop.wait_log("web", "that it is mended", |line| line == "mended");
    ends(watch);
}

#[test]
fn what_cannot_be_watched_is_said_before_anything_is_done() {
    require_root!();
    let shop = TestProject::new("shop", "services: {web: {image: busybox, command: sleep 1000}}\n");
    for command in [&["watch"][..], &["up", "--watch"]] {
        let message = shop.hoist(command).fails();
        assert!(message.contains("none of the selected services is configured for watch"), "{message}");
    }
    assert!(shop.hoist(&["--dry-run", "watch"]).fails().contains("has no plan"));
    shop.write(
        "compose.yaml",
        "services:
  web:
    image: busybox
    develop:
      watch:
        - {action: rebuild, path: .}
        - {action: sync+exec, path: ., target: /app}
",
    );
    let message = shop.redact(&shop.hoist(&["watch"]).fails());
    insta::assert_snapshot!(message, @r#"
    error: can't watch service "web" with action rebuild without a build context
     --> compose.yaml:6:11
      |
    6 |         - {action: rebuild, path: .}
      |           ^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: give the service a `build`, or the rule another action

    error: can't watch with action "sync+exec" on service web without a command
     --> compose.yaml:7:11
      |
    7 |         - {action: sync+exec, path: ., target: /app}
      |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: say what runs: `exec: {command: [PROGRAM, ARGUMENT]}`
    "#);
    assert_eq!(shop.records(), []);
    shop.write("compose.yaml", "services: {web: {image: busybox, develop: {watch: [{action: synk, path: .}]}}}\n");
    let message = shop.hoist(&["watch"]).fails();
    assert!(message.contains("`sync`") && message.contains("compose.yaml:1:"), "{message}");
}

#[test]
fn an_attached_up_watches_as_well_and_stops_all_at_its_end() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    command: sh -c 'cat /app/a; echo began; exec sleep 1000'
    develop:
      watch: [{action: sync+restart, path: ./src, target: /app}]
  job:
    image: busybox
    command: 'true'
",
    );
    shop.make_dir("src");
    let mut up = shop.spawn(&["up", "--watch", "--abort-on-container-failure"]);
    up.wait_for("that it watches", |line| line == " ⦿ Watch enabled");
    for text in ["one", "two"] {
        shop.write("src/a", &format!("{text}\n"));
        // Its only container is restarted: that ends neither the logs nor the command.
        up.wait_for("the new text", |line| line == format!("web-1  | {text}"));
        up.wait_for("the restart", |line| line == " ⦿ service(s) [\"web\"] restarted" || line.ends_with("began"));
    }
    up.signal(Signal::SIGINT);
    let run = up.finish(30.secs()).code(130);
    assert!(run.stderr.contains(" ⦿ Watch disabled\n"), "{run}");
    assert_eq!(shop.status("web").state, State::Exited);
    // All have ended, which a change can still mend.
    let mut up = shop.spawn(&["up", "-w"]);
    up.wait_for("that it watches", |line| line == " ⦿ Watch enabled");
    shop.hoist(&["stop", "-t", "0", "web"]).ok();
    shop.write("src/a", "three\n");
    up.wait_for("the new text", |line| line == "web-1  | three");
    up.signal(Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    assert_eq!(shop.status("web").state, State::Exited);
}
