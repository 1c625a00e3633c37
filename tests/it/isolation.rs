//! What a service has of the host: limits of processes, kernel parameters, devices, tmpfs, groups, privileges.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::project::TestProject;
use super::support::require_root;

/// Returns a field of `/proc/self/status` of a process that is run in a service's container.
fn status_field(shop: &TestProject, service: &str, field: &str) -> String {
    shop.shell(service, &format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/self/status"))
}

#[test]
fn limits_of_processes_hold_for_the_container_and_its_execs() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c; exec sleep 1000'
    ulimits: {nofile: {soft: 1000, hard: 2000}, core: 0}
",
    );
    shop.up();
    shop.wait_log("web", "its limits", |line| line == "0");
    assert_eq!(shop.log_text("web"), "1000\n2000\n0\n");
    assert_eq!(shop.shell("web", "ulimit -Sn; ulimit -Hn; ulimit -c"), "1000\n2000\n0");
    // Beyond what any process may have, with whatever capability.
    let text = fs::read_to_string(shop.path("compose.yaml")).expect("it");
    shop.write("compose.yaml", &text.replace("hard: 2000", "hard: 2000000000"));
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("ulimit `nofile`"), "{said}");
}

#[test]
fn kernel_parameters_are_the_containers_alone() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    user: '1000'
    sysctls: [net.core.somaxconn=99, kernel.shm_rmid_forced=1]
",
    );
    let host = || fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").expect("readable");
    let before = host();
    shop.up();
    let read = |name: &str| shop.shell("web", &format!("cat /proc/sys/{name}"));
    assert_eq!((read("net/core/somaxconn").as_str(), read("kernel/shm_rmid_forced").as_str()), ("99", "1"));
    assert_eq!(read("net/ipv4/ip_unprivileged_port_start"), "0", "as with Docker, any user may listen on port 80");
    assert_eq!(host(), before);
    let refused = shop.hoist(&["exec", "-T", "-u", "0", "web", "sh", "-c", "echo 5 >/proc/sys/net/core/somaxconn"]);
    assert!(refused.fails().contains("Read-only file system"));
}

#[test]
fn what_is_the_hosts_is_refused_at_its_place() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    sysctls:
      kernel.core_pattern: x
    devices:
      - /dev/hoist-has-no-such-device
      - /etc/passwd:/dev/passwd
    security_opt:
      - seccomp-unconfined
",
    );
    let said = shop.hoist(&["up", "-d"]).fails();
    for (words, place) in [
        ("the kernel parameter `kernel.core_pattern` is the whole host's", "--> compose.yaml:6:7"),
        ("cannot find the device `/dev/hoist-has-no-such-device`", "--> compose.yaml:8:9"),
        ("`/etc/passwd` is not a device", "--> compose.yaml:9:9"),
        ("`seccomp-unconfined` is no option of `security_opt`", "--> compose.yaml:11:9"),
    ] {
        assert!(said.contains(words) && said.contains(place), "{words}: {said}");
    }
    assert_eq!(shop.records(), []);
}

#[test]
fn memory_file_systems_have_their_sizes_and_options() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    shm_size: 1m
    tmpfs:
      - /plain
      - /mine:size=2m,mode=700,uid=1000,exec
",
    );
    shop.up();
    let mounts = shop.shell("web", "cat /proc/mounts");
    let options = |path: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(path)).expect("it is mounted");
        line.split(' ').nth(3).expect("options").split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let has = |path: &str, option: &str| options(path).iter().any(|o| o == option);
    assert!(has("/dev/shm", "size=1024k"), "{mounts}");
    assert!(has("/plain", "noexec") && has("/plain", "nosuid") && has("/plain", "nodev"), "{mounts}");
    assert!(has("/mine", "size=2048k") && has("/mine", "mode=700") && has("/mine", "uid=1000"), "{mounts}");
    assert!(has("/mine", "nosuid") && !has("/mine", "noexec"), "{mounts}");
    let full = shop.hoist(&["exec", "-T", "web", "dd", "if=/dev/zero", "of=/mine/file", "bs=1M", "count=3"]).fails();
    assert!(full.contains("No space left on device"), "{full}");
    assert_eq!(
        shop.shell("web", "cp /bin/busybox /mine/true 2>/dev/null; rm -f /mine/file; stat -c %a /plain"),
        "1777"
    );
    // Another size is another container.
    let id = shop.record("web").id;
    let text = fs::read_to_string(shop.path("compose.yaml")).expect("it");
    shop.write("compose.yaml", &text.replace("size=2m", "size=3m"));
    shop.up();
    assert_ne!(shop.record("web").id, id);
}

#[test]
fn a_device_can_be_used_as_it_was_allowed_and_no_link_leads_its_node_away() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    devices: ['/dev/kmsg:/dev/mine:r', '/dev/full:/data/deep/node']
    cap_add: [SYSLOG]
    volumes: ['./data:/data']
  none:
    image: busybox
    command: sleep 1000
    cap_add: [SYSLOG]
