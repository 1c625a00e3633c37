//! What is allowed and probably not meant: Docker's build checks, as far as they need nothing but the file.
//!
//! Rules: Docker's "Build checks" reference and buildkit's `frontend/dockerfile/linter`; they have the same names.
//!
//! Invariant: pure.

use crate::build::dockerfile::Dockerfile;
use crate::diag::{Diagnostic, Severity, Span};

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    ConsistentInstructionCasing,
    FromAsCasing,
    LegacyKeyValueFormat,
    MaintainerDeprecated,
    ReservedStageName,
    StageNameCasing,
}

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::ReservedStageName => "ReservedStageName",
            Self::StageNameCasing => "StageNameCasing",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    rule: Rule,
    span: Span,
    message: String,
    help: String,
}

impl Finding {
    pub(super) fn new(rule: Rule, span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { rule, span, message: message.into(), help: help.into() }
    }
}

/// What the `check` directive asks for: `skip=A,B;error=true`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// No check is made.
    pub skip_all: bool,
    /// Names of checks that are not made.
    pub skip: Vec<String>,
    /// What is found is an error.
    pub error: bool,
}

impl Options {
    /// Reads the directive's value.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (name.trim(), value.trim()) {
                ("skip", "all") => options.skip_all = true,
                ("skip", names) if !names.is_empty() => {
                    options.skip = names.split(',').map(|name| name.trim().to_owned()).collect();
                }
                ("error", "true" | "1") => options.error = true,
                ("error", "false" | "0") => options.error = false,
                // Those that Docker is still trying out; there are none here.
                ("experimental", names) if !names.is_empty() => {}
                _ => return Err(format!("`{part}` is no option of `check`")),
            }
        }
        Ok(options)
    }
}

/// Returns what is allowed and probably not meant, in the order of the file: warnings, or errors if the file asks for that.
#[must_use]
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    let options = &file.options;
    let mut found = file.findings.clone();
    found.retain(|finding| !options.skip_all && !options.skip.iter().any(|name| name == finding.rule.name()));
    found.sort_by_key(|finding| (finding.span.lo, finding.rule));
    let severity = if options.error { Severity::Error } else { Severity::Warning };
    let shown = found.into_iter().map(|Finding { rule, span, message, help }| Diagnostic {
        severity,
        ..Diagnostic::warning(Some(span), format!("{message} [{}]", rule.name())).help(help)
    });
    shown.collect()
}

/// A keyword as written.
pub(super) struct Keyword {
    pub(super) written: String,
    pub(super) span: Span,
}

/// Finds the keywords that are not written like most.
pub(super) fn casing(keywords: &[Keyword]) -> Vec<Finding> {
    let lower = keywords.iter().filter(|k| k.written == k.written.to_ascii_lowercase()).count();
    let upper = keywords.iter().filter(|k| k.written == k.written.to_ascii_uppercase()).count();
    let (wanted, word): (fn(&str) -> String, _) =
        if lower > upper { (str::to_ascii_lowercase, "lower") } else { (str::to_ascii_uppercase, "upper") };
    let odd = keywords.iter().filter(|k| k.written != wanted(&k.written));
    odd.map(|k| {
        let message = format!("`{}` is not in {word} case as most instructions are", k.written);
        Finding::new(Rule::ConsistentInstructionCasing, k.span, message, format!("write `{}`", wanted(&k.written)))
    })
    .collect()
}
