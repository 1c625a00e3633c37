//! `logging`: files of a log that make room for each other, and output that is not kept.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use hoist::state::record::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::crash::{kill_both, send};
use super::faults::run;
use super::support::project::TestProject;
use super::support::{Secs as _, is_soak, require_root};

/// Writes numbered lines, one to each output, as many as it is told.
const TALKER: &str = "\
echo ready
until [ -e /ctl/go ]; do sleep 0.02; done
i=0
while [ $i -lt $1 ]; do
    i=$((i + 1))
    echo \"line $i of a container that has much to say\"
    echo \"line $i of the other output\" >&2
    [ $((i % 50)) != 0 ] || usleep 10000
done
";

/// Returns a project whose one container writes `lines` lines to each output, with these options of `logging`.
fn talker(lines: u32, logging: &str) -> TestProject {
    let compose = format!(
        "
services:
  talker:
    image: busybox
    command: sh /ctl/talker.sh {lines}
    volumes: [./ctl:/ctl]
    logging: {logging}
"
    );
    let shop = TestProject::new("shop", &compose);
    shop.write("ctl/talker.sh", TALKER);
    shop
}

/// Returns the files of the talker's log, the oldest first.
fn files(shop: &TestProject) -> Vec<PathBuf> {
    let directory = shop.host().root().join("containers").join(shop.record("talker").id.as_str()).join("log");
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| match path.file_name()?.to_str()?.strip_prefix("json.log")? {
            "" => Some((0, path)),
            number => Some((number.strip_prefix('.')?.parse().ok()?, path)),
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Returns the numbers of the lines of an output.
fn numbers<'a>(lines: impl Iterator<Item = &'a str>, tail: &str) -> Vec<u32> {
    let number = |line: &str| line.strip_prefix("line ")?.strip_suffix(tail)?.parse().ok();
    lines.filter_map(number).collect()
}

const OUT: &str = " of a container that has much to say";
const ERR: &str = " of the other output";

#[track_caller]
fn are_consecutive(numbers: &[u32], what: &str) {
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: {numbers:?}");
}

#[test]
fn files_make_room_for_each_other_and_no_line_is_lost_or_doubled_by_a_killed_worker() {
    require_root!();
    let lines = if is_soak() { 20_000 } else { 3_000 };
    let shop = talker(lines, "{driver: json-file, options: {max-size: 40k, max-file: '3'}}");
    shop.up();
    let mut follower = shop.spawn(&["logs", "-f", "--no-log-prefix"]);
    follower.wait_for("the first line", |line| line == "ready");
    let mut workers = Vec::new();
    shop.write("ctl/go", "");
    let mut rotations = 0;
    let mut newest = None;
    // Each time it has begun a few files more, the worker is killed.
    while shop.try_status("talker").is_none_or(|status| status.state != State::Exited) {
        let found = files(&shop);
        assert!(found.len() <= 3, "{found:?}");
        let inode = found.last().and_then(|path| fs::metadata(path).ok()).map(|meta| meta.ino());
        if inode.is_some() && inode != newest {
            newest = inode;
            rotations += 1;
            let worker = shop.supervisor().worker_pid;
            if rotations % 3 == 2 && !workers.contains(&worker) {
                workers.push(worker);
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL); // it may be gone already
            }
        }
    }
    assert!(rotations >= 10, "{rotations} files");
    assert!(workers.len() >= 3, "{workers:?}");
    let all = follower.finish(60.secs()).code(0);
    let wanted: Vec<u32> = (1..=lines).collect();
    assert_eq!(numbers(all.stdout.lines(), OUT), wanted, "all that was followed");
    assert_eq!(numbers(all.stderr.lines(), ERR), wanted, "all that was followed of the other output");
    // What is kept are the last lines, from one on.
    let kept = shop.hoist(&["logs", "--no-log-prefix"]).code(0);
    for (shown, tail) in [(&kept.stdout, OUT), (&kept.stderr, ERR)] {
        let shown = numbers(shown.lines(), tail);
        are_consecutive(&shown, tail);
        assert_eq!(shown.last(), Some(&lines));
        assert!(shown.len() > 100, "{shown:?}");
    }
    let found = files(&shop);
    assert_eq!(found.len(), 3);
    for path in &found {
        assert!(fs::metadata(path).expect("a file").len() <= 40_000, "{path:?}");
    }
    // As many of the last as are asked for, though they are in several files.
    let wanted = kept.stdout.lines().count() + kept.stderr.lines().count() - 10;
    let some = shop.hoist(&["logs", "--no-log-prefix", "--index", "1", "-n", &wanted.to_string()]).code(0);
    assert_eq!(some.stdout.lines().count() + some.stderr.lines().count(), wanted);
}