",
    );
    fs::create_dir(shop.path("data")).expect("a directory");
    shop.up();
    // It is the kernel's log, which can be opened without harm.
    assert_eq!(shop.shell("web", ": </dev/mine; stat -c %t:%T /dev/mine /data/deep/node"), "1:b\n1:7");
    let refused = shop.hoist(&["exec", "-T", "web", "sh", "-c", ": >/dev/mine"]).fails();
    assert!(refused.contains("Operation not permitted"), "{refused}");
    let none = ["exec", "-T", "none", "sh", "-c", "mknod /dev/mine c 1 11 && : </dev/mine"];
    let refused = shop.hoist(&none).fails();
    assert!(refused.contains("Operation not permitted"), "{refused}");
    shop.down();

    // What is in the way is not followed and not replaced.
    let text = fs::read_to_string(shop.path("compose.yaml")).expect("it");
    symlink("/etc/passwd", shop.path("data/link")).expect("a link");
    symlink("/proc/1", shop.path("data/proc")).expect("a link");
    for (target, why) in [("/data/link", "File exists"), ("/data/proc/node", "Operation not permitted")] {
        shop.write("compose.yaml", &text.replace("/dev/mine", target));
        let said = shop.hoist(&["up", "-d"]).fails();
        assert!(said.contains(&format!("`{target}`: cannot make a device node: {why}")), "{said}");
        shop.down();
    }
}

#[test]
fn privileged_has_all_of_the_host_and_a_dev_of_its_own() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    privileged: true
    cap_drop: [ALL]
",
    );
    shop.up();
    let own = fs::read_to_string("/proc/self/status").expect("it");
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a set").trim();
    assert_eq!(status_field(&shop, "web", "CapEff"), bounding, "all that we can give");
    assert_eq!(status_field(&shop, "web", "Seccomp"), "0");
    let mounts = shop.shell("web", "cat /proc/mounts");
    let options = |path: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(path));
        line.map(|line| line.split(' ').nth(3).expect("options").to_owned())
    };
    assert!(options("/sys").expect("mounted").starts_with("rw"), "{mounts}");
    for path in ["/proc/sys", "/proc/keys", "/proc/kcore"] {
        assert_eq!(options(path), None, "{mounts}");
    }
    assert!(mounts.lines().any(|line| line.contains(" /dev tmpfs ")), "{mounts}");
    assert_eq!(shop.shell("web", "mkdir /m && mount -t tmpfs none /m && umount /m && echo mounted"), "mounted");
    // Every device of the host that has a name there has it here, with the same numbers.
    let there = shop.shell("web", "cd /dev; find . -type c -o -type b | sort");
    let here = fs::read_dir("/dev").expect("devices").flatten();
    for entry in here {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = entry.file_type().expect("a type");
        let name = entry.file_name().into_string().expect("text");
        if (kind.is_char_device() || kind.is_block_device()) && !["console", "ptmx"].contains(&name.as_str()) {
            assert!(there.lines().any(|line| line == format!("./{name}")), "{name}: {there}");
        }
    }
    fs::write(shop.path("file"), "").expect("written");
    shop.shell("web", "rm /dev/null && mknod -m 666 /dev/null c 1 3 && touch /dev/mark");
    assert!(!std::path::Path::new("/dev/mark").exists(), "its /dev is its own");
}

#[test]
fn groups_are_added_by_name_and_number() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    user: '1000:1000'
    group_add: [root, 4242]
",
    );
    shop.up();
    assert_eq!(shop.shell("web", "id -G"), "1000 0 4242");
    let text = fs::read_to_string(shop.path("compose.yaml")).expect("it");
    shop.write("compose.yaml", &text.replace("4242", "nobody-knows-it"));
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("group `nobody-knows-it` is not in the image's /etc/group"), "{said}");
}

#[test]
fn security_options_do_what_they_say() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  strict:
    image: busybox
    command: sleep 1000
    security_opt: ['no-new-privileges:true']
  free:
    image: busybox
    command: sleep 1000
    security_opt: [seccomp=unconfined, systempaths=unconfined]
",
    );
    shop.up();
    assert_eq!(status_field(&shop, "strict", "NoNewPrivs"), "1");
    assert_eq!(status_field(&shop, "strict", "Seccomp"), "2");
    assert!(shop.shell("strict", "cat /proc/mounts").contains(" /proc/sys "));
    assert_eq!(status_field(&shop, "free", "NoNewPrivs"), "0");
    assert_eq!(status_field(&shop, "free", "Seccomp"), "0");
    assert!(!shop.shell("free", "cat /proc/mounts").contains(" /proc/sys "));
    let first = "sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/1/status";
    assert_eq!((shop.shell("strict", first).as_str(), shop.shell("free", first).as_str()), ("1", "0"));
}

#[test]
fn a_seccomp_profile_of_ones_own_is_in_force() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    security_opt: ['seccomp=./profile.json']
  strict:
    image: busybox
    command: sleep 1000
    security_opt: ['seccomp=profile.json', no-new-privileges]
",
    );
    let profile = |action: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
                {{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}}],
                "syscalls": [{{"names": ["mkdir", "mkdirat"], "action": "{action}", "errnoRet": 28}}]}}"#
        )
    };
    shop.write("profile.json", &profile("SCMP_ACT_ERRNO"));
    shop.up();
    for service in ["web", "strict"] {
        assert_eq!(status_field(&shop, service, "Seccomp"), "2");
        let refused = shop.hoist(&["exec", "-T", service, "mkdir", "/made"]).fails();
        assert!(refused.contains("No space left on device"), "the error is the profile's: {refused}");
    }
    shop.down();
    for (text, words) in [
        (profile("SCMP_ACT_TRACE"), "the action `SCMP_ACT_TRACE` is not supported"),
        ("[".to_owned(), "it is not a seccomp profile"),
        (" ".repeat(1 << 20) + "{}", "it is larger than 1 MiB"),
    ] {
        shop.write("profile.json", &text);
        let said = shop.hoist(&["up", "-d"]).fails();
        assert!(said.contains(words) && said.contains("--> compose.yaml:6:20"), "{said}");
        assert_eq!(shop.records(), []);
    }
}
