//! The canonical tree → what `config` prints, as a plain value.
//!
//! Which keys, in which order, and which of them even when they are empty, is the attribute table's; what is left here is
//! how each kind of value is shown. The two formats differ as Go's encoders of YAML and JSON differ for compose-go's types.
//!
//! Invariant: pure; the same tree gives the same value.

use super::schema::{FILE, Field, Map, Names, Print, Shape, Special, Struct, Type};
use super::tree::Entries as _;
use super::value::{Fields, Int, Value};
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
pub(crate) fn project(root: &Node, format: Format) -> Value<'_> {
    let Shape::Struct(fields) = FILE.shape else { return Value::Null };
    let Some(map) = root.as_map() else { return self::fields(fields, None, format) };
    let Value::Map(mut entries) = self::fields(fields, Some(map), format) else { return Value::Null };
    if format == Format::Json {
        // The top level is a map there, and compose-go forgets the models.
        entries.retain(|(key, _)| key != "models");
        entries.extend(extensions(map, format));
        entries = sorted(entries, format);
    }
    Value::Map(entries)
}

/// Returns one service.
pub(crate) fn service(map: &yaml::Map, format: Format) -> Value<'_> {
    super::schema::SERVICE.shape.fields().map_or(Value::Null, |fields| self::fields(fields, Some(map), format))
}

/// Returns the tree as it is, keys sorted: what `--no-interpolate` prints.
pub(crate) fn raw(node: &Node, format: Format) -> Value<'_> {
    any(node, format)
}

/// Returns one attribute, or something of which the table knows nothing.
pub(crate) fn one<'n>(ty: Option<&Type>, node: &'n Node, format: Format) -> Value<'n> {
    ty.map_or_else(|| any(node, format), |ty| value(ty, node, format))
}

fn value<'n>(ty: &Type, node: &'n Node, format: Format) -> Value<'n> {
    match (ty.shape, &node.kind) {
        (Shape::Struct(fields) | Shape::Short(_, fields), Kind::Map(map)) => match fields.special {
            Special::Ulimit => pair(Some(map), format),
            Special::EnvFile => env_file(fields, map, format),
            Special::None | Special::Resource | Special::Bare => self::fields(fields, Some(map), format),
        },
        // What the project declares is never nothing, even when nothing is said about it.
        (Shape::Struct(fields), Kind::Null) if fields.special == Special::Resource => {
            self::fields(fields, None, format)
        }
        (Shape::Short(_, fields), Kind::Int(number)) if fields.special == Special::Ulimit && number.get() == 0 => {
            pair(None, format)
        }
        (Shape::Map(map), Kind::Map(entries)) => self::map(map, entries, format),
        (Shape::List(list), Kind::Seq(items)) => {
            Value::List(items.iter().map(|item| value(&list.item, item, format)).collect())
        }
        _ => any(node, format),
    }
}

fn fields<'n>(fields: &Struct, map: Option<&'n yaml::Map>, format: Format) -> Value<'n> {
    let count = map.map_or(0, yaml::Map::len);
    let mut entries: Fields<'n> = Vec::with_capacity(count);
    let key = |field: &Field| if format == Format::Json { field.json } else { field.name };
    // A service has some ten keys of nearly a hundred: they are looked for in the table, and not the table's in them.
    let written = map.into_iter().flatten().filter(|(_, entry)| !entry.value.is_null());
    let mut there: Vec<(usize, &Node)> = Vec::with_capacity(count);
    there.extend(written.filter_map(|(key, entry)| Some((fields.place(key)?, &entry.value))));
    there.sort_unstable_by_key(|(at, _)| *at);
    let mut there = there.into_iter().peekable();
    for (at, field) in fields.fields.iter().enumerate() {
        let node = there.next_if(|(of, _)| *of == at).map(|(_, node)| node);
        if let Some(value) = self::field(field, node, format) {
            entries.push((key(field).into(), value));
        }
    }
    if format == Format::Yaml && fields.special != Special::Bare {
        entries.extend(map.into_iter().flat_map(|map| extensions(map, format)));
    }
    Value::Map(entries)
}

