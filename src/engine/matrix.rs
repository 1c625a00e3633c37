//! Which edits of a file replace a container, which are taken in place and which do nothing: one table for every key of a
//! service, held to by plans of projects that are loaded, and printed in docs/recreate.md.
//!
//! What goes into the hash of a service makes a difference, as in docker compose; what a container that is there can take is
//! `engine::update`'s to say. `HOIST_BLESS=1 cargo test --lib engine::matrix` writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::compose::{self, Request, testing};
use crate::diag::Report;
use crate::engine::desired::Recreate;
use crate::engine::execute::OnFailure;
use crate::engine::step::{Plan, Reason, Step};
use crate::engine::testing::World;
use crate::event::Silent;

/// What an edit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing at all.
    Nothing,
    /// Another number of containers; those that stay are left alone.
    Number,
    /// The container takes it and goes on.
    Updated,
    /// The container is replaced.
    Replaced,
    /// The file is refused.
    Refused,
}

use Verdict::{Nothing, Number, Refused, Replaced, Updated};

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Nothing => "nothing",
            Number => "another number",
            Updated => "updated in place",
            Replaced => "replaced",
            Refused => "refused",
        }
    }
}

/// One edit.
struct Row {
    /// The key of the service, or what else is edited.
    key: &'static str,
    /// What is written in the service, and at the top of the file.
    before: [&'static str; 2],
    after: [&'static str; 2],
    verdict: Verdict,
    /// The keys that are named as changed, where they are others; empty: none is.
    told: Option<&'static str>,
    /// What there is to know about it.
    note: &'static str,
}

const fn row(key: &'static str, before: &'static str, after: &'static str, verdict: Verdict) -> Row {
    Row { key, before: [before, ""], after: [after, ""], verdict, told: None, note: "" }
}

impl Row {
    /// Adds sections of the file.
    const fn top(mut self, before: &'static str, after: &'static str) -> Self {
        self.before[1] = before;
        self.after[1] = after;
        self
    }

    const fn told(mut self, key: &'static str) -> Self {
        self.told = Some(key);
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

const NOT_HASHED: &str = "no part of what a container is";
/// Of what the record alone takes.
const RECORD: &str = "nothing of the container changes";
const INERT: &str = "has no effect here";

/// Every key of a service in alphabetical order.
const KEYS: &[Row] = &[
    row("annotations", "annotations: {a: '1'}", "annotations: {a: '2'}", Updated).note(INERT),
    row("attach", "", "attach: false", Updated).note(RECORD),
    row("blkio_config", "blkio_config: {weight: 100}", "blkio_config: {weight: 200}", Updated).note(INERT),
    row("build", "build: .", "build: {context: ., args: {A: '1'}}", Nothing)
        .note("the image that is built of it replaces"),
    row("cap_add", "cap_add: [CHOWN]", "cap_add: [KILL]", Replaced),
    row("cap_drop", "cap_drop: [CHOWN]", "cap_drop: [KILL]", Replaced),
    row("cgroup", "cgroup: private", "cgroup: host", Updated).note(INERT),
    row("cgroup_parent", "cgroup_parent: a", "cgroup_parent: b", Updated).note(INERT),
    row("command", "command: a", "command: b", Replaced),
    row("command", "command: a b", "command: [a, b]", Nothing).note("another way to write the same"),
    row("configs", "configs: [one]", "configs: [{source: one, target: /etc/one}]", Replaced)
        .top("configs: {one: {content: x}}", "configs: {one: {content: x}}"),
    row("container_name", "container_name: front", "container_name: back", Replaced),
    row("cpu_count", "cpu_count: 1", "cpu_count: 2", Updated).note(INERT),
    row("cpu_percent", "cpu_percent: 10", "cpu_percent: 20", Updated).note(INERT),
    row("cpu_period", "cpu_period: 100000", "cpu_period: 50000", Updated),
    row("cpu_quota", "cpu_quota: 50000", "cpu_quota: 20000", Updated),
    row("cpu_rt_period", "cpu_rt_period: 2000", "cpu_rt_period: 1000", Updated).note(INERT),
    row("cpu_rt_runtime", "cpu_rt_runtime: 500", "cpu_rt_runtime: 600", Updated).note(INERT),
    row("cpu_shares", "cpu_shares: 512", "cpu_shares: 256", Updated),
    row("cpus", "cpus: 0.5", "cpus: 1", Updated),
    row("cpuset", "cpuset: '0'", "cpuset: '1'", Updated),
    row("credential_spec", "credential_spec: {config: a}", "credential_spec: {config: b}", Updated).note(INERT),
    row("depends_on", "", "depends_on: [other]", Nothing).note(NOT_HASHED),
    row("deploy", "deploy: {replicas: 2}", "deploy: {replicas: 3}", Number),
    row("deploy", "deploy: {replicas: 2}", "deploy: {replicas: 1}", Number),
    row("deploy", "", "deploy: {replicas: 1}", Updated).note("that there is a `deploy` counts"),
    row("deploy", "deploy: {restart_policy: {delay: 1s}}", "deploy: {restart_policy: {condition: none}}", Updated),
    row(
        "deploy",
        "deploy: {resources: {limits: {memory: 64m}}}",
        "deploy: {resources: {limits: {memory: 32m}}}",
        Updated,
    ),
    row(
        "deploy",
        "deploy: {update_config: {order: stop-first}}",
        "deploy: {update_config: {order: start-first}}",
        Updated,
    )
    .note(RECORD),
    row("develop", "", "develop: {watch: [{path: ./src, action: sync, target: /src}]}", Updated).note(RECORD),
    row("device_cgroup_rules", "device_cgroup_rules: ['c 1:3 mr']", "device_cgroup_rules: ['c 1:5 mr']", Updated)
        .note(INERT),
    row("devices", "devices: [/dev/null]", "devices: [/dev/zero]", Replaced),
    row("dns", "dns: 192.0.2.1", "dns: 192.0.2.2", Replaced),
    row("dns_opt", "dns_opt: [use-vc]", "dns_opt: [rotate]", Replaced),
    row("dns_search", "dns_search: a.test", "dns_search: b.test", Replaced),
    row("domainname", "domainname: a.test", "domainname: b.test", Updated).note(INERT),
    row("entrypoint", "entrypoint: a", "entrypoint: b", Replaced),
    row("env_file", "env_file: one.env", "env_file: other.env", Replaced)
        .told("environment")
        .note("what is in the files counts"),
    row("env_file", "env_file: one.env", "env_file: same.env", Nothing).note("the same variables in another file"),
    row("environment", "environment: {A: '1'}", "environment: {A: '2'}", Replaced),
    row("environment", "environment: {A: '1'}", "environment: [A=1]", Nothing).note("another way to write the same"),
    row("expose", "expose: ['80']", "expose: ['81']", Updated).note(INERT),
    row("extends", "extends: other", "extends: third", Replaced).told("init").note("what is taken over counts"),
    row("extends", "", "extends: other", Nothing).note("nothing that is not there is taken over"),
    row("external_links", "external_links: [a:b]", "external_links: [a:c]", Updated).note(INERT),
    row("extra_hosts", "extra_hosts: ['a=192.0.2.1']", "extra_hosts: ['a=192.0.2.2']", Replaced),
    row("gpus", "gpus: [{count: 1}]", "gpus: [{count: 2}]", Updated).note(INERT),
    row("group_add", "group_add: ['1']", "group_add: ['2']", Replaced),
    row("healthcheck", "healthcheck: {test: a, interval: 10s}", "healthcheck: {test: a, interval: 20s}", Updated),
    row("hostname", "hostname: a", "hostname: b", Replaced),
    row("image", "image: img:1", "image: img:2", Replaced).note("so does another digest under the same name"),
    row("init", "", "init: true", Replaced),
    row("ipc", "ipc: private", "ipc: shareable", Updated).note(INERT),
    row("isolation", "isolation: a", "isolation: b", Updated).note(INERT),
    row("label_file", "label_file: one.env", "label_file: other.env", Updated).told("labels"),
    row("labels", "labels: {a: '1'}", "labels: {a: '2'}", Updated),
    row("links", "links: [other]", "links: ['other:o']", Updated).note(INERT),
    row("logging", "logging: {options: {max-size: 1m}}", "logging: {options: {max-size: 2m}}", Updated),
    row("logging", "logging: {options: {max-size: 1m}}", "logging: {driver: none}", Replaced)
        .note("so does another driver, and less files"),
    row("mac_address", "mac_address: '02:42:ac:11:00:03'", "mac_address: '02:42:ac:11:00:04'", Updated).note(INERT),
    row("mem_limit", "mem_limit: 64m", "mem_limit: 32m", Updated),
    row("mem_limit", "mem_limit: 64m", "mem_limit: 65536k", Nothing).note("another way to write the same"),
    row("mem_limit", "", "mem_limit: 64m", Replaced).note("what is held by then would not be counted"),
    row("mem_limit", "mem_limit: 64m", "", Updated),
    row("mem_limit", "mem_limit: 64m\ncommand: a", "mem_limit: 32m\ncommand: b", Replaced).told("command, mem_limit"),
    row("mem_reservation", "mem_reservation: 32m", "mem_reservation: 16m", Updated),
    row("mem_swappiness", "mem_swappiness: 10", "mem_swappiness: 20", Updated),
    row("memswap_limit", "mem_limit: 64m\nmemswap_limit: 128m", "mem_limit: 64m\nmemswap_limit: 64m", Updated),
    row("models", "models: [m]", "models: {m: {model_var: X}}", Updated)
        .top("models: {m: {model: x}}", "models: {m: {model: x}}")
        .note(INERT),
    row("network_mode", "network_mode: none", "network_mode: host", Replaced),
    row("networks", "networks: [default]", "networks: [front]", Replaced)
        .top("networks: {front: }", "networks: {front: }"),
    row("networks", "networks: {default: {aliases: [a]}}", "networks: {default: {aliases: [b]}}", Replaced),
    row("oom_kill_disable", "", "oom_kill_disable: true", Updated),
    row("oom_score_adj", "oom_score_adj: 10", "oom_score_adj: 20", Replaced),
    row("pid", "", "pid: host", Updated).note(INERT),
    row("pids_limit", "pids_limit: 10", "pids_limit: 20", Updated),
    row("pids_limit", "", "pids_limit: 20", Updated),
    row("platform", "platform: linux/amd64", "platform: linux/386", Replaced),
    row("ports", "ports: ['8080:80']", "ports: ['8081:80']", Replaced),
    row("post_start", "post_start: [{command: a}]", "post_start: [{command: b}]", Updated),
    row("pre_start", "pre_start: [{command: a}]", "pre_start: [{command: b}]", Replaced),
    row("pre_stop", "pre_stop: [{command: a}]", "pre_stop: [{command: b}]", Updated),
    row("privileged", "", "privileged: true", Replaced),
    row("profiles", "", "profiles: [on]", Nothing).note(NOT_HASHED),
    row("provider", "", "provider: {type: a}", Refused).note("a service of a provider has no container"),
    row("pull_policy", "pull_policy: always", "pull_policy: never", Nothing).note(NOT_HASHED),
    row("pull_refresh_after", "pull_refresh_after: 1h", "pull_refresh_after: 2h", Nothing).note(NOT_HASHED),
    row("read_only", "", "read_only: true", Replaced),
    row("restart", "restart: always", "restart: unless-stopped", Updated),
    row("runtime", "runtime: a", "runtime: b", Updated).note(INERT),
    row("scale", "scale: 2", "scale: 3", Number),
    row("scale", "scale: 2", "scale: 0", Number),
    row("secrets", "secrets: [one]", "secrets: [{source: one, target: two}]", Replaced)
        .top("secrets: {one: {environment: S}}", "secrets: {one: {environment: S}}"),
    row("security_opt", "", "security_opt: ['no-new-privileges:true']", Replaced),
    row("shm_size", "shm_size: 64m", "shm_size: 32m", Replaced),
    row("stdin_open", "", "stdin_open: true", Replaced),
    row("stop_grace_period", "stop_grace_period: 10s", "stop_grace_period: 20s", Updated),
    row("stop_signal", "stop_signal: SIGTERM", "stop_signal: SIGINT", Updated),
    row("storage_opt", "storage_opt: {size: 1G}", "storage_opt: {size: 2G}", Updated).note(INERT),
    row("sysctls", "sysctls: {net.core.somaxconn: '64'}", "sysctls: {net.core.somaxconn: '128'}", Replaced),
    row("tmpfs", "tmpfs: /a", "tmpfs: /b", Replaced),
    row("tty", "", "tty: true", Replaced),
    row("ulimits", "ulimits: {nofile: 64}", "ulimits: {nofile: 128}", Replaced),
    row("use_api_socket", "", "use_api_socket: true", Updated).note(INERT),
    row("user", "user: '1'", "user: '2'", Replaced),
    row("userns_mode", "", "userns_mode: host", Updated).note(INERT),
    row("uts", "", "uts: host", Updated).note(INERT),
    row("volumes", "volumes: ['data:/a']", "volumes: ['data:/b']", Replaced)
        .top("volumes: {data: }", "volumes: {data: }"),
    row("volumes_from", "volumes_from: [other]", "volumes_from: ['other:ro']", Updated).note(INERT),
    row("working_dir", "working_dir: /a", "working_dir: /b", Replaced),
];

/// What is no key of a service.
const REST: &[Row] = &[
    row("order of keys", "init: true\ntty: true", "tty: true\ninit: true", Nothing),
    row("extensions", "x-note: a", "x-note: b", Nothing),
    row("comments", "init: true", "init: true # yes", Nothing),
    row("network", "", "", Replaced)
        .top("networks: {default: {}}", "networks: {default: {internal: true}}")
        .told("")
        .note("the network is made anew, and what is on it"),
    row("volume", "volumes: ['data:/a']", "volumes: ['data:/a']", Nothing)
        .top("volumes: {data: }", "volumes: {data: {labels: {a: b}}}")
        .note("what is in a volume is never put at risk"),
    row("content of a config", "configs: [one]", "configs: [one]", Replaced)
        .top("configs: {one: {content: x}}", "configs: {one: {content: another}}")
        .told("config `one`")
        .note("docker compose leaves the container with the old content"),
    row("content of a secret", "secrets: [one]", "secrets: [one]", Replaced)
        .top("secrets: {one: {environment: S}}", "secrets: {one: {environment: ANOTHER}}")
        .told("secret `one`")
        .note("docker compose leaves the container with the old content"),
];

fn text([service, top]: [&str; 2]) -> String {
    let image = if service.contains("image:") || service.contains("provider:") { "" } else { "    image: img\n" };
    let own: String = service.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "name: shop\nservices:\n  web:\n{image}{own}  other:\n    image: img\n  third:\n    image: img\n    init: true\n\
         {top}\n"
    )
}

/// The files of a project, and a request for it.
fn files(written: [&str; 2]) -> (tempfile::TempDir, Request) {
    let text = text(written);
    let (dir, mut request) = testing::project(&[
        ("compose.yaml", text.as_str()),
        ("one.env", "A=1\n"),
        ("same.env", "# the same\nA=1\n"),
        ("other.env", "A=2\n"),
    ]);
    let env = [("S", "x"), ("ANOTHER", "another")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    request.env = env.into();
    request.profiles = vec!["on".to_owned()];
    (dir, request)
}

/// What a plan does to the containers of `web`, and the keys that it names.
fn judge(plan: &Plan) -> (Verdict, BTreeSet<String>) {
    let about = |service: &str| service == "web";
    let of_web = plan.steps.iter().filter(|planned| {
        let made = matches!(&planned.step, Step::CreateContainer(made) if about(made.record.service.as_str()));
        let taken = matches!(&planned.step, Step::Update(record) if about(record.service.as_str()));
        made || taken || matches!(&planned.step, Step::RemoveContainer(gone) if about(gone.service.as_str()))
    });
    let reasons: Vec<&Reason> = of_web.map(|planned| &planned.reason).collect();
    let named = reasons.iter().flat_map(|reason| reason.differences()).map(|difference| {
        let at = difference.at.is_some() || difference.word() == "removed";
        assert!(at, "{difference:?} has no place");
        difference.key.split(['.', '[']).next().unwrap_or_default().to_owned()
    });
    let verdict = match reasons.as_slice() {
        [] => Nothing,
        [Reason::Updated(_)] => Updated,
        reasons if reasons.iter().any(|reason| reason.replaces()) => Replaced,
        _ => Number,
    };
    (verdict, named.collect())
}

/// Loads and has it done, edits, loads and plans.
fn verdict(row: &Row) -> Result<(Verdict, BTreeSet<String>), Report> {
    let world = World::default();
    let (_before, request) = files(row.before);
    let loaded = compose::load(&request)?;
    let plan = world.plan_for(&loaded.project, &[], &Recreate::Changed, |_| {});
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete(), "{}: {plan}", row.key);
    let again = world.plan_for(&loaded.project, &[], &Recreate::Changed, |_| {});
    assert!(again.is_empty(), "{}: {again}", row.key);
    let (_after, request) = files(row.after);
    let mut loaded = compose::load(&request)?;
    // The directory is another one, and no part of the edit.
    loaded.project.working_dir = "/srv/shop".into();
    Ok(judge(&world.plan_for(&loaded.project, &[], &Recreate::Changed, |_| {})))
}

/// Of a key that is valid and refused here, what docker compose would do.
fn by_hash(row: &Row) -> Verdict {
    let hash = |written| {
        let (_dir, request) = files(written);
        compose::read(&request).expect("it is valid").model.hashes().remove("web")
    };
    if hash(row.before) == hash(row.after) { Nothing } else { Replaced }
}

#[test]
fn each_edit_leads_to_what_the_table_says() {
    let mut wrong = Vec::new();
    for row in KEYS.iter().chain(REST) {
        let found = match verdict(row) {
            Ok((verdict, named)) => {
                let told: BTreeSet<String> = match (row.verdict, row.told.unwrap_or(row.key)) {
                    (Replaced | Updated, told) => {
                        told.split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
                    }
                    _ => BTreeSet::new(),
                };
                if verdict == row.verdict && named != told {
                    wrong.push(format!("{}: {:?} → {:?} names {named:?}", row.key, row.before, row.after));
                }
                verdict
            }
            Err(_) if row.verdict == Refused => Refused,
            Err(report) if report.render(false).contains("not supported yet") => by_hash(row),
            Err(report) => panic!("{}: {}", row.key, report.render(false)),
        };
        if found != row.verdict {
            wrong.push(format!("{}: {:?} → {:?} is {found:?}", row.key, row.before, row.after));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_key_of_a_service_is_in_the_table() {
    let rows: Vec<&str> = KEYS.iter().map(|row| row.key).collect();
    assert!(rows.is_sorted(), "in alphabetical order");
    let rows: BTreeSet<&str> = rows.into_iter().collect();
    assert_eq!(rows, testing::service_keys().collect::<BTreeSet<&str>>());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/compose-spec.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        crate::testing::skip(&format!("the schema is not at {}", path.display()));
        return;
    };
    let root: Value = serde_json::from_str(&text).expect("JSON");
    let known: BTreeMap<String, Value> =
        serde_json::from_value(root["definitions"]["service"]["properties"].clone()).expect("an object");
    let missing: Vec<&String> = known.keys().filter(|key| !rows.contains(key.as_str())).collect();
    assert!(known.len() > 90 && missing.is_empty(), "{missing:?}");
}

const MARK: &str = "<!-- The tables are made by a test: HOIST_BLESS=1 cargo test --lib engine::matrix -->\n";

fn table(rows: &[Row], head: &str) -> String {
    let mut text = format!("| {head} | before | after | the container | |\n|---|---|---|---|---|\n");
    for row in rows {
        let written = |of: [&str; 2], other: [&str; 2]| {
            let parts = of
                .iter()
                .zip(other)
                .filter(|(part, other)| !part.is_empty() && (**part != *other || !of[1].is_empty()));
            let parts: Vec<String> = parts.map(|(part, _)| format!("`{}`", part.replace('\n', "; "))).collect();
            if parts.is_empty() { "–".to_owned() } else { parts.join(" ") }
        };
        let key = if std::ptr::eq(rows, KEYS) { format!("`{}`", row.key) } else { row.key.to_owned() };
        let (before, after) = (written(row.before, row.after), written(row.after, row.before));
        text.push_str(&format!("| {key} | {before} | {after} | {} | {} |\n", row.verdict.words(), row.note));
    }
    text.replace("|  |", "| |")
}

#[test]
fn the_page_of_edits_is_the_table() {
    let made = format!("{}\n## What is no key of a service\n{}", table(KEYS, "key"), table(REST, "what"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recreate.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (head, old) = page.split_once(MARK).expect("the mark");
    if std::env::var_os("HOIST_BLESS").is_some() {
        return std::fs::write(&path, format!("{head}{MARK}{made}")).expect("written");
    }
    assert_eq!(old, made, "HOIST_BLESS=1 writes it anew");
}
