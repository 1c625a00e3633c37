//! Named volumes, bind mounts, tmpfs.

use super::support::project::TestProject;
use super::support::{host, require_root};

#[test]
fn a_named_volume_is_filled_from_the_image_survives_down_and_goes_with_v() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes: [data:/etc]
volumes:
  data:
",
    );
    shop.up();
    // What the image has at that place, with its modes.
    assert!(shop.shell("web", "cat /etc/passwd").contains("www-data"));
    assert_eq!(shop.shell("web", "stat -c '%a %u' /etc/passwd /etc"), "644 0\n755 0");
    shop.shell("web", "echo kept > /etc/file; rm /etc/group");
    shop.down();
    assert_eq!(std::fs::read_to_string(shop.volume("data").join("file")).expect("kept"), "kept\n");
    shop.up();
    assert_eq!(
        shop.shell("web", "cat /etc/file; test -e /etc/group || echo not filled again"),
        "kept\nnot filled again"
    );
    shop.hoist(&["down", "-v"]).ok();
    assert!(!shop.volume("data").parent().expect("it has one").exists());
}

#[test]
fn two_services_share_a_volume() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  a:
    image: busybox
    command: sleep 1000
    volumes: [data:/data]
  b:
    image: busybox
    command: sleep 1000
    volumes: ['data:/data:ro']
volumes:
  data:
",
    );
    shop.up();
    shop.shell("a", "echo hello > /data/file");
    assert_eq!(shop.shell("b", "cat /data/file"), "hello");
    let refused = shop.hoist(&["exec", "-T", "b", "sh", "-c", "echo no > /data/file"]).fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
}

#[test]
fn a_bind_mount_shows_edits_at_once_and_read_only_means_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes:
      - ./html:/html:ro
      - type: bind
        source: ./file
        target: /file
",
    );
    shop.write("html/index.html", "one");
    shop.write("file", "first");
    shop.up();
    assert_eq!(shop.shell("web", "cat /html/index.html /file"), "onefirst");
    shop.write("html/index.html", "two");
    shop.write("html/deep/new", "three");
    assert_eq!(shop.shell("web", "cat /html/index.html /html/deep/new"), "twothree");
    let refused = shop.hoist(&["exec", "-T", "web", "sh", "-c", "echo no > /html/index.html"]).fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
    shop.shell("web", "echo -n second > /file");
    assert_eq!(shop.read("file"), "second");
}

#[test]
fn a_read_only_mount_is_read_only_below_too() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes: ['./html:/html:ro']
",
    );
    shop.make_dir("html/deep");
    let deep = shop.path("html/deep");
    rustix::mount::mount("tmpfs", &deep, "tmpfs", rustix::mount::MountFlags::empty(), None).expect("mounted");
    shop.up();
    let refused = shop.hoist(&["exec", "-T", "web", "touch", "/html/deep/file"]).fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
    shop.down();
    rustix::mount::unmount(&deep, rustix::mount::UnmountFlags::empty()).expect("nobody has it");
}

#[test]
fn a_missing_source_of_a_short_bind_mount_is_made() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes: ['./made/here:/data']
",
    );
    shop.up();
    assert!(shop.path("made/here").is_dir());
    shop.shell("web", "touch /data/file");
    assert!(shop.path("made/here/file").exists());
}

#[test]
fn a_tmpfs_is_empty_bounded_and_private() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes:
      - type: tmpfs
        target: /scratch
        tmpfs:
          size: 1m
",
    );
    shop.up();
    assert_eq!(shop.shell("web", "ls -A /scratch"), "");
    let seen = shop.shell("web", "grep ' /scratch ' /proc/mounts");
    assert!(seen.contains("tmpfs") && seen.contains("size=1024k"), "{seen}");
    let full = shop.hoist(&["exec", "-T", "web", "dd", "if=/dev/zero", "of=/scratch/f", "bs=1M", "count=2"]).fails();
    assert!(full.contains("No space left"), "{full}");
}

#[test]
fn a_mount_cannot_be_led_out_of_the_container_by_a_symlink_in_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  first:
    image: busybox
    command: sleep 1000
    volumes: ['data:/data']
  second:
    image: busybox
    command: sleep 1000
    volumes: ['data:/data', './mine:/data/escape/inside']
    depends_on: [first]
volumes:
  data:
",
    );
    shop.make_dir("mine");
    shop.hoist(&["up", "-d", "first"]).ok();
    let outside = shop.host().directory().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let outside_text = outside.to_str().expect("UTF-8");
    shop.shell("first", &format!("ln -s {outside_text} /data/escape"));
    // Whether it is refused or resolved inside the container: the host's directory stays as it is.
    let _ = shop.hoist(&["up", "-d"]);
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 0);
    assert!(!host::command("cat", &["/proc/self/mountinfo"]).contains(outside_text));
}
