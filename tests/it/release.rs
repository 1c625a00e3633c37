//! The release as it is handed out: one static file that needs nothing from the host's file system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::host::skip;
use super::support::images;
use super::support::project::TestProject;
use super::support::run::Run;
use super::support::{Secs as _, require_root};

/// Where `./dev dist` has put it, when it was made.
const VARIABLE: &str = "HOIST_TEST_DIST";

/// Makes a root of nothing but busybox the root of a mount namespace, with the kernel's own file systems and devices of
/// its own, and brings a project up and down there.
const SCRIPT: &str = r#"
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mkdir -p proc sys dev run tmp old var/lib/hoist
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs dev dev
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"; done
mkdir dev/shm
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs run run
mount -t tmpfs tmpfs var/lib/hoist
pivot_root . old
umount -l /old
exec /bin/busybox sh -c '
    set -eu
    cd /project
    /hoist version
    /hoist image load -i /busybox.tar
    /hoist up -d
    /hoist exec -T web echo executed
    /hoist logs --no-color
    wget -q -O - http://127.0.0.1:8080/
    /hoist down
    ls /run/hoist/projects /var/lib/hoist/containers
'
"#;

const COMPOSE: &str = r#"
services:
  web:
    image: busybox
    command: sh -c 'echo logged; mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www'
    init: true
    ports: ["8080:80"]
    healthcheck: {test: wget -q -O /dev/null http://web/}
  after:
    image: busybox
    command: sleep 1000
    init: true
    depends_on: {web: {condition: service_healthy}}
"#;

#[test]
fn the_release_runs_where_there_is_nothing_but_busybox() {
    require_root!();
    let Some(binary) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return skip(module_path!(), line!(), &format!("{VARIABLE} does not name the release: see `./dev dist`"));
    };
    let size = fs::metadata(&binary).expect("it was built").len();
    assert!(size <= 8 << 20, "the release has {size} bytes, more than 8 MiB");
    let shop = TestProject::new("shop", "");
    let root = shop.path("root");
    busybox_root(&shop, &root);
    fs::copy(&binary, root.join("hoist")).expect("copied");
    fs::copy(images::archive("busybox"), root.join("busybox.tar")).expect("copied");
    fs::create_dir(root.join("project")).expect("a directory");
    fs::write(root.join("project/compose.yaml"), COMPOSE).expect("written");

    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]).arg(&root);
    let output = Run::of(command, 60.secs()).ok();
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    for wanted in ["executed", "served"] {
        assert!(lines.contains(&wanted), "{wanted}: {output}");
    }
    assert!(lines.iter().any(|line| line.ends_with("logged")), "{output}");
    let end = output.rsplit("served").next().unwrap_or_default();
    assert!(!end.contains("project:") && !end.contains("web"), "something is left: {end}");
}

/// Copies the files of the image busybox, and nothing else, to `root`.
fn busybox_root(shop: &TestProject, root: &Path) {
    fs::create_dir(root).expect("a directory");
    let layers = shop.host().root().join("images/layers");
    for layer in fs::read_dir(layers).expect("layers") {
        let files = layer.expect("an entry").path().join("fs");
        if files.is_dir() {
            let copied = Command::new("cp").arg("-a").arg(files.join(".")).arg(root).status();
            assert!(copied.is_ok_and(|status| status.success()), "cp -a {}", files.display());
        }
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("permissions");
}
