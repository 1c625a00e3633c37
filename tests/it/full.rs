//! Full disks: one sentence that says where and what to do, nothing half made, and what runs goes on.

use std::fs;
use std::path::{Path, PathBuf};

use hoist::state::record::State;
use rustix::mount::{MountFlags, UnmountFlags};

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, images, require_root};

/// A small file system over a directory, for as long as this lives.
struct Small {
    path: PathBuf,
}

impl Small {
    /// Mounts a tmpfs with so many KiB and inodes over a directory.
    fn over(path: &Path, kib: u32, inodes: u32) -> Self {
        fs::create_dir_all(path).expect("a directory");
        let options = std::ffi::CString::new(format!("size={kib}k,nr_inodes={inodes},mode=0700")).expect("no zero");
        rustix::mount::mount("small", path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).expect("mounted");
        Self { path: path.to_owned() }
    }

    /// Fills it until not a byte more goes in.
    fn fill(&self) {
        let mut left = 1 << 20;
        let path = self.path.join("filler");
        let mut file = fs::File::create(path).expect("a file");
        while left > 0 {
            match std::io::Write::write(&mut file, &vec![7; left]) {
                Ok(0) | Err(_) => left /= 2,
                Ok(_) => {}
            }
        }
    }

    /// Fills it until not a file more can be made.
    fn use_up_inodes(&self) {
        let directory = self.path.join("fillers");
        fs::create_dir(&directory).expect("a directory");
        let mut made = 0;
        while fs::File::create(directory.join(made.to_string())).is_ok() {
            made += 1;
        }
        assert!(made > 0);
    }

    /// Makes room again.
    fn empty(&self) {
        let _ = fs::remove_file(self.path.join("filler")); // it was filled in one of the two ways
        let _ = fs::remove_dir_all(self.path.join("fillers"));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.path, UnmountFlags::DETACH).expect("it is mounted");
    }
}

const SHOP: &str = "
services:
  db:
    image: busybox
    command: sh -c 'cat /data/greeting; exec sleep 1000'
    volumes: [data:/data, ./ctl:/ctl]
  web:
    image: busybox
    command: httpd -f -p 80
    ports: ['8080:80']
    depends_on: [db]
volumes:
  data:
";

/// Makes the shop whose engine has its files on a small disk with that much room.
fn shop_with_small_root(kib: u32, inodes: u32) -> (TestProject, Small) {
    let shop = TestProject::new("shop", SHOP);
    shop.make_dir("ctl");
    let small = Small::over(&shop.host().root(), kib, inodes);
    images::install("busybox", &shop.host().root().join("images"));
    (shop, small)
}

/// Asserts that a message says what was not possible, where, and what to do.
#[track_caller]
fn is_clear(message: &str, place: &Path) {
    assert!(message.contains("No space left on device"), "{message}");
    let help = message.lines().find(|line| line.contains("help:")).unwrap_or_else(|| panic!("no help: {message}"));
    assert!(help.contains("make room there"), "{message}");
    assert!(help.contains(&place.display().to_string()), "{message}");
    assert_eq!(message.matches("error:").count(), 1, "{message}");
}

#[test]
fn up_on_a_full_disk_says_where_and_goes_on_when_there_is_room() {
    require_root!();
    for inodes in [false, true] {
        let (shop, small) = shop_with_small_root(4096, 400);
        shop.hoist(&["version"]).ok();
        shop.hoist(&["ps"]).ok();
        let before = shop.host().objects();
        if inodes {
            small.use_up_inodes();
        } else {
            small.fill();
        }
        is_clear(&shop.hoist(&["up", "-d"]).fails(), &shop.host().root());
        // It can be taken down while there is no room, and brought up when there is.
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, "a down without room");
        let _ = shop.hoist(&["up", "-d"]).fails();
        small.empty();
        shop.up();
        assert_eq!(shop.shell("web", "echo here"), "here");
        assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
        // A full disk stops no `down` either.
        small.fill();
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, "a down on a full disk");
    }
}

