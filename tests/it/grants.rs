//! Configs and secrets: files in memory, with the owner and the mode that were asked for.

use std::fs;
use std::path::Path;

use super::support::project::TestProject;
use super::support::require_root;

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    read_only: true
    user: '1234:55'
    configs:
      - page
      - {source: note, target: /etc/app/note.txt, uid: '7', gid: '8', mode: 0640}
    secrets:
      - token
      - {source: key, target: tls/key, uid: '1234', mode: 0400}
      - {source: key, target: /srv/other, uid: '1', mode: 0400}
configs:
  page: {file: page.html}
  note: {content: \"it is ${WORD:-nothing}\"}
secrets:
  token: {environment: TOKEN}
  key: {file: key.pem}
";

/// The value of no secret may be in any of these files.
fn holds(dir: &Path, value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(holds(&path, value));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(value.len()).any(|window| window == value.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.write("page.html", "<p>\n");
    shop.write("key.pem", "the-key-of-all");
    shop.write(".env", "WORD=something\nTOKEN=hunter-of-2\n");
    shop
}

#[test]
fn they_have_their_owner_and_mode_and_are_on_no_disk() {
    require_root!();
    let shop = shop();
    let plan = shop.hoist(&["up", "-d", "--dry-run"]).ok();
    assert!(!plan.contains("hunter-of-2") && !plan.contains("the-key"), "{plan}");
    shop.up();
    let seen = shop.shell(
        "web",
        "stat -c '%n %u %g %a' /page /etc/app/note.txt /run/secrets/token /run/secrets/tls/key /srv/other",
    );
    assert_eq!(
        seen,
        "/page 1234 55 444\n/etc/app/note.txt 7 8 640\n/run/secrets/token 1234 55 444\n/run/secrets/tls/key 1234 55 400\n\
         /srv/other 1 55 400"
    );
    assert_eq!(
        shop.shell("web", "cat /page /run/secrets/token /run/secrets/tls/key"),
        "<p>\nhunter-of-2the-key-of-all"
    );
    let refused = shop.hoist(&["exec", "-T", "web", "cat", "/srv/other"]).fails();
    assert!(refused.contains("Permission denied"), "{refused}");
    let refused = shop.hoist(&["exec", "-T", "-u", "0", "web", "sh", "-c", "echo x > /page"]).fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(shop.hoist(&["exec", "-T", "-u", "0", "web", "cat", "/etc/app/note.txt"]).ok(), "it is something");
    // What is kept over a reboot has none of it, nor has any message of the supervisor.
    for value in ["hunter-of-2", "the-key-of-all"] {
        assert_eq!(holds(&shop.host().root(), value), [""; 0]);
        let volatile = holds(shop.host().run(), value);
        assert!(volatile.iter().all(|path| path.contains("/grant-")) && !volatile.is_empty(), "{volatile:?}");
    }
    shop.hoist(&["restart", "-t", "0", "web"]).ok();
    assert_eq!(shop.shell("web", "cat /run/secrets/token"), "hunter-of-2");
    shop.down();
    assert_eq!(holds(shop.host().run(), "hunter-of-2"), [""; 0]);
}

#[test]
fn only_what_changed_replaces_a_container() {
    require_root!();
    let shop = shop();
    shop.up();
    let before = shop.records();
    shop.up();
    assert_eq!(shop.records(), before);
    shop.write("key.pem", "another key");
    let plan = shop.hoist(&["up", "-d", "--dry-run"]).ok();
    assert!(plan.contains("configs or secrets changed"), "{plan}");
    shop.up();
    assert_ne!(shop.records(), before);
    assert_eq!(shop.shell("web", "cat /run/secrets/tls/key"), "another key");
}

#[test]
fn what_is_missing_is_said_at_its_place_and_nothing_is_made() {
    require_root!();
    let shop = shop();
    shop.write(".env", "WORD=x\n");
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("`TOKEN`, of which secret `token` is made, is not set"), "{said}");
    assert!(said.contains("compose.yaml:19:24"), "{said}");
    shop.hoist(&["config", "-q"]).ok();
    shop.write(".env", "TOKEN=\n");
    fs::remove_file(shop.path("key.pem")).expect("it is there");
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(
        said.contains("secret `key` of service `web`: cannot read `") && said.contains("compose.yaml:20:15"),
        "{said}"
    );
    // Once, however many containers lack it.
    let said = shop.hoist(&["up", "-d", "--scale", "web=3"]).fails();
    assert_eq!(said.matches("cannot read `").count(), 1, "{said}");
    fs::create_dir(shop.path("key.pem")).expect("a directory");
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("it is not a regular file"), "{said}");
    assert_eq!(shop.records().len(), 0);
}
