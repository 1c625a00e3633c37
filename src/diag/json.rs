//! Diagnostics for programs, such as editors.
//!
//! ```json
//! {"diagnostics": [{
//!   "severity": "error",
//!   "message": "service `web` depends on `dbb`, which is not defined",
//!   "file": "compose.yaml", "line": 7, "column": 9, "end": {"line": 7, "column": 12},
//!   "label": null,
//!   "notes": [{"message": "defined here", "file": "compose.yaml", "line": 2, "column": 3, "end": {"line": 2, "column": 5}}],
//!   "help": "did you mean `db`?"
//! }]}
//! ```
//!
//! Lines and columns count from 1, columns in characters; `end` is one past the last. What has no place has `null` for `file`,
//! `line`, `column` and `end`; what has no label or help has `null` there. Errors come in the order of the files.
//!
//! Invariant: pure.

use serde_json::{Value, json};

use super::{Diagnostic, Severity, Sources, Span, without_numbers};

/// Returns the diagnostics as one JSON document that ends in a newline.
#[must_use]
pub fn json(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let all: Vec<Value> = diagnostics.iter().map(|diagnostic| one(diagnostic, sources)).collect();
    format!("{:#}\n", json!({ "diagnostics": all }))
}

pub(super) fn one(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let notes: Vec<Value> =
        diagnostic.notes.iter().map(|(span, text)| placed(json!({ "message": text }), Some(*span), sources)).collect();
    let message = without_numbers(&diagnostic.message);
    let mut value = placed(json!({ "severity": severity, "message": message }), diagnostic.span, sources);
    value["label"] = json!(diagnostic.label);
    value["notes"] = json!(notes);
    value["help"] = json!(diagnostic.help);
    value
}

/// Adds the place to `value`.
fn placed(mut value: Value, span: Option<Span>, sources: &Sources) -> Value {
    let start = span.map(|span| sources.line_col(span));
    let end = span.map(|span| sources.line_col(Span { lo: span.hi, ..span }));
    value["file"] = json!(span.map(|span| sources.path(span.file).display().to_string()));
    value["line"] = json!(start.map(|(line, _)| line));
    value["column"] = json!(start.map(|(_, column)| column));
    value["end"] = end.map_or(Value::Null, |(line, column)| json!({ "line": line, "column": column }));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_diagnostic_has_its_places_and_what_it_lacks_is_null() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "a: é\nb: xyz\n");
        let all = [
            Diagnostic::error(Some(Span::new(file, 9, 12)), "no such `xyz`")
                .note(Span::new(file, 3, 5), "here")
                .help("write"),
            Diagnostic::warning(None, "cannot read `f`: Permission denied (os error 13)").label("why"),
        ];
        let value: Value = serde_json::from_str(&json(&all, &sources)).expect("JSON");
        let place = |line: usize, from: usize, to: usize| json!({ "file": "compose.yaml", "line": line, "column": from, "end": { "line": line, "column": to } });
        let with = |mut value: Value, more: Value| {
            let (Value::Object(all), Value::Object(more)) = (&mut value, more) else { panic!("objects") };
            all.extend(more);
            value
        };
        let note = with(json!({ "message": "here" }), place(1, 4, 5));
        let error = with(json!({ "severity": "error", "message": "no such `xyz`" }), place(2, 4, 7));
        let error = with(error, json!({ "label": null, "notes": [note], "help": "write" }));
        let warning = json!({
            "severity": "warning", "message": "cannot read `f`: Permission denied",
            "file": null, "line": null, "column": null, "end": null, "label": "why", "notes": [], "help": null,
        });
        assert_eq!(value, json!({ "diagnostics": [error, warning] }));
    }
}
