//! Which services are meant, and what of the project's resources they use.
//!
//! Works on canonical form.
//!
//! Invariant: pure.

use std::collections::BTreeSet;

use super::yaml::{Map, Node};
use crate::diag::Diagnostic;

/// Removes services of which no profile is on, and returns them.
pub(crate) fn profiles(root: &mut Node, on: &[String]) -> Map {
    let mut disabled = Map::default();
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        let all = std::mem::take(services);
        for (name, entry) in all {
            let enabled = is_on(&entry.value, on);
            let into = if enabled { &mut *services } else { &mut disabled };
            into.insert(name, entry);
        }
    }
    disabled
}

/// Returns the profiles that a service names.
pub(crate) fn profiles_of(service: &Node) -> impl Iterator<Item = &str> {
    service.get("profiles").into_iter().flat_map(Node::items).filter_map(Node::as_text)
}

/// Returns whether a service is switched on when these profiles are.
pub(crate) fn is_on(service: &Node, on: &[String]) -> bool {
    let own = service.get("profiles").map_or(&[][..], Node::items);
    own.is_empty()
        || on.iter().any(|profile| profile == "*" || own.iter().any(|own| own.as_text() == Some(profile.as_str())))
}

/// Leaves the named services and all that they depend on; none named is all. A named service that its profiles switch off
/// switches them on.
///
/// # Errors
/// A name that no service has.
pub(crate) fn services(
    root: &mut Node,
    disabled: &mut Map,
    names: &[String],
    profiles: &[String],
) -> Result<(), Diagnostic> {
    if names.is_empty() {
        return Ok(());
    }
    let mut on = profiles.to_vec();
    let own = |name: &String| disabled.get(name).and_then(|entry| entry.value.get("profiles")).map(Node::items);
    on.extend(names.iter().filter_map(own).flatten().filter_map(|profile| profile.as_text().map(str::to_owned)));
    let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) else { return Ok(()) };
    for (name, entry) in std::mem::take(disabled) {
        let into = if is_on(&entry.value, &on) { &mut *services } else { &mut *disabled };
        into.insert(name, entry);
    }
    let mut meant = BTreeSet::new();
    let mut waiting: Vec<(String, bool)> = names.iter().map(|name| (name.clone(), true)).collect();
    while let Some((name, required)) = waiting.pop() {
        let Some(entry) = services.get(&name) else {
            if required {
                return Err(Diagnostic::error(None, format!("no such service: {name}")));
            }
            continue;
        };
        if meant.insert(name) {
            let dependencies = entry.value.section("depends_on");
            waiting.extend(
                dependencies.map(|(name, entry)| (name.clone(), entry.value.get("required").is_none_or(Node::is_true))),
            );
        }
    }
    for (name, mut entry) in std::mem::take(services) {
        if !meant.contains(&name) {
            disabled.insert(name, entry);
            continue;
        }
        if let Some(dependencies) = entry.value.get_mut("depends_on").and_then(Node::as_map_mut) {
            dependencies.retain(|name, _| meant.contains(name));
        }
        services.insert(name, entry);
    }
    Ok(())
}

/// Where a project declares what services use.
pub(crate) const SECTIONS: [&str; 5] = ["networks", "volumes", "secrets", "configs", "models"];

/// Removes resources that no service uses.
pub(crate) fn used(root: &mut Node) {
    let used = uses(root.section("services").map(|(_, entry)| &entry.value));
    for (section, used) in SECTIONS.iter().zip(used) {
        if let Some(all) = root.get_mut(section).and_then(Node::as_map_mut) {
            all.retain(|name, _| used.contains(name));
        }
    }
}

/// Returns the names that services use of each of the [`SECTIONS`].
pub(crate) fn uses<'n>(services: impl Iterator<Item = &'n Node>) -> [BTreeSet<String>; 5] {
    let mut used: [BTreeSet<String>; 5] = Default::default();
    let [networks, volumes, secrets, configs, models] = &mut used;
    for service in services {
        networks.extend(service.section("networks").map(|(name, _)| name.clone()));
        models.extend(service.section("models").map(|(name, _)| name.clone()));
        let sources = |node: Option<&Node>| -> Vec<String> {
            let items = node.into_iter().flat_map(Node::items);
            items.filter_map(|item| item.text_at("source").map(str::to_owned)).collect()
        };
        secrets.extend(sources(service.get("secrets")));
        secrets.extend(sources(service.get("build").and_then(|build| build.get("secrets"))));
        configs.extend(sources(service.get("configs")));
        let named = service.get("volumes").into_iter().flat_map(Node::items);
        let named = named.filter(|mount| mount.text_at("type") == Some("volume"));
        volumes.extend(named.filter_map(|mount| mount.text_at("source").map(str::to_owned)));
    }
    used
}

/// Returns the names of the services, each after those that it depends on, otherwise in file order. A circle is entered where
/// it is met first.
pub(crate) fn in_order(root: &Node) -> Vec<String> {
    fn visit<'a>(name: &'a str, services: &'a Map, seen: &mut BTreeSet<&'a str>, done: &mut Vec<String>) {
        let Some(entry) = services.get(name) else { return };
        if !seen.insert(name) {
            return;
        }
        for (dependency, _) in entry.value.section("depends_on") {
            visit(dependency, services, seen, done);
        }
        done.push(name.to_owned());
    }
    let mut done = Vec::new();
    if let Some(services) = root.get("services").and_then(Node::as_map) {
        let mut seen = BTreeSet::new();
        services.keys().for_each(|name| visit(name, services, &mut seen, &mut done));
    }
    done
}
