//! `cp` and `export`: what lands where, of running and stopped containers, and what a hostile container cannot reach.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use super::support::project::TestProject;
use super::support::{is_soak, require_root};

const WEB: &str = "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
";

/// Runs a command with these bytes as its stdin; returns its exit code, stdout and stderr.
fn fed(mut command: Command, input: Vec<u8>) -> (Option<i32>, Vec<u8>, String) {
    use std::io::Write as _;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input))); // it may not want all of it
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("fed");
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Makes a tar of a folder's entries with the host's tar.
fn tar_of(folder: &std::path::Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(["-cf", "-", "."]).output().expect("tar runs");
    assert!(output.status.success());
    output.stdout
}

/// Returns the names in a tar, as the host's tar lists them.
fn listed(tar: Vec<u8>) -> Vec<String> {
    let mut command = Command::new("tar");
    command.args(["-tvf", "-", "--numeric-owner"]);
    let (code, stdout, stderr) = fed(command, tar);
    assert_eq!(code, Some(0), "{stderr}");
    String::from_utf8_lossy(&stdout).lines().map(str::to_owned).collect()
}

#[test]
fn files_and_directories_land_where_docker_puts_them() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.write("f", "file");
    shop.write("s/a", "a");
    shop.write("s/b/c", "c");
    shop.up();
    shop.shell("web", "mkdir -p /d /e /src/x; echo -n old > /old; echo -n in > /src/in; ln -s /d /l; ln -s /old /lf");
    let into = |from: &str, to: &str| shop.hoist(&["cp", from, &format!("web:{to}")]);
    for (from, to, landed, content) in [
        ("f", "/d", "/d/f", "file"),
        ("f", "/d/", "/d/f", "file"),
        ("f", "/new", "/new", "file"),
        ("f", "/old", "/old", "file"),
        ("f", "relative", "/relative", "file"),
        ("f", "/l/through", "/d/through", "file"),
        ("s", "/d", "/d/s/b/c", "c"),
        ("s/", "/l", "/d/s/a", "a"),
        ("s/.", "/e", "/e/b/c", "c"),
        ("s", "/made", "/made/b/c", "c"),
        ("s/.", "/made2/", "/made2/a", "a"),
    ] {
        let run = into(from, to).code(0);
        assert_eq!(shop.shell("web", &format!("cat {landed}")), content, "{from} {to}: {run}");
    }
    into("s/a", "/lf").ok();
    assert_eq!(shop.shell("web", "cat /old; readlink /lf"), "a/old", "a link to a file stays one");
    // What is mounted over a file takes its content.
    into("f", "/etc/hostname").ok();
    assert_eq!(shop.shell("web", "cat /etc/hostname"), "file");
    symlink("/nowhere", shop.path("link")).expect("a link");
    assert!(into("link", "/etc/hostname").fails().contains("cannot replace `hostname`"));
    assert_eq!(shop.shell("web", "cat /etc/hostname"), "file");
    for (from, to, why) in [
        ("f", "/none/f", "cannot find directory `/none/`: No such file"),
        ("f", "/none/", "there is no directory `/none/`"),
        ("f", "/old/", "`/old/` is not a directory"),
        ("f/", "/d", "`f/` is not a directory"),
        ("s", "/old", "cannot copy directory `s` to `/old`, which is a file"),
        ("missing", "/d", "cannot find `missing`"),
    ] {
        let message = into(from, to).fails();
        assert!(message.contains(why) && message.contains("help: "), "{from} {to}: {message}");
    }
    shop.shell("web", "mkdir /clash; mkdir /clash/a /f2 && echo x > /clash/b");
    let message = into("s/.", "/clash").fails();
    assert!(message.contains("cannot overwrite"), "{message}");
    let out = |from: &str, to: &str| shop.hoist(&["cp", &format!("web:{from}"), to]);
    shop.make_dir("here");
    for (from, to, landed) in [
        ("/src/in", "here", "here/in"),
        ("/src/in", "named", "named"),
        ("src/in", "f", "f"),
        ("/src", "here", "here/src/in"),
        ("/src/.", "here", "here/in"),
        ("/src", "fresh", "fresh/in"),
    ] {
        out(from, to).ok();
        assert_eq!(shop.read(landed), "in", "{from} {to}");
        assert!(shop.path("f").is_file());
    }
    assert!(shop.path("fresh/x").is_dir());
    assert!(out("/src", "f").fails().contains("which is a file"));
    assert!(out("/src", "no/where").fails().contains("help: "));
    shop.down();
}

