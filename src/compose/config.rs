//! [`Project`] → what `docker compose config` prints, and the hash of a service.
//!
//! Keys stand in compose-go's order, mappings sorted, every `$` doubled, so that the output can be fed back.
//!
//! Invariant: pure; the same project gives the same bytes.

use std::path::Path;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::bind::lookup::written;
use super::model::{
    Condition, Deploy, Device, Healthcheck, Mount, MountSource, Network, Port, Project, Protocol, Restart, Service,
    Spanned, Ulimit, Volume,
};
use super::short::units;
use super::value::{Extensions, Value};
use super::{json, write};

/// Returns the project as YAML, byte for byte as `docker compose config` prints it.
#[must_use]
pub fn config_yaml(project: &Project) -> String {
    let form = Form::Yaml;
    let mut top = Fields::new(form);
    top.put("name", Value::text(project.name.as_str()));
    top.put("services", services(project, form));
    top.put_map("networks", networks(project, form));
    top.put_map("volumes", volumes(project, form));
    top.extend(&project.extensions);
    let mut value = Value::Map(top.list);
    double_dollars(&mut value);
    write::yaml(&value)
}

/// Returns the project as JSON, byte for byte as `docker compose config --format json` prints it.
#[must_use]
pub fn config_json(project: &Project) -> String {
    let form = Form::Json;
    let mut top = Fields::new(form);
    top.put("name", Value::text(project.name.as_str()));
    top.put_map("networks", networks(project, form));
    top.put("services", services(project, form));
    top.put_map("volumes", volumes(project, form));
    top.extend(&project.extensions);
    let mut value = Value::Map(top.list);
    double_dollars(&mut value);
    json::pretty(&value)
}

/// Returns the hash that tells whether a container must be made anew: 64 hexadecimal digits of SHA-256 over the canonical
/// JSON of the service without `build`, `depends_on`, `profiles` and `pull_policy` (compose.md §1.16 lists them; `scale` is
/// not part of the model).
#[must_use]
pub fn service_hash(service: &Service) -> String {
    let Value::Map(mut fields) = self::service(service, Form::Json) else { return String::new() };
    fields.retain(|(key, _)| !matches!(key.as_str(), "build" | "depends_on" | "profiles" | "pull_policy"));
    let text = json::compact(&Value::Map(fields));
    crate::name::hex(&Sha256::digest(text.as_bytes()))
}

/// The two outputs differ in what they leave out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Yaml,
    Json,
}

/// Fields of a mapping in the order of putting; what is empty is left out.
struct Fields {
    form: Form,
    list: Vec<(String, Value)>,
}

impl Fields {
    fn new(form: Form) -> Self {
        Self { form, list: Vec::new() }
    }

    fn put(&mut self, key: &str, value: Value) {
        self.list.push((key.to_owned(), value));
    }

    fn put_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.put(key, Value::text(text));
        }
    }

    fn put_texts<T: Into<String>>(&mut self, key: &str, texts: impl Iterator<Item = T>) {
        let list: Vec<Value> = texts.map(Value::text).collect();
        if !list.is_empty() {
            self.put(key, Value::List(list));
        }
    }

    fn put_true(&mut self, key: &str, value: bool) {
        if value {
            self.put(key, Value::Bool(true));
        }
    }

    /// A number that is not zero.
    fn put_number(&mut self, key: &str, number: Option<&Spanned<i64>>) {
        if let Some(number) = number.filter(|number| number.value != 0) {
            self.put(key, Value::Int(number.value.into()));
        }
    }

    /// A size that is not zero, which compose-go prints as text.
    fn put_size<T: Copy + Into<i128>>(&mut self, key: &str, size: Option<&Spanned<T>>) {
        if let Some(size) = size.map(|size| size.value.into()).filter(|size| *size != 0) {
            self.put(key, Value::Text(size.to_string()));
        }
    }

    fn put_map(&mut self, key: &str, map: Vec<(String, Value)>) {
        if !map.is_empty() {
            self.put(key, Value::Map(sorted(map, self.form)));
        }
    }

    fn put_labels(&mut self, labels: &IndexMap<String, String>) {
        self.put_map("labels", labels.iter().map(|(key, value)| (key.clone(), Value::text(value))).collect());
    }

    fn put_duration(&mut self, key: &str, duration: Option<std::time::Duration>) {
        if let Some(duration) = duration {
            self.put(key, Value::Text(units::go_duration(duration)));
        }
    }

    fn extend(&mut self, extensions: &Extensions) {
        let all = extensions.iter().map(|(key, value)| (key.clone(), deep_sorted(value, self.form))).collect();
        self.list.extend(sorted(all, self.form));
    }
}

