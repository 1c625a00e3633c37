//! What `config` is asked, and its answers as docker compose gives them.
//!
//! Where docker compose answers in the order of a hash map, ours is the order of the file.
//!
//! Invariant: pure, but for what the pipeline reads.

use super::print::Format;
use super::value::{Fields, Value};
use super::{Leave, Model, Read, Request, config, explain, json, lint, locate, look, select, write};
use crate::diag::{self, Diagnostic, Report, Sources};

/// What is asked of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// All of it.
    Model(Format),
    /// Names of the services that are on, each after its dependencies.
    Services,
    /// Names of the volumes.
    Volumes,
    /// Names of the networks.
    Networks,
    /// Artifacts of the models.
    Models,
    /// Names of all profiles.
    Profiles,
    /// Images of the services.
    Images,
    /// Hashes of these services, or of all.
    Hashes(Option<Vec<String>>),
    /// The variables that the files name; without a format as a table.
    Variables(Option<Format>),
    /// The environment that variables are replaced from.
    Environment,
    /// The value at a path, and where it came from.
    Explain(String, Format),
    /// What the rules of `docs/lint.md` find; with the model in this format, or as JSON instead of it.
    Lint(Format),
}

/// An answer, and what there was to say on the way.
#[derive(Debug)]
pub struct Answer {
    /// What is printed.
    pub text: String,
    /// Warnings in file order.
    pub warnings: Vec<Diagnostic>,
    /// What rules found, in file order, if they were asked.
    pub findings: Vec<Diagnostic>,
    /// The texts that the warnings point into.
    pub sources: Sources,
}

/// Loads what the question needs, and answers it.
///
/// # Errors
/// Every mistake in the files; a service that does not exist.
pub fn answer(request: &Request, question: &Question) -> Result<Answer, Report> {
    let leave = request.leave;
    let all = Vec::new();
    let (services, leave) = match question {
        Question::Model(_) => (&request.services, Leave { env_files: false, ..leave }),
        Question::Environment => (&request.services, leave),
        Question::Lint(_) => (&request.services, Leave { variables: false, env_files: false, unused: true, ..leave }),
        Question::Explain(..) => (&all, Leave { variables: false, env_files: false, unused: true, ..leave }),
        Question::Variables(_) => (&all, Leave { variables: true, ..leave }),
        Question::Profiles | Question::Images => {
            (&request.services, Leave { variables: false, env_files: true, ..leave })
        }
        Question::Services => (&all, Leave { env_files: true, ..leave }),
        Question::Volumes | Question::Networks | Question::Models | Question::Hashes(_) => {
            (&all, Leave { variables: false, env_files: true, ..leave })
        }
    };
    let trail = matches!(question, Question::Explain(..) | Question::Lint(_));
    let request = Request { services: services.clone(), leave, trail, ..request.clone() };
    let mut unmet = Vec::new();
    let asked = matches!(question, Question::Lint(_)).then_some(&mut unmet);
    let Read { mut model, mut warnings, sources } = look(&request, asked)?;
    let mut findings = Vec::new();
    let text = match question {
        Question::Model(format) => config::config(&model, *format),
        Question::Services if leave.variables => lines(model.names("services")),
        Question::Services => lines(model.services()),
        Question::Volumes => lines(model.names("volumes")),
        Question::Networks => lines(model.names("networks")),
        Question::Models => lines(model.models()),
        Question::Profiles => lines(model.profiles()),
        Question::Images => lines(model.images().into_iter().map(|(_, image)| image)),
        Question::Hashes(names) => hashes(&model, names.as_deref())?,
        Question::Variables(format) => variables(&model, *format),
        Question::Explain(path, format) => {
            let explained = explain::explain(&model, &sources, &request.env, path, *format).map_err(Report::from)?;
            match format {
                Format::Yaml => explain::text(&explained, &sources),
                Format::Json => explain::json(&explained, &sources),
            }
        }
        Question::Lint(format) => {
            findings = lint::findings(&model, &sources, &unmet, &locate::exists);
            // What a rule says better is said once.
            warnings.retain(|warning| warning.span.is_none() || findings.iter().all(|f| f.span != warning.span));
            match format {
                Format::Json => diag::json(&findings, &sources),
                Format::Yaml => {
                    select::used(&mut model.root);
                    config::config(&model, *format)
                }
            }
        }
        Question::Environment => lines(model.environment().iter().map(|(name, value)| format!("{name}={value}"))),
    };
    // The answer is the last thing that a process has to do, and a tenth of its time would go into giving back, one by one,
    // the hundred thousand pieces that the tree of a large file is made of.
    std::mem::forget(model);
    // Who asks about one value has no use for what there is to say about others.
    let warnings = if matches!(question, Question::Explain(..)) { Vec::new() } else { warnings };
    Ok(Answer { text, warnings, findings, sources })
}

fn lines<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("{}\n", item.as_ref())).collect()
}

fn hashes(model: &Model, names: Option<&[String]>) -> Result<String, Report> {
    let all = model.hashes();
    let Some(names) = names else { return Ok(lines(all.iter().map(|(name, hash)| format!("{name} {hash}")))) };
    let mut names = names.to_vec();
    names.sort();
    let mut text = String::new();
    for name in names {
        let Some(hash) = all.get(&name) else { return Err(Report::message(format!("no such service: {name}"))) };
        text.push_str(&format!("{name} {hash}\n"));
    }
    Ok(text)
}

fn variables(model: &Model, format: Option<Format>) -> String {
    let all = model.variables();
    let value = |format: Format| {
        let key = |name: &'static str| match format {
            Format::Json => name.into(),
            Format::Yaml => name.to_lowercase().into(),
        };
        let mut entries: Fields<'_> = Vec::new();
        for (name, variable) in &all {
            let fields = vec![
                (key("Name"), Value::text(name)),
                (key("DefaultValue"), Value::text(&variable.default)),
                (key("PresenceValue"), Value::text(&variable.presence)),
                (key("Required"), Value::Bool(variable.required)),
            ];
            entries.push((name.into(), Value::Map(fields)));
        }
        if format == Format::Yaml {
            entries.sort_by(|a, b| write::key_order(&a.0, &b.0));
        }
        Value::Map(entries)
    };
    match format {
        // Both with four blanks a level here.
        Some(Format::Json) => wider(&json::pretty(&value(Format::Json))),
        Some(Format::Yaml) => wider(&write::yaml(&value(Format::Yaml))),
        None => {
            let mut rows = vec![["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(str::to_owned)];
            rows.extend(
                all.into_iter()
                    .map(|(name, variable)| [name, variable.required.to_string(), variable.default, variable.presence]),
            );
            table(&rows)
        }
    }
}

/// Doubles the blanks that lines begin with, and ends the last one.
fn wider(text: &str) -> String {
    let line = |line: &str| format!("{}{line}\n", " ".repeat(line.len() - line.trim_start_matches(' ').len()));
    text.lines().map(line).collect()
}

/// Returns rows in columns as Go's `tabwriter` sets them: at least twenty wide, three blanks between, the last one open.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + 3).max(20)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                text.push_str(&" ".repeat(widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}
