//! Progress for programs: one JSON object a line, on stderr, with the keys of docker compose's `--progress json`.
//!
//! ```json
//! {"id": "Container shop-web-1", "status": "Started", "elapsed": 0.012}
//! {"id": "Image nginx", "current": 1048576, "total": 52428800, "percent": 2}
//! {"id": "Step web [builder 2/5] RUN npm ci", "text": "added 7 packages"}
//! {"level": "warning", "msg": "…", "file": "compose.yaml", "line": 3, "column": 5}
//! {"error": true, "message": "…", "file": "compose.yaml", "line": 7, "column": 9, "help": "did you mean `db`?"}
//! ```
//!
//! `elapsed` is in seconds. What says nothing is left out. What a failed step said last is its error's `output`.
//!
//! Invariant: pure.

use hoist::diag::{Diagnostic, Report, Severity, Sources};
use hoist::event::{Event, Progress, Subject};
use serde_json::{Map, Value, json};

/// Returns what an event says; `None` for those that are about the drawing alone, or for who is attached.
pub(super) fn of_event(event: &Event) -> Option<Value> {
    let id = |subject: &Subject| format!("{} {}", subject.kind(), subject.name());
    match event {
        Event::Begin { .. } | Event::End | Event::Hook { .. } | Event::Explained { .. } => None,
        Event::Progress { subject, progress, elapsed, detail } => {
            let status = match progress {
                Progress::Working(word) | Progress::Done(word) => word,
                Progress::Failed => "Error",
            };
            let mut line = json!({ "id": id(subject), "status": status });
            if !matches!(progress, Progress::Working(_)) {
                line["elapsed"] = json!(elapsed.as_secs_f64());
            }
            if let Some(detail) = detail {
                line["text"] = json!(detail);
            }
            Some(line)
        }
        Event::Transfer { subject, done, total } => {
            let percent = done.saturating_mul(100).checked_div(*total).unwrap_or(0);
            Some(json!({ "id": id(subject), "current": done, "total": total, "percent": percent }))
        }
        Event::Said { subject, line } => Some(json!({ "id": id(subject), "text": line })),
        Event::Warning(text) => Some(of_warning(text)),
    }
}

/// Returns what a warning without a place says.
pub(super) fn of_warning(text: &str) -> Value {
    of_diagnostic(&Diagnostic::warning(None, text), &Sources::default())
}

/// Returns what a line for the user says.
pub(super) fn of_note(text: &str) -> Value {
    json!({ "level": "info", "msg": text })
}

/// Returns an error or a warning with its place.
pub(super) fn of_diagnostic(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let Value::Object(all) = diagnostic.json(sources) else { return Value::Null };
    let mut line = Map::new();
    let is_error = diagnostic.severity == Severity::Error;
    match is_error {
        true => line.insert("error".into(), json!(true)),
        false => line.insert("level".into(), json!("warning")),
    };
    for (key, value) in all {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        match key.as_str() {
            "severity" => {}
            "message" if !is_error => drop(line.insert("msg".into(), value)),
            _ if is_empty => {}
            _ => drop(line.insert(key, value)),
        }
    }
    Value::Object(line)
}

/// Returns each error of a run, the last one with what was said by what failed.
pub(super) fn of_report(report: &Report) -> Vec<Value> {
    let mut lines: Vec<Value> = report.diagnostics.iter().map(|d| of_diagnostic(d, &report.sources)).collect();
    if let Some(last) = lines.last_mut().filter(|_| !report.quotes.is_empty()) {
        let quotes = report.quotes.iter().map(|quote| json!({ "title": quote.title, "lines": quote.lines }));
        last["output"] = quotes.collect();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist::diag::{Quote, Span};
    use std::time::Duration;

    #[test]
    fn events_have_the_keys_of_docker_compose() {
        let subject = || Subject::Container("shop-web-1".into());
        let progress = |progress, detail: Option<&str>| Event::Progress {
            subject: subject(),
            progress,
            elapsed: Duration::from_millis(1500),
            detail: detail.map(str::to_owned),
        };
        let line = |event: Event| of_event(&event).map_or_else(String::new, |line| line.to_string());
        assert_eq!(
            line(progress(Progress::Working("Creating"), None)),
            r#"{"id":"Container shop-web-1","status":"Creating"}"#
        );
        assert_eq!(
            line(progress(Progress::Done("Created"), None)),
            r#"{"id":"Container shop-web-1","status":"Created","elapsed":1.5}"#
        );
        assert_eq!(
            line(progress(Progress::Failed, Some("no"))),
            r#"{"id":"Container shop-web-1","status":"Error","elapsed":1.5,"text":"no"}"#
        );
        assert_eq!(
            line(Event::Transfer { subject: Subject::Image("x".into()), done: 1, total: 3 }),
            r#"{"id":"Image x","current":1,"total":3,"percent":33}"#
        );
        assert_eq!(
            line(Event::Transfer { subject: Subject::Image("x".into()), done: 1, total: 0 }),
            r#"{"id":"Image x","current":1,"total":0,"percent":0}"#
        );
        assert_eq!(
            line(Event::Said { subject: Subject::Step("web [1/2] RUN x".into()), line: "\"hi\"".into() }),
            r#"{"id":"Step web [1/2] RUN x","text":"\"hi\""}"#
        );
        assert_eq!(line(Event::Warning("odd".into())), r#"{"level":"warning","msg":"odd"}"#);
        assert_eq!(line(Event::End), "");
    }

    #[test]
    fn errors_have_their_places_and_what_was_said_last() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "a: b\n");
        let diagnostics = vec![
            Diagnostic::error(None, "first"),
            Diagnostic::error(Some(Span::new(file, 3, 4)), "no `b`").help("write c"),
        ];
        let quotes = vec![Quote { title: "last output of x".into(), lines: vec!["boom".into()] }];
        let report = Report { diagnostics, sources, quotes, ..Report::default() };
        let lines: Vec<String> = of_report(&report).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                r#"{"error":true,"message":"first"}"#,
                r#"{"error":true,"message":"no `b`","file":"compose.yaml","line":1,"column":4,"end":{"line":1,"column":5},"help":"write c","output":[{"title":"last output of x","lines":["boom"]}]}"#,
            ]
        );
    }
}
