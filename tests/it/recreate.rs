//! Edits of a file on real containers: which are replaced and which stay. The table of all keys is `engine::matrix`'s.

use super::support::project::TestProject;
use super::support::require_root;

const WEB: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    environment: {LEVEL: info}
    env_file: more.env
    configs: [motd]
    networks: [default]
  db:
    image: busybox
    command: sleep 1000
configs:
  motd: {content: hello}
networks:
  default: {}
  back: {}
";

#[test]
fn an_edit_replaces_what_it_is_about_and_nothing_else() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.write("more.env", "A=1\n");
    shop.up();
    let db = (shop.record("db").id, shop.pid("db"));
    let mut before = (shop.record("web").id, shop.pid("web"));
    let mut text = WEB.to_owned();
    let mut variables = "A=1\n";
    // What is replaced in the file, what is written in its place, and whether the container is another then.
    for (old, new, replaced) in [
        (
            "    image: busybox\n    command: sleep 1000\n    env",
            "    command: [sleep, '1000']\n    image: busybox\n    env",
            false,
        ),
        ("    networks: [default]", "    networks: [default]\n    depends_on: [db]\n    x-note: a", false),
        ("    networks: [default]", "    networks: [default]\n    pull_policy: missing\n    scale: 1", false),
        ("{LEVEL: info}", "[LEVEL=info]", false),
        ("[LEVEL=info]", "[LEVEL=debug]", true),
        ("    networks: [default]", "    networks: [default]\n    restart: always", true),
        ("restart: always", "restart: unless-stopped", true),
        ("content: hello", "content: bye", true),
        ("networks: [default]", "networks: {default: {aliases: [front]}}", true),
        ("{aliases: [front]}", "{aliases: [front]}, back: {}", true),
        ("    env_file: more.env", "    env_file: [{path: more.env}]", false),
        ("A=1", "A=1 # as before", false),
        ("A=1", "A=2", true),
    ] {
        if old.starts_with("A=") {
            variables = if new == "A=2" { "A=2\n" } else { "A=1 # as before\n" };
        } else {
            let edited = text.replacen(old, new, 1);
            assert_ne!(edited, text, "{old}");
            text = edited;
        }
        shop.write("more.env", variables);
        shop.write("compose.yaml", &text);
        let plan = shop.hoist(&["plan"]).code(0).stdout;
        assert_eq!(plan.contains("~ replace  container  shop-web-1"), replaced, "{old} → {new}: {plan}");
        assert_eq!(plan.contains("    config `motd` changed  (compose.yaml:"), new == "content: bye", "{plan}");
        shop.up();
        let after = (shop.record("web").id, shop.pid("web"));
        assert_eq!((after.0 != before.0, after.1 != before.1), (replaced, replaced), "{old} → {new}");
        before = after;
    }
    assert_eq!((shop.record("db").id, shop.pid("db")), db, "nothing was about it");
    assert_eq!(shop.shell("web", "echo $LEVEL $A; cat /motd"), "debug 2\nbye");
    shop.hoist(&["down"]).ok();
}

#[test]
fn another_image_under_the_same_name_is_told_by_its_digest() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    build: .\n    image: made\n    command: sleep 1000\n");
    shop.write("Dockerfile", "FROM busybox\nLABEL a=1\n");
    shop.up();
    let before = shop.record("web");
    shop.write("Dockerfile", "FROM busybox\nLABEL a=2\n");
    let plan = shop.hoist(&["plan"]).code(0).stdout;
    assert!(plan.ends_with("Nothing to do: all is as the file says.\n"), "it is not built yet: {plan}");
    shop.hoist(&["build"]).ok();
    let plan = shop.hoist(&["plan"]).code(0).stdout;
    let first = &before.image_id["sha256:".len()..][..12];
    let line = plan.lines().nth(1).unwrap_or_default();
    assert!(plan.starts_with("~ replace  container  shop-web-1 (image changed)\n"), "{plan}");
    assert!(
        line.starts_with(&format!("    image digest {first} → ")) && line.ends_with("  (compose.yaml:4:12)"),
        "{plan}"
    );
    shop.up();
    let after = shop.record("web");
    assert_ne!((&after.id, &after.image_id), (&before.id, &before.image_id));
    assert!(line.contains(&after.image_id["sha256:".len()..][..12]), "{plan}");
    shop.hoist(&["down"]).ok();
}