#[test]
fn attributes_are_kept_owners_when_asked_for_and_privileges_not_for_the_host() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell(
        "web",
        "mkdir -p /t/sub; cd /t; echo x > f; chown 12:34 f; chmod 4750 f; ln f sub/g; ln -s /etc/passwd l; mkfifo p;
         dd if=/dev/zero of=big bs=1M count=1 seek=63 2>/dev/null; touch -d '2020-01-02 03:04:05' f sub",
    );
    shop.hoist(&["cp", "web:/t", "plain"]).ok();
    let f = fs::metadata(shop.path("plain/f")).expect("there");
    assert_eq!((f.mode() & 0o7777, f.uid(), f.gid(), f.mtime()), (0o750, 0, 0, 1_577_934_245));
    assert_eq!(f.ino(), fs::metadata(shop.path("plain/sub/g")).expect("there").ino(), "one file");
    assert_eq!(fs::metadata(shop.path("plain/sub")).expect("there").mtime(), 1_577_934_245);
    assert_eq!(fs::read_link(shop.path("plain/l")).expect("a link").to_str(), Some("/etc/passwd"));
    let big = fs::metadata(shop.path("plain/big")).expect("there");
    assert!(big.len() == 64 << 20 && big.blocks() < 1000, "zeros are a hole: {big:?}");
    shop.hoist(&["cp", "-a", "web:/t", "kept"]).ok();
    let f = fs::metadata(shop.path("kept/f")).expect("there");
    assert_eq!((f.mode() & 0o7777, f.uid(), f.gid()), (0o4750, 12, 34));
    // A link itself, or what it leads to: in the container, never here.
    shop.hoist(&["cp", "web:/t/l", "link"]).ok();
    assert!(fs::symlink_metadata(shop.path("link")).expect("there").is_symlink());
    shop.hoist(&["cp", "-L", "web:/t/l", "followed"]).ok();
    assert_eq!(shop.read("followed").trim_end(), shop.shell("web", "cat /etc/passwd"));
    // The other way.
    shop.write("in", "x");
    fs::set_permissions(shop.path("in"), fs::Permissions::from_mode(0o640)).expect("ours");
    std::os::unix::fs::chown(shop.path("in"), Some(12), Some(34)).expect("root");
    shop.hoist(&["cp", "in", "web:/in"]).ok();
    shop.hoist(&["cp", "-a", "in", "web:/in2"]).ok();
    assert_eq!(shop.shell("web", "stat -c '%a %u %g' /in /in2"), "640 0 0\n640 12 34");
    symlink("in", shop.path("inl")).expect("a link");
    shop.hoist(&["cp", "inl", "web:/inl"]).ok();
    shop.hoist(&["cp", "-L", "inl", "web:/inf"]).ok();
    assert_eq!(shop.shell("web", "readlink /inl; stat -c %F /inf"), "in\nregular file");
    // A directory that is there keeps its mode.
    shop.make_dir("closed");
    fs::set_permissions(shop.path("closed"), fs::Permissions::from_mode(0o700)).expect("ours");
    shop.hoist(&["cp", "closed/.", "web:/tmp"]).ok();
    assert_eq!(shop.shell("web", "stat -c %a /tmp"), "1777");
    for (from, why) in [("/dev/null", "is a device"), ("/dev", "is a device"), ("/proc/1/root", "cannot find")] {
        let message = shop.hoist(&["cp", "-L", &format!("web:{from}"), "out"]).fails();
        assert!(message.contains(why), "{from}: {message}");
    }
    // A pipe is copied as one, and nobody waits for a writer.
    shop.hoist(&["cp", "web:/t/p", "pipe"]).ok();
    assert!(!fs::symlink_metadata(shop.path("pipe")).expect("there").is_file());
    shop.down();
}

