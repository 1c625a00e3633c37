//! Explanations of small projects.

use crate::compose::testing::project;
use crate::compose::{Env, Format, Question, Request, answer};

/// Returns what is said about `path` of a project of these files, in the order of the command line.
fn explain(files: &[(&str, &str)], env: &[(&str, &str)], path: &str, format: Format) -> Result<String, String> {
    let (_dir, request) = project(files);
    let request = Request {
        project_name: Some("p".into()),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Env>(),
        ..request
    };
    let shown = |text: String| text.replace(&request.cwd.display().to_string(), "/p");
    answer(&request, &Question::Explain(path.into(), format))
        .map(|answer| shown(answer.text))
        .map_err(|report| shown(report.render(false)))
}

/// Returns what is said about `path` of one file.
fn of(text: &str, path: &str) -> String {
    explain(&[("compose.yaml", text)], &[], path, Format::Yaml).expect("an explanation")
}

#[test]
fn a_value_names_every_place_that_said_something_and_the_one_that_counts() {
    let files = [
        (
            "compose.yaml",
            "services:\n  base: {image: x, environment: {LEVEL: base}}\n  web:\n    extends: base\n    env_file: web.env\n    environment:\n      LEVEL: ${LEVEL:-info}\n",
        ),
        ("compose.2.yaml", "services:\n  web:\n    environment: [\"LEVEL=$A$B$C\"]\n"),
        (".env", "# of the project\nA=1\n"),
        ("web.env", "LEVEL=file\n"),
    ];
    let text = explain(&files, &[("B", "2")], "services.web.environment.LEVEL", Format::Yaml).expect("an explanation");
    insta::assert_snapshot!(text, @r#"
    "12"

    from:
      web.env:1:1, the env_file at compose.yaml:5:15
          LEVEL=file
        replaced by a later place
      compose.yaml:2:41, extended at compose.yaml:4:14
          LEVEL: base
        replaced by a later place
      compose.yaml:7:14
          LEVEL: ${LEVEL:-info}
          means `info`
        replaced by a later place
      compose.2.yaml:3:19, a file that overrides
          "LEVEL=$A$B$C"
          means `12`
        this one counts
    rule: of several places the last one counts
    variables:
      A = `1` from .env:2:1
      B = `2` from the environment of the process
      C is not set; nothing stands in its place
    "#);
}

#[test]
fn a_short_form_is_explained_by_the_long_one() {
    let file = "services:\n  web: {image: x, ports: [\"8080:80\"], volumes: [\"./d:/d\"], mem_limit: 1k}\n";
    insta::assert_snapshot!(of(file, "services.web.ports[0]"), @r#"
    mode: ingress
    target: 80
    published: "8080"
    protocol: tcp

    from:
      compose.yaml:2:27
          "8080:80"
          means {mode: ingress, target: 80, published: "8080", protocol: tcp}
    "#);
    insta::assert_snapshot!(of(file, "services.web.volumes[0].source"), @r#"
    /p/d

    from:
      compose.yaml:2:49
          "./d:/d"
          means `./d`
    then: a relative path is made absolute: `/p/d`
    "#);
    insta::assert_snapshot!(of(file, "services.web.mem_limit"), @r#"
    "1024"

    from:
      compose.yaml:2:71
          mem_limit: 1k
          means `1024`
    "#);
}

#[test]
fn a_list_says_what_was_added_and_what_was_replaced() {
    let files = [
        ("compose.yaml", "services:\n  web: {image: x, command: a b, ports: [\"80:80\", \"81:81\"], dns: 192.0.2.1}\n"),
        ("compose.2.yaml", "services:\n  web: {command: [c], ports: !override [\"80:80\"], dns: [192.0.2.2]}\n"),
    ];
    let fates = |path: &str| -> Vec<String> {
        let text = explain(&files, &[], path, Format::Yaml).expect("an explanation");
        let all = text.lines().skip_while(|line| *line != "from:");
        all.filter(|line| line.starts_with("    ") && !line.starts_with("     ")).map(|l| l.trim().to_owned()).collect()
    };
    let replaced: Vec<String> = vec!["replaced by a later place".into(), "this one counts".into()];
    assert_eq!(fates("services.web.command"), replaced);
    assert_eq!(fates("services.web.command[0]"), replaced);
    assert_eq!(fates("services.web.ports"), replaced);
    assert_eq!(fates("services.web.ports[0]"), replaced);
    assert_eq!(fates("services.web.dns"), ["a part of it", "a part of it"]);
    assert_eq!(fates("services.web.dns[1]"), Vec::<String>::new());
}

#[test]
fn other_files_name_where_they_are_asked_for() {
    let files = [
        ("compose.yaml", "include: [other.yaml]\nservices:\n  web: {extends: {file: base.yaml, service: b}}\n"),
        ("other.yaml", "services: {db: {image: \"y:$V\", build: ./z}}\n"),
        ("base.yaml", "services: {b: {image: x}}\n"),
    ];
    let said = |path: &str| explain(&files, &[("V", "9")], path, Format::Yaml).expect("an explanation");
    assert!(said("services.web.image").contains("base.yaml:1:23, extended at compose.yaml:3:45\n"));
    let db = said("services.db.image");
    assert!(db.contains("other.yaml:1:24, included at compose.yaml:1:11\n"), "{db}");
    assert!(db.contains("V = `9` from the environment of the process"), "{db}");
}

#[test]
fn what_is_removed_and_what_nobody_wrote_is_said() {
    let files = [
        (
            "compose.yaml",
            "services:\n  web: {image: x, depends_on: {db: {condition: service_healthy}}, labels: {a: b}}\n  db: {image: x, healthcheck: {test: x}}\n",
        ),
        ("compose.2.yaml", "services:\n  web: {depends_on: [db], labels: !reset null}\n"),
        ("compose.3.yaml", "services:\n  web: {labels: {c: d}, image: }\n"),
    ];
    let said = |path: &str| explain(&files, &[], path, Format::Yaml).expect("an explanation");
    let condition = said("services.web.depends_on.db.condition");
    assert!(condition.contains("      db\n      means `service_started`\n    this one counts\n"), "{condition}");
    let labels = said("services.web.labels");
    assert!(labels.contains("      labels: {a: b}\n    removed by a later place\n"), "{labels}");
    assert!(labels.contains("      labels: !reset null\n    removes what was there before\n"), "{labels}");
    assert!(said("services.web.image").contains("    says nothing, and changes nothing\n"));
    insta::assert_snapshot!(said("networks.default"), @r"
    name: p_default

    from:
      compose.yaml:2:3: no file says it, it follows from what stands here
    ");
}

#[test]
fn a_path_that_leads_nowhere_says_what_is_there() {
    let file = "services:\n  web: {image: x, labels: {a.b: c, a: d}, ports: [\"80\"]}\n  tool: {image: x, profiles: [debug]}\n";
    let fail = |path: &str| explain(&[("compose.yaml", file)], &[], path, Format::Yaml).expect_err(path);
    for (path, error) in [
        ("services.wbe", "error: there is no `wbe` in `services`\nhelp: did you mean `web`? there are `web`\n"),
        (
            "serivces",
            "error: there is no `serivces` in a compose file\nhelp: did you mean `services`? there are `services`, `name`, `networks`\n",
        ),
        (
            "services.web.restart",
            "error: nothing sets `restart` of `services.web`\nhelp: there are `image`, `labels`, `ports`, `networks`\n",
        ),
        (
            "services.web.ports[1]",
            "error: `services.web.ports[1]` does not exist\nhelp: `services.web.ports` has one entry, `[0]`\n",
        ),
        (
            "services.web.ports.0",
            "error: `services.web.ports.0` does not exist\nhelp: `services.web.ports` has one entry, `[0]`\n",
        ),
        ("services.web.image.x", "error: `services.web.image` is text and has nothing below it\n"),
        (
            "services.tool.image",
            "error: service `tool` is off: none of its profiles is on\nhelp: add `--profile` with one of `debug`\n",
        ),
        ("", "error: the path is empty\nhelp: write one such as `services.web.image`\n"),
    ] {
        assert_eq!(fail(path), error, "{path}");
    }
    // The longest key that fits is meant.
    assert!(of(file, "services.web.labels.a.b").starts_with("c\n"));
    assert!(of(file, "services.web.labels.a").starts_with("d\n"));
}

#[test]
fn a_secret_is_named_and_its_content_is_not_shown() {
    let file =
        "services:\n  web: {image: x, secrets: [key]}\nsecrets: {key: {environment: KEY}, other: {file: ./key}}\n";
    let files = [("compose.yaml", file), ("key", "hidden-in-file")];
    for path in ["secrets.key", "secrets.key.environment", "secrets.other.file", "services.web.secrets[0]"] {
        for format in [Format::Yaml, Format::Json] {
            let text = explain(&files, &[("KEY", "hidden-in-env")], path, format).expect("an explanation");
            assert!(!text.contains("hidden"), "{text}");
        }
    }
}

#[test]
fn a_program_gets_the_same_as_json() {
    let files = [
        ("compose.yaml", "services: {web: {image: \"x:${T:-1}\"}}\n"),
        ("compose.2.yaml", "services: {web: {image: \"y:$V\"}}\n"),
        (".env", "V=3\n"),
    ];
    let text = explain(&files, &[], "services.web.image", Format::Json).expect("an explanation");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let place = |n: usize| &value["places"][n];
    assert_eq!(value["value"], "y:3");
    assert_eq!((&place(0)["fate"], &place(1)["fate"]), (&"replaced".into(), &"counts".into()));
    assert_eq!(
        (&place(1)["by"], &place(1)["file"], &place(1)["column"]),
        (&"override".into(), &"compose.2.yaml".into(), &25.into())
    );
    assert_eq!((&place(0)["means"], &place(0)["written"]), (&"x:1".into(), &"image: \"x:${T:-1}\"".into()));
    assert_eq!((&value["variables"][0]["from"], &value["variables"][0]["file"]), (&"file".into(), &".env".into()));
}