#[test]
fn up_with_full_volatile_state_says_where_and_goes_on_when_there_is_room() {
    require_root!();
    for inodes in [false, true] {
        let shop = TestProject::new("shop", SHOP);
        shop.make_dir("ctl");
        let run = shop.host().run().to_owned();
        let small = Small::over(&run, 1024, 100);
        shop.hoist(&["ps"]).ok();
        let before = shop.host().objects();
        if inodes {
            small.use_up_inodes();
        } else {
            small.fill();
        }
        is_clear(&shop.hoist(&["up", "-d"]).fails(), &run);
        small.empty();
        shop.up();
        // Ends are kept in mind until they can be written down.
        small.fill();
        let pid = shop.pid("db");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
        eventually(10.secs(), "it has ended", || holds(!Path::new(&format!("/proc/{pid}")).exists()));
        small.empty();
        let status = shop.wait_status("db", "seen to have ended", |s| s.state == State::Exited);
        assert_eq!(status.exit_code, Some(137));
        small.fill();
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, "a down on a full disk");
    }
}

#[test]
fn an_image_that_has_no_room_leaves_nothing() {
    require_root!();
    let (shop, small) = shop_with_small_root(6144, 300);
    shop.hoist(&["image", "ls"]).ok();
    let layer = |files: usize, size: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        for i in 0..files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(size as u64);
            tar.append_data(&mut header, format!("file-{i}"), &vec![7; size][..]).expect("memory");
        }
        tar.into_inner().expect("memory")
    };
    let files = || {
        let out = std::process::Command::new("find").arg(shop.host().root()).output().expect("it runs");
        let mut lines: Vec<String> = String::from_utf8_lossy(&out.stdout).lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    let before = files();
    for (what, files_, size) in [("bytes", 1, 9 << 20), ("bytes, little by little", 100, 80 << 10), ("inodes", 500, 1)]
    {
        fs::write(shop.path("large.tar"), super::images::archive_of_layer(&layer(files_, size))).expect("written");
        let message = shop.hoist(&["image", "load", "-i", "large.tar"]).fails();
        assert!(message.starts_with("error: there is no room for "), "{what}: {message}");
        assert!(
            message.contains(&format!("in `{}`", shop.host().root().join("images").display())),
            "{what}: {message}"
        );
        assert!(message.contains("make room there") && message.contains("KiB"), "{what}: {message}");
        assert_eq!(files(), before, "{what}: {message}");
    }
    // And with room it is loaded.
    small.empty();
    fs::write(shop.path("small.tar"), super::images::archive_of_layer(&layer(3, 1000))).expect("written");
    shop.hoist(&["image", "load", "-i", "small.tar"]).ok();
}

#[test]
fn a_container_writes_on_while_the_disk_is_full_and_its_log_says_what_is_missing() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  talker:
    image: busybox
    command: sh /ctl/talker.sh
    volumes: [./ctl:/ctl]
",
    );
    // Two megabytes are more than its pipe holds: it comes to its end only if somebody takes them.
    shop.write(
        "ctl/talker.sh",
        "echo before
until [ -e /ctl/full ]; do usleep 5000; done
i=0; while [ $i -lt 2000 ]; do printf '%01023d\\n' $i; i=$((i+1)); done
touch /ctl/written
until [ -e /ctl/room ]; do usleep 5000; done
echo after
exec sleep 1000
",
    );
    let small = Small::over(&shop.host().root(), 2048, 400);
    images::install("busybox", &shop.host().root().join("images"));
    shop.up();
    shop.wait_log("talker", "its first words", |line| line == "before");
    let pid = shop.pid("talker");
    small.fill();
    shop.write("ctl/full", "");
    eventually(20.secs(), "it could write all it had to say", || holds(shop.path("ctl/written").exists()));
    small.empty();
    shop.wait_log("talker", "what is missing", |line| {
        line.starts_with("hoist: ") && line.contains("bytes of output are missing here")
    });
    shop.write("ctl/room", "");
    shop.wait_log("talker", "its last words", |line| line == "after");
    assert_eq!(shop.pid("talker"), pid);
    // Every byte is in the log or counted, and what is shown is in order.
    let log = shop.log("talker");
    let said = |line: &str| line.strip_prefix("hoist: ").and_then(|l| l.split(' ').next()?.parse::<usize>().ok());
    let (mut lost, mut kept) = (0, 0);
    for line in &log {
        match said(&line.log) {
            Some(bytes) => lost += bytes,
            None => kept += line.log.len(),
        }
    }
    assert_eq!(lost + kept, "before\n".len() + 2000 * 1024 + "after\n".len());
    assert!(lost > 0);
    assert!(shop.hoist(&["logs", "talker"]).ok().contains("bytes of output are missing here"));
    shop.hoist(&["down", "-v"]).ok();
}
