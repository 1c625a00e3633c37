//! An explanation as text, and as JSON.
//!
//! Invariant: pure.

use super::{By, Contribution, Explanation, Fate, Source, Used};
use crate::compose::value::{Fields, Value};
use crate::compose::{json as notation, write};
use crate::diag::{Sources, Span};

/// Returns the explanation for a person.
pub(crate) fn text(explanation: &Explanation, sources: &Sources) -> String {
    let Explanation { value, places, rule, after, variables, .. } = explanation;
    let mut out = write::yaml(value).replace('$', "$$");
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str("\nfrom:\n");
    for place in places {
        out.push_str(&format!("  {}{}\n", sources.place(place.at), by(place, sources)));
        out.push_str(&indented(&place.written, 6));
        if let Some(means) = &place.means {
            out.push_str(&format!("      means {}\n", shown(means)));
        }
        if let Some(fate) = fate(place, places.len()) {
            out.push_str(&format!("    {fate}\n"));
        }
    }
    if places.len() > 1 {
        out.push_str(&format!("rule: {rule}\n"));
    }
    if let Some(after) = after {
        out.push_str(&format!("then: {after}\n"));
    }
    if !variables.is_empty() {
        out.push_str("variables:\n");
        variables.iter().for_each(|used| out.push_str(&format!("  {}\n", variable(used, sources))));
    }
    out
}

/// Returns the explanation for a program.
pub(crate) fn json(explanation: &Explanation, sources: &Sources) -> String {
    let text = Value::text;
    let places = explanation.places.iter().map(|place| {
        let mut fields = placed(Some(place.at), sources);
        fields.push(("by".into(), text(word(place.by))));
        let asked = match place.by {
            By::Extends(at) | By::Include(at) | By::ServiceFile(_, at) => Value::text(sources.place(at)),
            By::File | By::Override | By::Specification => Value::Null,
        };
        fields.push(("asked_for_at".into(), asked));
        fields.push(("written".into(), text(&place.written)));
        fields.push(("means".into(), place.means.clone().unwrap_or(Value::Null)));
        let fate = match place.fate {
            Fate::Counts => "counts",
            Fate::Part => "part",
            Fate::Replaced => "replaced",
            Fate::Removed => "removed",
            Fate::Removes => "removes",
            Fate::Nothing => "nothing",
        };
        fields.push(("fate".into(), text(fate)));
        Value::Map(fields)
    });
    let variables = explanation.variables.iter().map(|used| {
        let (from, at) = match used.from {
            Source::File(at) => ("file", Some(at)),
            Source::Process => ("process", None),
            Source::Project => ("project", None),
            Source::Nowhere => ("nowhere", None),
        };
        let mut fields = vec![
            ("name".into(), text(&used.name)),
            ("value".into(), used.value.as_deref().map_or(Value::Null, Value::text)),
            ("default".into(), text(&used.default)),
            ("from".into(), text(from)),
        ];
        fields.extend(placed(at, sources));
        Value::Map(fields)
    });
    let fields = [
        ("path", text(&explanation.path)),
        ("value", explanation.value.clone()),
        ("places", Value::List(places.collect())),
        ("rule", text(&explanation.rule)),
        ("after", explanation.after.as_deref().map_or(Value::Null, Value::text)),
        ("variables", Value::List(variables.collect())),
    ];
    let fields = fields.into_iter().map(|(key, value)| (key.into(), value));
    format!("{}\n", notation::pretty(&Value::Map(fields.collect())))
}

fn placed(at: Option<Span>, sources: &Sources) -> Fields<'static> {
    let number = |n: usize| u64::try_from(n).map_or(Value::Null, |n| Value::Int(n.into()));
    let (line, column) = at.map_or((Value::Null, Value::Null), |at| {
        let (line, column) = sources.line_col(at);
        (number(line), number(column))
    });
    let file = at.map_or(Value::Null, |at| Value::text(sources.path(at.file).display().to_string()));
    vec![("file".into(), file), ("line".into(), line), ("column".into(), column)]
}

/// Returns who says it, in one word.
fn word(by: By) -> &'static str {
    match by {
        By::File => "file",
        By::Override => "override",
        By::Extends(_) => "extends",
        By::Include(_) => "include",
        By::ServiceFile("labels", _) => "label_file",
        By::ServiceFile(..) => "env_file",
        By::Specification => "specification",
    }
}

fn by(place: &Contribution, sources: &Sources) -> String {
    match place.by {
        By::File => String::new(),
        By::Override => ", a file that overrides".into(),
        By::Extends(at) => format!(", extended at {}", sources.place(at)),
        By::Include(at) => format!(", included at {}", sources.place(at)),
        By::ServiceFile(..) => {
            let By::ServiceFile(_, at) = place.by else { return String::new() };
            format!(", the {} at {}", word(place.by), sources.place(at))
        }
        By::Specification => ": no file says it, it follows from what stands here".into(),
    }
}

/// Returns what became of what was said, unless it goes without saying.
fn fate(place: &Contribution, count: usize) -> Option<&'static str> {
    match place.fate {
        Fate::Counts | Fate::Part if count == 1 => None,
        Fate::Counts => Some("this one counts"),
        Fate::Part => Some("a part of it"),
        Fate::Replaced => Some("replaced by a later place"),
        Fate::Removed => Some("removed by a later place"),
        Fate::Removes => Some("removes what was there before"),
        Fate::Nothing => Some("says nothing, and changes nothing"),
    }
}

fn variable(used: &Used, sources: &Sources) -> String {
    let name = &used.name;
    match (&used.value, used.from) {
        (Some(value), Source::File(at)) => format!("{name} = {} from {}", quoted(value), sources.place(at)),
        (Some(value), Source::Process) => format!("{name} = {} from the environment of the process", quoted(value)),
        (Some(value), _) => format!("{name} = {} from the project itself", quoted(value)),
        (None, _) if used.default.is_empty() => format!("{name} is not set; nothing stands in its place"),
        (None, _) => format!("{name} is not set; its default {} stands in", quoted(&used.default)),
    }
}

fn quoted(text: &str) -> String {
    shown(&Value::text(text))
}

/// Returns a value on one line: a text without quotes where that leaves no doubt.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) if !text.is_empty() && !text.contains(['\n', '\t']) && text.trim() == text => {
            format!("`{text}`")
        }
        other => flow(other),
    }
}

/// Returns a value on one line, as YAML.
fn flow(value: &Value<'_>) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::List(items) => format!("[{}]", list(items.iter().map(flow).collect())),
        Value::Map(map) => {
            format!("{{{}}}", list(map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect()))
        }
        scalar => write::yaml(scalar).trim_end().to_owned(),
    }
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}
