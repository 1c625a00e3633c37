//! One service.

use indexmap::IndexMap;

use super::{Binder, extensions};
use crate::compose::keys;
use crate::compose::model::{
    Build, Condition, Dependency, Fetching, Healthcheck, Isolation, Lookup, PullPolicy, Resources, Restart, Service,
    ServiceNetwork, ServiceWritten, Spanned, pull_policy,
};
use crate::compose::short::command;
use crate::compose::yaml::{Entry, Kind};
use crate::diag::{Diagnostic, Span, nearest};
use crate::name::{ContainerName, ServiceName};

impl Binder<'_> {
    /// Binds one service; `None` when it is no mapping.
    pub(super) fn service(&mut self, name: &ServiceName, entry: &Entry) -> Option<Service> {
        let owner = format!("service `{name}`");
        let Kind::Map(map) = &entry.value.kind else {
            let what = entry.value.describe();
            self.error(entry.place(), format!("{owner} must be a mapping, not {what}"));
            return None;
        };
        self.keys(map, &keys::SERVICE, &owner);
        let mut service = empty(name.clone(), entry.key);
        service.written.extensions = extensions(map);
        for (key, entry) in map {
            let key = key.as_str();
            match key {
                "image" => service.image = self.spanned(entry, key, &owner),
                "build" => service.build = self.build(entry, &owner),
                "command" => service.command = self.command(entry, key, &owner),
                "entrypoint" => service.entrypoint = self.command(entry, key, &owner),
                "environment" => service.environment = self.environment(entry, &owner),
                "ports" => service.ports = self.ports(entry, &owner),
                "volumes" => service.volumes = self.mounts(entry, &owner),
                "networks" => service.networks = self.service_networks(entry, &owner),
                "depends_on" => service.depends_on = self.depends_on(entry, &owner),
                "restart" => {
                    service.written.restart = entry.value.kind != Kind::Null;
                    service.restart = self.restart(entry, &owner);
                }
                "healthcheck" => service.healthcheck = self.healthcheck(entry, &owner),
                "init" => {
                    let init = self.boolean(entry, key, &owner);
                    service.written.init = init.is_some();
                    service.init = init.unwrap_or(false);
                }
                "stop_signal" => service.stop_signal = self.spanned(entry, key, &owner),
                "stop_grace_period" => service.stop_grace_period = self.duration(entry, key, &owner),
                "working_dir" => service.working_dir = self.text(entry, key, &owner).filter(|t| !t.is_empty()),
                "user" => service.user = self.text(entry, key, &owner).filter(|t| !t.is_empty()),
                "read_only" => service.read_only = self.boolean(entry, key, &owner).unwrap_or(false),
                "cap_add" => service.cap_add = self.distinct_texts(entry, key, &owner),
                "cap_drop" => service.cap_drop = self.distinct_texts(entry, key, &owner),
                "hostname" => service.hostname = self.text(entry, key, &owner).filter(|t| !t.is_empty()),
                "container_name" => {
                    let name = self.text(entry, key, &owner);
                    service.container_name = name.map(|value| Spanned { value, span: entry.value.span });
                    if let Some(Err(error)) = service.container_name.as_ref().map(|n| ContainerName::new(&n.value)) {
                        self.error(entry.place(), error.to_string());
                    }
                }
                "platform" => service.fetching.platform = self.spanned(entry, key, &owner),
                "pull_policy" => service.fetching.policy = self.pull_policy(entry, key, &owner),
                "deploy" => service.deploy = self.deploy(entry, &owner),
                "stdin_open" => service.stdin_open = self.boolean(entry, key, &owner).unwrap_or(false),
                "tty" => service.tty = self.boolean(entry, key, &owner).unwrap_or(false),
                "labels" => service.labels = self.labels(entry, key, &owner),
                "profiles" => {
                    service.profiles =
                        self.distinct_texts(entry, key, &owner).into_iter().map(|profile| profile.value).collect();
                }
                _ => {
                    let _ = self.limit(&mut service.resources, key, entry, &owner)
                        || self.isolated(&mut service.isolation, key, entry, &owner)
                        || self.looked_up(&mut service, key, entry, &owner);
                }
            }
        }
        self.distinct_targets(&service, &owner);
        self.equal_limits(&service, &owner);
        Some(service)
    }

    fn pull_policy(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<(PullPolicy, String)> {
        let text = self.spanned(entry, key, owner)?.value;
        match pull_policy(&text) {
            Ok(policy) if policy == PullPolicy::Missing => Some((policy, "missing".to_owned())),
            Ok(policy) => Some((policy, text)),
            Err(why) => {
                self.error(entry.place(), format!("`{key}` of {owner} is wrong: {why}")).help = Some(
                    "it is `always`, `missing`, `never`, `build`, `daily`, `weekly`, or `every_` and a time such as `12h`"
                        .into(),
                );
                None
            }
        }
    }

    fn build(&mut self, entry: &Entry, owner: &str) -> Option<Build> {
        let (mut context, mut dockerfile) = (".".to_owned(), "Dockerfile".to_owned());
        let mut at = entry.place();
        match &entry.value.kind {
            Kind::Str(text) => context.clone_from(text),
            Kind::Map(map) => {
                let owner = format!("`build` of {owner}");
                self.keys(map, &keys::BUILD, &owner);
                for (key, entry) in map {
                    match key.as_str() {
                        "context" => {
                            context = self.text(entry, key, &owner).filter(|t| !t.is_empty()).unwrap_or(context);
                            at = entry.place();
                        }
                        "dockerfile" => dockerfile = self.text(entry, key, &owner).unwrap_or(dockerfile),
                        _ => {}
                    }
                }
            }
            _ => {
                self.wrong(entry, "build", owner, "text or a mapping");
                return None;
            }
        }
        if context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/") {
            self.error(at, "a build context that is not a local directory is not supported yet");
            return None;
        }
        let context = self.absolute(&context);
        Some(Build {
            dockerfile: super::clean(&context.join(if dockerfile.is_empty() { "Dockerfile" } else { &dockerfile })),
            written_dockerfile: dockerfile,
            context,
            span: entry.key,
        })
    }

    fn command(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<Vec<String>> {
        match &entry.value.kind {
            Kind::Null => None,
            Kind::Seq(_) => Some(self.texts(entry, key, owner).into_iter().map(|word| word.value).collect()),
            Kind::Str(text) => match command::split(text) {
                Ok(words) => {
                    if let Some(dropped) = words.dropped {
                        let dropped = dropped.trim();
                        self.out.push(
                            Diagnostic::warning(
                                Some(entry.place()),
                                format!("`{key}` of {owner} is no line for a shell; this is dropped: `{dropped}`"),
                            )
                            .help("for a shell write the list form: `[\"sh\", \"-c\", \"…\"]`"),
                        );
                    }
                    Some(words.words)
                }
                Err(why) => {
                    self.error(entry.place(), format!("`{key}` of {owner} cannot be split into words: {why}")).help =
                        Some("or write it as a list of words".into());
                    None
                }
            },
            _ => {
                self.wrong(entry, key, owner, "text or a list");
                None
            }
        }
    }

    fn environment(&mut self, entry: &Entry, owner: &str) -> IndexMap<String, Option<String>> {
        let pairs = self.pairs(entry, "environment", owner);
        let in_list = matches!(entry.value.kind, Kind::Seq(_));
        let mut environment = IndexMap::new();
        for (name, (value, at)) in pairs {
            if in_list && name.ends_with(char::is_whitespace) {
                self.error(at, format!("the name of the variable `{name}` ends with a space"));
                continue;
            }
            if name.is_empty() {
                self.error(at, format!("a variable in `environment` of {owner} has no name"));
                continue;
            }
            let value = value.or_else(|| self.env.get(&name).cloned());
            environment.insert(name, value);
        }
        environment
    }

    fn service_networks(&mut self, entry: &Entry, owner: &str) -> IndexMap<String, ServiceNetwork> {
        let mut networks = IndexMap::new();
        match &entry.value.kind {
            Kind::Seq(_) => {
                for name in self.texts(entry, "networks", owner) {
                    networks.insert(name.value, ServiceNetwork { span: Some(name.span), ..ServiceNetwork::default() });
                }
            }
            Kind::Map(map) => {
                for (name, entry) in map {
                    let owner = format!("network `{name}` of {owner}");
                    let mut network = ServiceNetwork { span: Some(entry.key), ..ServiceNetwork::default() };
                    if let Some(map) = self.optional_map(entry, &owner) {
                        self.keys(map, &keys::SERVICE_NETWORK, &owner);
                        network.mapping = true;
                        if let Some(entry) = map.get("aliases") {
                            let aliases = self.distinct_texts(entry, "aliases", &owner);
                            network.aliases = aliases.into_iter().map(|alias| alias.value).collect();
                        }
                    }
                    networks.insert(name.clone(), network);
                }
            }
            _ => self.wrong(entry, "networks", owner, "a list or a mapping"),
        }
        networks
    }

    fn depends_on(&mut self, entry: &Entry, owner: &str) -> IndexMap<ServiceName, Dependency> {
        let mut dependencies = IndexMap::new();
        let mut found: Vec<(String, Dependency)> = Vec::new();
        let started = |span| Dependency { condition: Condition::ServiceStarted, restart: false, required: true, span };
        match &entry.value.kind {
            Kind::Seq(_) => {
                found.extend(self.texts(entry, "depends_on", owner).into_iter().map(|n| (n.value, started(n.span))));
            }
            Kind::Map(map) => {
                for (name, entry) in map {
                    let owner = format!("the dependency on `{name}` of {owner}");
                    let mut dependency = started(entry.key);
                    let Kind::Map(map) = &entry.value.kind else {
                        let what = entry.value.describe();
                        self.error(entry.place(), format!("{owner} must be a mapping, not {what}")).help =
                            Some("write `condition: service_started` below it, or use a list".into());
                        continue;
                    };
                    self.keys(map, &keys::DEPENDENCY, &owner);
                    if !map.contains_key("condition") {
                        self.error(entry.key, format!("{owner} has no `condition`")).help = Some(CONDITIONS.into());
                    }
                    for (key, entry) in map {
                        match key.as_str() {
                            "condition" => {
                                dependency.condition = self.condition(entry, &owner).unwrap_or(dependency.condition);
                            }
                            "restart" => dependency.restart = self.boolean(entry, key, &owner).unwrap_or(false),
                            "required" => dependency.required = self.boolean(entry, key, &owner).unwrap_or(true),
                            _ => {}
                        }
                    }
                    found.push((name.clone(), dependency));
                }
            }
            Kind::Null => {}
            _ => self.wrong(entry, "depends_on", owner, "a list or a mapping"),
        }
        for (name, dependency) in found {
            match ServiceName::new(name) {
                Ok(name) => {
                    dependencies.insert(name, dependency);
                }
                Err(error) => {
                    self.error(dependency.span, error.to_string());
                }
            }
        }
        dependencies
    }

    fn condition(&mut self, entry: &Entry, owner: &str) -> Option<Condition> {
        let text = self.text(entry, "condition", owner)?;
        match text.as_str() {
            "service_started" => Some(Condition::ServiceStarted),
            "service_healthy" => Some(Condition::ServiceHealthy),
            "service_completed_successfully" => Some(Condition::ServiceCompletedSuccessfully),
            _ => {
                self.error(entry.place(), format!("`{text}` is no condition of a dependency")).help =
                    Some(CONDITIONS.into());
                None
            }
        }
    }

    fn restart(&mut self, entry: &Entry, owner: &str) -> Restart {
        const WORDS: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];
        let Some(text) = self.text(entry, "restart", owner) else { return Restart::No };
        let (word, max) = match text.split_once(':') {
            Some((word, max)) => (word, Some(max)),
            None => (text.as_str(), None),
        };
        match (word, max) {
            ("no" | "", None) => return Restart::No,
            ("always", None) => return Restart::Always,
            ("unless-stopped", None) => return Restart::UnlessStopped,
            ("on-failure", None) => return Restart::OnFailure { max: None },
            ("on-failure", Some(max)) => {
                if let Ok(max) = max.parse() {
                    // Docker reads 0 as no limit.
                    return Restart::OnFailure { max: Some(max).filter(|max| *max > 0) };
                }
            }
            _ => {}
        }
        let help = match nearest(word, WORDS) {
            Some(near) if near != word => format!("did you mean `{near}`?"),
            _ => "it can be `no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`".into(),
        };
        self.error(entry.place(), format!("`{text}` is no restart policy")).help = Some(help);
        Restart::No
    }

    fn healthcheck(&mut self, entry: &Entry, owner: &str) -> Option<Healthcheck> {
        let map = self.map(entry, "healthcheck", owner)?;
        let owner = format!("`healthcheck` of {owner}");
        self.keys(map, &keys::HEALTHCHECK, &owner);
        let mut check = Healthcheck::default();
        for (key, entry) in map {
            match key.as_str() {
                "test" => check.test = self.test(entry, &owner),
                "interval" => check.interval = self.duration(entry, key, &owner),
                "timeout" => check.timeout = self.duration(entry, key, &owner),
                "retries" => check.retries = self.unsigned(entry, key, &owner, u32::MAX),
                "start_period" => check.start_period = self.duration(entry, key, &owner),
                "start_interval" => check.start_interval = self.duration(entry, key, &owner),
                "disable" => check.disable = self.boolean(entry, key, &owner).unwrap_or(false),
                _ => {}
            }
        }
        if check.disable {
            check.disabled_test = check.test.replace(vec!["NONE".into()]);
        }
        Some(check)
    }

    fn test(&mut self, entry: &Entry, owner: &str) -> Option<Vec<String>> {
        match &entry.value.kind {
            Kind::Str(text) => Some(vec!["CMD-SHELL".into(), text.clone()]),
            Kind::Null => None,
            Kind::Seq(items) => {
                let words: Vec<String> = self.texts(entry, "test", owner).into_iter().map(|w| w.value).collect();
                let first = words.first()?;
                if !matches!(first.as_str(), "NONE" | "CMD" | "CMD-SHELL") {
                    let at = items.first().map_or(entry.place(), |item| item.span);
                    self.error(at, format!("`test` of {owner} must begin with `CMD`, `CMD-SHELL` or `NONE`")).help =
                        Some(format!("write `[\"CMD\", \"{first}\", …]` for a program, or one text for a shell"));
                    return None;
                }
                Some(words)
            }
            _ => {
                self.wrong(entry, "test", owner, "text or a list");
                None
            }
        }
    }
}

const CONDITIONS: &str = "it can be `service_started`, `service_healthy` or `service_completed_successfully`";

fn empty(name: ServiceName, span: Span) -> Service {
    Service {
        name,
        span,
        image: None,
        build: None,
        command: None,
        entrypoint: None,
        environment: IndexMap::new(),
        ports: Vec::new(),
        volumes: Vec::new(),
        networks: IndexMap::new(),
        depends_on: IndexMap::new(),
        restart: Restart::No,
        healthcheck: None,
        init: false,
        stop_signal: None,
        stop_grace_period: None,
        working_dir: None,
        user: None,
        read_only: false,
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        hostname: None,
        container_name: None,
        stdin_open: false,
        tty: false,
        labels: IndexMap::new(),
        profiles: Vec::new(),
        resources: Resources::default(),
        deploy: None,
        isolation: Isolation::default(),
        lookup: Lookup::default(),
        fetching: Fetching::default(),
        env_files: Vec::new(),
        written: ServiceWritten::default(),
    }
}
