//! The canonical tree → what `config` prints, as a plain value.
//!
//! Which keys, in which order, and which of them even when they are empty, is the attribute table's; what is left here is
//! how each kind of value is shown. The two formats differ as Go's encoders of YAML and JSON differ for compose-go's types.
//!
//! Invariant: pure; the same tree gives the same value.

use super::schema::{FILE, Field, Map, Names, Print, Shape, Special, Struct, Type};
use super::tree::Entries as _;
use super::value::Value;
use super::write;
use super::yaml::{self, Kind, Node};

/// A format of `config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Returns a whole project.
pub(crate) fn project(root: &Node, format: Format) -> Value {
    let Shape::Struct(fields) = FILE.shape else { return Value::Null };
    let empty = yaml::Map::default();
    let map = root.as_map().unwrap_or(&empty);
    let Value::Map(mut entries) = self::fields(fields, map, format) else { return Value::Null };
    if format == Format::Json {
        // The top level is a map there, and compose-go forgets the models.
        entries.retain(|(key, _)| key != "models");
        entries.extend(extensions(map, format));
        entries = sorted(entries, format);
    }
    Value::Map(entries)
}

/// Returns one service.
pub(crate) fn service(map: &yaml::Map, format: Format) -> Value {
    super::schema::SERVICE.shape.fields().map_or(Value::Null, |fields| self::fields(fields, map, format))
}

/// Returns the tree as it is, keys sorted: what `--no-interpolate` prints.
pub(crate) fn raw(node: &Node, format: Format) -> Value {
    any(node, format)
}

/// Returns one attribute, or something of which the table knows nothing.
pub(crate) fn one(ty: Option<&Type>, node: &Node, format: Format) -> Value {
    ty.map_or_else(|| any(node, format), |ty| value(ty, node, format))
}

fn value(ty: &Type, node: &Node, format: Format) -> Value {
    match (ty.shape, &node.kind) {
        (Shape::Struct(fields) | Shape::Short(_, fields), Kind::Map(map)) => match fields.special {
            Special::Ulimit => pair(map, format),
            Special::EnvFile => env_file(fields, map, format),
            Special::None | Special::Resource | Special::Bare => self::fields(fields, map, format),
        },
        // What the project declares is never nothing, even when nothing is said about it.
        (Shape::Struct(fields), Kind::Null) if fields.special == Special::Resource => {
            self::fields(fields, &yaml::Map::default(), format)
        }
        (Shape::Short(_, fields), Kind::Int(0)) if fields.special == Special::Ulimit => {
            pair(&yaml::Map::default(), format)
        }
        (Shape::Map(map), Kind::Map(entries)) => self::map(map, entries, format),
        (Shape::List(list), Kind::Seq(items)) => {
            Value::List(items.iter().map(|item| value(&list.item, item, format)).collect())
        }
        _ => any(node, format),
    }
}

fn fields(fields: &Struct, map: &yaml::Map, format: Format) -> Value {
    // A service has some ten keys of nearly a hundred: they are looked for in the table, and not the table's in them.
    let place = |key: &str| fields.fields.iter().position(|field| field.name == key);
    let written = map.iter().filter(|(_, entry)| entry.value.kind != Kind::Null);
    let mut there: Vec<(usize, &Node)> = written.filter_map(|(key, entry)| Some((place(key)?, &entry.value))).collect();
    there.sort_by_key(|(at, _)| *at);
    let mut there = there.into_iter().peekable();
    let mut entries = Vec::with_capacity(map.len());
    for (at, field) in fields.fields.iter().enumerate() {
        let node = there.next_if(|(of, _)| *of == at).map(|(_, node)| node);
        if let Some(value) = self::field(field, node, format) {
            let key = if format == Format::Json { field.json } else { field.name };
            entries.push((key.to_owned(), value));
        }
    }
    if format == Format::Yaml && fields.special != Special::Bare {
        entries.extend(extensions(map, format));
    }
    Value::Map(entries)
}

