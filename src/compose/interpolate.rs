//! `$NAME`, `${NAME}` and the six operators of the Compose specification ("Interpolation"), in values only.
//!
//! An error points inside the value where that can be found in the source. A variable that is not set and has no default
//! gives a warning and nothing.
//!
//! Invariant: pure; the environment is an argument.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Env;
use super::cast::Cast;
use super::dotenv::Found;
use super::yaml::{Kind, MAX_DEPTH, Node};
use crate::diag::{Diagnostic, Sources, Span};

/// What to do about a variable that is missing.
const SET_IT: &str = "set it in the environment, or in the file `.env`";
/// How long a value may become, in bytes. Variables that name each other twice double with every step.
const MAX_LENGTH: usize = 16 << 20;
/// How much text all variables of a run may give, in bytes.
const MAX_TOTAL: usize = 256 << 20;

/// The variables of a project, and those of its files where they were set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    /// Their values.
    pub(crate) values: Env,
    /// Where a file sets one; the others are of the process.
    pub(crate) origins: BTreeMap<String, Span>,
}

impl Variables {
    /// Adds what is not set yet.
    pub(crate) fn adopt(&mut self, found: Found) {
        for (name, found) in found {
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.values.entry(name) {
                self.origins.insert(vacant.key().clone(), found.at);
                vacant.insert(found.value);
            }
        }
    }
}

/// A variable that a value was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariableUse {
    /// Its name.
    pub(crate) name: String,
    /// The value that it is a part of.
    pub(crate) at: Span,
    /// Where a file of variables sets it; `None` is the environment of the process.
    pub(crate) origin: Option<Span>,
}

/// What came of the variables of some files.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Errors and warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Text that is no number or boolean where one is wanted; who knows more about the place may say so better.
    pub(crate) misfits: Vec<Diagnostic>,
    /// Every variable that a value was made of.
    pub(crate) uses: Vec<VariableUse>,
    /// How much text the variables gave, in bytes.
    total: usize,
}

/// Replaces the variables in every value of `document`, and reads text as a number or a boolean where one is wanted.
pub(crate) fn tree(document: &mut Node, variables: &Variables, sources: &Sources, outcome: &mut Outcome) {
    Walk { variables, sources, outcome }.below(document, &mut Vec::new());
}

struct Walk<'a> {
    variables: &'a Variables,
    sources: &'a Sources,
    outcome: &'a mut Outcome,
}

impl Walk<'_> {
    fn below<'n>(&mut self, node: &'n mut Node, path: &mut Vec<&'n str>) {
        if let Kind::Str(text) = &mut node.kind {
            if text.contains('$') && !self.replace(text, node.span) {
                return;
            }
            if let Some(cast) = Cast::at(path) {
                self.cast(cast, node, path);
            }
            return;
        }
        match &mut node.kind {
            Kind::Seq(items) => {
                path.push("-");
                items.iter_mut().for_each(|item| self.below(item, path));
                path.pop();
            }
            Kind::Map(map) => {
                for (key, entry) in map {
                    path.push(key);
                    self.below(&mut entry.value, path);
                    path.pop();
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
        }
    }

    /// Replaces the variables of one text; false when that cannot be done.
    fn replace(&mut self, text: &mut String, span: Span) -> bool {
        let found = RefCell::new(Vec::new());
        let lookup = |name: &str| {
            let value = self.variables.values.get(name)?;
            let origin = self.variables.origins.get(name).copied();
            found.borrow_mut().push(VariableUse { name: name.to_owned(), at: span, origin });
            Some(value.clone())
        };
        let mut unset = Vec::new();
        let result = expand_into(text, &lookup, &mut unset);
        self.outcome.uses.append(&mut found.into_inner());
        match result {
            Ok(value) => {
                self.outcome.total += value.len();
                if self.outcome.total > MAX_TOTAL {
                    let message = format!("the variables of this project give more than {MAX_TOTAL} bytes of text");
                    if self.outcome.total - value.len() <= MAX_TOTAL {
                        self.outcome.diagnostics.push(Diagnostic::error(Some(span), message));
                    }
                    return false;
                }
                for name in unset {
                    let at = locate(span, &name, self.sources);
                    self.outcome.diagnostics.push(unset_warning(at, &name));
                }
                *text = value;
                true
            }
            Err(error) => {
                self.outcome.diagnostics.push(error.diagnostic_in(span, self.sources));
                false
            }
        }
    }

    fn cast(&mut self, cast: Cast, node: &mut Node, path: &[&str]) {
        let Kind::Str(text) = &node.kind else { return };
        let Some(meaning) = cast.read(text) else {
            let key = path.last().copied().unwrap_or("");
            let message = format!("`{key}` must be {}, not `{text}`", cast.wanted());
            self.outcome.misfits.push(Diagnostic::error(Some(node.span), message));
            return;
        };
        if meaning.old {
            let help = format!("write `{}`", meaning.kind == Kind::Bool(true));
            let message = format!("`{text}` is no boolean of YAML 1.2");
            self.outcome.diagnostics.push(Diagnostic::warning(Some(node.span), message).help(help));
        }
        node.kind = meaning.kind;
    }
}

