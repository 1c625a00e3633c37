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
    service.get("profiles").is_none_or(|own| own.items().is_empty())
        || on.iter().any(|profile| profile == "*" || profiles_of(service).any(|own| own == profile))
}

/// Returns the named services with all that they depend on; none named is all, and nothing is returned.
pub(crate) fn meant(root: &Node, names: &[String]) -> Option<BTreeSet<String>> {
    if names.is_empty() {
        return None;
    }
    let services = root.get("services").and_then(Node::as_map)?;
    let mut waiting: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if let Some(entry) = services.get(name)
            && found.insert(name.to_owned())
        {
            waiting.extend(entry.value.section("depends_on").map(|(name, _)| name.as_str()));
        }
    }
    Some(found)
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
    let Some(services) = root.get("services").and_then(Node::as_map) else { return Vec::new() };
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut done = Vec::new();
    for first in services.keys() {
        // Services on the way, each with those of its dependencies that were not looked at: a chain may be as long as the file.
        let mut path = Vec::new();
        let mut next = Some(first);
        loop {
            if let Some(name) = next.take() {
                if let Some(entry) = services.get(name).filter(|_| seen.insert(name)) {
                    path.push((name, entry.value.section("depends_on").map(|(name, _)| name)));
                }
            } else if let Some((name, rest)) = path.last_mut() {
                next = rest.next();
                if next.is_none() {
                    done.push(String::clone(name));
                    path.pop();
                }
            } else {
                break;
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::yaml;

    #[test]
    fn each_service_comes_after_what_it_depends_on_however_long_the_chain() {
        let order = |text: &str| {
            let documents = yaml::parse(0, text).expect("valid").0;
            in_order(&documents[0])
        };
        let some = "services: {a: {depends_on: {c: }}, b: {depends_on: {a: , x: }}, c: {depends_on: {b: }}, d: }";
        assert_eq!(order(some), ["b", "c", "a", "d"], "a circle is entered where it is met first");
        let chain: String = (0..50_000).map(|n| format!("  s{n}: {{depends_on: {{s{}: }}}}\n", n + 1)).collect();
        let found = order(&format!("services:\n{chain}  s50000:\n"));
        assert_eq!(found.len(), 50_001);
        assert_eq!((found[0].as_str(), found[50_000].as_str()), ("s50000", "s0"));
    }
}