#[test]
fn from_the_first_to_all_or_by_index() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.hoist(&["up", "-d", "--scale", "web=2"]).ok();
    let cat = |index: &str, path: &str| shop.hoist(&["exec", "-T", "--index", index, "web", "cat", path]);
    shop.write("f", "all");
    let told = shop.hoist(&["cp", "f", "web:/f"]).code(0);
    assert_eq!((cat("1", "/f").ok(), cat("2", "/f").ok()), ("all".to_owned(), "all".to_owned()));
    for line in [" Container shop-web-1 Copying ", " Container shop-web-1 Copied ", " Container shop-web-2 Copied "] {
        assert!(told.stderr.lines().any(|l| l == line), "{told}");
    }
    assert_eq!(told.stdout, "");
    shop.write("g", "two");
    shop.hoist(&["cp", "--index", "2", "g", "web:/g"]).ok();
    assert!(cat("1", "/g").code.is_some_and(|code| code != 0));
    shop.hoist(&["cp", "--index", "2", "web:/g", "back"]).ok();
    assert_eq!(shop.read("back"), "two");
    assert!(shop.hoist(&["cp", "web:/g", "back"]).fails().contains("cannot find `/g`"), "the first has none");
    // A stream can be read once, and goes to all.
    shop.write("t/h", "streamed");
    let (code, _, stderr) = fed(shop.command(&["cp", "-", "web:/tmp"]), tar_of(&shop.path("t")));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(cat("1", "/tmp/h").ok() + &cat("2", "/tmp/h").ok(), "streamedstreamed");
    assert_eq!(
        shop.hoist(&["--dry-run", "cp", "g", "web:/n"]).ok(),
        "copy g to shop-web-1:/n\ncopy g to shop-web-2:/n\n"
    );
    for (arguments, why) in [
        (&["cp", "web:/a", "web:/b"][..], "copying between services is not supported"),
        (&["cp", "a", "b"], "unknown copy direction"),
        (&["cp", "f", "web:"], "a path is empty"),
        (&["cp", "--index", "7", "web:/f", "x"], "service \"web\" is not running container #7"),
        (&["cp", "wbe:/f", "x"], "did you mean `web`?"),
    ] {
        let message = shop.hoist(arguments).fails();
        assert!(message.contains(why) && message.contains("help: "), "{arguments:?}: {message}");
    }
    shop.down();
    assert!(shop.hoist(&["cp", "web:/f", "x"]).fails().contains("no container found for service \"web\""));
}

#[test]
fn a_stopped_container_is_copied_from_and_to_with_its_volumes() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
    volumes: [data:/data/deep, './ro:/ro:ro', './one:/etc/one:ro', './two:/etc/two']
  shut:
    image: busybox
    init: true
    command: sleep 1000
    read_only: true
    volumes: [data:/data]
volumes:
  data:
