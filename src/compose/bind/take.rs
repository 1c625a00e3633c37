//! One function a type: what may be written for it, and the sentence when something else was.

use std::time::Duration;

use indexmap::IndexMap;

use super::Binder;
use crate::compose::model::Spanned;
use crate::compose::scalar;
use crate::compose::short::units;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

impl Binder<'_> {
    /// Reports that `key` of `owner` must be `want`.
    pub(super) fn wrong(&mut self, entry: &Entry, key: &str, owner: &str, want: &str) {
        let what = entry.value.describe();
        let error = self.error(entry.place(), format!("`{key}` of {owner} must be {want}, not {what}"));
        error.help = quote_help(&entry.value, want);
    }

    /// Text, and nothing that YAML takes for something else. Nothing written is `None`.
    pub(super) fn text(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<String> {
        match &entry.value.kind {
            Kind::Str(text) => Some(text.clone()),
            Kind::Null => None,
            _ => {
                self.wrong(entry, key, owner, "text");
                None
            }
        }
    }

    /// Text with its place; empty text is `None`.
    pub(super) fn spanned(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<Spanned<String>> {
        let value = self.text(entry, key, owner).filter(|text| !text.is_empty())?;
        Some(Spanned { value, span: entry.value.span })
    }

    /// A boolean, also as text, because a variable gives text.
    pub(super) fn boolean(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<bool> {
        let text = match &entry.value.kind {
            Kind::Bool(value) => return Some(*value),
            Kind::Null => return None,
            Kind::Str(text) => text,
            _ => {
                self.wrong(entry, key, owner, "`true` or `false`");
                return None;
            }
        };
        let (value, old) = match text.to_lowercase().as_str() {
            "true" => (true, false),
            "false" => (false, false),
            "y" | "yes" | "on" => (true, true),
            "n" | "no" | "off" => (false, true),
            _ => {
                self.error(entry.place(), format!("`{key}` of {owner} must be `true` or `false`, not `{text}`"));
                return None;
            }
        };
        if old {
            self.out.push(
                Diagnostic::warning(Some(entry.place()), format!("`{text}` is no boolean of YAML 1.2"))
                    .help(format!("write `{value}`")),
            );
        }
        Some(value)
    }

    /// An integer up to `max`, also as text, because a variable gives text.
    pub(super) fn unsigned(&mut self, entry: &Entry, key: &str, owner: &str, max: u32) -> Option<u32> {
        let number = match &entry.value.kind {
            Kind::Null => return None,
            Kind::Int(number) => Some(*number),
            Kind::Str(text) => text.parse().ok(),
            _ => None,
        };
        let value = number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= max);
        if value.is_none() {
            let what = match &entry.value.kind {
                Kind::Str(text) => format!("`{text}`"),
                _ => entry.value.describe(),
            };
            self.error(entry.place(), format!("`{key}` of {owner} must be a whole number from 0 to {max}, not {what}"));
        }
        value
    }

    /// A duration as text.
    pub(super) fn duration(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<Duration> {
        let text = self.text(entry, key, owner)?;
        match units::duration(&text) {
            Ok(duration) => Some(duration),
            Err(why) => {
                self.error(entry.place(), format!("`{key}` of {owner} is not a duration: {why}")).help =
                    Some("a duration is written like `1m30s`, `500ms` or `2h`".into());
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, entry: &Entry, key: &str, owner: &str) -> Vec<Spanned<String>> {
        let items = match &entry.value.kind {
            Kind::Seq(items) => items,
            Kind::Null => return Vec::new(),
            _ => {
                self.wrong(entry, key, owner, "a list");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.kind {
                Kind::Str(text) => texts.push(Spanned { value: text.clone(), span: item.span }),
                _ => self.wrong_item(item, entry, key, owner, "text"),
            }
        }
        texts
    }

    /// A list of texts in which a repeated one counts once.
    pub(super) fn distinct_texts(&mut self, entry: &Entry, key: &str, owner: &str) -> Vec<Spanned<String>> {
        let mut seen = std::collections::HashSet::new();
        let mut texts = self.texts(entry, key, owner);
        texts.retain(|text| seen.insert(text.value.clone()));
        texts
    }

    /// Reports an entry of a list that must be `want`.
    pub(super) fn wrong_item(&mut self, item: &Node, list: &Entry, key: &str, owner: &str, want: &str) {
        let at = if item.span.lo == item.span.hi { list.key } else { item.span };
        let what = item.describe();
        self.error(at, format!("an entry of `{key}` of {owner} must be {want}, not {what}")).help =
            quote_help(item, want);
    }

    /// A mapping, or nothing.
    pub(super) fn optional_map<'n>(&mut self, entry: &'n Entry, owner: &str) -> Option<&'n Map> {
        match &entry.value.kind {
            Kind::Map(map) => Some(map),
            Kind::Null => None,
            _ => {
                let what = entry.value.describe();
                self.error(entry.place(), format!("{owner} must be a mapping, not {what}"));
                None
            }
        }
    }

    /// A mapping, and not nothing.
    pub(super) fn map<'n>(&mut self, entry: &'n Entry, key: &str, owner: &str) -> Option<&'n Map> {
        match &entry.value.kind {
            Kind::Map(map) => Some(map),
            _ => {
                self.wrong(entry, key, owner, "a mapping");
                None
            }
        }
    }

    /// `KEY: value` or a list of `KEY=value`; `None` where no value was written. Later entries win.
    pub(super) fn pairs(&mut self, entry: &Entry, key: &str, owner: &str) -> IndexMap<String, (Option<String>, Span)> {
        let mut pairs = IndexMap::new();
        match &entry.value.kind {
            Kind::Null => {}
            Kind::Map(map) => {
                for (name, entry) in map {
                    if let Some(value) = self.scalar(entry, name, &format!("`{key}` of {owner}")) {
                        pairs.insert(name.clone(), (value, entry.key));
                    }
                }
            }
            Kind::Seq(items) => {
                for item in items {
                    let Kind::Str(text) = &item.kind else {
                        self.wrong_item(item, entry, key, owner, "text like `KEY=value`");
                        continue;
                    };
                    let (name, value) = match text.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (text.as_str(), None),
                    };
                    pairs.insert(name.to_owned(), (value, item.span));
                }
            }
            _ => self.wrong(entry, key, owner, "a mapping or a list of `KEY=value`"),
        }
        pairs
    }

    /// Labels: nothing written is an empty text.
    pub(super) fn labels(&mut self, entry: &Entry, key: &str, owner: &str) -> IndexMap<String, String> {
        self.pairs(entry, key, owner).into_iter().map(|(name, (value, _))| (name, value.unwrap_or_default())).collect()
    }

    /// Any scalar as text; the inner `None` is nothing written, the outer one a mistake.
    #[expect(clippy::option_option, reason = "nothing written and nothing usable are two things")]
    fn scalar(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<Option<String>> {
        Some(match &entry.value.kind {
            Kind::Null => None,
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Int(value) => Some(value.to_string()),
            Kind::Float(value) => Some(scalar::go_float(*value)),
            Kind::Str(text) => Some(text.clone()),
            Kind::Time(_) | Kind::Seq(_) | Kind::Map(_) => {
                self.wrong(entry, key, owner, "text, a number or a boolean");
                return None;
            }
        })
    }
}

/// Returns the advice to put a scalar in quotes, when text was wanted.
fn quote_help(node: &Node, want: &str) -> Option<String> {
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
