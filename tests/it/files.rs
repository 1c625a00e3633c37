//! Which files make the project, and `config`.

use super::support::project::TestProject;
use super::support::require_root;

const BASE: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    environment:
      A: base
      B: base
x-anything:
  goes: here
";

#[test]
fn files_are_merged_in_order_and_a_name_can_be_given() {
    require_root!();
    let shop = TestProject::new("shop", BASE);
    shop.write("more.yaml", "services:\n  web:\n    environment:\n      B: more\n");
    let options = ["-f", "compose.yaml", "-f", "more.yaml", "-p", "other"];
    let other = shop.beside("other", "");
    shop.hoist(&[&options[..], &["up", "-d"]].concat()).ok();
    assert_eq!(other.records().len(), 1);
    assert_eq!(shop.records().len(), 0);
    let seen = shop.hoist(&[&options[..], &["exec", "-T", "web", "sh", "-c", "echo $A $B"]].concat()).ok();
    assert_eq!(seen, "base more\n");
    shop.hoist(&["-p", "other", "down"]).ok();
    assert_eq!(other.records().len(), 0);
}

#[test]
fn an_override_file_beside_it_is_taken_by_itself() {
    require_root!();
    let shop = TestProject::new("shop", BASE);
    shop.write("compose.override.yaml", "services:\n  web:\n    environment:\n      B: override\n");
    shop.up();
    assert_eq!(shop.shell("web", "echo $A $B"), "base override");
}

#[test]
fn the_name_comes_from_the_file_if_it_has_one() {
    require_root!();
    let shop = TestProject::new("shop", &format!("name: chosen\n{BASE}"));
    let chosen = shop.beside("chosen", "");
    shop.up();
    assert_eq!(chosen.record("web").name.as_str(), "chosen-web-1");
    shop.down();
    assert_eq!(chosen.records(), []);
}

#[test]
fn relative_paths_belong_to_the_project_directory() {
    require_root!();
    let shop = TestProject::new("shop", "");
    shop.write(
        "deep/file.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    volumes: ['./data:/data']\n",
    );
    shop.write("data/here", "top\n");
    shop.write("deep/data/here", "deep\n");
    let up = |options: &[&str]| {
        shop.hoist(&[options, &["-p", "shop", "up", "-d"]].concat()).ok();
        shop.hoist(&[options, &["-p", "shop", "exec", "-T", "web", "cat", "/data/here"]].concat()).ok()
    };
    assert_eq!(up(&["-f", "deep/file.yaml"]), "deep\n");
    assert_eq!(up(&["-f", "deep/file.yaml", "--project-directory", "."]), "top\n");
}

#[test]
fn config_prints_what_it_understood_and_needs_no_root_of_its_own() {
    require_root!();
    let shop = TestProject::new("shop", BASE);
    insta::assert_snapshot!(shop.redact(&shop.hoist(&["config"]).ok()), @r#"
    name: shop
    services:
      web:
        command:
          - sleep
          - "1000"
        environment:
          A: base
          B: base
        image: busybox
        networks:
          default: null
    networks:
      default:
        name: shop_default
    x-anything:
      goes: here
    "#);
    assert_eq!(shop.hoist(&["config", "--services"]).ok(), "web\n");
    // What it prints means the same.
    shop.write("again.yaml", &shop.hoist(&["config"]).ok());
    let hash = |file: &str| shop.hoist(&["-f", file, "config", "--hash", "*"]).ok();
    assert_eq!(hash("again.yaml"), hash("compose.yaml"));
}