",
    );
    shop.write("f", "file");
    shop.write("ro/r", "read");
    shop.write("one", "read");
    shop.write("two", "");
    shop.hoist(&["create"]).ok();
    let check = |when: &str| {
        for to in ["/root-file", "/data/deep/file"] {
            shop.hoist(&["cp", "f", &format!("web:{to}")]).ok();
            shop.hoist(&["cp", &format!("web:{to}"), "back"]).ok();
            assert_eq!(shop.read("back"), "file", "{when} {to}");
            fs::remove_file(shop.path("back")).expect("it was copied");
        }
        assert_eq!(fs::read_to_string(shop.volume("data").join("file")).expect("in the volume"), "file");
        shop.hoist(&["cp", "web:/ro/r", "back"]).ok();
        shop.hoist(&["cp", "f", "shut:/data/file"]).ok();
        for to in ["web:/ro/r", "web:/ro/new", "web:/etc/one", "shut:/new"] {
            let message = shop.hoist(&["cp", "f", to]).fails();
            assert!(message.contains("Read-only file system") && message.contains("help: "), "{when} {to}: {message}");
        }
        assert_eq!(shop.read("ro/r") + &shop.read("one"), "readread");
        // A file that is mounted is written, not replaced.
        shop.write("two", "");
        shop.hoist(&["cp", "f", "web:/etc/two"]).ok();
        assert_eq!(shop.read("two"), "file", "{when}");
    };
    check("never run");
    shop.up();
    check("running");
    shop.hoist(&["pause", "web"]).ok();
    shop.hoist(&["cp", "web:/root-file", "paused"]).ok();
    shop.hoist(&["unpause", "web"]).ok();
    shop.hoist(&["stop", "-t", "0"]).ok();
    check("stopped");
    shop.hoist(&["start"]).ok();
    assert_eq!(shop.shell("web", "cat /root-file"), "file");
    shop.hoist(&["down", "-v"]).ok();
}

/// CVE-2018-15664, CVE-2019-18466, CVE-2026-42306: a directory on the way is a link to `/` now and then.
#[test]
fn a_container_that_swaps_links_reaches_nothing_of_the_host() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.write("canary/secret", "host");
    shop.write("f", "evil");
    let canary = shop.path("canary");
    let out = format!("/../../../..{}", canary.display());
    shop.up();
    shop.shell(
        "web",
        &format!(
            "mkdir -p /w/x; cd /w; echo -n inside > x/secret; ln -s {out} b; ln -s {} abs; ln -s /proc/1/root/{out} proc
             (while :; do mv x a; mv b x; mv x b; mv a x; done) >/dev/null 2>&1 &",
            canary.display()
        ),
    );
    shop.make_dir("got");
    let (mut copied, rounds) = (0, if is_soak() { 5000 } else { 60 });
    for _ in 0..rounds {
        // Each may fail, as what it names is not there for a moment.
        copied += u32::from(shop.hoist(&["cp", "f", "web:/w/x/planted"]).code == Some(0));
        copied += u32::from(shop.hoist(&["cp", "web:/w/x/secret", "got/secret"]).code == Some(0));
        let _ = shop.hoist(&["cp", "-L", "web:/w/x", "got/tree"]);
        for got in ["got/secret", "got/tree/secret", "got/tree/x/secret"] {
            assert!(!fs::read_to_string(shop.path(got)).is_ok_and(|text| text == "host"), "{got}");
        }
    }
    assert!(copied > 0, "some must have met the directory");
    for link in ["abs", "proc"] {
        assert!(shop.hoist(&["cp", &format!("web:/w/{link}/secret"), "got/link"]).fails().contains("cannot find"));
        assert!(shop.hoist(&["cp", "f", &format!("web:/w/{link}/secret")]).fails().contains("cannot find"));
    }
    assert!(shop.hoist(&["cp", &format!("web:{out}/secret"), "got/dots"]).fails().contains("cannot find"));
    assert_eq!(shop.read("canary/secret"), "host");
    assert_eq!(fs::read_dir(&canary).expect("there").count(), 1);
    shop.down();
}

