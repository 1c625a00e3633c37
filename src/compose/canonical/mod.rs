//! The tree as it was written → canonical form: every short form is the long one, every scalar has its type, and what
//! cannot stand where it stands was reported and is gone.
//!
//! Canonical form is valid input again, and stays as it is. Spans stay: what comes of a short form stands where that stood.
//!
//! With [`Canon::raw`], for `--no-interpolate`, values keep the form in which they were written; only what docker compose
//! turns into long forms before it gives values their types is turned.
//!
//! Invariant: pure, and nothing here knows a key by its name: that is in `schema`.

mod pairs;
mod scalar;
mod short;

pub(crate) use pairs::until_started;
pub(crate) use scalar::bounds;
pub(crate) use short::DEVICE;

use std::collections::{HashMap, HashSet, hash_map};

use super::place::Place;
use super::schema::{self, Form, List, Names, One, Shape, Special, Struct, Type};
use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Severity, Span, nearest};

/// A pass over a tree.
pub(crate) struct Canon<'a> {
    /// Values stay as they were written.
    pub(crate) raw: bool,
    /// Errors and warnings.
    pub(crate) out: &'a mut Vec<Diagnostic>,
    /// Services of which a part was wrong and is missing; what follows from that is not worth a message.
    pub(crate) damaged: HashSet<String>,
}

/// Returns a part of a file in canonical form as far as it goes by itself; what cannot stand there is left out without a word.
pub(crate) fn alone(ty: &Type, mut node: Node) -> Node {
    let at = At { key: node.span, whole: node.span };
    Canon::new(false, &mut Vec::new()).settle(ty, &mut node, at, &Place::FILE);
    node
}

/// Where to point for a value.
#[derive(Clone, Copy)]
struct At {
    /// Its key, or the list it is in: for a value that was not written.
    key: Span,
    /// The whole of it: for something that is missing in it.
    whole: Span,
}

impl At {
    /// Returns where to point for a mistake in `node`.
    fn of(self, node: &Node) -> Span {
        if node.span.lo == node.span.hi { self.key } else { node.span }
    }
}

impl<'a> Canon<'a> {
    /// Returns a pass that reports to `out`.
    pub(crate) fn new(raw: bool, out: &'a mut Vec<Diagnostic>) -> Self {
        Self { raw, out, damaged: HashSet::new() }
    }

    /// Brings a whole file, or several merged, into canonical form.
    pub(crate) fn file(&mut self, node: &mut Node) {
        let at = At { key: node.span, whole: node.span };
        if let Kind::Map(map) = &mut node.kind {
            map.remove("version");
            self.settle(&schema::FILE, node, at, &Place::FILE);
        } else {
            let what = node.describe();
            self.error(node.span, format!("a compose file is a mapping, not {what}")).help =
                Some("it begins with `services:`".into());
            node.kind = Kind::Map(Map::default());
        }
    }

    /// Brings one attribute into canonical form; `false` when it cannot stand there, which was reported.
    fn settle(&mut self, ty: &Type, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        match ty.shape {
            Shape::Any => true,
            Shape::List(list) => self.list(list, ty.unique.is_some(), node, at, place),
            Shape::Map(map) => self.map(map, node, at, place),
            Shape::Struct(fields) => self.fields(fields, node, at, place),
            Shape::Short(form, fields) => self.short(form, fields, node, at, place),
            Shape::Pairs(pairs) => self.pairs(pairs, node, at, place),
            Shape::Hosts => self.hosts(node, at, place),
            Shape::Words => self.words(node, at, place),
            Shape::Test => self.test(node, at, place),
            scalar => self.scalar(scalar, node, at, place),
        }
    }