/// Returns the warning about a variable that is not set.
pub(crate) fn unset_warning(at: Span, name: &str) -> Diagnostic {
    Diagnostic::warning(Some(at), format!("the variable `{name}` is not set, so nothing stands in its place"))
        .help(format!("set it, or give a default: `${{{name}:-}}`"))
}

/// Narrows `span` to where `part` is written in it, if it is there exactly once.
pub(crate) fn locate(span: Span, part: &str, sources: &Sources) -> Span {
    let text = sources.text(span.file).get(span.lo as usize..span.hi as usize).unwrap_or("");
    match text.find(part) {
        Some(at) if !part.is_empty() && text.rfind(part) == Some(at) => {
            let lo = span.lo as usize + at;
            Span::new(span.file, lo, lo + part.len())
        }
        _ => span,
    }
}

/// A text that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadExpression {
    /// The part that is wrong, from its dollar sign to its brace.
    pub(crate) expression: String,
    /// Why.
    pub(crate) reason: Reason,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It follows no rule.
    Syntax,
    /// It nests too deep.
    TooDeep,
    /// It grows beyond measure.
    TooLong,
    /// `${name:?message}` and the variable is missing.
    Required {
        /// The variable.
        name: String,
        /// What the file says about it; may be empty.
        message: String,
    },
}

impl BadExpression {
    /// Returns the error in the value at `span`, at its place there if that can be found.
    pub(crate) fn diagnostic_in(&self, span: Span, sources: &Sources) -> Diagnostic {
        self.diagnostic(locate(span, &self.expression, sources))
    }

    /// Returns the error at `at`.
    pub(crate) fn diagnostic(&self, at: Span) -> Diagnostic {
        match &self.reason {
            Reason::Syntax => Diagnostic::error(
                Some(at),
                format!("`{}` is not a valid variable expression", self.expression),
            )
            .help(
                "write `$$` for a dollar sign, or `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+text}`",
            ),
            Reason::TooDeep => {
                Diagnostic::error(Some(at), format!("this expression is nested more than {MAX_DEPTH} levels deep"))
            }
            Reason::TooLong => Diagnostic::error(Some(at), format!("this becomes longer than {MAX_LENGTH} bytes")),
            Reason::Required { name, message } if message.is_empty() => {
                Diagnostic::error(Some(at), format!("the variable `{name}` is required and not set")).help(SET_IT)
            }
            Reason::Required { name, message } => {
                Diagnostic::error(Some(at), format!("the variable `{name}` is required: {message}")).help(SET_IT)
            }
        }
    }
}

/// Returns `text` with its variables replaced, and the names of those that were not set and had no default.
///
/// # Errors
/// A malformed expression, or a required variable that is missing.
pub(crate) fn expand(text: &str, env: &Env) -> Result<(String, Vec<String>), BadExpression> {
    let mut unset = Vec::new();
    let value = expand_into(text, &|name| env.get(name).cloned(), &mut unset)?;
    Ok((value, unset))
}

