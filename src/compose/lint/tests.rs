//! Each rule finds what it is for, at its place, and nothing in what is fine.

use std::collections::BTreeSet;
use std::fs;

use super::RULES;
use crate::compose::testing::project;
use crate::compose::{Env, Format, Question, Request, answer};

/// Returns the findings of a project of these files: `rule file:line:column`.
fn lint(files: &[(&str, &str)]) -> Vec<String> {
    let (_dir, request) = project(files);
    let request = Request { env: Env::from([("SET".to_owned(), "1".to_owned())]), ..request };
    let answer = answer(&request, &Question::Lint(Format::Yaml)).map_err(|report| report.render(false));
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    let shown = |finding: &crate::diag::Diagnostic| {
        let (_, rule) = finding.message.rsplit_once(" [").expect("the name of a rule");
        let place = answer.sources.place(finding.span.expect("a place"));
        format!("{} {place}", rule.trim_end_matches(']'))
    };
    answer.findings.iter().map(shown).collect()
}

/// Returns the places at which one rule finds something in one file.
fn places(rule: &str, text: &str) -> Vec<String> {
    let found = lint(&[("compose.yaml", text)]);
    found.iter().filter_map(|f| f.strip_prefix(&format!("{rule} compose.yaml:"))).map(str::to_owned).collect()
}