    fn list(&mut self, list: &'static List, unique: bool, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        match (&mut node.kind, list.one) {
            (Kind::Seq(_), _) => {}
            (Kind::Str(text), One::All) if text == "all" => {
                let count = Entry { key: node.span, value: Node::new(node.span, Kind::Str("all".into())) };
                let request = Node::new(node.span, Kind::Map(Map::from_iter([("count".to_owned(), count)])));
                node.kind = Kind::Seq(vec![request]);
            }
            (Kind::Str(_), One::Late) if self.raw => return true,
            (Kind::Bool(_) | Kind::Int(_) | Kind::Float(_), One::Late) if self.raw && takes_numbers(&list.item) => {
                return true;
            }
            (Kind::Str(_) | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_), One::Yes | One::Late) => {
                let item = Node::new(node.span, std::mem::replace(&mut node.kind, Kind::Null));
                if !matches!(item.kind, Kind::Str(_)) && !takes_numbers(&list.item) {
                    node.kind = item.kind;
                    self.wrong(node, at, place, "text or a list");
                    return false;
                }
                node.kind = Kind::Seq(vec![item]);
            }
            (_, One::All) => {
                self.wrong(node, at, place, "`all` or a list");
                return false;
            }
            (_, one) => {
                self.wrong(node, at, place, if one == One::No { "a list" } else { "text or a list" });
                if let Kind::Str(text) = &node.kind {
                    self.help_last(Some(format!("write it as an entry of a list: `- \"{text}\"`")));
                }
                return false;
            }
        }
        let Kind::Seq(items) = &mut node.kind else { return false };
        if let Shape::Short(Form::Port, fields) = list.item.shape {
            let each = place.item(list.each);
            let taken = std::mem::take(items);
            *items = self.ports(fields, taken, at.key, &each);
            return true;
        }
        let each = place.item(list.each);
        items.retain_mut(|item| {
            let whole = if item.span.lo == item.span.hi { at.key } else { item.span };
            self.settle(&list.item, item, At { key: at.key, whole }, &each)
        });
        if list.distinct && !unique {
            self.distinct(items, place);
        }
        true
    }

    /// Reports entries that stand there twice, and removes them.
    fn distinct(&mut self, items: &mut Vec<Node>, place: &Place<'_>) {
        let mut seen: HashMap<String, Span> = HashMap::new();
        items.retain(|item| match seen.entry(format!("{:?}", item.kind)) {
            hash_map::Entry::Occupied(first) => {
                let shown = match &item.kind {
                    Kind::Str(text) => format!("`{text}`"),
                    _ => "an entry".to_owned(),
                };
                let error = self.error(item.span, format!("{place} has {shown} twice"));
                error.notes.push((*first.get(), "here before".into()));
                false
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(item.span);
                true
            }
        });
    }

    fn map(&mut self, map: &'static schema::Map, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        if let (Some(names), Kind::Seq(_)) = (map.list, &node.kind)
            && !self.names(names, node, at, place)
        {
            return false;
        }
        let Kind::Map(entries) = &mut node.kind else {
            let want = if map.list.is_some() { "a list or a mapping" } else { "a mapping" };
            self.wrong(node, at, place, want);
            return false;
        };
        entries.retain(|name, entry| {
            if map.names && !is_name(name) && !self.waits(name) {
                self.error(entry.key, format!("`{name}` cannot be a name in {place}")).help =
                    Some("a name has letters, digits, `.`, `_` and `-`".into());
                return false;
            }
            let place = place.named(map.each, name);
            let at = At { key: entry.key, whole: entry.key };
            if map.null && entry.value.kind == Kind::Null {
                return true;
            }
            let before = self.out.len();
            let sound = self.settle(&map.value, &mut entry.value, at, &place);
            if place.is_service() && self.out[before..].iter().any(|d| d.severity == Severity::Error) {
                self.damaged.insert(name.clone());
            }
            if !sound && let Some(fields) = map.value.shape.fields() {
                if fields.field(name).is_some() {
                    self.help_last(Some(format!(
                        "if `{name}` is meant for the one above, indent it as the keys there"
                    )));
                }
                // What refers to it is no mistake.
                entry.value.kind = Kind::Map(Map::default());
                return true;
            }
            if map.list == Some(Names::Started) {
                started(entry);
            }
            sound
        });
        true
    }

    fn fields(&mut self, fields: &'static Struct, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        if fields.null && node.kind == Kind::Null {
            return true;
        }
        let Kind::Map(map) = &mut node.kind else {
            self.wrong(node, at, place, "a mapping");
            return false;
        };
        let mut whole = true;
        for field in fields.fields {
            if let Some(help) = field.required.filter(|_| !map.contains_key(field.name)) {
                let error = self.error(at.whole, format!("{place} has no `{}`", field.name));
                error.help = Some(help.to_owned()).filter(|help| !help.is_empty());
                whole = false;
            }
        }
        map.retain(|key, entry| {
            if let Some(field) = fields.field(key) {
                let at = At { key: entry.key, whole: entry.key };
                if self.settle(&field.ty, &mut entry.value, at, &place.key(key)) {
                    return true;
                }
                whole &= field.required.is_none();
                return false;
            }
            if fields.extensions && key.starts_with("x-") {
                return true;
            }
            let help = nearest(key, fields.fields.iter().map(|field| field.name));
            self.error(entry.key, format!("`{key}` is not a key of {place}")).help =
                help.map(|near| format!("did you mean `{near}`?"));
            false
        });
        if fields.special == Special::Resource {
            self.external(map, place);
        }
        whole
    }

    /// Turns `external: {name: x}` into `external: true` and `name: x`.
    pub(crate) fn external(&mut self, map: &mut Map, place: &Place<'_>) {
        let Some(entry) = map.get_mut("external") else { return };
        let Kind::Map(old) = &mut entry.value.kind else { return };
        let name = old.remove("name");
        entry.value.kind = Kind::Bool(true);
        let key = entry.key;
        let Some(name) = name else { return };
        self.out.push(
            Diagnostic::warning(Some(key), format!("the name of {place} stands in an old form"))
                .help("write `name` beside `external: true`"),
        );
        match map.get("name") {
            Some(other) if other.value.kind != name.value.kind => {
                self.error(other.place(), format!("`name` and `external.name` of {place} differ"));
            }
            Some(_) => {}
            None => {
                map.insert("name".into(), name);
            }
        }
    }

    /// Reports that a value must be `want`.
    fn wrong(&mut self, node: &Node, at: At, place: &Place<'_>, want: &str) {
        let what = node.describe();
        self.error(at.of(node), format!("{place} must be {want}, not {what}")).help = quote_help(node, want);
    }

    /// Gives the last error this advice, if there is any.
    fn help_last(&mut self, help: Option<String>) {
        if let (Some(last), Some(help)) = (self.out.last_mut(), help) {
            last.help = Some(help);
        }
    }

    /// Pushes an error and returns it, to be added to.
    fn error(&mut self, at: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.out.push(Diagnostic::error(Some(at), message));
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    fn warn(&mut self, at: Span, message: impl Into<String>, help: &str) {
        self.out.push(Diagnostic::warning(Some(at), message).help(help));
    }

    /// Whether `text` has to wait for its variables.
    fn waits(&self, text: &str) -> bool {
        self.raw && text.contains('$')
    }
}