/// CVE-2019-14271, CVE-2026-41567: nothing that the container brought is loaded or run.
#[test]
fn nothing_of_the_container_is_run() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell(
        "web",
        "for p in xz gzip zstd; do
           mkdir -p /evil /usr/local/bin; printf '#!/bin/sh\\ntouch /ran\\n' > /usr/local/bin/$p; chmod 755 /usr/local/bin/$p
         done; mkdir -p /lib; cp /usr/local/bin/xz /lib/libnss_files.so.2; ln -sf /usr/local/bin/xz /etc/ld.so.preload",
    );
    let mut xz = b"\xfd7zXZ\0\0\x04".to_vec();
    xz.resize(4096, 7);
    for magic in [xz, b"\x1f\x8b\x08\0".repeat(1024), b"\x28\xb5\x2f\xfd".repeat(1024)] {
        let (code, _, stderr) = fed(shop.command(&["cp", "-", "web:/evil"]), magic);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("cannot read the archive") && stderr.contains("uncompressed tar"), "{stderr}");
    }
    shop.hoist(&["cp", "web:/etc", "etc"]).ok();
    assert_eq!(shop.shell("web", "ls -A /evil; test ! -e /ran && echo nothing ran"), "nothing ran");
    shop.down();
}

#[test]
fn an_archive_goes_in_and_out_and_stays_in_its_directory() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.up();
    shop.shell(
        "web",
        "mkdir -p /t/sub /into; echo x > /t/sub/f; chown 5:6 /t/sub/f; chmod 4711 /t/sub/f; ln -s /etc /into/etc",
    );
    let (code, tar, stderr) = fed(shop.command(&["cp", "web:/t", "-"]), Vec::new());
    assert_eq!(code, Some(0), "{stderr}");
    let lines = listed(tar.clone());
    assert!(lines.len() == 3 && lines[0].ends_with(" t/") && lines[1].ends_with(" t/sub/"), "{lines:?}");
    assert!(lines[2].starts_with("-rws--x--x 5/6 ") && lines[2].ends_with(" t/sub/f"), "{lines:?}");
    let (code, _, stderr) = fed(shop.command(&["cp", "-a", "-", "web:/into"]), tar);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(shop.shell("web", "stat -c '%a %u %g' /into/t/sub/f"), "4711 5 6");
    // A link on an entry's way leads where it leads inside the destination.
    shop.write("e/etc/planted", "x");
    let (code, _, stderr) = fed(shop.command(&["cp", "-", "web:/into"]), tar_of(&shop.path("e")));
    assert!(code == Some(1) && stderr.contains("cannot overwrite"), "{stderr}");
    assert_eq!(shop.shell("web", "test ! -e /etc/planted && echo not there"), "not there");
    let (code, _, stderr) = fed(shop.command(&["cp", "-", "web:/etc/passwd"]), tar_of(&shop.path("e")));
    assert!(code == Some(1) && stderr.contains("must be a directory"), "{stderr}");
    shop.down();
}

#[test]
fn export_is_the_container_without_its_mounts() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
    volumes: [data:/data]
volumes:
  data:
",
    );
    shop.up();
    shop.shell("web", "echo own > /own; rm /etc/group; echo v > /data/in-volume; mkdir /gone; rmdir /gone");
    let check = || {
        let run = shop.hoist(&["export", "-o", "out.tar", "web"]).code(0);
        assert!(run.stderr.contains(" Container shop-web-1 Exported "), "{run}");
        let lines = listed(fs::read(shop.path("out.tar")).expect("written"));
        let has = |name: &str| lines.iter().any(|line| line.ends_with(&format!(" {name}")));
        assert!(has("own") && has("etc/passwd") && has("data/"), "{lines:?}");
        assert!(!has("etc/group") && !has("data/in-volume") && !has("gone/"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains(" proc/") && !line.ends_with(" proc/")), "{lines:?}");
    };
    check();
    let (code, tar, stderr) = fed(shop.command(&["export", "web"]), Vec::new());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(listed(tar).iter().any(|line| line.ends_with(" own")));
    shop.hoist(&["stop", "-t", "0"]).ok();
    check();
    let message = shop.hoist(&["export", "-o", "no/where.tar", "web"]).fails();
    assert!(message.contains("cannot write `no/where.tar`") && message.contains("help: "), "{message}");
    assert!(shop.hoist(&["export", "--index", "3", "web"]).fails().contains("is not running container #3"));
    shop.hoist(&["down", "-v"]).ok();
}
