//! The table beside the schema of the specification: every path, every form and every type that the one accepts is known to
//! the other.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{FILE, Form, Null, Number, One, Shape, Type};

/// What the schema accepts and docker compose fails to decode, so that there is nothing to print.
const REFUSED_LATER: &[&str] = &[
    ".services.*.expose[]: the schema accepts a value of type number",
    ".services.*.group_add[]: the schema accepts a value of type number",
    ".services.*.volumes[].tmpfs.mode: the schema accepts a value of type string",
];

/// A kind of value in the words of the schema.
type Kinds = BTreeSet<&'static str>;

/// Returns which kinds of values the table accepts at a place.
fn accepted(ty: &Type) -> Kinds {
    let mut kinds = Kinds::new();
    match ty.shape {
        Shape::Any => kinds.extend(["string", "number", "integer", "boolean", "null", "array", "object"]),
        Shape::Text(text) => {
            kinds.insert("string");
            if text.number != Number::No {
                kinds.insert("integer");
            }
            if text.number == Number::Any {
                kinds.insert("number");
            }
            if text.boolean {
                kinds.insert("boolean");
            }
            if text.null != Null::No {
                kinds.insert("null");
            }
        }
        Shape::Bool { strict } => {
            kinds.insert("boolean");
            if !strict {
                kinds.insert("string");
            }
        }
        Shape::Int(int) => {
            kinds.extend(["integer", "number"]);
            if !int.strict {
                kinds.insert("string");
            }
        }
        Shape::Float(_) | Shape::Mode => kinds.extend(["integer", "number", "string"]),
        Shape::Bytes { number, .. } => {
            kinds.insert("string");
            if number {
                kinds.extend(["integer", "number"]);
            }
        }
        Shape::Duration => {
            kinds.insert("string");
        }
        Shape::Count => kinds.extend(["integer", "string"]),
        Shape::Words => kinds.extend(["null", "string", "array"]),
        Shape::Test => kinds.extend(["string", "array"]),
        Shape::List(list) => {
            kinds.insert("array");
            if list.one != One::No {
                kinds.insert("string");
                kinds.extend(accepted(&list.item).into_iter().filter(|kind| *kind != "object"));
            }
        }
        Shape::Pairs(_) | Shape::Hosts => kinds.extend(["array", "object"]),
        Shape::Map(map) => {
            kinds.insert("object");
            if map.list.is_some() {
                kinds.insert("array");
            }
        }
        Shape::Struct(fields) => {
            kinds.insert("object");
            if fields.null {
                kinds.insert("null");
            }
        }
        Shape::Short(form, _) => {
            kinds.insert("object");
            match form {
                Form::External => kinds.extend(["boolean", "string"]),
                Form::Ulimit | Form::Port => kinds.extend(["integer", "number", "string"]),
                Form::Key(_) | Form::EnvFile | Form::Mount | Form::Device => {
                    kinds.insert("string");
                }
            }
        }
    }
    kinds
}

/// Walks the schema and the table together.
struct Walk<'a> {
    root: &'a Value,
    /// Paths that were met.
    paths: BTreeSet<String>,
    /// What is in the schema and not in the table.
    missing: Vec<String>,
}

impl<'a> Walk<'a> {
    fn resolved(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(name) = schema["$ref"].as_str() {
            schema = self.root.pointer(name.trim_start_matches('#')).expect("a definition");
        }
        schema
    }

