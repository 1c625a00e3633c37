//! Tests of the whole loader: error texts and properties.

use super::model::{FailureAction, Order};
use super::{Format, Loaded, Question, Request, answer, load, service_hash};

/// Returns a request for `text` as `compose.yaml` of the project `p` in `/p`.
fn request(text: &str) -> Request {
    Request {
        files: vec!["-".into()],
        project_name: Some("p".into()),
        cwd: "/nonexistent/p".into(),
        env: [("HOME".to_owned(), "/root".to_owned())].into(),
        stdin: Some(text.to_owned()),
        ..Request::default()
    }
}

/// Loads `text` as for `up`.
fn text(text: &str) -> Result<Loaded, String> {
    load(&request(text)).map_err(|report| report.render(false))
}

/// Returns what `config` prints of `text`.
fn config(text: &str, format: Format) -> Result<String, String> {
    answer(&request(text), &Question::Model(format)).map(|answer| answer.text).map_err(|report| report.render(false))
}

#[test]
fn mistakes_are_shown_at_their_place_and_all_at_once() {
    let fail = |source: &str| text(source).map(|_| ()).expect_err("a mistake");
    insta::assert_snapshot!(
        fail("services:\n  web:\n    imgae: nginx\n    ports: [\"80:70000\"]\n    depends_on: [dbb]\n  db:\n    image: x\n    restart: alwyas\n    healthcheck: {test: x, interval: 10 seconds}\n"),
        @r#"
error: `imgae` is not a key of service `web`
 --> stdin:3:5
  |
3 |     imgae: nginx
  |     ^^^^^
  |
  = help: did you mean `image`?

error: `80:70000` is not a port: `70000` is not a port; ports go from 0 to 65535
 --> stdin:4:13
  |
4 |     ports: ["80:70000"]
  |             ^^^^^^^^^^
  |
  = help: write `HOST:CONTAINER`, `IP:HOST:CONTAINER` or `CONTAINER`, each perhaps a range, and perhaps `/udp`

error: service `web` depends on `dbb`, which is not defined
 --> stdin:5:18
  |
5 |     depends_on: [dbb]
  |                  ^^^
  |
  = help: did you mean `db`?

error: `alwyas` is no restart policy
 --> stdin:8:14
  |
8 |     restart: alwyas
  |              ^^^^^^
  |
  = help: did you mean `always`?

error: `interval` of `healthcheck` of service `db` is not a duration: `seconds` is no unit of time
 --> stdin:9:38
  |
9 |     healthcheck: {test: x, interval: 10 seconds}
  |                                      ^^^^^^^^^^
  |
  = help: a duration is written like `1m30s`, `500ms` or `2h`
"#
    );
    insta::assert_snapshot!(fail("services:\n  web: {image: x, networks: [frnt], volumes: [\"dat:/d\", \"db/x:/y\", \"./a:b\"]}\nnetworks: {front: }\nvolumes: {data: }\n"), @r#"
error: service `web` uses the network `frnt`, which is not defined
 --> stdin:2:30
  |
2 |   web: {image: x, networks: [frnt], volumes: ["dat:/d", "db/x:/y", "./a:b"]}
  |                              ^^^^
  |
  = help: did you mean `front`?

error: service `web` uses the volume `dat`, which is not defined
 --> stdin:2:47
  |
2 |   web: {image: x, networks: [frnt], volumes: ["dat:/d", "db/x:/y", "./a:b"]}
  |                                               ^^^^^^^^
  |
  = help: did you mean `data`?

error: service `web` uses the volume `db/x`, which is not defined
 --> stdin:2:57
  |
2 |   web: {image: x, networks: [frnt], volumes: ["dat:/d", "db/x:/y", "./a:b"]}
  |                                                         ^^^^^^^^^
  |
  = help: a path of the host begins with `./`: `./db/x`

error: the path in the container must begin with `/`: `b`
 --> stdin:2:68
  |
2 |   web: {image: x, networks: [frnt], volumes: ["dat:/d", "db/x:/y", "./a:b"]}
  |                                                                    ^^^^^^^
"#);
    insta::assert_snapshot!(fail("services:\n  web:\n    image: x\n    image: y\n"), @r#"
error: the key `image` is set twice
 --> stdin:4:5
  |
3 |     image: x
  |     ----- first set here
4 |     image: y
  |     ^^^^^
  |
  = help: keep one of them
"#);
    insta::assert_snapshot!(fail("services:\n\tweb: {}\n"), @r#"
error: this is not valid YAML: tabs disallowed within this context (block indentation)
 --> stdin:2:2
  |
2 |     web: {}
  |     ^
  |
  = help: indent with spaces
"#);
    insta::assert_snapshot!(fail("services:\n  web: {image: x, labels: {1: a}}\n"), @r#"
error: the key `1` is not text
 --> stdin:2:28
  |
2 |   web: {image: x, labels: {1: a}}
  |                            ^
  |
  = help: put it in quotes: `"1"`; a text with a colon needs them around all of it
"#);
    insta::assert_snapshot!(fail("services:\n  web:\n    image: ${IMAGE:?set the image}\n    hostname: 42\n"), @r#"
error: the variable `IMAGE` is required: set the image
 --> stdin:3:12
  |
3 |     image: ${IMAGE:?set the image}
  |            ^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: set it in the environment, or in the file `.env`

error: `hostname` of service `web` must be text, not the number `42`
 --> stdin:4:15
  |
4 |     hostname: 42
  |               ^^
  |
  = help: put it in quotes: `"42"`
"#);
    insta::assert_snapshot!(fail("services:\n  a: {image: x, container_name: c1}\n  b: {image: x, container_name: c1}\n"), @r#"
error: two services have the container name `c1`
 --> stdin:3:33
  |
2 |   a: {image: x, container_name: c1}
  |                                 -- first used here
3 |   b: {image: x, container_name: c1}
  |                                 ^^
"#);
    insta::assert_snapshot!(fail("services:\n  a: {image: x, network_mode: host}\n  b: {image: x, extends: aa}\n  c: {image: x, depends_on: {d: {condition: healthy}}}\n  d: {image: x, profiles: [p]}\n"), @r#"
error: `network_mode` of service `a` is not supported yet
 --> stdin:2:17
  |
2 |   a: {image: x, network_mode: host}
  |                 ^^^^^^^^^^^^

error: service `b` extends `aa`, which is not defined
 --> stdin:3:26
  |
3 |   b: {image: x, extends: aa}
  |                          ^^
  |
  = help: did you mean `a`?

error: service `c` depends on `d`, which is switched off by its profiles
 --> stdin:4:30
  |
4 |   c: {image: x, depends_on: {d: {condition: healthy}}}
  |                              ^
5 |   d: {image: x, profiles: [p]}
  |   - defined here
  |
  = help: switch it on with `--profile p`, or add `required: false`

error: `condition` of the dependency on `d` of service `c` cannot be `healthy`
 --> stdin:4:45
  |
4 |   c: {image: x, depends_on: {d: {condition: healthy}}}
  |                                             ^^^^^^^
  |
  = help: it can be `service_started`, `service_healthy` or `service_completed_successfully`
"#);
    insta::assert_snapshot!(fail("# nothing\n"), @r#"
error: the compose file `stdin` is empty
help: it begins with `services:`
"#);
    insta::assert_snapshot!(fail("services: {a: {image: x, environment: {DAY: 2024-01-01}, command: 'echo \"open'}}\n"), @r#"
error: `DAY` of `environment` of service `a` must be text, a number or a boolean, not a date
 --> stdin:1:45
  |
1 | services: {a: {image: x, environment: {DAY: 2024-01-01}, command: 'echo "open'}}
  |                                             ^^^^^^^^^^
  |
  = help: put it in quotes: `"2024-01-01"`

error: `command` of service `a` cannot be split into words: a quote is never closed
 --> stdin:1:67
  |
1 | services: {a: {image: x, environment: {DAY: 2024-01-01}, command: 'echo "open'}}
  |                                                                   ^^^^^^^^^^^^
  |
  = help: or write it as a list of words
"#);
}

#[test]
fn keys_without_effect_give_one_warning_each() {
    let loaded = text("version: '3'\nservices:\n  web:\n    image: x\n    isolation: x\n    domainname: x\n    command: a && b\n    read_only: on\n    hostname: $NOPE\n    x-own: 1\nmodels: {s: {model: f}}\n").expect("valid");
    let all: Vec<String> = loaded.warnings.iter().map(|w| crate::diag::render(w, &loaded.sources, false)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
warning: `version` is obsolete and ignored
 --> stdin:1:1
  |
1 | version: '3'
  | ^^^^^^^
  |
  = help: remove it

warning: `isolation` of service `web` has no effect in this version and is ignored
 --> stdin:5:5
  |
5 |     isolation: x
  |     ^^^^^^^^^

warning: `domainname` of service `web` has no effect in this version and is ignored
 --> stdin:6:5
  |
6 |     domainname: x
  |     ^^^^^^^^^^

warning: `command` of service `web` is no line for a shell; this is dropped: `&& b`
 --> stdin:7:14
  |
7 |     command: a && b
  |              ^^^^^^
  |
  = help: for a shell write the list form: `["sh", "-c", "…"]`

warning: `on` is no boolean of YAML 1.2
 --> stdin:8:16
  |
8 |     read_only: on
  |                ^^
  |
  = help: write `true`

warning: the variable `NOPE` is not set, so nothing stands in its place
 --> stdin:9:16
  |
9 |     hostname: $NOPE
  |                ^^^^
  |
  = help: set it, or give a default: `${NOPE:-}`

warning: `models` of a compose file has no effect in this version and is ignored
  --> stdin:11:1
   |
11 | models: {s: {model: f}}
   | ^^^^^^
"#);
}

/// Makes a project directory with these files and loads it.
fn tree(files: &[(&str, &[u8])], change: impl FnOnce(&mut Request)) -> Result<String, String> {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().canonicalize().expect("a real directory").join("proj");
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
    std::fs::create_dir_all(&dir).expect("a directory");
    let mut request = Request { cwd: dir.clone(), ..Request::default() };
    change(&mut request);
    let loaded = load(&request).and_then(|_| answer(&request, &Question::Model(Format::Yaml)));
    let text = loaded.map(|answer| answer.text).map_err(|report| report.render(false));
    let hide = |text: String| text.replace(&dir.to_string_lossy().into_owned(), "$DIR");
    text.map(hide).map_err(hide)
}

#[test]
fn files_are_found_and_missing_ones_are_named() {
    insta::assert_snapshot!(tree(&[], |_| ()).expect_err("no file"), @r#"
error: no compose file was found
help: looked for compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml in `$DIR` and above; name one with `-f`
"#);
    insta::assert_snapshot!(tree(&[], |r| r.files.push("nope.yaml".into())).expect_err("no file"), @"error: cannot read `nope.yaml`: No such file or directory");
    insta::assert_snapshot!(tree(&[("compose.yaml", b"services:\n  a: {image: \xff}\n")], |_| ()).expect_err("bytes"), @r#"
error: this is not valid UTF-8
 --> compose.yaml:2:14
  |
2 |   a: {image: �}
  |              ^
"#);
    insta::assert_snapshot!(
        tree(&[("compose.yaml", b"services: {}\n"), (".env", b"A=1\nB C=2\n")], |_| ()).expect_err("a bad line"),
        @r#"
error: the variable name `B C` contains a space
 --> .env:2:1
  |
2 | B C=2
  | ^^^
  |
  = help: a line is `NAME=value`, `NAME` or a comment after `#`
"#
    );
    let text = tree(
        &[
            ("compose.yaml", b"\xef\xbb\xbfservices:\r\n  a:\r\n    image: x\r\n"),
            ("docker-compose.override.yml", b"services: {a: {init: true}}"),
        ],
        |_| (),
    );
    insta::assert_snapshot!(text.expect("BOM, CRLF and an override"), @r#"
name: proj
services:
  a:
    image: x
    init: true
    networks:
      default: null
networks:
  default:
    name: proj_default
"#);
}

#[test]
fn a_name_alone_locates_a_project_without_a_file() {
    let request = Request { cwd: "/nonexistent/p".into(), project_name: Some("shop".into()), ..Request::default() };
    let found = super::locate(&request).expect("a name is enough");
    assert_eq!((found.name.as_str(), found.files.len()), ("shop", 0));
    let request = Request { project_name: None, ..request };
    assert!(super::locate(&request).is_err());
}

#[test]
fn the_hash_changes_with_what_a_container_is_made_of_alone() {
    let hash = |source: &str| {
        let project = text(source).unwrap_or_else(|e| panic!("{e}")).project;
        service_hash(project.services.values().next().expect("a service"))
    };
    let base = hash("services:\n  a: {image: x, ports: [\"80\"]}\n");
    assert_eq!(base.len(), 64);
    for same in [
        "services:\n  a: {ports: [{target: 80}], image: x}\n",
        "services:\n  a: {image: x, ports: [\"80\"], depends_on: [b]}\n  b: {image: y}\n",
        "services:\n  a: {image: x, ports: [\"80\"], build: .}\n",
        "services:\n  a: {image: x, ports: [\"80\"], profiles: []}\n",
    ] {
        assert_eq!(hash(same), base, "{same}");
    }
    for other in [
        "services:\n  a: {image: y, ports: [\"80\"]}\n",
        "services:\n  a: {image: x, ports: [\"81\"]}\n",
        "services:\n  a: {image: x, ports: [\"80\"], command: []}\n",
        "services:\n  a: {image: x, ports: [\"80\"], environment: [A=1]}\n",
    ] {
        assert_ne!(hash(other), base, "{other}");
    }
}

#[test]
fn bombs_and_deep_nests_are_refused_quickly() {
    let mut bomb = String::from("x-0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("x-{level}: &a{level} [{before}]\n"));
    }
    let merges: String = (1..2000).map(|n| format!("x-{n}: &b{n} {{<<: *b{}, k{n}: 1}}\n", n - 1)).collect();
    for source in [
        bomb,
        format!("x-0: &b0 {{k0: 1}}\n{merges}"),
        "[".repeat(10_000),
        "- ".repeat(10_000),
        (0..2000).map(|n| format!("{}k:\n", " ".repeat(n))).collect(),
        "x-a: &a [*a]\n".into(),
        format!("services: {{a: {{image: \"{}{}\"}}}}", "${A:-".repeat(20_000), "}".repeat(20_000)),
        {
            let open: String = (0..90).map(|n| format!("&n{n} [")).collect();
            format!("x-a: {open}{}{}", "1,".repeat(50_000), "]".repeat(90))
        },
    ] {
        assert!(text(&source).is_err());
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// A value that may stand in quotes anywhere.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9_. :#'\"\\\\$,{}\\[\\]&*!|>%@`~=<-]{0,12}",
            "[\\PC]{0,6}",
            Just("yes".to_owned()),
            Just("0755".to_owned()),
            Just("22:22".to_owned()),
            Just("a\n b\n".to_owned()),
            Just("\u{feff}x".to_owned()),
            Just("null".to_owned()),
            Just("2001-01-01".to_owned()),
            Just("\t x \r".to_owned()),
        ]
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(&text.replace('$', "$$")).expect("text").replace('\u{7f}', "\\x7f")
    }

    fn service() -> impl Strategy<Value = String> {
        let pairs = || proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_.]{0,5}", word(), 0..4);
        let list = proptest::collection::vec(word(), 0..4);
        let ports = proptest::collection::vec((1..200_u16, 1..200_u16, any::<bool>()), 0..4);
        (pairs(), pairs(), list, ports, any::<[bool; 6]>()).prop_map(|(environment, labels, command, ports, flags)| {
            let map = |pairs: &std::collections::BTreeMap<String, String>| {
                pairs.iter().map(|(k, v)| format!("{}: {}", quoted(k), quoted(v))).collect::<Vec<_>>().join(", ")
            };
            let command: Vec<String> = command.iter().map(|w| quoted(w)).collect();
            let ports: Vec<String> =
                ports.iter().map(|(a, b, udp)| format!("\"{a}:{b}{}\"", if *udp { "/udp" } else { "" })).collect();
            let mut fields = vec![
                "image: x".to_owned(),
                format!("environment: {{{}}}", map(&environment)),
                format!("labels: {{{}}}", map(&labels)),
                format!("command: [{}]", command.join(", ")),
                format!("ports: [{}]", ports.join(", ")),
            ];
            let extra = [
                "init: true",
                "restart: on-failure:3",
                "healthcheck: {test: [CMD, a], interval: 90s, retries: 2, disable: true}",
                "volumes: [\"./a:/a:ro\", \"data:/b\", /c, {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 01777}}]",
                "networks: {front: {aliases: [w]}, default: }",
                "stop_grace_period: 1m30s",
            ];
            fields.extend(extra.iter().zip(flags).filter(|(_, on)| *on).map(|(text, _)| (*text).to_owned()));
            format!("{{{}}}", fields.join(", "))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_give_a_project_or_a_report(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = text(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_text_of_compose_words_gives_a_project_or_a_report(
            words in proptest::collection::vec(prop_oneof![
                Just("services"), Just("web"), Just("image"), Just("ports"), Just(": "), Just("\n"), Just("  "),
                Just("- "), Just("{"), Just("}"), Just("["), Just("]"), Just("80:80"), Just("${A"), Just("}"), Just("&a "),
                Just("*a"), Just("<<: "), Just("!reset "), Just("\""), Just("volumes"), Just("./a:/b"), Just("'"), Just("é"),
            ], 0..40),
        ) {
            let _ = text(&words.concat());
        }

        #[test]
        fn no_short_syntax_panics(text in "[\\PC\n]{0,40}", odd in "[0-9a-z:./,${}\"'\\\\=# \n-]{0,40}") {
            use crate::compose::fuzz;
            for text in [&text, &odd] {
                fuzz::short(text);
                fuzz::interpolate(text);
                fuzz::dotenv(text);
            }
        }

        #[test]
        fn what_config_prints_loads_again_and_prints_the_same(services in proptest::collection::vec(service(), 1..4)) {
            let mut source = String::from("services:\n");
            for (at, service) in services.iter().enumerate() {
                source.push_str(&format!("  s{at}: {service}\n"));
            }
            source.push_str("networks: {front: {internal: true}}\nvolumes: {data: {labels: [a=b]}}\n");
            let first = text(&source).map_err(TestCaseError::fail)?.project;
            let printed = config(&source, Format::Yaml).map_err(TestCaseError::fail)?;
            let again = text(&printed).map_err(|e| TestCaseError::fail(format!("{e}\n{printed}")))?.project;
            prop_assert_eq!(config(&printed, Format::Yaml), Ok(printed.clone()));
            prop_assert_eq!(config(&printed, Format::Json), config(&source, Format::Json));
            for (name, service) in &first.services {
                prop_assert_eq!(service_hash(service), service_hash(&again.services[name]));
            }
        }
    }
}

/// Each line, as the key of a service, is refused at the place and with the words that stand beside it.
fn refused(cases: &[(&str, &str, &str)]) {
    for (line, at, words) in cases {
        let source = format!("services:\n  web:\n    image: x\n    {line}\n");
        let said = text(&source).map(|_| ()).expect_err(line);
        assert!(said.contains(&format!("--> stdin:{at}\n")), "{line}: not at {at}:\n{said}");
        assert!(said.contains(words), "{line}: not `{words}`:\n{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{line}:\n{said}");
    }
}

#[test]
fn bad_limits_are_refused_at_their_place() {
    refused(&[
        ("mem_limit: lots", "4:16", "`lots` is not a size; write a number of bytes or something like `512m`"),
        ("mem_limit: -5m", "4:16", "`-5m` is not a size"),
        ("mem_limit: [1g]", "4:16", "must be text"),
        ("mem_reservation: 1x", "4:22", "`1x` is not a size"),
        ("memswap_limit: -2", "4:20", "`-2` is not a size"),
        ("mem_swappiness: high", "4:21", "`high` is not a size"),
        ("oom_kill_disable: perhaps", "4:23", "must be `true` or `false`"),
        ("oom_score_adj: 1001", "4:20", "must be a whole number from -1000 to 1000, not `1001`"),
        ("cpus: many", "4:11", "must be a number of CPUs such as `0.5`, not `many`"),
        ("cpus: -1", "4:11", "must be a number of CPUs such as `0.5`, not `-1`"),
        ("cpus: {a: b}", "4:11", "must be a number of CPUs such as `0.5`"),
        ("cpu_shares: -1", "4:17", "must be a whole number from 0 on, not `-1`"),
        ("cpu_period: 1.5", "4:17", "must be a whole number from 0 on"),
        ("cpu_quota: 50ms", "4:16", "must be a whole number, or -1 for no limit, not `50ms`"),
        ("cpuset: 3", "4:13", "put it in quotes: `\"3\"`"),
        ("pids_limit: -2", "4:17", "must be a whole number, or -1 for no limit, not `-2`"),
    ]);
}

#[test]
fn bad_parts_of_the_host_are_refused_at_their_place() {
    refused(&[
        ("shm_size: lots", "4:15", "`lots` is not a size"),
        ("privileged: perhaps", "4:17", "must be `true` or `false`"),
        ("devices: /dev/null", "4:14", "must be a list"),
        ("devices: ['/dev/a:/dev/b:rwm:x']", "4:15", "write `HOST`, `HOST:CONTAINER` or `HOST:CONTAINER:rwm`"),
        ("devices: [':/dev/b']", "4:15", "`:/dev/b` is not a device"),
        ("devices: [{target: /dev/b}]", "4:15", "has no `source`"),
        ("devices: [{source: /dev/b, permission: r}]", "4:32", "did you mean `permissions`?"),
        ("group_add: [a, 1, a]", "4:23", "has `a` twice"),
        ("group_add: [1.5]", "4:17", "must be the name or the number of a group"),
        ("security_opt: no-new-privileges", "4:19", "must be a list"),
        ("sysctls: [net.core.somaxconn]", "4:15", "write `net.core.somaxconn=VALUE`"),
        ("sysctls: {net.core.somaxconn: [1]}", "4:35", "must be text, a number or a boolean"),
        ("tmpfs: run", "4:12", "the path in the container must begin with `/`"),
        ("tmpfs: /run:huge", "4:12", "`huge` is no option of a tmpfs"),
        ("tmpfs: {a: b}", "4:12", "must be text or a list"),
        ("ulimits: {nofile: many}", "4:23", "must be a whole number, or -1 for no limit, not `many`"),
        ("ulimits: {nofile: {soft: 1}}", "4:15", "has no `hard`"),
        ("ulimits: {nofile: {soft: 1, hard: 2, hart: 3}}", "4:42", "did you mean `hard`?"),
        ("ulimits: [nofile]", "4:14", "must be a mapping"),
    ]);
    let both = "services:\n  web:\n    image: x\n    tmpfs: /run/\n    volumes: ['data:/run']\nvolumes: {data: {}}\n";
    let said = text(both).map(|_| ()).expect_err("two things on one path");
    assert!(said.contains("service `web` mounts two things on `/run`") && said.contains("--> stdin:5:15"), "{said}");
}

#[test]
fn bad_names_and_files_of_variables_are_refused_at_their_place() {
    refused(&[
        ("extra_hosts: [a]", "4:19", "`a` names no address"),
        ("extra_hosts: ['a=1.2.3']", "4:19", "`1.2.3` is neither an IP address nor `host-gateway`"),
        ("extra_hosts: {'a b': 1.1.1.1}", "4:26", "`a b` is not the name of a host"),
        ("extra_hosts: {a: [1]}", "4:22", "must be text or a list of text"),
        ("extra_hosts: a=1.1.1.1", "4:18", "must be a list of `HOST=ADDRESS` or a mapping"),
        ("dns: [one.example]", "4:11", "`one.example` in `dns` of service `web` is not an IP address"),
        ("dns: {a: b}", "4:10", "must be text or a list"),
        ("dns_search: [1]", "4:18", "must be text"),
        ("dns_opt: use-vc", "4:14", "must be a list"),
        ("env_file: {path: a.env}", "4:15", "must be text or a list"),
        ("env_file: [{required: false}]", "4:16", "has no `path`"),
        ("env_file: [{path: a.env, format: toml, required: false}]", "4:38", "it can be `raw`"),
        ("env_file: nowhere.env", "4:15", "or say that it need not be there: `{path: FILE, required: false}`"),
    ]);
}

#[test]
fn how_replicas_are_replaced_is_read() {
    let update = |written: &str| {
        let file = format!("services: {{web: {{image: x, deploy: {written}}}}}\n");
        let loaded = text(&file).expect("a valid file");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        loaded.project.services.values().next().and_then(|web| web.update.clone())
    };
    assert_eq!(update("{replicas: 1}"), None);
    let plain = update("{update_config: {}}").expect("it is there");
    assert_eq!((plain.parallelism, plain.order, plain.monitor), (1, Order::StopFirst, None));
    assert_eq!((plain.failure_action, plain.max_failure_ratio, plain.delay.as_secs()), (None, 0.0, 0));
    let full = "{update_config: {parallelism: 0, delay: 10s, failure_action: continue, monitor: 1m, max_failure_ratio: 0.25, \
                order: start-first}}";
    let full = update(full).expect("it is there");
    assert_eq!((full.parallelism, full.order, full.delay.as_secs()), (0, Order::StartFirst, 10));
    assert_eq!((full.failure_action, full.max_failure_ratio), (Some(FailureAction::Continue), 0.25));
    assert_eq!(full.monitor.map(|time| time.as_secs()), Some(60));
}

#[test]
fn bad_limits_of_deploy_are_refused_at_their_place() {
    refused(&[
        ("deploy: {replica: 2}", "4:14", "did you mean `replicas`?"),
        ("deploy: {resources: {limits: {memory: lots}}}", "4:43", "`lots` is not a size"),
        ("deploy: {resources: {limits: {cpu: 1}}}", "4:35", "did you mean `cpus`?"),
        ("deploy: {resources: {limits: {pids: -2}}}", "4:41", "must be a whole number, or -1 for no limit"),
        ("deploy: [a]", "4:13", "must be a mapping"),
        ("deploy: {update_config: {order: both}}", "4:37", "`both`"),
        ("deploy: {update_config: {parallelism: -1}}", "4:43", "-1"),
        ("deploy: {update_config: {delay: soon}}", "4:37", "soon"),
        ("deploy: {update_config: {failure_action: stop}}", "4:46", "it is `pause`, `continue` or `rollback`"),
        ("deploy: {update_config: {max_failure_ratio: 2}}", "4:49", "must be between 0 and 1, not 2"),
    ]);
    let both = "services:\n  web:\n    image: x\n    mem_limit: 1g\n    deploy: {resources: {limits: {memory: 2g}}}\n";
    let said = text(both).map(|_| ()).expect_err("two limits");
    assert!(
        said.contains("`mem_limit` and `deploy.resources.limits.memory` of service `web` have different values"),
        "{said}"
    );
    assert!(said.contains("--> stdin:5:43"), "{said}");
}

#[test]
fn included_and_extended_files_are_read_from_where_they_are_and_mistakes_in_them_are_shown_there() {
    let text = tree(
        &[
            ("compose.yaml", b"include: [{path: [sub/a.yaml, sub/b.yaml]}, sub/other/c.yaml]\nservices: {web: {extends: {file: base/base.yaml, service: web}}}\n"),
            ("sub/a.yaml", b"services: {db: {image: \"x:$TAG\", volumes: [./d:/d], environment: [WHO]}}\n"),
            ("sub/b.yaml", b"services: {db: {init: true}}\n"),
            ("sub/.env", b"TAG=1\nWHO=sub\n"),
            ("sub/other/c.yaml", b"services: {c: {image: \"c:$TAG\", env_file: c.env}}\n"),
            ("sub/other/.env", b"TAG=2\n"),
            ("sub/other/c.env", b"C=${WHO-nobody}\n"),
            ("base/base.yaml", b"services: {web: {extends: root, volumes: [../v:/v]}, root: {image: y, volumes: ['.:/b']}}\n"),
        ],
        |_| (),
    );
    let text = text.expect("three projects in one");
    for part in [
        "image: x:1",
        "WHO: sub",
        "init: true",
        "source: $DIR/sub/d",
        "image: c:2",
        "C: nobody",
        "source: $DIR/v",
        "source: $DIR/base\n",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    insta::assert_snapshot!(
        tree(
            &[
                ("compose.yaml", b"include:\n  - a.yaml\n  - {path: nope.yaml}\n  - {path: a.yaml, env: x}\nservices:\n  a: {extends: {service: b}}\n  b: {extends: {service: c, file: a.yaml}}\n  d: {extends: {file: b.yaml}}\n"),
                ("a.yaml", b"include: [compose.yaml]\nservices: {c: {imge: x, extends: c}}\n"),
            ],
            |_| ()
        )
        .expect_err("mistakes"),
        @r#"
error: cannot read `nope.yaml`: No such file or directory
 --> compose.yaml:3:12
  |
3 |   - {path: nope.yaml}
  |            ^^^^^^^^^

error: `env` is not a key of `include`
 --> compose.yaml:4:20
  |
4 |   - {path: a.yaml, env: x}
  |                    ^^^

error: `extends` of service `d` does not say which service
 --> compose.yaml:8:7
  |
8 |   d: {extends: {file: b.yaml}}
  |       ^^^^^^^
  |
  = help: add `service: SERVICE` below it

error: files include each other in a circle: `compose.yaml` → `a.yaml` → `compose.yaml`
 --> a.yaml:1:11
  |
1 | include: [compose.yaml]
  |           ^^^^^^^^^^^^
  |
 ::: compose.yaml:7:35
  |
7 |   b: {extends: {service: c, file: a.yaml}}
  |                                   ------ extended here
  |
  = help: take one of them out of `include`

error: `imge` is not a key of service `c`
 --> a.yaml:2:16
  |
2 | services: {c: {imge: x, extends: c}}
  |                ^^^^
  |
 ::: compose.yaml:7:35
  |
7 |   b: {extends: {service: c, file: a.yaml}}
  |                                   ------ extended here
  |
  = help: did you mean `image`?

error: services extend each other in a circle: `c` → `c`
 --> a.yaml:2:34
  |
2 | services: {c: {imge: x, extends: c}}
  |                                  ^
  |
 ::: compose.yaml:7:35
  |
7 |   b: {extends: {service: c, file: a.yaml}}
  |                                   ------ extended here
  |
  = help: take `extends` out of one of them
"#
    );
    insta::assert_snapshot!(
        tree(&[("compose.yaml", b"include: [{path: b.yaml, env_file: n.env}]\n"), ("b.yaml", b"services: {c: {image: x}}\n")], |_| ()).expect_err("no file"),
        @r#"
error: cannot read `n.env`: No such file or directory
 --> compose.yaml:1:36
  |
1 | include: [{path: b.yaml, env_file: n.env}]
  |                                    ^^^^^
"#
    );
}

#[test]
fn what_is_said_from_outside_is_taken_as_docker_compose_takes_it() {
    let file: (&str, &[u8]) = ("compose.yaml", b"services: {a: {image: \"x:${T-none}\"}}\n");
    let with = |name: &str, value: &str, more: &[(&str, &[u8])]| {
        let files: Vec<(&str, &[u8])> = std::iter::once(file).chain(more.iter().copied()).collect();
        tree(&files, |request| drop(request.env.insert(name.to_owned(), value.to_owned())))
    };
    let dotenv: (&str, &[u8]) = (".env", b"T=file\n");
    for (value, image) in [("1", "x:none"), ("F", "x:file"), ("True", "x:none")] {
        let text = with("COMPOSE_DISABLE_ENV_FILE", value, &[dotenv]).expect(value);
        assert!(text.contains(image), "{value}: {text}");
    }
    let off: (&str, &[u8]) = (".env", b"T=file\nCOMPOSE_DISABLE_ENV_FILE=1\nCOMPOSE_PROJECT_NAME=own\n");
    let text = with("X", "", &[off]).expect("a file that speaks to the program alone");
    assert!(text.contains("x:none") && text.contains("name: own\n"), "{text}");
    for (name, value, words) in [
        ("COMPOSE_DISABLE_ENV_FILE", "yes", "`COMPOSE_DISABLE_ENV_FILE` must be `true` or `false`, not `yes`"),
        ("COMPOSE_FILE", "compose.yaml:", "`COMPOSE_FILE` names an empty path"),
        ("COMPOSE_ENV_FILES", "a.env, b.env", "cannot read ` b.env`"),
        ("COMPOSE_PROJECT_NAME", "A.b", "`ab` would be one"),
    ] {
        let said = with(name, value, &[("a.env", b""), ("b.env", b"")]).expect_err(value);
        assert!(said.contains(words), "{name}: {said}");
    }
    let by_file = |name: &str| {
        let source = format!("name: {name}\nservices: {{a: {{image: x}}}}\n");
        let found = tree(&[("compose.yaml", source.as_bytes())], |_| ());
        found
            .map(|text| text.lines().next().unwrap_or("").to_owned())
            .map_err(|said| said.lines().next().unwrap_or("").to_owned())
    };
    for (name, result) in [
        ("Sh.op", Ok("name: shop")),
        ("''", Ok("name: proj")),
        ("é", Err("error: nothing of `é` can be in a project's name")),
        ("$COMPOSE_PROJECT_NAME", Err("error: nothing of `` can be in a project's name")),
        ("'${N:?give one}'", Err("error: the variable `N` is required: give one")),
    ] {
        assert_eq!(by_file(name), result.map(str::to_owned).map_err(str::to_owned), "{name}");
    }
}

#[test]
fn a_mistake_in_a_value_names_the_variable_and_one_in_another_file_the_way_there() {
    insta::assert_snapshot!(
        tree(
            &[
                ("compose.yaml", b"include:\n  - sub/a.yaml\nservices:\n  web:\n    image: x\n    ports: [\"${PORT}:80\"]\n    restart: ${HOW}\n"),
                (".env", b"# ours\nexport PORT = eighty\n"),
                ("sub/a.yaml", b"services:\n  db: {extends: {file: b.yaml, service: db}}\n"),
                ("sub/b.yaml", b"services:\n  db: {image: x, prots: []}\n"),
            ],
            |request| drop(request.env.insert("HOW".into(), "alwyas".into())),
        )
        .expect_err("mistakes"),
        @r#"
error: `eighty:80` is not a port: `eighty` is not a port; ports go from 0 to 65535
 --> compose.yaml:6:13
  |
6 |     ports: ["${PORT}:80"]
  |             ^^^^^^^^^^^^
  |
 ::: .env:2:8
  |
2 | export PORT = eighty
  |        ---- the value of `PORT` came from here
  |
  = help: write `HOST:CONTAINER`, `IP:HOST:CONTAINER` or `CONTAINER`, each perhaps a range, and perhaps `/udp`

error: `alwyas` is no restart policy
 --> compose.yaml:7:14
  |
7 |     restart: ${HOW}
  |              ^^^^^^ with `HOW` of the environment
  |
  = help: did you mean `always`?

error: `prots` is not a key of service `db`
 --> sub/b.yaml:2:18
  |
2 |   db: {image: x, prots: []}
  |                  ^^^^^
  |
 ::: sub/a.yaml:2:24
  |
2 |   db: {extends: {file: b.yaml, service: db}}
  |                        ------ extended here
  |
 ::: compose.yaml:2:5
  |
2 |   - sub/a.yaml
  |     ---------- included here
  |
  = help: did you mean `ports`?
"#
    );
}

#[test]
fn files_that_are_no_files_or_too_much_are_refused_with_one_error() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().canonicalize().expect("a real directory");
    std::fs::create_dir(dir.join("folder")).expect("a directory");
    nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    std::os::unix::fs::symlink("loop", dir.join("loop")).expect("a link");
    std::fs::write(dir.join("bytes.yaml"), b"services: {a: {image: \xff}}").expect("a file");
    std::fs::File::create(dir.join("huge.yaml")).and_then(|file| file.set_len(65 << 20)).expect("a file");
    for (name, words) in [
        ("folder", "`folder` is a directory, not a file"),
        ("pipe", "`pipe` is a named pipe, not a file"),
        ("/dev/zero", "`/dev/zero` is a device, not a file"),
        ("loop", "cannot read `loop`: Too many levels of symbolic links"),
        ("bytes.yaml", "this is not valid UTF-8"),
        ("huge.yaml", "`huge.yaml` has more than 64 MiB"),
        ("none.yaml", "cannot read `none.yaml`: No such file or directory"),
    ] {
        let yaml = |text: String| std::fs::write(dir.join("compose.yaml"), text).expect("a file");
        let request = |file: &str| Request { cwd: dir.clone(), files: vec![file.into()], ..Request::default() };
        let refused = |request: &Request| load(request).map(|_| ()).expect_err(name).render(false);
        let mut said = vec![refused(&request(name))];
        yaml(format!("include: ['{name}']\nservices: {{a: {{image: x}}}}\n"));
        said.push(refused(&request("compose.yaml")));
        yaml(format!("services: {{a: {{extends: {{file: '{name}', service: a}}}}}}\n"));
        said.push(refused(&request("compose.yaml")));
        yaml(format!("services: {{a: {{image: x, env_file: '{name}'}}}}\n"));
        if name != "none.yaml" {
            said.push(refused(&request("compose.yaml")));
            let with = Request { env_files: vec![name.into()], ..request("compose.yaml") };
            yaml("services: {a: {image: x}}\n".to_owned());
            said.push(refused(&with));
        }
        for said in said {
            // The time for a file of 64 MiB that is all zeros is not spent on a message.
            assert!(said.contains(words) && said.matches("error: ").count() == 1, "{name}: {said}");
        }
    }
}

#[test]
fn chains_and_copies_without_end_are_refused_quickly() {
    let chain: String = (0..10_000).map(|n| format!("  s{n}: {{extends: s{}}}\n", n + 1)).collect();
    let said = text(&format!("services:\n{chain}  s10000: {{image: x}}\n")).map(|_| ()).expect_err("a chain");
    assert!(said.contains("more than 100 services extend each other in a row"), "{said}");
    let blob = "y".repeat(1 << 20);
    let copies: String = (0..3000).map(|n| format!("  s{n}: {{extends: base}}\n")).collect();
    let said =
        text(&format!("services:\n  base: {{image: x, x-blob: {blob}}}\n{copies}")).map(|_| ()).expect_err("copies");
    assert!(said.contains("extended and included files add up to more than"), "{said}");
    let blobs = format!("x-a: &a {blob}\nx-b: [{}]\n", "*a,".repeat(1000));
    let said = text(&blobs).map(|_| ()).expect_err("aliases of a long text");
    assert!(said.contains("the aliases of this file add up to more than"), "{said}");
    let braces = format!("services: {{a: {{image: x, x-a: '{}'}}}}\n", "${A:-{".repeat(100_000));
    assert!(text(&braces).map(|_| ()).expect_err("braces").contains("error: "));

    let files: Vec<(String, String)> = (0..12)
        .map(|n| {
            (
                format!("f{n}.yaml"),
                format!("include: [f{m}.yaml, {{path: f{m}.yaml, project_directory: .}}]\n", m = n + 1),
            )
        })
        .chain([("f12.yaml".to_owned(), "services: {a: {image: x}}\n".to_owned())])
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let said = tree(&files, |request| request.files.push("f0.yaml".into())).expect_err("two to the twelfth");
    assert!(said.contains("more than 1000 files are included or extended"), "{said}");
}

#[test]
fn what_is_valid_and_cannot_be_brought_up_is_printed_by_config_and_refused_by_up() {
    for (line, words) in [
        ("network_mode: host", "`network_mode` of service `web` is not supported yet"),
        ("provider: {type: p}", "`provider` of service `web` is not supported yet"),
        ("build: {network: other}", "`other` cannot be the network of the build of service `web`"),
        ("build: {additional_contexts: ['a=oci-layout://x']}", "is neither a directory, an image nor a service"),
        ("build: service:db", "the build context of service `web` is neither a directory nor a URL"),
        ("restart: alwyas", "`alwyas` is no restart policy"),
        ("deploy: {restart_policy: {condition: allways}}", "`allways` is no `condition` of a restart policy"),
        ("dns: [one.example]", "`one.example` in `dns` of service `web` is not an IP address"),
        ("extra_hosts: ['a=1.2.3']", "is neither an IP address nor `host-gateway`"),
        ("tmpfs: '/run:huge'", "`huge` is no option of a tmpfs"),
        ("volumes: [{type: image, source: x, target: /x}]", "mounts of type `image` are not supported yet"),
        ("volumes: ['/x:y/z']", "the path in the container must begin with `/`: `y/z`"),
        (
            "volumes: [{type: volume, target: /v, volume: {subpath: s}}]",
            "`subpath` of `volume` of a volume of service `web`",
        ),
        ("ports: [{target: 0}]", "`target` of a port of service `web` must be a whole number from 1 to 65535"),
        ("ports: [{target: 80, protocol: quic}]", "`quic` is no protocol"),
        ("pids_limit: -2", "must be a whole number, or -1 for no limit, not `-2`"),
        ("cpus: -1", "must be a number of CPUs such as `0.5`, not `-1`"),
        ("container_name: '-ab'", "`-ab` is not a valid container name"),
        ("sysctls: [net.core.somaxconn]", "write `net.core.somaxconn=VALUE`"),
    ] {
        let source = format!("services:\n  web:\n    image: x\n    {line}\n");
        let printed = config(&source, Format::Yaml).unwrap_or_else(|said| panic!("{line}: {said}"));
        assert!(printed.starts_with("name: p\nservices:\n  web:\n"), "{line}: {printed}");
        let said = text(&source).map(|_| ()).expect_err(line);
        assert!(said.contains(words) && said.contains("--> stdin:4:"), "{line}: not `{words}`:\n{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{line}:\n{said}");
    }
}

#[test]
fn a_key_with_nothing_behind_it_is_refused_where_docker_compose_refuses_it() {
    refused(&[
        ("ports:", "4:5", "`ports` of service `web` must be a list, not nothing"),
        ("environment:", "4:5", "must be a mapping or a list of `KEY=value`, not nothing"),
        ("hostname:", "4:5", "take the key away"),
        ("healthcheck: {interval: }", "4:19", "must be text, not nothing"),
    ]);
    for line in ["command:", "deploy:", "develop:", "networks: {default: }", "x-own:", "logging: {options: {tag: }}"] {
        let source = format!("services:\n  web:\n    image: x\n    {line}\n");
        assert!(text(&source).is_ok(), "{line}");
    }
}

#[test]
fn without_interpolation_values_stay_as_they_were_written() {
    let source = "services:\n  web:\n    image: ${IMAGE}\n    privileged: ${P}\n    mem_limit: 1g\n    ports: ['${PORT}:80', '81:81']\n    \
                  command: a $$b\n    depends_on: [db]\n    environment: [B=$X, A]\n    volumes: ['${DIR:-./d}:/d:ro']\n  db: {image: x}\n";
    let leave = super::Leave { variables: true, ..super::Leave::default() };
    let request = Request { leave, ..request(source) };
    let printed = answer(&request, &Question::Model(Format::Yaml)).map(|answer| answer.text);
    insta::assert_snapshot!(printed.unwrap_or_else(|report| report.render(false)), @r#"
name: p
networks:
  default:
    name: p_default
services:
  db:
    image: x
    networks:
      default: null
  web:
    command: a $$b
    depends_on:
      db:
        condition: service_started
        required: true
    environment:
      - B=$X
      - A
    image: ${IMAGE}
    mem_limit: 1g
    networks:
      default: null
    ports:
      - ${PORT}:80
      - 81:81
    privileged: ${P}
    volumes:
      - read_only: true
        source: ${DIR:-./d}
        target: /d
        type: volume
        volume: {}
"#);
    let variables = answer(&request, &Question::Variables(None)).map(|answer| answer.text);
    let variables = variables.unwrap_or_else(|report| report.render(false));
    let words: Vec<Vec<&str>> = variables.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            vec!["DIR", "false", "./d"],
            vec!["IMAGE", "false"],
            vec!["P", "false"],
            vec!["PORT", "false"],
            vec!["X", "false"]
        ]
    );
}

/// Returns what is said about these services.
fn said(services: &str) -> String {
    text(&format!("services:\n{services}")).map(|_| String::new()).unwrap_or_else(|said| said)
}

#[test]
fn what_does_not_fit_together_is_refused_at_its_place() {
    refused(&[
        ("networks: [front]", "4:16", "uses the network `front`, which is not defined"),
        ("volumes: ['dta:/d']", "4:15", "uses the volume `dta`, which is not defined"),
        ("configs: [c]", "4:15", "uses the config `c`, which is not defined"),
        ("secrets: [{source: s}]", "4:15", "uses the secret `s`, which is not defined"),
        ("models: [m]", "4:14", "uses the model `m`, which is not defined"),
        ("depends_on: [db]", "4:18", "depends on `db`, which is not defined"),
        ("links: ['db:x']", "4:13", "depends on `db`, which is not defined"),
        ("volumes_from: [db]", "4:20", "depends on `db`, which is not defined"),
        ("ipc: service:db", "4:10", "depends on `db`, which is not defined"),
        ("build: {context: ., secrets: [s]}", "4:35", "is built with the secret `s`, which is not defined"),
        ("build: {context: ., additional_contexts: {c: 'service:w'}}", "4:50", "is `w`, which is not defined"),
    ]);
    for (services, at, words) in [
        (
            "  a: {build: {dockerfile: D, dockerfile_inline: FROM x}}\n",
            "2:30",
            "both `dockerfile` and `dockerfile_inline`",
        ),
        ("  a: {}\n", "2:3", "neither `image` nor `build`"),
        ("  a: {image: x, network_mode: host, networks: [default]}\n", "2:37", "both `network_mode` and `networks`"),
        ("  a: {image: x, platform: linux/arm64, build: {platforms: [linux/amd64]}}\n", "2:27", "is for `linux/arm64`"),
        ("  a: {image: x, scale: 2, deploy: {replicas: 3}}\n", "2:46", "have different values"),
        ("  a: {image: x, scale: 2, container_name: aa}\n", "2:43", "has 2 containers"),
        ("  a: {image: x, deploy: {replicas: 2}, container_name: aa}\n", "2:56", "has 2 containers"),
        (
            "  a: {image: x, mem_limit: 1g, deploy: {resources: {limits: {cpus: '1'}}}}\n",
            "2:53",
            "has no `limits.memory`",
        ),
        ("  a: {image: x, cpus: 1, deploy: {resources: {limits: {cpus: '2'}}}}\n", "2:62", "have different values"),
        ("  a: {image: x, scale: -1}\n", "2:24", "must be 0 or more, not -1"),
        ("  a: {image: x, deploy: {replicas: -1}}\n", "2:36", "must be 0 or more, not -1"),
        ("  a: {image: x, develop: {watch: [{path: p, action: sync}]}}\n", "2:35", "has no `target`"),
        ("  a: {image: x, tmpfs: [/a, '/a:size=1m']}\n", "2:29", "mounts two things on `/a`"),
        (
            "  a: {image: x, build: {additional_contexts: {c: 'service:b'}}}\n  b: {image: y}\n",
            "2:50",
            "is `b`, which is not built",
        ),
        ("  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p]}\n", "2:30", "switched off by its profiles"),
        ("  a: {image: x, depends_on: [a]}\n", "2:30", "dependency cycle detected: a -> a"),
        (
            "  a: {image: x, links: [b]}\n  b: {image: x, volumes_from: [a]}\n",
            "3:32",
            "dependency cycle detected: a -> b -> a",
        ),
    ] {
        let said = said(services);
        assert!(said.contains(&format!("--> stdin:{at}\n")), "{services}: not at {at}:\n{said}");
        assert!(said.contains(words), "{services}: not `{words}`:\n{said}");
        assert_eq!(
            said.matches("error: ").count(),
            said.matches("is not supported yet").count() + 1,
            "{services}:\n{said}"
        );
    }
    for sound in [
        "  a: {image: x, profiles: [p], networks: [nowhere]}\n",
        "  a: {image: x, depends_on: {b: {condition: service_started, required: false}}}\n  b: {image: x, profiles: [p]}\n",
        "  a: {image: x, scale: 2, deploy: {replicas: 2}}\n",
        "  a: {image: x, mem_limit: 1g, deploy: {replicas: 1}}\n",
    ] {
        assert_eq!(said(sound), "", "{sound}");
    }
    let many: String = (0..20_000).map(|n| format!("  s{n}: {{image: x, depends_on: [s{}]}}\n", n + 1)).collect();
    assert!(said(&many).contains("`s20000`, which is not defined"), "a long chain is no circle and no overflow");
}
