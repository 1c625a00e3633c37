//! One service.

use indexmap::IndexMap;

use super::{Binder, boolean, duration, int, labels, plain_texts, spanned, text, texts};
use crate::compose::Written;
use crate::compose::model::{
    Condition, Dependency, Fetching, Healthcheck, PullPolicy, Service, ServiceNetwork, Spanned, pull_policy,
};
use crate::compose::rules;
use crate::compose::short::pull;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::diag::Span;
use crate::name::{ContainerName, ServiceName};

impl Binder<'_> {
    /// Binds one service.
    pub(super) fn service(&mut self, name: &ServiceName, map: &Map, span: Span) -> Service {
        let owner = format!("service `{name}`");
        let init = map.value("init").is_some_and(Node::is_true);
        let (restart, attempts) = self.restarts(map);
        let mut service = Service {
            name: name.clone(),
            span,
            image: spanned(map, "image"),
            build: map.written("build").and_then(|entry| self.build(entry, &owner)),
            command: words(map, "command"),
            entrypoint: words(map, "entrypoint"),
            environment: environment(map),
            ports: self.ports(map, &owner),
            volumes: self.mounts(map, &owner),
            grants: Vec::new(),
            networks: service_networks(map),
            depends_on: depends_on(map),
            post_start: self.hooks(map, "post_start", &owner),
            pre_stop: self.hooks(map, "pre_stop", &owner),
            pre_start: Vec::new(),
            watch: self.watch(map),
            restart,
            attempts,
            healthcheck: map.written("healthcheck").map(healthcheck),
            init,
            stop_signal: spanned(map, "stop_signal"),
            stop_grace_period: duration(map, "stop_grace_period"),
            working_dir: text(map, "working_dir"),
            user: text(map, "user"),
            read_only: boolean(map, "read_only"),
            cap_add: texts(map, "cap_add"),
            cap_drop: texts(map, "cap_drop"),
            hostname: text(map, "hostname"),
            container_name: spanned(map, "container_name"),
            stdin_open: boolean(map, "stdin_open"),
            tty: boolean(map, "tty"),
            labels: labels(map.value("labels")),
            profiles: plain_texts(map, "profiles"),
            scale: scale(map),
            attach: map.value("attach").is_none_or(Node::is_true),
            resources: super::resources::limits(map),
            deploy: super::resources::deploy(map),
            update: self.update(map, &owner),
            isolation: self.isolation(map, &owner),
            logging: self.logging(map, &owner),
            lookup: self.lookup(map, &owner),
            fetching: Fetching { policy: self.pull_policy(map, &owner), platform: spanned(map, "platform") },
            hash: String::new(),
            written: Written::default(),
        };
        if let Some(Err(error)) = service.container_name.as_ref().map(|name| ContainerName::new(&name.value)) {
            let at = service.container_name.as_ref().map_or(span, |name| name.span);
            self.unmet(at, error.to_string());
        }
        service.pre_start = self.pre_start(map, &service);
        service
    }

    fn pull_policy(&mut self, map: &Map, owner: &str) -> Option<PullPolicy> {
        let written = spanned(map, "pull_policy")?;
        pull_policy(&written.value)
            .map_err(|why| {
                self.unmet(written.span, format!("`pull_policy` of {owner} is wrong: {why}")).help =
                    Some(pull::HELP.into());
            })
            .ok()
    }
}

/// Takes over what a service's files of variables and labels have put into its node.
pub(crate) fn files(service: &mut Service, node: &Node) {
    if let Some(map) = node.as_map() {
        service.environment = environment(map);
        service.labels = labels(map.value("labels"));
    }
}

fn depends_on(map: &Map) -> IndexMap<ServiceName, Dependency> {
    let mut found = IndexMap::new();
    for (name, entry) in map.value("depends_on").and_then(Node::as_map).into_iter().flatten() {
        let condition = match entry.value.text_at("condition") {
            Some("service_healthy") => Condition::ServiceHealthy,
            Some("service_completed_successfully") => Condition::ServiceCompletedSuccessfully,
            _ => Condition::ServiceStarted,
        };
        let dependency = Dependency {
            condition,
            restart: entry.value.get("restart").is_some_and(Node::is_true),
            required: entry.value.get("required").is_none_or(Node::is_true),
            span: entry.key,
        };
        if let Ok(name) = ServiceName::new(name.as_str()) {
            found.insert(name, dependency);
        }
    }
    found
}

fn healthcheck(entry: &Entry) -> Healthcheck {
    let empty = Map::default();
    let map = entry.value.as_map().unwrap_or(&empty);
    let mut check = Healthcheck {
        test: Some(plain_texts(map, "test")).filter(|test| test.first().is_some_and(|word| rules::is_test(word))),
        interval: duration(map, "interval"),
        timeout: duration(map, "timeout"),
        retries: int(map, "retries").map(|retries| u32::try_from(retries.value).unwrap_or(u32::MAX)),
        start_period: duration(map, "start_period"),
        start_interval: duration(map, "start_interval"),
    };
    if boolean(map, "disable") {
        check.test = Some(vec!["NONE".into()]);
    }
    check
}

/// The words of a command; none are none at all.
fn words(map: &Map, key: &str) -> Option<Vec<String>> {
    map.value(key).map(|_| plain_texts(map, key))
}

/// How many containers are wanted. Where both keys say it they agree, and what is below 0 was reported.
fn scale(map: &Map) -> Option<Spanned<u32>> {
    let deploy = map.value("deploy").and_then(Node::as_map);
    let written = int(map, "scale").or_else(|| int(deploy?, "replicas"))?;
    let value = u32::try_from(written.value.max(0)).unwrap_or(u32::MAX);
    Some(Spanned { value, span: written.span })
}

fn environment(map: &Map) -> IndexMap<String, Option<String>> {
    let entries = map.value("environment").and_then(Node::as_map).into_iter().flatten();
    entries.map(|(name, entry)| (name.clone(), entry.value.as_text().map(str::to_owned))).collect()
}

fn service_networks(map: &Map) -> IndexMap<String, ServiceNetwork> {
    let entries = map.value("networks").and_then(Node::as_map).into_iter().flatten();
    let network = |(name, entry): (&String, &Entry)| {
        let aliases = entry.value.as_map().map_or_else(Vec::new, |map| plain_texts(map, "aliases"));
        // The implicit network has no place of its own: it stands where the service does.
        (name.clone(), ServiceNetwork { aliases, span: Some(entry.key) })
    };
    entries.map(network).collect()
}
