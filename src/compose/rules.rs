//! Rules within one attribute, of which the table of attributes knows nothing: what excludes what.
//!
//! Works on canonical form.
//!
//! Invariant: pure.

use super::tree::Entries as _;
use super::yaml::{Entry, Map, Node};
use crate::diag::Diagnostic;
use crate::name::ServiceName;

/// Reports what excludes each other in a whole file.
pub(crate) fn file(root: &Node, out: &mut Vec<Diagnostic>) {
    for (name, entry) in root.section("volumes") {
        external(&format!("volume `{name}`"), entry, out);
    }
    for (name, entry) in root.section("configs") {
        sources(&format!("config `{name}`"), entry, &["file", "environment", "content"], out);
    }
    for (name, entry) in root.section("secrets") {
        sources(&format!("secret `{name}`"), entry, &["file", "environment"], out);
    }
    for (name, entry) in root.section("services") {
        let owner = format!("service `{name}`");
        let service = &entry.value;
        for rule in service.get("develop").and_then(|node| node.get("watch")).map_or(&[][..], Node::items) {
            if rule.get("path").and_then(Node::as_text) == Some("") {
                let message = format!("`path` of a rule of {owner} is empty");
                out.push(Diagnostic::error(Some(rule.span), message));
            }
        }
        let reserved = ["deploy", "resources", "reservations", "devices"];
        let reserved = reserved.iter().try_fold(service, |node, key| node.get(key));
        for list in [reserved, service.get("gpus")].into_iter().flatten() {
            requests(&owner, list, out);
        }
    }
}

/// Reports names that no service can have, and health checks of no known kind.
pub(crate) fn services(root: &Node, out: &mut Vec<Diagnostic>) {
    for (name, entry) in root.section("services") {
        let before = out.len();
        self::name(name, entry, out);
        if out.len() > before {
            continue;
        }
        let service = &entry.value;
        service.section("depends_on").for_each(|(name, entry)| self::name(name, entry, out));
        let test = service.get("healthcheck").and_then(|check| check.get("test")).map_or(&[][..], Node::items);
        if let Some((word, at)) = test.iter().find_map(|item| Some((item.as_text()?, item.span)))
            && !is_test(word)
        {
            let message =
                format!("`test` of `healthcheck` of service `{name}` must begin with `CMD`, `CMD-SHELL` or `NONE`");
            let help = format!("write `[\"CMD\", \"{word}\", …]` for a program, or one text for a shell");
            out.push(Diagnostic::error(Some(at), message).help(help));
        }
    }
}

fn name(name: &str, entry: &Entry, out: &mut Vec<Diagnostic>) {
    out.extend(ServiceName::new(name).err().map(|error| Diagnostic::error(Some(entry.key), error.to_string())));
}

/// Whether the `test` of a health check may begin with this word.
pub(crate) fn is_test(word: &str) -> bool {
    matches!(word, "NONE" | "CMD" | "CMD-SHELL")
}

/// What exists already has nothing but a name.
fn external(owner: &str, entry: &Entry, out: &mut Vec<Diagnostic>) {
    let Some(map) = entry.value.as_map() else { return };
    if !map.value("external").is_some_and(Node::is_true) {
        return;
    }
    for (key, other) in map.iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "external")) {
        if !key.starts_with("x-") {
            out.push(
                Diagnostic::error(Some(other.key), format!("{owner} is external, so that `{key}` means nothing"))
                    .help("what is external exists already and is taken as it is: leave one of the two out"),
            );
        }
    }
}

/// The content comes from one place.
fn sources(owner: &str, entry: &Entry, keys: &[&str], out: &mut Vec<Diagnostic>) {
    let empty = Map::default();
    let map = entry.value.as_map().unwrap_or(&empty);
    let found: Vec<&Entry> = keys.iter().filter_map(|key| map.get(key)).collect();
    let all: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    if let [first, second, ..] = found[..] {
        out.push(
            Diagnostic::error(Some(second.key), format!("{owner} has two of {}", all.join(", ")))
                .note(first.key, "the other one")
                .help("leave one of them out"),
        );
    }
    if found.is_empty() && !map.contains_key("driver") && !map.contains_key("external") {
        out.push(
            Diagnostic::error(Some(entry.key), format!("{owner} does not say where its content comes from"))
                .help(format!("give it one of {}", all.join(", "))),
        );
    }
}

/// A request for devices says how many or which. A count that was filled in is beside no ids.
fn requests(owner: &str, list: &Node, out: &mut Vec<Diagnostic>) {
    for request in list.items() {
        let Some(map) = request.as_map() else { continue };
        if let (Some(count), Some(ids)) = (map.written("count"), map.written("device_ids")) {
            let at = if count.key > ids.key { count.key } else { ids.key };
            let message = format!("a device of {owner} has both `count` and `device_ids`");
            out.push(Diagnostic::error(Some(at), message).help("leave one of them out"));
        }
    }
}