#[test]
fn a_log_of_one_file_begins_anew_and_a_follower_sees_all() {
    require_root!();
    let shop = talker(1_000, "{options: {max-size: 10k}}");
    shop.up();
    let mut follower = shop.spawn(&["logs", "-f", "--no-log-prefix"]);
    follower.wait_for("the first line", |line| line == "ready");
    shop.write("ctl/go", "");
    assert_eq!(shop.wait_exit("talker"), 0);
    let all = follower.finish(60.secs()).code(0);
    assert_eq!(numbers(all.stdout.lines(), OUT), (1..=1_000).collect::<Vec<u32>>());
    assert_eq!(files(&shop).len(), 1);
    assert!(fs::metadata(&files(&shop)[0]).expect("a file").len() <= 10_000);
    let kept = shop.hoist(&["logs", "--no-log-prefix"]).code(0);
    let (out, err) = (numbers(kept.stdout.lines(), OUT), numbers(kept.stderr.lines(), ERR));
    are_consecutive(&out, "what is kept");
    are_consecutive(&err, "what is kept");
    // The file may have begun anew between the last two lines.
    assert!([out.last(), err.last()].contains(&Some(&1_000)), "{out:?} {err:?}");
}

#[test]
fn a_worker_that_ends_anywhere_while_files_move_loses_and_doubles_no_line() {
    require_root!();
    let three = ["log.oldest-removed@1", "log.moved@1", "log.moved@4", "log.moved@5", "log.file-made@4"];
    let three = three.map(|fault| ("{options: {max-size: 10k, max-file: 3}}", fault));
    let one = ["log.file-made@1", "log.file-made@3", "log.file-begun@2"]
        .map(|fault| ("{driver: local, options: {max-size: 10k, max-file: 1}}", fault));
    for (logging, fault) in three.into_iter().chain(one) {
        let shop = talker(500, logging);
        let (up, _) = run(&shop, Some(&format!("worker:{fault}")), &["up", "-d"]);
        let _ = up.code(0);
        let worker = shop.supervisor().worker_pid;
        let mut follower = shop.spawn(&["logs", "-f", "--no-log-prefix"]);
        follower.wait_for("the first line", |line| line == "ready");
        shop.write("ctl/go", "");
        assert_eq!(shop.wait_exit("talker"), 0, "{fault}");
        assert_ne!(shop.supervisor().worker_pid, worker, "{fault} was not met");
        let all = follower.finish(60.secs()).code(0);
        let wanted: Vec<u32> = (1..=500).collect();
        assert_eq!(numbers(all.stdout.lines(), OUT), wanted, "{fault}");
        assert_eq!(numbers(all.stderr.lines(), ERR), wanted, "{fault}");
        let kept = numbers(shop.hoist(&["logs", "--no-log-prefix"]).code(0).stderr.lines(), ERR);
        are_consecutive(&kept, fault);
        assert_eq!(kept.last(), Some(&500), "{fault}");
    }
}

#[test]
fn a_follower_that_does_not_read_holds_a_container_up_only_for_a_moment() {
    require_root!();
    let shop = talker(1_000, "{options: {max-size: 2k, max-file: 2}}");
    shop.up();
    let mut follower = shop.spawn(&["logs", "-f", "--no-log-prefix"]);
    follower.wait_for("the first line", |line| line == "ready");
    send(follower.pid().as_raw(), Signal::SIGSTOP);
    shop.write("ctl/go", "");
    assert_eq!(shop.wait_exit("talker"), 0);
    send(follower.pid().as_raw(), Signal::SIGCONT);
    let all = follower.finish(60.secs()).code(0);
    let seen = numbers(all.stdout.lines(), OUT);
    assert_eq!(numbers(all.stderr.lines(), ERR).last(), Some(&1_000), "the last lines are there");
    let said = all.stderr.lines().any(|line| line.starts_with("hoist: ") && line.contains(" are missing here"));
    assert!(said || seen.len() == 1_000, "{} lines, and nothing is said of the others", seen.len());
}

#[test]
fn what_is_not_kept_is_shown_to_who_is_there_alone() {
    require_root!();
    let shop = talker(2_000, "{driver: none}");
    shop.write("ctl/go", "");
    let all = shop.hoist(&["up", "--no-log-prefix"]).code(0);
    assert_eq!(numbers(all.stdout.lines(), OUT), (1..=2_000).collect::<Vec<u32>>());
    assert_eq!(files(&shop), Vec::<PathBuf>::new(), "nothing is on disk");
    let logs = shop.hoist(&["logs"]).code(0);
    assert_eq!(logs.stdout, "");
    assert_eq!(
        logs.stderr,
        "warning: there are no logs of container `shop-talker-1`: its logging driver is `none`, which keeps nothing\n"
    );
    // A supervisor that dies changes nothing of that.
    shop.write("ctl/talker.sh", "echo early; until [ -e /ctl/on ]; do sleep 0.02; done; echo late\n");
    shop.up();
    kill_both(&shop);
    shop.hoist(&["ps"]).ok();
    shop.write("ctl/on", "");
    shop.wait_status("talker", "exited", |status| status.state == State::Exited); // nobody knows how
    assert_eq!(shop.hoist(&["logs"]).code(0).stdout, "");
}