#[test]
fn every_rule_finds_its_mistake_at_its_place_and_leaves_the_rest_alone() {
    let web = |text: &str| format!("services:\n  web:\n    image: x:1\n    {text}\n");
    let cases: &[(&str, String, &[&str])] = &[
        ("version-key", format!("version: '3'\n{}", web("tty: true")), &["1:1"]),
        ("yaml-1.1", web("restart: no"), &["4:14"]),
        ("yaml-1.1", web("environment: {A: yes, B: 'yes', C: On, D: y, E: \"${SET}\"}"), &["4:22", "4:40"]),
        ("yaml-1.1", web("ports: [22:22, \"22:22\", 8080:80, 22:60]"), &["4:13"]),
        ("yaml-1.1", web("tty: yes"), &[]),
        ("unused-anchor", web("labels: &one {a: b}\nx-a: &two {a: b}\nx-b: *one"), &["5:6"]),
        ("unset-variable", web("labels: {a: $GONE, b: \"${GONE:-}\", c: $SET, d: $$GONE, e: \"${GONE-x}\"}"), &["4:18"]),
        ("unpinned-image", "services: {a: {image: x}, b: {image: 'h:5000/x'}, c: {image: 'x:latest'}}".into(), &["1:23", "1:38", "1:62"]),
        ("unpinned-image", "services: {a: {image: 'x:1'}, b: {image: 'x@sha256:abc'}, c: {image: x, build: .}}".into(), &[]),
        ("decimal-mode", "services: {a: {image: x, secrets: [{source: s, mode: 440}]}}\nsecrets: {s: {file: f}}".into(), &["1:54"]),
        ("decimal-mode", "services: {a: {image: x, secrets: [{source: s, mode: 0440}, {source: s, target: b, mode: '440'}, {source: s, target: c, mode: 292}, {source: s, target: d, mode: 420}]}}\nsecrets: {s: {file: f}}".into(), &[]),
        ("decimal-mode", web("volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 1777}}, {type: tmpfs, target: /u, tmpfs: {mode: 01777}}]"), &["4:55"]),
        ("secret-in-file", web("environment: {DB_PASSWORD: x, API_KEY: \"$SET\", A_TOKEN: , TOKEN_TTL: abc}"), &["4:32"]),
        ("secret-in-file", web("environment: [JWT_SECRET=abc, ALLOW_EMPTY_PASSWORD=yes, X_PASSWORD_FILE=/run/x, DB_PASSWORD=/run/x]"), &["4:19"]),
        ("secret-in-file", "services: {a: {build: {context: ., args: {NPM_TOKEN: abc}}}}".into(), &["1:54"]),
        ("container-name", web("container_name: one"), &["4:5"]),
        ("privileged", web("privileged: true"), &["4:5"]),
        ("privileged", web("privileged: false"), &[]),
        ("docker-socket", web("volumes: [\"/var/run/docker.sock:/s:ro\", \"/run/other.sock:/o\"]"), &["4:15"]),
        ("links", "services: {a: {image: x, links: [b]}, b: {image: x}}".into(), &["1:26"]),
        ("missing-file", web("volumes: [./gone.conf:/c, ./gone:/d, ./gone.d:/e, ./compose.yaml:/f, {type: bind, source: ./g.sql, target: /g}]"), &["4:15", "4:95"]),
        ("missing-file", web("volumes: [{type: bind, source: ./g.sql, target: /g, bind: {create_host_path: false}}]"), &[]),
        ("open-port", web("ports: ['80:80', '127.0.0.1:81:81', '82', '83-84:83-84', {target: 85, published: 85}]"), &["4:13", "4:47", "4:86"]),
        ("duplicate-port", "services: {a: {image: x, ports: ['80:1', '127.0.0.1:81:1', '82:1/udp']}, b: {image: x, ports: ['80:1', '127.0.0.2:81:1', '82:1']}}".into(), &["1:96"]),
        ("duplicate-port", "services: {a: {image: x, ports: ['80:1']}, b: {image: x, profiles: [p], ports: ['80:1']}}".into(), &[]),
        ("unhealthy-start", "services: {a: {image: x, depends_on: [b, c]}, b: {image: x, healthcheck: {test: x}}, c: {image: x}}".into(), &["1:39"]),
        ("unhealthy-start", "services: {a: {image: x, depends_on: {b: {condition: service_started}}}, b: {image: x, healthcheck: {test: x}}, c: {image: x, links: [b]}}".into(), &[]),
        ("unhealthy-start", "services: {a: {image: x, depends_on: [b]}, b: {image: x, healthcheck: {disable: true}}}".into(), &[]),
        ("unused-resource", "services: {a: {image: x, volumes: ['data:/v']}, b: {image: x, profiles: [p], networks: [n]}}\nvolumes: {data: , w: }\nnetworks: {n: , default: , m: }".into(), &["2:19", "3:28"]),
        ("no-effect", web("cgroup_parent: x"), &["4:5"]),
        ("refused", web("network_mode: host"), &["4:5"]),
        ("reset-condition", "services: {a: {image: x, depends_on: [b]}, b: {image: x}}".into(), &[]),
    ];
    let mut seen: BTreeSet<&str> = BTreeSet::from(["reset-condition"]);
    let mut wrong = Vec::new();
    for (rule, text, wanted) in cases {
        let found = places(rule, text);
        if found != *wanted {
            wrong.push(format!("{rule} at {found:?}, not {wanted:?}, in {text}"));
        }
        if !wanted.is_empty() {
            seen.insert(rule);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, RULES.iter().map(|rule| rule.name).collect(), "each rule has a case in which it finds something");
}

#[test]
fn a_name_alone_that_resets_a_condition_is_found_in_the_later_file() {
    let base = "services:\n  web: {image: \"x:1\", depends_on: {db: {condition: service_healthy}}}\n  db: {image: \"x:1\", healthcheck: {test: x}}\n";
    let found = |over: &str| lint(&[("compose.yaml", base), ("compose.2.yaml", over)]);
    assert_eq!(found("services: {web: {depends_on: [db]}}"), ["reset-condition compose.2.yaml:1:31"]);
    assert_eq!(found("services: {web: {depends_on: {db: {condition: service_started}}}}"), Vec::<String>::new());
    assert_eq!(found("services: {web: {tty: true}}"), Vec::<String>::new());
}

#[test]
fn files_of_variables_and_included_ones_may_hold_what_is_not_used_here() {
    let files = [
        ("compose.yaml", "include: [lib.yaml]\nservices: {a: {image: 'x:1', env_file: a.env}}\n"),
        ("lib.yaml", "networks: {offered: }\nservices: {b: {image: x}}\n"),
        ("a.env", "DB_PASSWORD=abc\n"),
    ];
    assert_eq!(lint(&files), ["unpinned-image lib.yaml:2:23"]);
}

#[test]
fn a_finding_takes_the_place_of_the_warning_about_the_same() {
    let request = Request {
        files: vec!["-".into()],
        cwd: "/nonexistent/p".into(),
        stdin: Some("version: '3'\nservices: {a: {image: 'x:$TAG'}}\n".into()),
        ..Request::default()
    };
    let plain = answer(&request, &Question::Model(Format::Yaml)).expect("valid");
    let linted = answer(&request, &Question::Lint(Format::Yaml)).expect("valid");
    assert_eq!((plain.warnings.len(), plain.findings.len()), (2, 0));
    assert_eq!((linted.warnings.len(), linted.findings.len()), (0, 2));
    assert_eq!(plain.text, linted.text);
}

#[test]
fn the_documentation_has_every_rule_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lint.md");
    let text = fs::read_to_string(path).expect("docs/lint.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    assert_eq!(rows.collect::<Vec<_>>(), RULES.iter().map(|rule| rule.name).collect::<Vec<_>>());
}