/// Sorts keys: YAML as go-yaml does, JSON by bytes.
fn sorted(mut map: Vec<(String, Value)>, form: Form) -> Vec<(String, Value)> {
    match form {
        Form::Yaml => map.sort_by(|a, b| write::key_order(&a.0, &b.0)),
        Form::Json => map.sort_by(|a, b| a.0.cmp(&b.0)),
    }
    map
}

fn deep_sorted(value: &Value, form: Form) -> Value {
    match value {
        Value::Map(map) => {
            Value::Map(sorted(map.iter().map(|(key, value)| (key.clone(), deep_sorted(value, form))).collect(), form))
        }
        Value::List(list) => Value::List(list.iter().map(|item| deep_sorted(item, form)).collect()),
        other => other.clone(),
    }
}

fn double_dollars(value: &mut Value) {
    match value {
        Value::Text(text) => *text = text.replace('$', "$$"),
        Value::List(list) => list.iter_mut().for_each(double_dollars),
        Value::Map(map) => {
            for (key, value) in map {
                *key = key.replace('$', "$$");
                double_dollars(value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

fn services(project: &Project, form: Form) -> Value {
    let all = project.services.iter().map(|(name, service)| (name.to_string(), self::service(service, form)));
    Value::Map(sorted(all.collect(), form))
}

fn service(service: &Service, form: Form) -> Value {
    let mut out = Fields::new(form);
    out.put_texts("profiles", service.profiles.iter().map(String::as_str));
    if let Some(build) = &service.build {
        let mut fields = Fields::new(form);
        fields.put("context", path(&build.context));
        fields.put_text("dockerfile", Some(&build.written_dockerfile));
        out.put("build", Value::Map(fields.list));
    }
    out.put_texts("cap_add", service.cap_add.iter().map(|cap| cap.value.as_str()));
    out.put_texts("cap_drop", service.cap_drop.iter().map(|cap| cap.value.as_str()));
    let limits = &service.resources;
    out.put_number("cpu_period", limits.cpu_period.as_ref());
    out.put_number("cpu_quota", limits.cpu_quota.as_ref());
    if let Some(cpus) = limits.cpus.as_ref().filter(|cpus| cpus.value > 0.0) {
        out.put("cpus", Value::Float(cpus.value));
    }
    out.put_text("cpuset", limits.cpuset.as_ref().map(|cpuset| cpuset.value.as_str()));
    out.put_number("cpu_shares", limits.cpu_shares.as_ref());
    put_words(&mut out, "command", service.command.as_deref(), form);
    out.put_text("container_name", service.container_name.as_ref().map(|name| name.value.as_str()));
    out.put_map("depends_on", dependencies(service, form));
    if let Some(deploy) = &service.deploy {
        out.put("deploy", self::deploy(deploy, form));
    }
    let isolation = &service.isolation;
    let devices: Vec<Value> = isolation.devices.iter().map(|d| device(d, form)).collect();
    if !devices.is_empty() {
        out.put("devices", Value::List(devices));
    }
    out.put_texts("dns", service.lookup.dns.iter().map(|server| server.value.to_string()));
    out.put_texts("dns_opt", service.lookup.dns_opt.iter());
    out.put_texts("dns_search", service.lookup.dns_search.iter());
    put_words(&mut out, "entrypoint", service.entrypoint.as_deref(), form);
    let environment =
        service.environment.iter().map(|(name, value)| (name.clone(), value.as_ref().map_or(Value::Null, Value::text)));
    out.put_map("environment", environment.collect());
    out.put_texts("extra_hosts", service.lookup.extra_hosts.iter().map(written));
    out.put_texts("group_add", isolation.group_add.iter().map(|group| group.value.as_str()));
    out.put_text("hostname", service.hostname.as_deref());
    if let Some(check) = &service.healthcheck {
        out.put("healthcheck", healthcheck(check, form));
    }
    out.put_text("image", service.image.as_ref().map(|image| image.value.as_str()));
    if service.written.init || service.init {
        out.put("init", Value::Bool(service.init));
    }
    out.put_labels(&service.labels);
    out.put_size("mem_limit", limits.mem_limit.as_ref());
    out.put_size("mem_reservation", limits.mem_reservation.as_ref());
    out.put_size("memswap_limit", limits.memswap_limit.as_ref());
    out.put_size("mem_swappiness", limits.mem_swappiness.as_ref());
    out.put_map("networks", service_networks(service, form));
    out.put_true("oom_kill_disable", limits.oom_kill_disable.as_ref().is_some_and(|disable| disable.value));
    out.put_number("oom_score_adj", limits.oom_score_adj.as_ref());
    out.put_number("pids_limit", limits.pids_limit.as_ref());
    out.put_text("platform", service.fetching.platform.as_ref().map(|platform| platform.value.as_str()));
    let ports: Vec<Value> = service.ports.iter().map(|p| port(p, form)).collect();
    if !ports.is_empty() {
        out.put("ports", Value::List(ports));
    }
    out.put_true("privileged", isolation.privileged.as_ref().is_some_and(|privileged| privileged.value));
    out.put_text("pull_policy", service.fetching.policy.as_ref().map(|(_, written)| written.as_str()));
    out.put_true("read_only", service.read_only);
    let restart = restart(service.restart);
    if service.written.restart || service.restart != Restart::No {
        out.put("restart", Value::Text(restart));
    }
    out.put_texts("security_opt", isolation.security_opt.iter().map(|option| option.value.as_str()));
    out.put_size("shm_size", isolation.shm_size.as_ref());
    out.put_true("stdin_open", service.stdin_open);
    out.put_duration("stop_grace_period", service.stop_grace_period);
    out.put_text("stop_signal", service.stop_signal.as_ref().map(|signal| signal.value.as_str()));
    let sysctls = isolation.sysctls.iter().map(|(key, value)| (key.clone(), Value::text(&value.value)));
    out.put_map("sysctls", sysctls.collect());
    out.put_texts("tmpfs", isolation.tmpfs.iter().map(|tmpfs| tmpfs.written.as_str()));
    out.put_true("tty", service.tty);
    out.put_map("ulimits", isolation.ulimits.iter().map(|(name, limit)| (name.clone(), ulimit(limit, form))).collect());
    out.put_text("user", service.user.as_deref());
    let mounts: Vec<Value> = service.volumes.iter().map(|m| mount(m, form)).collect();
    if !mounts.is_empty() {
        out.put("volumes", Value::List(mounts));
    }
    out.put_text("working_dir", service.working_dir.as_deref());
    if form == Form::Yaml {
        out.extend(&service.written.extensions);
    }
    Value::Map(out.list)
}

/// A command that is not set is `null` in JSON and absent in YAML; an emptied one is `[]` in both.
fn put_words(out: &mut Fields, key: &str, words: Option<&[String]>, form: Form) {
    match words {
        Some(words) => out.put(key, Value::List(words.iter().map(Value::text).collect())),
        None if form == Form::Json => out.put(key, Value::Null),
        None => {}
    }
}

fn path(path: &Path) -> Value {
    Value::Text(path.to_string_lossy().into_owned())
}

fn dependencies(service: &Service, form: Form) -> Vec<(String, Value)> {
    let one = |(name, dependency): (&crate::name::ServiceName, &super::model::Dependency)| {
        let mut out = Fields::new(form);
        let condition = match dependency.condition {
            Condition::ServiceStarted => "service_started",
            Condition::ServiceHealthy => "service_healthy",
            Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
        };
        out.put("condition", Value::text(condition));
        out.put_true("restart", dependency.restart);
        out.put("required", Value::Bool(dependency.required));
        (name.to_string(), Value::Map(out.list))
    };
    service.depends_on.iter().map(one).collect()
}

fn service_networks(service: &Service, form: Form) -> Vec<(String, Value)> {
    let one = |(key, network): (&String, &super::model::ServiceNetwork)| {
        let mut out = Fields::new(form);
        out.put_texts("aliases", network.aliases.iter().map(String::as_str));
        let value = if out.list.is_empty() && !network.mapping { Value::Null } else { Value::Map(out.list) };
        (key.clone(), value)
    };
    service.networks.iter().map(one).collect()
}

fn healthcheck(check: &Healthcheck, form: Form) -> Value {
    let mut out = Fields::new(form);
    let test = if check.disable { check.disabled_test.as_ref() } else { check.test.as_ref() };
    out.put_texts("test", test.into_iter().flatten().map(String::as_str));
    out.put_duration("timeout", check.timeout);
    out.put_duration("interval", check.interval);
    if let Some(retries) = check.retries {
        out.put("retries", Value::Int(retries.into()));
    }
    out.put_duration("start_period", check.start_period);
    out.put_duration("start_interval", check.start_interval);
    out.put_true("disable", check.disable);
    Value::Map(out.list)
}

fn deploy(deploy: &Deploy, form: Form) -> Value {
    let mut limits = Fields::new(form);
    if let Some(cpus) = deploy.cpus.as_ref().filter(|cpus| cpus.value > 0.0) {
        limits.put("cpus", Value::Float(cpus.value));
    }
    limits.put_size("memory", deploy.memory.as_ref());
    limits.put_number("pids", deploy.pids.as_ref());
    let mut reservations = Fields::new(form);
    reservations.put_size("memory", deploy.reserved_memory.as_ref());
    let mut resources = Fields::new(form);
    for (key, fields) in [("limits", limits), ("reservations", reservations)] {
        if !fields.list.is_empty() {
            resources.put(key, Value::Map(fields.list));
        }
    }
    let mut out = Fields::new(form);
    if !resources.list.is_empty() || form == Form::Json {
        out.put("resources", Value::Map(resources.list));
    }
    if form == Form::Json {
        out.put("placement", Value::Map(Vec::new()));
    }
    Value::Map(out.list)
}

fn device(device: &Device, form: Form) -> Value {
    let mut out = Fields::new(form);
    out.put_text("source", Some(&device.source));
    out.put_text("target", Some(&device.target));
    out.put_text("permissions", Some(&device.permissions));
    Value::Map(out.list)
}

/// One number is printed as one, but not 0, which compose-go takes for none; JSON leaves zeros out of a pair.
fn ulimit(limit: &Ulimit, form: Form) -> Value {
    if limit.single && limit.soft != 0 {
        return Value::Int(limit.soft.into());
    }
    let mut out = Fields::new(form);
    for (key, number) in [("soft", limit.soft), ("hard", limit.hard)] {
        if form == Form::Yaml || number != 0 {
            out.put(key, Value::Int(number.into()));
        }
    }
    Value::Map(out.list)
}

fn restart(restart: Restart) -> String {
    match restart {
        Restart::No => "no".into(),
        Restart::Always => "always".into(),
        Restart::UnlessStopped => "unless-stopped".into(),
        Restart::OnFailure { max: None } => "on-failure".into(),
        Restart::OnFailure { max: Some(max) } => format!("on-failure:{max}"),
    }
}

fn port(port: &Port, form: Form) -> Value {
    let mut out = Fields::new(form);
    out.put_text("name", port.name.as_deref());
    out.put_text("mode", Some(&port.mode));
    out.put_text("host_ip", port.host_ip.map(|ip| ip.to_string()).as_deref());
    out.put("target", Value::Int(port.target.into()));
    out.put_text("published", port.published.as_deref());
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    out.put("protocol", Value::text(protocol));
    out.put_text("app_protocol", port.app_protocol.as_deref());
    Value::Map(out.list)
}

fn mount(mount: &Mount, form: Form) -> Value {
    let (kind, source) = match &mount.source {
        MountSource::Bind { path, .. } => ("bind", Some(path.to_string_lossy().into_owned())),
        MountSource::Volume { key, .. } => ("volume", Some(key.clone())),
        MountSource::Anonymous => ("volume", None),
        MountSource::Tmpfs { .. } => ("tmpfs", None),
    };
    let written = &mount.written;
    let mut out = Fields::new(form);
    out.put("type", Value::text(kind));
    out.put_text("source", source.as_deref());
    out.put_text("target", Some(&mount.target));
    out.put_true("read_only", mount.read_only);
    out.put_text("consistency", written.consistency.as_deref());
    let mut block = Fields::new(form);
    match &mount.source {
        MountSource::Bind { create_host_path, .. } => {
            block.put_text("selinux", written.selinux.as_deref());
            block.put_text("propagation", written.propagation.as_deref());
            block.put_true("create_host_path", *create_host_path && written.create_host_path);
            block.put_text("recursive", written.recursive.as_deref());
        }
        MountSource::Volume { nocopy, .. } => {
            block.put_labels(&written.labels);
            block.put_true("nocopy", *nocopy);
        }
        MountSource::Anonymous => block.put_labels(&written.labels),
        MountSource::Tmpfs { size, mode } => {
            if let Some(size) = size.filter(|size| *size > 0) {
                block.put("size", Value::Text(size.to_string()));
            }
            if let Some(mode) = mode.filter(|mode| *mode > 0) {
                block.put("mode", Value::Int(mode.into()));
            }
        }
    }
    if written.block {
        out.put(kind, Value::Map(block.list));
    }
    Value::Map(out.list)
}

fn networks(project: &Project, form: Form) -> Vec<(String, Value)> {
    let one = |(key, network): (&String, &Network)| {
        let mut out = Fields::new(form);
        out.put_text("name", Some(&network.name));
        out.put_text("driver", network.driver.as_deref());
        if form == Form::Json {
            out.put("ipam", Value::Map(Vec::new()));
        }
        out.put_true("external", network.external);
        out.put_true("internal", network.internal);
        out.put_labels(&network.labels);
        if form == Form::Yaml {
            out.extend(&network.extensions);
        }
        (key.clone(), Value::Map(out.list))
    };
    project.networks.iter().map(one).collect()
}

fn volumes(project: &Project, form: Form) -> Vec<(String, Value)> {
    let one = |(key, volume): (&String, &Volume)| {
        let mut out = Fields::new(form);
        out.put_text("name", Some(&volume.name));
        out.put_text("driver", volume.driver.as_deref());
        out.put_true("external", volume.external);
        out.put_labels(&volume.labels);
        (key.clone(), Value::Map(out.list))
    };
    project.volumes.iter().map(one).collect()
}
