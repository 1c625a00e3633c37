//! `$NAME`, `${NAME}` and the six operators of the Compose specification ("Interpolation"), in values only.
//!
//! An error points inside the value where that can be found in the source. A variable that is not set and has no default
//! gives a warning and nothing.
//!
//! Invariant: pure; the environment is an argument.

use super::Env;
use super::yaml::{Kind, MAX_DEPTH, Node};
use crate::diag::{Diagnostic, Sources, Span};

/// How long a value may become, in bytes. Variables that name each other twice double with every step.
const MAX_LENGTH: usize = 16 << 20;

/// Replaces the variables in every value below `node`.
pub(crate) fn tree(node: &mut Node, env: &Env, sources: &Sources, out: &mut Vec<Diagnostic>) {
    match &mut node.kind {
        Kind::Str(text) if text.contains('$') => match expand(text, env) {
            Ok((value, unset)) => {
                for name in unset {
                    let at = locate(node.span, &name, sources);
                    out.push(unset_warning(at, &name));
                }
                *text = value;
            }
            Err(error) => {
                let at = locate(node.span, &error.expression, sources);
                out.push(error.diagnostic(at));
            }
        },
        Kind::Seq(items) => items.iter_mut().for_each(|item| tree(item, env, sources, out)),
        Kind::Map(map) => map.values_mut().for_each(|entry| tree(&mut entry.value, env, sources, out)),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
    }
}

/// Returns the warning about a variable that is not set.
pub(crate) fn unset_warning(at: Span, name: &str) -> Diagnostic {
    Diagnostic::warning(Some(at), format!("the variable `{name}` is not set, so nothing stands in its place"))
        .help(format!("set it, or give a default: `${{{name}:-}}`"))
}

/// Narrows `span` to where `part` is written in it, if it is there exactly once.
fn locate(span: Span, part: &str, sources: &Sources) -> Span {
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
                Diagnostic::error(Some(at), format!("the variable `{name}` is required and not set"))
            }
            Reason::Required { name, message } => {
                Diagnostic::error(Some(at), format!("the variable `{name}` is required: {message}"))
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
    expand_at(0, text, lookup, unset)
}

fn expand_at(
    depth: usize,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, BadExpression> {
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
            let Some(close) = closing_brace(inner) else { return Err(bad(rest.len())) };
            let end = at + 2 + close + 1;
            let body = &inner[..close];
            let (name, operation) = body.split_at(name_len(body));
            if name.is_empty() {
                return Err(bad(end));
            }
            // An error of a nested expression knows its own text.
            let substituted = substitute(depth, name, operation, lookup, unset).map_err(|mut error| {
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
                match lookup(&after[..len]) {
                    Some(text) => value.push_str(&text),
                    None => unset.push(after[..len].to_owned()),
                }
            }
            rest = &after[len..];
        }
        if value.len() > MAX_LENGTH {
            return Err(BadExpression { expression: String::new(), reason: Reason::TooLong });
        }
    }
    value.push_str(rest);
    Ok(value)
}

/// Returns what `${name operation}` stands for, or `None` when the operation is not one.
fn substitute(
    depth: usize,
    name: &str,
    operation: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<Option<String>, BadExpression> {
    let found = lookup(name);
    if operation.is_empty() {
        if found.is_none() {
            unset.push(name.to_owned());
        }
        return Ok(Some(found.unwrap_or_default()));
    }
    let (colon, operation) = operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
    let mut chars = operation.chars();
    let operator = chars.next();
    let word = chars.as_str();
    if word.contains('\n') {
        return Ok(None);
    }
    // With a colon an empty value counts as missing.
    let found = found.filter(|text| !colon || !text.is_empty());
    let text = match (operator, found) {
        (Some('-' | '?'), Some(text)) => text,
        (Some('-'), None) | (Some('+'), Some(_)) => expand_at(depth + 1, word, lookup, unset)?,
        (Some('+'), None) => String::new(),
        (Some('?'), None) => {
            let message = expand_at(depth + 1, word, lookup, unset)?;
            return Err(BadExpression {
                expression: String::new(),
                reason: Reason::Required { name: name.to_owned(), message },
            });
        }
        _ => return Ok(None),
    };
    Ok(Some(text))
}

/// Returns the length of the variable name that `text` begins with: `[_a-zA-Z][_a-zA-Z0-9]*`.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Returns where the brace that was opened just before `text` is closed.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
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
