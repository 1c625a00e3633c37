//! What `--format` of a list may be: `table`, `json`, a template, or `table` and a template for the columns.

use std::collections::BTreeMap;

use hoist::diag::{Diagnostic, Report};
use serde_json::Value;

use super::table;
use super::template::{Item, Template};

/// How a list is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// The command's own table.
    Table,
    /// A table with these columns.
    Columns(Template),
    /// One object a line.
    Json,
    /// This for each.
    Lines(Template),
}

/// A list's fields with the heads that they have in a table.
pub(crate) type Fields = &'static [(&'static str, &'static str)];

/// One line of a list.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// All fields.
    pub(crate) fields: Value,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Format {
    /// Parses the value of `--format`.
    ///
    /// # Errors
    /// When it is neither a word nor a template, or the template names what there is not.
    pub(crate) fn parse(text: &str, fields: Fields) -> Result<Self, Report> {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        match text.trim() {
            "" | "table" | "pretty" => return Ok(Self::Table),
            "json" => return Ok(Self::Json),
            other if !other.contains("{{") => {
                let message = format!("--format: `{other}` is no format");
                return Err(Diagnostic::error(None, message).help("table, json, or a template: '{{.Name}}'").into());
            }
            _ => {}
        }
        match text.trim_start().strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '{', '\\'])) {
            Some(columns) => Ok(Self::Columns(Template::parse(columns.trim_start_matches([' ', '\t']), &names)?)),
            None => Ok(Self::Lines(Template::parse(text, &names)?)),
        }
    }

    /// Returns the list as this says; the command's own table is `own`.
    pub(crate) fn show(&self, entries: &[Entry], fields: Fields, own: impl FnOnce() -> String) -> String {
        let filled = |template: &Template| {
            let line = |entry: &Entry| {
                let item = Item { fields: &entry.fields, labels: &entry.labels };
                format!("{}\n", template.fill(item))
            };
            entries.iter().map(line).collect::<String>()
        };
        match self {
            Self::Table => own(),
            Self::Json => entries.iter().map(|entry| format!("{}\n", entry.fields)).collect(),
            Self::Lines(template) => filled(template),
            Self::Columns(template) => {
                let heads: Value = fields
                    .iter()
                    .map(|(name, head)| (*name, *head))
                    .collect::<BTreeMap<_, _>>()
                    .into_iter()
                    .map(|(name, head)| (name.to_owned(), Value::from(head)))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
                table::aligned(&format!("{}\n{}", template.heads(&heads), filled(template)), 10, 3)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: Fields = &[("Name", "NAME"), ("CreatedAt", "CREATED AT")];

    fn shown(format: &str) -> String {
        let entry = |name: &str| Entry { fields: json!({"Name": name, "CreatedAt": "now"}), labels: BTreeMap::new() };
        match Format::parse(format, FIELDS) {
            Ok(format) => format.show(&[entry("a"), entry("shop-web-1")], FIELDS, || "own\n".to_owned()),
            Err(report) => report.render(false),
        }
    }

    #[test]
    fn a_list_is_shown_as_asked_for() {
        for (format, wanted) in [
            ("", "own\n"),
            ("table", "own\n"),
            ("json", "{\"Name\":\"a\",\"CreatedAt\":\"now\"}\n{\"Name\":\"shop-web-1\",\"CreatedAt\":\"now\"}\n"),
            ("{{.Name}}", "a\nshop-web-1\n"),
            ("table {{.Name}}\\t{{.CreatedAt}}", "NAME         CREATED AT\na            now\nshop-web-1   now\n"),
            ("table{{.CreatedAt}}", "CREATED AT\nnow\nnow\n"),
            ("jsn", "error: --format: `jsn` is no format\nhelp: table, json, or a template: '{{.Name}}'\n"),
            ("{{.Created}}", "error: --format: there is no field `.Created`\nhelp: did you mean `.CreatedAt`?\n"),
        ] {
            assert_eq!(shown(format), wanted, "{format}");
        }
    }
}
