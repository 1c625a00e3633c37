//! Lists that stand for mappings: `KEY=value`, names, hosts.

use super::{At, Canon};
use crate::compose::place::Place;
use crate::compose::scalar;
use crate::compose::schema::{Names, Pairs};
use crate::compose::short::hosts;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

/// Returns how to write a mapping of one key that stands where `KEY=value` does: a space too many makes it one.
fn as_pair(item: &Node) -> Option<String> {
    let Kind::Map(map) = &item.kind else { return None };
    let (key, entry) = map.iter().next().filter(|_| map.len() == 1)?;
    match &entry.value.kind {
        Kind::Str(value) => Some(format!("write `{key}={value}`, or no dash before `{key}: {value}`")),
        _ => None,
    }
}

const SCALAR: &str = "text, a number or a boolean";

impl Canon<'_> {
    /// `KEY: value`, or a list of `KEY=value`; later entries win.
    pub(super) fn pairs(&mut self, pairs: Pairs, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let late = self.raw && pairs != Pairs::Required;
        match &mut node.kind {
            Kind::Map(map) => {
                map.retain(|name, entry| self.pair(pairs, entry, &place.key(name)));
                true
            }
            Kind::Seq(items) => {
                let each = place.item("");
                let mut map = Map::default();
                let mut sound = true;
                for item in items.iter() {
                    let Kind::Str(text) = &item.kind else {
                        self.wrong(item, at, &each, "text like `KEY=value`");
                        self.help_last(as_pair(item));
                        continue;
                    };
                    let (name, value) = match text.split_once('=') {
                        Some((name, value)) => (name, Kind::Str(value.to_owned())),
                        None if pairs == Pairs::Empty => (text.as_str(), Kind::Str(String::new())),
                        None => (text.as_str(), Kind::Null),
                    };
                    if pairs == Pairs::Required && value == Kind::Null {
                        if self.raw {
                            return true;
                        }
                        self.error(item.span, format!("`{text}` in {place} has no value")).help =
                            Some("write `KEY=value`".into());
                        sound = false;
                        continue;
                    }
                    if pairs == Pairs::Environment && !late {
                        sound &= self.variable(name, item.span, place);
                    }
                    map.insert(name.to_owned(), entry(item.span, value));
                }
                if !late && sound {
                    node.kind = Kind::Map(map);
                }
                sound || late
            }
            _ => {
                self.wrong(node, at, place, "a mapping or a list of `KEY=value`");
                false
            }
        }
    }

    fn pair(&mut self, pairs: Pairs, entry: &mut Entry, place: &Place<'_>) -> bool {
        let kind = match &entry.value.kind {
            Kind::Str(_) => return true,
            Kind::Null if pairs == Pairs::Empty || pairs == Pairs::Required => Kind::Str(String::new()),
            Kind::Null => return true,
            Kind::Bool(value) => Kind::Str(value.to_string()),
            Kind::Int(value) => Kind::Str(value.to_string()),
            Kind::Float(value) => Kind::Str(scalar::go_float(*value)),
            Kind::Time(_) | Kind::Seq(_) | Kind::Map(_) => {
                let at = At { key: entry.key, whole: entry.key };
                self.wrong(&entry.value, at, place, SCALAR);
                return false;
            }
        };
        if !self.raw {
            entry.value.kind = kind;
        }
        true
    }

    /// Reports a name that no variable can have.
    fn variable(&mut self, name: &str, at: Span, place: &Place<'_>) -> bool {
        if name.ends_with(char::is_whitespace) {
            self.error(at, format!("the name of the variable `{name}` ends with a space"));
            return false;
        }
        if name.is_empty() {
            self.error(at, format!("a variable in {place} has no name"));
            return false;
        }
        true
    }

    /// A list of names that stands for a mapping.
    pub(super) fn names(&mut self, names: Names, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let Kind::Seq(items) = &node.kind else { return true };
        let each = place.item("");
        let mut map = Map::default();
        for item in items {
            let Kind::Str(text) = &item.kind else {
                self.wrong(item, at, &each, "text");
                continue;
            };
            let (name, value) = match names {
                Names::Null => (text.as_str(), Kind::Null),
                Names::Started => (text.as_str(), until_started(item.span)),
                Names::Ssh => match text.split_once('=') {
                    Some((id, path)) => (id, Kind::Str(path.to_owned())),
                    None if text == "default" => (text.as_str(), Kind::Null),
                    None => {
                        self.error(item.span, format!("`{text}` in {place} is no key")).help =
                            Some("write `default` for the agent's keys, or `ID=PATH`".into());
                        continue;
                    }
                },
            };
            map.insert(name.to_owned(), entry(item.span, value));
        }
        node.kind = Kind::Map(map);
        true
    }

    /// `extra_hosts`: a mapping to one address or several, or a list of `host=address` and `host:address`.
    pub(super) fn hosts(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let mut found: Vec<Node> = Vec::new();
        let mut sound = true;
        let add = |host: &str, address: &str, span| {
            let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let address = inner.filter(|inner| !inner.is_empty()).unwrap_or(address);
            Node::new(span, Kind::Str(format!("{host}={address}")))
        };
        match &node.kind {
            Kind::Seq(items) => {
                let each = place.item("");
                for item in items {
                    let Kind::Str(text) = &item.kind else {
                        self.wrong(item, at, &each, "text like `HOST=ADDRESS`");
                        sound = false;
                        continue;
                    };
                    match text.split_once('=').or_else(|| text.split_once(':')) {
                        Some((host, addresses)) if hosts::is_separate(host) => {
                            found.extend(addresses.split(',').map(|address| add(host, address, item.span)));
                        }
                        _ if self.waits(text) => {}
                        split => {
                            let why = match split {
                                Some((host, _)) => format!("`{host}` is not the name of a host"),
                                None => format!("`{text}` names no address"),
                            };
                            self.bad_host(item.span, place, &why);
                            sound = false;
                        }
                    }
                }
            }
            Kind::Map(map) => {
                for (host, entry) in map {
                    let place = place.key(host);
                    if !hosts::is_separate(host) {
                        self.bad_host(entry.key, &place, &format!("`{host}` is not the name of a host"));
                        sound = false;
                    }
                    let addresses = match &entry.value.kind {
                        Kind::Seq(items) => items.as_slice(),
                        _ => std::slice::from_ref(&entry.value),
                    };
                    for address in addresses {
                        let Kind::Str(text) = &address.kind else {
                            let at = At { key: entry.key, whole: entry.key };
                            self.wrong(&entry.value, at, &place, "text or a list of text");
                            sound = false;
                            continue;
                        };
                        found.push(add(host, text, address.span));
                    }
                }
            }
            _ => {
                self.wrong(node, at, place, "a list of `HOST=ADDRESS` or a mapping");
                return false;
            }
        }
        if sound && !self.raw {
            found.sort_by(|a, b| key(a).cmp(key(b)));
            node.kind = Kind::Seq(found);
        }
        sound
    }

    fn bad_host(&mut self, at: Span, place: &Place<'_>, why: &str) {
        self.error(at, format!("in {place}: {why}")).help =
            Some("write `HOST=ADDRESS`, such as `db=192.0.2.7` or `host=host-gateway`".into());
    }
}

fn key(node: &Node) -> &str {
    match &node.kind {
        Kind::Str(text) => text,
        _ => "",
    }
}

fn entry(at: Span, value: Kind) -> Entry {
    Entry { key: at, value: Node::new(at, value) }
}

/// Returns what a dependency is of which only the name is given.
pub(crate) fn until_started(at: Span) -> Kind {
    Kind::Map(Map::from_iter([
        ("condition".to_owned(), entry(at, Kind::Str("service_started".into()))),
        ("required".to_owned(), entry(at, Kind::Bool(true))),
    ]))
}
