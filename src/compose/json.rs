//! [`Value`] → JSON, with the escapes of Go's `encoding/json`, which writes `<`, `>` and `&` as code points.

use super::scalar;
use super::value::Value;

/// Returns `value` over several lines, two blanks a level, without a newline at the end.
pub(crate) fn pretty(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(value, Some(0), &mut out);
    out
}

/// Returns `value` on one line without blanks.
pub(crate) fn compact(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(value, None, &mut out);
    out
}

fn write(value: &Value<'_>, level: Option<usize>, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        // JSON has no infinities; Go refuses them, text is the next best.
        Value::Float(value) if value.is_finite() => out.push_str(&value.to_string()),
        Value::Float(value) => text(&scalar::go_float(*value), out),
        Value::Text(value) => text(value, out),
        Value::List(list) => {
            surround('[', ']', list.iter(), level, out, write);
        }
        Value::Map(map) => surround('{', '}', map.iter(), level, out, |(key, value), level, out| {
            text(key, out);
            out.push_str(if level.is_some() { ": " } else { ":" });
            write(value, level, out);
        }),
    }
}

fn surround<T>(
    open: char,
    close: char,
    items: impl ExactSizeIterator<Item = T>,
    level: Option<usize>,
    out: &mut String,
    mut each: impl FnMut(T, Option<usize>, &mut String),
) {
    let inner = level.map(|level| level + 1);
    let line = |level: Option<usize>, out: &mut String| {
        if let Some(level) = level {
            out.push('\n');
            out.push_str(&"  ".repeat(level));
        }
    };
    out.push(open);
    let empty = items.len() == 0;
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        line(inner, out);
        each(item, inner, out);
    }
    if !empty {
        line(level, out);
    }
    out.push(close);
}

fn text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..=' ' if c != ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}