/// Returns what is printed of a field, if anything; `node` is what was written for it.
fn field(field: &Field, node: Option<&Node>, format: Format) -> Option<Value> {
    let ty = &field.ty;
    if ty.print == Print::Never {
        return None;
    }
    let Some(node) = node else {
        return match (ty.print, ty.shape) {
            (Print::Always, shape) => Some(zero(shape)),
            (Print::Part, shape) if format == Format::Json => {
                shape.fields().map(|fields| self::fields(fields, &yaml::Map::default(), format))
            }
            (_, Shape::Words) if format == Format::Json => Some(Value::Null),
            _ => None,
        };
    };
    let value = value(ty, node, format);
    let shown = match ty.print {
        Print::Set | Print::Always => true,
        Print::Part => format == Format::Json || !is_zero(&value),
        Print::Filled => matches!(ty.shape, Shape::Words) || !is_zero(&value) && !is_zero_text(ty.shape, &value),
        Print::Never => false,
    };
    shown.then_some(value)
}

fn map(map: &Map, entries: &yaml::Map, format: Format) -> Value {
    if map.list == Some(Names::Ssh) {
        let show = |(id, entry): (&String, &yaml::Entry)| match entry.value.as_text().filter(|path| !path.is_empty()) {
            Some(path) => Value::Text(format!("{id}: {path}")),
            None => Value::text(id),
        };
        return Value::List(entries.iter().map(show).collect());
    }
    let all = entries.iter().map(|(key, entry)| (key.clone(), value(&map.value, &entry.value, format)));
    Value::Map(sorted(all.collect(), format))
}

/// A pair of limits; JSON leaves zeros out.
fn pair(map: &yaml::Map, format: Format) -> Value {
    let number = |key: &str| match map.value(key).map(|node| &node.kind) {
        Some(Kind::Int(number)) => *number,
        _ => 0,
    };
    let mut entries = vec![("soft".to_owned(), number("soft")), ("hard".to_owned(), number("hard"))];
    entries.retain(|(_, number)| format == Format::Yaml || *number != 0);
    Value::Map(entries.into_iter().map(|(key, number)| (key, Value::Int(number))).collect())
}

/// A file of variables; in YAML compose-go forgets the format.
fn env_file(fields: &Struct, map: &yaml::Map, format: Format) -> Value {
    if map.value("required").is_none_or(Node::is_true) {
        return map.value("path").map_or(Value::Null, |path| any(path, format));
    }
    let Value::Map(mut entries) = self::fields(fields, map, format) else { return Value::Null };
    entries.retain(|(key, _)| format == Format::Json || key != "format");
    Value::Map(entries)
}

/// Returns the `x-*` keys.
fn extensions(map: &yaml::Map, format: Format) -> Vec<(String, Value)> {
    let own = map.iter().filter(|(key, _)| key.starts_with("x-"));
    sorted(own.map(|(key, entry)| (key.clone(), any(&entry.value, format))).collect(), format)
}

/// Returns a value of which the table knows nothing.
fn any(node: &Node, format: Format) -> Value {
    match &node.kind {
        Kind::Seq(items) => Value::List(items.iter().map(|item| any(item, format)).collect()),
        Kind::Map(map) => {
            let all = map.iter().map(|(key, entry)| (key.clone(), any(&entry.value, format)));
            Value::Map(sorted(all.collect(), format))
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => Value::of(node),
    }
}

/// Sorts keys: YAML as go-yaml does, JSON by bytes.
fn sorted(mut map: Vec<(String, Value)>, format: Format) -> Vec<(String, Value)> {
    match format {
        Format::Yaml => map.sort_by(|a, b| write::key_order(&a.0, &b.0)),
        Format::Json => map.sort_by(|a, b| a.0.cmp(&b.0)),
    }
    map
}

fn zero(shape: Shape) -> Value {
    match shape {
        Shape::Bool { .. } => Value::Bool(false),
        Shape::Int(_) => Value::Int(0),
        Shape::Bytes { .. } => Value::text("0"),
        Shape::Map(_) | Shape::Struct(_) => Value::Map(Vec::new()),
        _ => Value::text(""),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Float(value) => *value == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

/// Whether a text is that of a size or a duration that is zero.
fn is_zero_text(shape: Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::Bytes { .. }, Value::Text(text)) => text == "0",
        (Shape::Duration, Value::Text(text)) => text == "0s",
        _ => false,
    }
}
