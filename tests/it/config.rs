//! `config --explain` and `config --lint`. Neither needs root.

use std::fs;
use std::process::{Command, Output};

use super::support::binary;

const COMPOSE: &str = "services:
  web:
    image: nginx
    ports: [\"127.0.0.1:8080:80\"]
    environment:
      LEVEL: ${LEVEL:-info}
";
const OVERRIDE: &str = "services: {web: {environment: [\"LEVEL=$WANTED\"]}}\n";

/// Runs `hoist config` in a folder with these two files and a `.env`.
fn config(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().join("shop");
    fs::create_dir(&project).expect("a directory");
    for (name, text) in [("compose.yaml", COMPOSE), ("compose.override.yaml", OVERRIDE), (".env", "WANTED=debug\n")] {
        fs::write(project.join(name), text).expect("a file");
    }
    let mut hoist = Command::new(binary());
    hoist.arg("config").args(arguments).current_dir(&project).env_clear();
    hoist.output().expect("hoist runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn a_value_is_explained_and_a_path_to_nothing_ends_with_an_error() {
    let explained = config(&["--explain", "services.web.environment.LEVEL"]);
    assert!(explained.status.success());
    insta::assert_snapshot!(text(&explained.stdout), @r#"
    debug

    from:
      compose.yaml:6:14
          LEVEL: ${LEVEL:-info}
          means `info`
        replaced by a later place
      compose.override.yaml:1:32, a file that overrides
          "LEVEL=$WANTED"
          means `debug`
        this one counts
    rule: of several places the last one counts
    variables:
      WANTED = `debug` from .env:1:1
    "#);
    let value: serde_json::Value =
        serde_json::from_slice(&config(&["--format", "json", "--explain", "services.web.ports[0].target"]).stdout)
            .expect("JSON");
    assert_eq!((&value["value"], &value["places"][0]["written"]), (&80.into(), &"\"127.0.0.1:8080:80\"".into()));

    let nothing = config(&["--explain", "services.web.enviroment"]);
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(1), String::new()));
    assert!(text(&nothing.stderr).contains("did you mean `environment`?"), "{nothing:?}");
}

#[test]
fn findings_are_warnings_with_a_place_and_no_failure() {
    let quiet = config(&["--lint", "-q"]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout)), (Some(0), String::new()));
    insta::assert_snapshot!(text(&quiet.stderr), @r"
    warning: the image `nginx` of service `web` has no tag, so that it is the latest one [unpinned-image]
     --> compose.yaml:3:12
      |
    3 |     image: nginx
      |            ^^^^^
      |
      = help: name a version, as in `nginx:1.2`, or a digest
    ");
    let loud = config(&["--lint"]);
    assert_eq!((text(&loud.stdout), loud.stderr), (text(&config(&[]).stdout), quiet.stderr));

    let json = config(&["--lint", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let finding = &value["diagnostics"][0];
    assert_eq!(
        (&finding["severity"], &finding["line"], &finding["column"]),
        (&"warning".into(), &3.into(), &12.into())
    );
    assert_eq!((text(&json.stderr), config(&["-q"]).stderr), (String::new(), Vec::new()));
}

#[test]
fn mistakes_are_an_answer_for_who_asks_for_json() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("compose.yaml"), "services: {web: {imge: nginx}}\n").expect("a file");
    let mut hoist = Command::new(binary());
    hoist.args(["config", "--format", "json"]).current_dir(directory.path()).env_clear();
    let output = hoist.output().expect("hoist runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let first = &value["diagnostics"][0];
    assert_eq!((&first["line"], &first["column"], &first["end"]["column"]), (&1.into(), &18.into(), &22.into()));
    assert_eq!(first["help"], "did you mean `image`?");
}
