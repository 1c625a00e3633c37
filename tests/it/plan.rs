//! `plan` and `--dry-run`: what would be done, and nothing at all done.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::support::host::Objects;
use super::support::project::TestProject;
use super::support::require_root;

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    mem_limit: 64m
    ports: ['8080:80', '80']
    depends_on: [db]
    volumes: [./made:/made]
  db:
    image: busybox
    command: sleep 1000
    environment: {COLOUR: red}
    volumes: [data:/data, /scratch]
volumes:
  data:
";

/// Everything below the state directories and in the project's folder, and all of the kernel that is ours.
#[derive(Debug, PartialEq)]
struct World {
    files: BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>,
    objects: Objects,
}

fn walk(at: &Path, files: &mut BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>) {
    let Ok(meta) = fs::symlink_metadata(at) else { return };
    let content = if meta.is_file() { fs::read(at).expect("it can be read") } else { Vec::new() };
    files.insert(at.to_owned(), (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
    if meta.is_dir() && !at.ends_with("images") && !at.ends_with("netns") {
        fs::read_dir(at).expect("a directory").for_each(|entry| walk(&entry.expect("an entry").path(), files));
    }
}

fn world(shop: &TestProject) -> World {
    let mut files = BTreeMap::new();
    for root in [shop.host().root(), shop.host().run().to_owned(), shop.path(".")] {
        walk(&root, &mut files);
    }
    World { files, objects: shop.host().objects() }
}

/// Every command that plans.
const LOOKS: [&[&str]; 14] = [
    &["up", "--dry-run"],
    &["up", "-d", "--dry-run", "--force-recreate", "--remove-orphans", "-V", "--scale", "db=2"],
    &["--dry-run", "up", "--wait", "--pull", "always"],
    &["create", "--dry-run", "--scale", "db=3"],
    &["scale", "--dry-run", "db=2"],
    &["run", "--dry-run", "--rm", "-T", "web", "true"],
    &["plan"],
    &["plan", "--format", "json", "--force-recreate"],
    &["down", "--dry-run", "-v"],
    &["stop", "--dry-run"],
    &["restart", "--dry-run"],
    &["kill", "--dry-run"],
    &["rm", "--dry-run", "-s", "-v"],
    &["pause", "--dry-run"],
];

#[test]
fn looking_has_no_effect_at_all() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let before = world(&shop);
    for look in LOOKS {
        shop.hoist(look).ok();
        assert_eq!(world(&shop), before, "{look:?} on a host that knows nothing");
    }
    shop.up();
    let pids = [shop.pid("web"), shop.pid("db")];
    let statuses = [shop.status("web"), shop.status("db")];
    shop.write("compose.yaml", &SHOP.replace("red", "blue").replace("64m", "32m"));
    let before = world(&shop);
    for look in LOOKS {
        shop.hoist(look).ok();
        assert_eq!(world(&shop), before, "{look:?} on a project that runs");
    }
    assert_eq!([shop.pid("web"), shop.pid("db")], pids);
    assert_eq!([shop.status("web"), shop.status("db")], statuses);
    // What does not run is looked at without the lock that a copy takes.
    shop.hoist(&["stop", "-t", "0"]).ok();
    let before = world(&shop).files; // links vanish a moment later
    for look in [&["cp", "--dry-run", "web:/etc/hosts", "hosts"][..], &["export", "--dry-run", "-o", "tar", "web"]] {
        assert!(shop.hoist(look).ok().contains("shop-web-1"), "{look:?}");
        assert_eq!(world(&shop).files, before, "{look:?} on a project that is stopped");
    }
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn a_plan_names_what_is_made_replaced_removed_and_kept() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let plan = |arguments: &[&str], code: i32| shop.hoist(&[&["plan"], arguments].concat()).code(code).stdout;
    let anonymous =
        |text: &str| text.lines().filter(|line| line.len() < 70).map(|line| format!("{line}\n")).collect::<String>();
    insta::assert_snapshot!(anonymous(&plan(&["--detailed-exitcode"], 2)), @r"
    + create  network    shop_default (missing)
    + create  volume     shop_data (missing)
    + create  container  shop-db-1 (missing)
    + create  container  shop-web-1 (missing)

    5 to create.
    ");
    shop.up();
    let kept = plan(&["--detailed-exitcode"], 0);
    assert!(
        kept.ends_with("Nothing to do: all is as the file says.\n") && kept.matches("= keep ").count() == 4,
        "{kept}"
    );
    shop.write("compose.yaml", &SHOP.replace("red", "blue").replace("  web:", "  front:"));
    let text = shop.hoist(&["plan", "--detailed-exitcode", "--remove-orphans"]).code(2).stdout;
    insta::assert_snapshot!(text, @r"
    ~ replace  container  shop-db-1 (configuration changed)
        environment.COLOUR changed  (compose.yaml:13:27)
    - remove   container  shop-web-1 (not in the file)
    + create   container  shop-front-1 (missing)
    = keep     network    shop_default
    = keep     volume     shop_data

    1 to create, 1 to replace, 1 to remove, 2 to keep.
    ");
    let run = shop.hoist(&["plan", "--format", "json"]).code(0);
    let seen: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(seen["changed"], true);
    assert_eq!(seen["changes"][0]["action"], "replace");
    assert_eq!(seen["changes"][0]["name"], "shop-db-1");
    assert_eq!(seen["changes"][0]["reason"], "configuration changed");
    let difference = serde_json::json!({
        "key": "environment.COLOUR", "change": "changed", "from": null, "to": null,
        "file": "compose.yaml", "line": 13, "column": 27,
    });
    assert_eq!(seen["changes"][0]["differences"], serde_json::json!([difference]));
    assert_eq!(seen["steps"][0]["reason"], "configuration changed: environment.COLOUR changed");
    assert!(seen["warnings"][0].as_str().is_some_and(|text| text.contains("orphan")), "{seen}");
    assert_eq!(seen["steps"][0]["verb"], "stop");
    let message = shop.hoist(&["plan", "--force-recreate", "--no-recreate"]).fails();
    assert!(message.contains("--force-recreate and --no-recreate are incompatible"), "{message}");
    // What is planned is what is done.
    shop.hoist(&["up", "-d", "--remove-orphans"]).ok();
    assert_eq!(shop.hoist(&["plan", "--detailed-exitcode"]).code(0).stderr, "");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn images_that_are_not_here_are_told_and_neither_fetched_nor_built() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  far:
    image: registry.invalid/far:1
  made:
    build: .
    depends_on: {far: {condition: service_healthy}}
",
    );
    shop.write("Dockerfile", "FROM busybox\nCMD [\"sleep\", \"1000\"]\n");
    let before = world(&shop);
    let text = shop.hoist(&["plan"]).code(0).stdout;
    assert!(
        text.starts_with(
            "+ pull    image      registry.invalid/far:1 (missing)\n+ build   image      shop-made (missing)\n"
        ),
        "{text}"
    );
    let steps = shop.hoist(&["up", "--dry-run"]).ok();
    assert!(steps.contains("pull image  registry.invalid/far:1  missing") && steps.contains("start"), "{steps}");
    let message = shop.hoist(&["plan", "--no-build", "--pull", "never"]).fails();
    assert!(message.contains("is not in the store"), "{message}");
    assert_eq!(world(&shop), before);
    assert_eq!(shop.hoist(&["image", "ls", "-q"]).code(0).stdout.lines().count(), 1);
}

#[test]
fn what_changed_is_told_and_no_value_that_may_be_a_secret() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        &SHOP.replace("command: sleep 1000\n    mem", "command: sleep 1000\n    env_file: e\n    mem"),
    );
    shop.write("e", "TOKEN=t0k3n\nSAME=1\n");
    shop.up();
    let key = shop.host().root().join("key");
    assert_eq!(fs::metadata(&key).expect("a key").mode() & 0o7777, 0o600);
    let kept = format!("{:?}", shop.records().iter().map(|r| r.said.clone()).collect::<Vec<_>>());
    assert!(kept.contains("environment.TOKEN") && !kept.contains("t0k3n") && !kept.contains("red"), "{kept}");
    let written = shop.read("compose.yaml");
    shop.write("e", "TOKEN=0th3r\nSAME=1\n");
    shop.write("compose.yaml", &written.replace("64m", "32m").replace("'80']", "'81', '82']").replace("[db]", "[]"));
    let run = shop.hoist(&["plan"]).code(0);
    let told: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("    ") || line.contains("web")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    ~ replace  container  shop-web-1 (configuration changed)
        mem_limit "67108864" → "33554432"  (compose.yaml:7:16)
        ports 2 entries → 3 entries  (compose.yaml:8:12)
        environment.TOKEN changed  (e:1:1)
    "#);
    assert!(!format!("{run}").contains("t0k3n") && !format!("{run}").contains("0th3r"), "{run}");
    let steps = shop.hoist(&["up", "--dry-run"]).ok();
    assert!(steps.contains("configuration changed: mem_limit \"67108864\" → \"33554432\", ports "), "{steps}");
    // With a record of an older version, or under another key, there is nothing to compare with.
    let unknown = "~ replace  container  shop-web-1 (configuration changed)\n= keep";
    let other = fs::read(&key).expect("a key").iter().map(|byte| !byte).collect::<Vec<u8>>();
    fs::write(&key, other).expect("written");
    assert!(shop.hoist(&["plan"]).code(0).stdout.starts_with(unknown));
    let record = shop.record("web");
    let path = shop.host().root().join("containers").join(record.id.as_str()).join("config.json");
    let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a record")).expect("JSON");
    old.as_object_mut().expect("an object").remove("said").expect("they are there");
    fs::write(&path, old.to_string()).expect("written");
    assert!(shop.hoist(&["plan"]).code(0).stdout.starts_with(unknown));
    // A root of an older version gets a key with the next change.
    fs::remove_file(&key).expect("removed");
    assert!(shop.hoist(&["plan"]).code(0).stdout.starts_with(unknown));
    assert!(!key.exists(), "looking makes nothing");
    shop.up();
    assert_eq!(fs::metadata(&key).expect("a key").len(), 32);
    assert_ne!(shop.record("web").id, record.id);
    shop.write("compose.yaml", &written.replace("64m", "16m"));
    assert!(shop.hoist(&["plan"]).code(0).stdout.contains("mem_limit \"33554432\" → \"16777216\""));
    shop.hoist(&["down", "-v"]).ok();
}