/// Returns `text` with its variables replaced by what `lookup` knows; pushes the names that it does not.
pub(crate) fn expand_into(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, BadExpression> {
    Expansion { lookup, unset, work: 0 }.expand(0, text)
}

struct Expansion<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unset: &'a mut Vec<String>,
    /// How many bytes were looked at for closing braces, which may be all the rest for every one that opens.
    work: usize,
}

impl Expansion<'_> {
    fn expand(&mut self, depth: usize, text: &str) -> Result<String, BadExpression> {
        if depth > MAX_DEPTH {
            return Err(BadExpression { expression: text.to_owned(), reason: Reason::TooDeep });
        }
        let mut value = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            value.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                value.push('$');
                rest = tail;
            } else if let Some(inner) = after.strip_prefix('{') {
                let bad = |end: usize| BadExpression { expression: rest[at..end].to_owned(), reason: Reason::Syntax };
                let Some(close) = end_of_expression(inner, &mut self.work) else {
                    return Err(bad(inner.find('}').map_or(rest.len(), |close| at + 2 + close + 1)));
                };
                let end = at + 2 + close + 1;
                let body = &inner[..close];
                let (name, operation) = body.split_at(name_len(body));
                if name.is_empty() {
                    return Err(bad(end));
                }
                // An error of a nested expression knows its own text.
                let substituted = self.substitute(depth, name, operation).map_err(|mut error| {
                    if error.expression.is_empty() {
                        rest[at..end].clone_into(&mut error.expression);
                    }
                    error
                })?;
                match substituted {
                    Some(text) => value.push_str(&text),
                    None => return Err(bad(end)),
                }
                rest = &rest[end..];
            } else {
                let len = name_len(after);
                if len == 0 {
                    value.push('$');
                } else {
                    match (self.lookup)(&after[..len]) {
                        Some(text) => value.push_str(&text),
                        None => self.unset.push(after[..len].to_owned()),
                    }
                }
                rest = &after[len..];
            }
            if value.len() > MAX_LENGTH || self.work > MAX_TOTAL {
                return Err(BadExpression { expression: String::new(), reason: Reason::TooLong });
            }
        }
        value.push_str(rest);
        Ok(value)
    }

    /// Returns what `${name operation}` stands for, or `None` when the operation is not one.
    fn substitute(&mut self, depth: usize, name: &str, operation: &str) -> Result<Option<String>, BadExpression> {
        let found = (self.lookup)(name);
        if operation.is_empty() {
            if found.is_none() {
                self.unset.push(name.to_owned());
            }
            return Ok(Some(found.unwrap_or_default()));
        }
        let (colon, operation) = operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
        let mut chars = operation.chars();
        let operator = chars.next();
        let word = chars.as_str();
        // With a colon an empty value counts as missing.
        let found = found.filter(|text| !colon || !text.is_empty());
        let text = match (operator, found) {
            (Some('-' | '?'), Some(text)) => {
                self.verify(depth, word)?;
                text
            }
            (Some('-'), None) | (Some('+'), Some(_)) => self.expand(depth + 1, word)?,
            (Some('+'), None) => {
                self.verify(depth, word)?;
                String::new()
            }
            (Some('?'), None) => {
                let message = self.expand(depth + 1, word)?;
                return Err(BadExpression {
                    expression: String::new(),
                    reason: Reason::Required { name: name.to_owned(), message },
                });
            }
            _ => return Ok(None),
        };
        Ok(Some(text))
    }

    /// Looks for malformed expressions in a word that is not used; what it requires it does not require.
    fn verify(&mut self, depth: usize, word: &str) -> Result<(), BadExpression> {
        let unset = &mut Vec::new();
        let mut idle = Expansion { lookup: &|_| Some("x".to_owned()), unset, work: self.work };
        let result = idle.expand(depth + 1, word);
        self.work = idle.work;
        result.map(|_| ())
    }
}