/// Returns what is printed of a field, if anything; `node` is what was written for it.
fn field<'n>(field: &Field, node: Option<&'n Node>, format: Format) -> Option<Value<'n>> {
    let ty = &field.ty;
    if ty.print == Print::Never {
        return None;
    }
    let Some(node) = node else {
        return match (ty.print, ty.shape) {
            (Print::Always, shape) => Some(zero(shape)),
            (Print::Part, shape) if format == Format::Json => {
                shape.fields().map(|fields| self::fields(fields, None, format))
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

fn map<'n>(map: &Map, entries: &'n yaml::Map, format: Format) -> Value<'n> {
    if map.list == Some(Names::Ssh) {
        let show = |(id, entry): (&'n String, &yaml::Entry)| match entry.value.as_text().filter(|path| !path.is_empty())
        {
            Some(path) => Value::text(format!("{id}: {path}")),
            None => Value::text(id),
        };
        return Value::List(entries.iter().map(show).collect());
    }
    let all = entries.iter().map(|(key, entry)| (key.into(), value(&map.value, &entry.value, format)));
    Value::Map(sorted(all.collect(), format))
}

/// A pair of limits; JSON leaves zeros out.
fn pair(map: Option<&yaml::Map>, format: Format) -> Value<'static> {
    let number = |key: &str| match map.and_then(|map| map.value(key)).map(|node| &node.kind) {
        Some(Kind::Int(number)) => *number,
        _ => Int::from(0_u64),
    };
    let entries = ["soft", "hard"].map(|key| (key, number(key))).into_iter();
    let shown = entries.filter(|(_, number)| format == Format::Yaml || number.get() != 0);
    Value::Map(shown.map(|(key, number)| (key.into(), Value::Int(number))).collect())
}

/// A file of variables; in YAML compose-go forgets the format.
fn env_file<'n>(fields: &Struct, map: &'n yaml::Map, format: Format) -> Value<'n> {
    if map.value("required").is_none_or(Node::is_true) {
        return map.value("path").map_or(Value::Null, |path| any(path, format));
    }
    let Value::Map(mut entries) = self::fields(fields, Some(map), format) else { return Value::Null };
    entries.retain(|(key, _)| format == Format::Json || key != "format");
    Value::Map(entries)
}

/// Returns the `x-*` keys.
fn extensions(map: &yaml::Map, format: Format) -> Fields<'_> {
    let own = map.iter().filter(|(key, _)| key.starts_with("x-"));
    sorted(own.map(|(key, entry)| (key.into(), any(&entry.value, format))).collect(), format)
}

/// Returns a value of which the table knows nothing.
fn any(node: &Node, format: Format) -> Value<'_> {
    match &node.kind {
        Kind::Seq(items) => Value::List(items.iter().map(|item| any(item, format)).collect()),
        Kind::Map(map) => {
            let all = map.iter().map(|(key, entry)| (key.into(), any(&entry.value, format)));
            Value::Map(sorted(all.collect(), format))
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => Value::of(node),
    }
}

/// Sorts keys: YAML as go-yaml does, JSON by bytes.
fn sorted(mut map: Fields<'_>, format: Format) -> Fields<'_> {
    match format {
        Format::Yaml => map.sort_by(|a, b| write::key_order(&a.0, &b.0)),
        Format::Json => map.sort_by(|a, b| a.0.cmp(&b.0)),
    }
    map
}

fn zero(shape: Shape) -> Value<'static> {
    match shape {
        Shape::Bool { .. } => Value::Bool(false),
        Shape::Int(_) => Value::Int(0_u64.into()),
        Shape::Bytes { .. } => Value::text("0"),
        Shape::Map(_) | Shape::Struct(_) => Value::Map(Vec::new()),
        _ => Value::text(""),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => value.get() == 0,
        Value::Float(value) => *value == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

/// Whether a text is that of a size or a duration that is zero.
fn is_zero_text(shape: Shape, value: &Value<'_>) -> bool {
    match (shape, value) {
        (Shape::Bytes { .. }, Value::Text(text)) => text == "0",
        (Shape::Duration, Value::Text(text)) => text == "0s",
        _ => false,
    }
}
