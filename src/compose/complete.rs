//! Canonical form → the whole model: what the files leave unsaid is said.
//!
//! [`defaults`] fills what has a default wherever it stands, [`normalise`] what follows from other parts of the project:
//! the network `default`, dependencies that are implied, names, values from the environment.
//!
//! Works on canonical form, raw or not. What is added stands where the thing is that it follows from.
//!
//! Invariant: pure.

use super::Env;
use super::paths::{clean_text, is_clean};
use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

/// Fills in defaults that depend on nothing else; `raw` is for a tree in which values are as they were written.
pub(crate) fn defaults(root: &mut Node, raw: bool) {
    let all = || if raw { Kind::Str("all".into()) } else { Kind::Int((-1_i64).into()) };
    let requests = |list: &mut Node| requests(list, &all);
    for (_, service) in root.section_mut("services") {
        let at = service.key;
        let service = &mut service.value;
        if let Some(build) = service.get_mut("build") {
            build.default_at("context", at, Kind::Str(".".into()));
        }
        for secret in service.get_mut("secrets").into_iter().flat_map(Node::items_mut) {
            let source = secret.text_at("source").unwrap_or_default().to_owned();
            let at = secret.span;
            secret.default_at("target", at, Kind::Str(format!("/run/secrets/{source}")));
        }
        for port in service.get_mut("ports").into_iter().flat_map(Node::items_mut) {
            let at = port.span;
            port.default_at("protocol", at, Kind::Str("tcp".into()));
            port.default_at("mode", at, Kind::Str("ingress".into()));
        }
        let reserved = ["deploy", "resources", "reservations", "devices"];
        let reserved = reserved.iter().try_fold(&mut *service, |node, key| node.get_mut(key));
        reserved.into_iter().for_each(requests);
        service.get_mut("gpus").into_iter().for_each(requests);
    }
}

/// A request that says neither how many devices nor which means all.
fn requests(list: &mut Node, all: &dyn Fn() -> Kind) {
    for request in list.items_mut() {
        if request.get("count").is_none() && request.get("device_ids").is_none() {
            let at = request.span;
            request.put("count", at, all());
        }
    }
}

/// Says what follows from the rest of the project, which is called `name`.
pub(crate) fn normalise(root: &mut Node, name: &str, env: &Env) {
    let at = root.span;
    root.put("name", at, Kind::Str(name.to_owned()));
    default_network(root);
    for (_, service) in root.section_mut("services") {
        self::service(&mut service.value, service.key, env);
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        for (key, entry) in root.section_mut(section) {
            let at = entry.key;
            if entry.value.kind == Kind::Null {
                entry.value.kind = Kind::Map(Map::default());
            }
            let external = match entry.value.get("external").map(|node| &node.kind) {
                Some(Kind::Bool(external)) => *external,
                Some(Kind::Str(text)) => text.eq_ignore_ascii_case("true"),
                _ => false,
            };
            let full = if external { key.clone() } else { format!("{name}_{key}") };
            entry.value.default_at("name", at, Kind::Str(full));
        }
    }
}

/// Puts services that say nothing else on the network `default`, and declares it if anyone is on it.
fn default_network(root: &mut Node) {
    let mut used = None;
    for (_, service) in root.section_mut("services") {
        let at = service.key;
        let service = &mut service.value;
        if service.get("provider").is_some() || service.get("network_mode").is_some() {
            continue;
        }
        let own = service.get("networks").and_then(Node::as_map);
        if own.is_none_or(Map::is_empty) {
            let default = Entry { key: at, value: Node::new(at, Kind::Null) };
            service.put("networks", at, Kind::Map(Map::from_iter([("default".to_owned(), default)])));
            used.get_or_insert(at);
        } else if own.is_some_and(|own| own.contains_key("default")) {
            used.get_or_insert(at);
        }
    }
    let Some(at) = used else { return };
    root.default_at("networks", at, Kind::Map(Map::default()));
    if let Some(networks) = root.get_mut("networks").and_then(Node::as_map_mut) {
        networks.insert_new("default".into(), Entry { key: at, value: Node::new(at, Kind::Null) });
    }
}

fn service(service: &mut Node, at: Span, env: &Env) {
    if service.text_at("pull_policy") == Some("if_not_present")
        && let Some(policy) = service.get_mut("pull_policy")
    {
        policy.kind = Kind::Str("missing".into());
    }
    if let Some(build) = service.get_mut("build") {
        build.default_at("context", at, Kind::Str(".".into()));
        if build.get("dockerfile_inline").is_none() {
            build.default_at("dockerfile", at, Kind::Str("Dockerfile".into()));
        }
        build.get_mut("args").into_iter().for_each(|args| look_up(args, env, false));
    }
    service.get_mut("environment").into_iter().for_each(|environment| look_up(environment, env, true));
    implied(service, at);
    for mount in service.get_mut("volumes").into_iter().flat_map(Node::items_mut) {
        if let Some(Kind::Str(target)) = mount.get_mut("target").map(|target| &mut target.kind)
            && !is_clean(target)
        {
            *target = clean_text(target);
        }
    }
}

/// Gives keys without value that of the environment; without one there, `keep` leaves the key.
pub(crate) fn look_up(pairs: &mut Node, env: &Env, keep: bool) {
    match &mut pairs.kind {
        Kind::Map(map) => map.retain(|key, entry| {
            if entry.value.kind != Kind::Null {
                return true;
            }
            if let Some(value) = env.get(key) {
                entry.value.kind = Kind::Str(value.clone());
                return true;
            }
            keep
        }),
        Kind::Seq(items) => items.retain_mut(|item| {
            let Kind::Str(text) = &mut item.kind else { return true };
            if text.contains('=') {
                return true;
            }
            match env.get(text.as_str()) {
                Some(value) => {
                    *text = format!("{text}={value}");
                    true
                }
                None => keep,
            }
        }),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
    }
}

/// Adds dependencies on services whose namespaces, names or volumes this one uses.
fn implied(service: &mut Node, at: Span) {
    let mut found: Vec<(String, bool, Span)> = Vec::new();
    for link in service.get("links").into_iter().flat_map(Node::items) {
        let Some(text) = link.as_text() else { continue };
        let parts: Vec<&str> = text.split(':').collect();
        let name = if parts.len() == 2 { parts[0] } else { text };
        found.push((name.to_owned(), true, link.span));
    }
    for namespace in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(namespace)
            && let Some(shared) = node.as_text().and_then(|text| text.strip_prefix("service:"))
        {
            found.push((shared.to_owned(), true, node.span));
        }
    }
    for from in service.get("volumes_from").into_iter().flat_map(Node::items) {
        if let Some(text) = from.as_text().filter(|text| !text.starts_with("container:")) {
            let name = text.split(':').next().unwrap_or(text);
            found.push((name.to_owned(), false, from.span));
        }
    }
    if found.is_empty() {
        return;
    }
    service.default_at("depends_on", at, Kind::Map(Map::default()));
    let Some(all) = service.get_mut("depends_on").and_then(Node::as_map_mut) else { return };
    for (name, restart, span) in found {
        let entry = |kind| Entry { key: span, value: Node::new(span, kind) };
        let fields = [
            ("condition".to_owned(), entry(Kind::Str("service_started".into()))),
            ("restart".to_owned(), entry(Kind::Bool(restart))),
            ("required".to_owned(), entry(Kind::Bool(true))),
        ];
        all.insert_new(name, entry(Kind::Map(Map::from_iter(fields))));
    }
}