/// Returns the length of the variable name that `text` begins with: `[_a-zA-Z][_a-zA-Z0-9]*`.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Returns where the brace that was opened just before `text` is closed, in the way of compose-go (`template.go`): the word
/// ends in its line; in it, whatever follows an opening brace is never a closing one; and where the braces do not pair up, the
/// last of the line closes.
fn end_of_expression(text: &str, work: &mut usize) -> Option<usize> {
    let after_name = name_len(text);
    *work += after_name;
    if text[after_name..].starts_with('}') {
        return Some(after_name);
    }
    let bytes = text.as_bytes();
    let (mut depth, mut at, mut last) = (1_usize, 0, None);
    let mut is_skipped = true;
    while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'\n') {
        if *byte == b'}' {
            last = Some(at);
        }
        match byte {
            _ if std::mem::take(&mut is_skipped) => {}
            b'}' if depth == 1 => break,
            b'}' => depth -= 1,
            b'{' => {
                depth += 1;
                is_skipped = true;
            }
            _ => {}
        }
        at += 1;
    }
    *work += at;
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("E", ""), ("S", "s"), ("FOO", "foo"), ("D", "$FOO ${x")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn every_operator_follows_its_table() {
        for (text, value) in [
            ("$S ${S}", "s s"),
            ("${U:-d}${E:-d}${S:-d}", "dds"),
            ("${U-d}|${E-d}|${S-d}", "d||s"),
            ("${U:+d}|${E:+d}|${S:+d}", "||d"),
            ("${U+d}|${E+d}|${S+d}", "|d|d"),
            ("${E?x}|${S:?x}", "|s"),
            ("${U:-${V:-x}}", "x"),
            ("ok ${S+$FOO ${FOO:+second}}", "ok foo second"),
            ("${U:-{}}", "{}"),
            ("${U:-a:b}${U:-a?b}${U:-a-b}", "a:ba?ba-b"),
            ("${S:?a-b}", "s"),
            ("$$S $1 $ $- $", "$S $1 $ $- $"),
            ("${FOO-BAR}", "foo"),
            ("$D", "$FOO ${x"),
            ("${S+${U:?not used}}", ""),
        ] {
            if text == "${S+${U:?not used}}" {
                assert!(expand(text, &env()).is_err());
                continue;
            }
            assert_eq!(expand(text, &env()).map(|v| v.0), Ok(value.to_owned()), "{text}");
        }
        assert_eq!(expand("${S:-${U:?lazy}}", &env()).map(|v| v.0), Ok("s".to_owned()));
    }

    #[test]
    fn malformed_expressions_are_refused() {
        for text in ["${}", "${1X}", "${A B}", "${V/foo/bar}", "${V", "${V:}", "${U:-a\nb}", "${U!x}"] {
            let error = expand(text, &env()).expect_err(text);
            assert_eq!(error.reason, Reason::Syntax, "{text}");
            assert_eq!(error.expression, text);
        }
        for text in ["${S:-${}}", "${U:+${}}", "${S:?${}}"] {
            let error = expand(text, &env()).expect_err("also in a word that is not used");
            assert_eq!((error.reason, error.expression.as_str()), (Reason::Syntax, "${}"), "{text}");
        }
    }

    #[test]
    fn braces_pair_up_as_in_compose_go() {
        for (text, value) in [
            ("${U:-{x}}", "{x}"),
            ("${U:-{{}}}", "{{}}"),
            ("${U:-a}}", "a}"),
            ("${U:-{}\n}", "{\n}"),
            ("${S}\n${U:-x}", "s\nx"),
            ("${U:-${V:-b}} }", "b }"),
        ] {
            assert_eq!(expand(text, &env()).map(|v| v.0), Ok(value.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_nests_or_grows_beyond_measure_is_refused() {
        let deep = format!("{}x{}", "${U:-".repeat(5000), "}".repeat(5000));
        assert_eq!(expand(&deep, &env()).map_err(|e| e.reason), Err(Reason::TooDeep));
        let long: Env = [("L".to_owned(), "x".repeat(1 << 20))].into();
        assert_eq!(expand(&"$L".repeat(20), &long).map_err(|e| e.reason), Err(Reason::TooLong));
    }

    #[test]
    fn names_without_value_are_reported() {
        assert_eq!(expand("$A${B}${C-}${S}", &env()).map(|v| v.1), Ok(vec!["A".to_owned(), "B".to_owned()]));
    }
}