/// Whether an entry may be something else than text.
fn takes_numbers(ty: &Type) -> bool {
    matches!(ty.shape, Shape::Text(text) if text.boolean)
}

/// Adds what a dependency says when it says nothing else.
fn started(entry: &mut Entry) {
    let at = entry.key;
    if let Kind::Map(map) = &mut entry.value.kind {
        map.insert_new("required".into(), Entry { key: at, value: Node::new(at, Kind::Bool(true)) });
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Returns the usual advice: to put a scalar in quotes, when text was wanted, or to indent what should be below.
fn quote_help(node: &Node, want: &str) -> Option<String> {
    if want == "a mapping" && node.kind == Kind::Null {
        return Some("what belongs to it stands below it, indented by two spaces".into());
    }
    if node.kind == Kind::Null {
        return Some("write its value behind it or below it, or take the key away".into());
    }
    if !want.starts_with("text") {
        return None;
    }
    match &node.kind {
        Kind::Bool(value) => Some(format!("put it in quotes: `\"{value}\"`")),
        Kind::Int(value) => Some(format!("put it in quotes: `\"{value}\"`")),
        Kind::Float(_) => Some("put it in quotes".into()),
        Kind::Time(text) => Some(format!("put it in quotes: `\"{text}\"`")),
        Kind::Null | Kind::Str(_) | Kind::Seq(_) | Kind::Map(_) => None,
    }
}