    /// Looks at what the schema accepts at `path`, where the table has `ty`.
    fn at(&mut self, path: &str, schema: &'a Value, ty: &'static Type, null: bool) {
        let schema = self.resolved(schema);
        if let Some(forms) = schema["oneOf"].as_array() {
            forms.iter().for_each(|form| self.at(path, form, ty, null));
            return;
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            // An enumeration of texts, or anything.
            _ => Vec::new(),
        };
        let accepted = accepted(ty);
        for kind in kinds {
            let known = accepted.contains(kind) || null && kind == "null";
            if !known {
                self.missing.push(format!("{path}: the schema accepts a value of type {kind}"));
            }
        }
        self.words(path, schema, ty);
        if let Some(properties) = schema["properties"].as_object() {
            for (key, below) in properties {
                let path = format!("{path}.{key}");
                self.paths.insert(path.clone());
                match ty.shape.below(Some(key)) {
                    Some(ty) => self.at(&path, below, ty, false),
                    None => self.missing.push(format!("{path}: not in the table")),
                }
            }
            self.required(path, schema, ty);
        }
        if let Some(patterns) = schema["patternProperties"].as_object() {
            for (pattern, below) in patterns.iter().filter(|(pattern, _)| *pattern != "^x-") {
                match ty.shape {
                    Shape::Map(map) => self.at(&format!("{path}.*"), below, &map.value, map.null),
                    Shape::Pairs(_) | Shape::Hosts => {}
                    _ => self.missing.push(format!("{path}: names like {pattern} are not in the table")),
                }
            }
            let extensions = patterns.contains_key("^x-");
            if let Some(fields) = ty.shape.fields().filter(|fields| extensions && !fields.extensions) {
                self.missing.push(format!("{path}: x- is allowed beside {} fields", fields.fields.len()));
            }
        }
        if !schema["items"].is_null() {
            match (ty.shape, ty.shape.below(None)) {
                (_, Some(item)) => self.at(&format!("{path}[]"), &schema["items"], item, false),
                (Shape::Map(map), None) if map.list.is_some() => {}
                (Shape::Pairs(_) | Shape::Hosts | Shape::Words | Shape::Test, None) => {}
                _ => self.missing.push(format!("{path}: a list is not in the table")),
            }
        }
    }

    /// Compares the words that text may be.
    fn words(&mut self, path: &str, schema: &Value, ty: &Type) {
        let Some(words) = schema["enum"].as_array() else { return };
        let known: Vec<&str> = match ty.shape {
            Shape::Text(text) => match text.pattern {
                super::Pattern::Words(words) => words.to_vec(),
                _ => return self.missing.push(format!("{path}: any text is accepted")),
            },
            Shape::List(list) if list.one == One::All => vec!["all"],
            _ => return self.missing.push(format!("{path}: no words")),
        };
        for word in words.iter().filter_map(Value::as_str).filter(|word| !known.contains(word)) {
            self.missing.push(format!("{path}: the word {word}"));
        }
    }

    fn required(&mut self, path: &str, schema: &Value, ty: &Type) {
        let Some(fields) = ty.shape.fields() else { return };
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if fields.field(key).is_none_or(|field| field.required.is_none()) {
                self.missing.push(format!("{path}.{key}: it is required"));
            }
        }
    }
}

#[test]
fn every_path_form_and_type_of_the_specification_is_in_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/compose-spec.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        crate::testing::skip(&format!("the schema is not at {}", path.display()));
        return;
    };
    let root: Value = serde_json::from_str(&text).expect("JSON");
    let mut walk = Walk { root: &root, paths: BTreeSet::new(), missing: Vec::new() };
    walk.at("", &root, &FILE, false);
    assert!(walk.paths.len() > 330, "only {} paths", walk.paths.len());
    for known in REFUSED_LATER {
        assert!(walk.missing.iter().any(|line| line == known), "not so any more: {known}");
    }
    walk.missing.retain(|line| !REFUSED_LATER.contains(&line.as_str()));
    assert!(walk.missing.is_empty(), "{}", walk.missing.join("\n"));
}

/// Returns all paths of the table.
fn paths(ty: &'static Type, at: &str, found: &mut Vec<String>) {
    match ty.shape {
        Shape::Struct(fields) | Shape::Short(_, fields) => {
            for field in fields.fields {
                let path = format!("{at}.{}", field.name);
                assert!(fields.field(field.name).is_some_and(|it| std::ptr::eq(it, field)), "{path} is not found");
                found.push(path.clone());
                paths(&field.ty, &path, found);
            }
        }
        Shape::Map(map) => paths(&map.value, &format!("{at}.*"), found),
        Shape::List(list) => paths(&list.item, &format!("{at}[]"), found),
        _ => {}
    }
}

#[test]
fn the_table_has_the_keys_that_the_specification_counts() {
    let mut found = Vec::new();
    paths(&FILE, "", &mut found);
    let below = |prefix: &str, depth: usize| {
        found.iter().filter(|path| path.starts_with(prefix) && path.matches('.').count() == depth).count()
    };
    assert_eq!(below(".", 1), 9, "keys of a file");
    assert_eq!(below(".services.*.", 3), 93, "keys of a service");
    assert_eq!(below(".services.*.build.", 4), 25, "keys of a build");
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "a key stands twice");
}
