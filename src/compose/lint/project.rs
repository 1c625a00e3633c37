//! Rules about services and resources together, and what `up` says about a project.

use std::net::IpAddr;

use super::Subject;
use super::services::shown;
use crate::compose::select;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::Node;
use crate::diag::{Diagnostic, Severity, Span};

/// A port of the host that is asked for twice.
pub(super) fn duplicate_port(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    struct Taken<'a> {
        service: &'a str,
        port: u16,
        protocol: &'a str,
        ip: Option<IpAddr>,
        at: Span,
    }
    let mut all: Vec<Taken<'_>> = Vec::new();
    for (name, service) in subject.services() {
        for item in service.value.get("ports").into_iter().flat_map(Node::items) {
            let Some(published) = item.as_map().and_then(|map| map.written("published")) else { continue };
            // Of a range one that is free is taken.
            let Ok(port) = shown(&published.value).parse() else { continue };
            let protocol = item.text_at("protocol").unwrap_or("tcp");
            let ip = item.text_at("host_ip").and_then(|ip| ip.parse().ok());
            let new = Taken { service: name, port, protocol, ip, at: published.place() };
            let same = |other: &&Taken<'_>| {
                (other.port, other.protocol) == (new.port, new.protocol) && meet(other.ip, new.ip) && other.at != new.at
            };
            if let Some(other) = all.iter().find(same) {
                let message = format!("port {port} of the host is taken by service `{}` already", other.service);
                out.push(
                    Diagnostic::warning(Some(new.at), message)
                        .note(other.at, "taken here")
                        .help("give one of them another port: only one of both can start"),
                );
            }
            all.push(new);
        }
    }
}

/// Whether something that listens at one address is in the way of the other.
fn meet(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()),
    }
}

/// A list of names in a later file that makes a dependency wait for less.
pub(super) fn reset_condition(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        for (on, _) in service.value.section("depends_on") {
            if let Some((at, before, condition)) = reset(subject, name, on) {
                let message = format!("service `{name}` waits no more until `{on}` is {}", words(&condition));
                out.push(
                    Diagnostic::warning(Some(at), message)
                        .label("a name alone means `service_started`")
                        .note(before, format!("`{condition}` before"))
                        .help(format!("write `{on}: {{condition: {condition}}}` here too, or leave it out")),
                );
            }
        }
    }
}

/// Returns where a name alone replaces a condition, that condition, and its place.
fn reset(subject: &Subject<'_>, service: &str, on: &str) -> Option<(Span, Span, String)> {
    let condition = subject.root.get("services")?.get(service)?.get("depends_on")?.get(on)?.get("condition")?;
    if condition.as_text() != Some("service_started") {
        return None;
    }
    let mut before = None;
    for layer in subject.layers() {
        let Some(depends) = layer.tree.get("services").and_then(|s| s.get(service)?.get("depends_on")) else {
            continue;
        };
        if let Some(found) = depends.get(on).and_then(|on| on.get("condition")) {
            before =
                found.as_text().filter(|text| *text != "service_started").map(|text| (found.span, text.to_owned()));
        }
        let names = depends.items().iter().any(|item| item.as_text() == Some(on) && item.span == condition.span);
        if names {
            return before.map(|(at, text)| (condition.span, at, text));
        }
    }
    None
}

fn words(condition: &str) -> &'static str {
    if condition == "service_healthy" { "healthy" } else { "finished" }
}

/// A dependency that can tell when it is ready, and is not waited for because only its name is written.
pub(super) fn unhealthy_start(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let service = &service.value;
        let implied: Vec<Span> = ["links", "volumes_from"]
            .iter()
            .flat_map(|key| service.get(key).into_iter().flat_map(Node::items))
            .chain(["network_mode", "ipc", "pid", "uts", "cgroup"].iter().filter_map(|key| service.get(key)))
            .map(|node| node.span)
            .collect();
        for (on, entry) in service.section("depends_on") {
            let Some(condition) = entry.value.as_map().and_then(|map| map.written("condition")) else { continue };
            let is_checked = subject.root.get("services").and_then(|all| all.get(on)).is_some_and(has_check);
            // Who writes the condition means it.
            if condition.value.as_text() != Some("service_started")
                || condition.key != entry.key
                || !is_checked
                || implied.contains(&entry.key)
                || reset(subject, name, on).is_some()
            {
                continue;
            }
            let message =
                format!("service `{name}` starts before `{on}` is healthy, although `{on}` has a health check");
            let help = format!("write `{on}: {{condition: service_healthy}}` if it needs `{on}` to be ready");
            out.push(Diagnostic::warning(Some(condition.place()), message).help(help));
        }
    }
}

fn has_check(service: &Node) -> bool {
    service.get("healthcheck").is_some_and(|check| {
        let first = check.get("test").and_then(|test| test.items().first()).and_then(Node::as_text);
        first.is_some_and(|word| word != "NONE") && !check.get("disable").is_some_and(Node::is_true)
    })
}

/// Something that is declared and that no service uses.
pub(super) fn unused_resource(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    let services = subject.services().chain(subject.disabled);
    let used = select::uses(services.map(|(_, entry)| &entry.value));
    for (section, used) in select::SECTIONS.iter().zip(used) {
        let word = section.trim_end_matches('s');
        for (name, entry) in subject.root.section(section) {
            // What a file that is included offers need not be used by all who include it.
            let is_own = !subject.trail.origins.contains_key(&entry.key.file);
            if is_own && !used.contains(name) {
                let message = format!("no service uses the {word} `{name}`");
                out.push(Diagnostic::warning(Some(entry.key), message).help("remove it, or name it in a service"));
            }
        }
    }
}

/// A key that does nothing here.
pub(super) fn no_effect(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    out.extend(subject.unmet.iter().filter(|d| d.severity == Severity::Warning).cloned());
}

/// Something valid for which `up` ends with an error here.
pub(super) fn refused(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    out.extend(subject.unmet.iter().filter(|d| d.severity == Severity::Error).cloned());
}
