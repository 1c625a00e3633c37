//! `graph`: services and what they wait for, with and without the file.

use super::support::project::TestProject;
use super::support::require_root;

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    ports: ['8080:80']
    depends_on: {api: {condition: service_healthy}, init: {condition: service_completed_successfully}}
  api:
    image: busybox
    command: sleep 1000
    healthcheck: {test: 'true'}
    depends_on: [db]
  init: {image: busybox, command: 'true', depends_on: [db]}
  db: {image: busybox, command: sleep 1000}
";

#[test]
fn a_project_is_drawn_with_and_without_its_file() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let tree = shop.hoist(&["graph"]).ok();
    insta::assert_snapshot!(tree, @r"
    shop
    └── web
        ├── api (healthy)
        │   └── db (started)
        └── init (completed)
            └── db (started)
    ");
    let dot = shop.hoist(&["viz", "--spaces", "--indentation-size", "2", "--ports"]).ok();
    insta::assert_snapshot!(dot, @r#"
    digraph "shop" {
      layout=dot;
      "web" [style="filled" label=<<font point-size="15">web</font><font point-size="10"><br/><br/><b>ports:</b><br/>8080:80 (tcp, ingress)</font>>];
      "api" [style="filled" label=<<font point-size="15">api</font>>];
      "init" [style="filled" label=<<font point-size="15">init</font>>];
      "db" [style="filled" label=<<font point-size="15">db</font>>];

      "web" -> "api";
      "web" -> "init";
      "api" -> "db";
      "init" -> "db";
    }
    "#);
    assert_eq!(shop.hoist(&["alpha", "viz"]).ok(), shop.hoist(&["graph", "--format", "dot"]).ok());
    let mermaid = shop.hoist(&["graph", "--format", "mermaid"]).ok();
    assert!(mermaid.starts_with("flowchart TD\n") && mermaid.contains("-->|healthy|"), "{mermaid}");
    let svg = shop.hoist(&["graph", "--format", "svg", "--image"]).ok();
    assert!(svg.starts_with("<svg ") && svg.contains(">image: busybox</text>"), "{svg}");
    let told: String = [
        &["graph", "--spaces"][..],
        &["viz", "--indentation-size", "0"],
        &["graph", "--format", "png"],
        &["-p", "nobody", "--project-directory", "/", "graph"],
    ]
    .iter()
    .map(|line| shop.hoist(line).code(1).stderr)
    .collect();
    insta::assert_snapshot!(shop.redact(&told), @r"
    error: --spaces and --indentation-size are for dot alone
    help: write: hoist graph --format dot
    error: invalid value '0' for '--indentation-size <N>': 0 is not in 1..=255

    For more information, try '--help'.
    error: invalid value 'png' for '--format <FORMAT>'
      [possible values: tree, mermaid, dot, svg]

    For more information, try '--help'.
    error: project `nobody` has no containers, and there is no file
    ");
    let nowhere = shop.beside("nowhere", "");
    shop.up();
    assert_eq!(nowhere.hoist(&["-p", "shop", "graph"]).ok(), tree, "from what exists");
    let told = nowhere.hoist(&["-p", "nowhere", "graph"]).code(1).stderr;
    assert!(told.contains("project `nowhere` has no containers, and there is no file"), "{told}");
}
