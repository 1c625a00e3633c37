//! The grammar of `.env` files, as compose-go reads them.
//!
//! `KEY=value`, `KEY: value`, `export KEY=value`, a bare `KEY` that inherits, comments, single and double quotes over
//! several lines, variables in unquoted and double-quoted values.
//!
//! Invariant: pure; the environment is an argument.

use std::collections::BTreeMap;

use super::Env;
use super::interpolate;
use crate::diag::{Diagnostic, Span};

/// A variable of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// Its value.
    pub(crate) value: String,
    /// Place of its name.
    pub(crate) at: Span,
}

/// The variables of some files.
pub(crate) type Found = BTreeMap<String, Assigned>;

/// Adds the variables of `text`, which is file `file` of the sources, to `found`. `outer` wins over what is found in
/// expressions; warnings go to `warnings`.
///
/// # Errors
/// The first mistake, at its place.
pub(crate) fn parse(
    file: u16,
    text: &str,
    outer: &Env,
    found: &mut Found,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut reader = Reader { file, text, at: 0 };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    while reader.skip_to_statement() {
        let Statement { name, at, value } = reader.statement()?;
        let value = match value {
            Value::Inherit => match outer.get(&name) {
                Some(value) => value.clone(),
                None => continue,
            },
            Value::Literal(value) => value,
            Value::Expand(value, span) => {
                let mut unset = Vec::new();
                let lookup = |name: &str| outer.get(name).or_else(|| found.get(name).map(|f| &f.value)).cloned();
                let value = interpolate::expand_into(&value, &lookup, &mut unset).map_err(|e| e.diagnostic(span))?;
                warnings.extend(unset.iter().map(|name| interpolate::unset_warning(span, name)));
                value
            }
        };
        found.insert(name, Assigned { value, at });
    }
    Ok(())
}

struct Statement {
    name: String,
    at: Span,
    value: Value,
}

enum Value {
    /// A bare name.
    Inherit,
    /// Single quotes: no variables.
    Literal(String),
    /// With variables.
    Expand(String, Span),
}

struct Reader<'a> {
    file: u16,
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn span(&self, lo: usize, hi: usize) -> Span {
        Span::new(self.file, lo, hi)
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Moves past blank space and comments; false at the end of the file.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            let skipped = rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                let more = !trimmed.is_empty();
                self.at += skipped;
                return more;
            }
            let line = trimmed.find('\n').unwrap_or(trimmed.len());
            self.at += skipped + line;
        }
    }

    fn statement(&mut self) -> Result<Statement, Diagnostic> {
        if let Some(rest) = self.rest().strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
            self.at += "export".len() + blanks;
        }
        let start = self.at;
        let rest = self.rest();
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let separator = rest[end..].chars().next().filter(|c| *c != '\n');
        let name = rest[..end].trim_end().to_owned();
        let named = self.span(start, start + name.len());
        if name.is_empty() {
            return Err(Diagnostic::error(Some(self.span(start, start + 1)), "there is no name before the `=`"));
        }
        if name.contains(char::is_whitespace) {
            return Err(Diagnostic::error(Some(named), format!("the variable name `{name}` contains a space"))
                .help("a line is `NAME=value`, `NAME` or a comment after `#`"));
        }
        if let Some(odd) = name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']'))) {
            return Err(Diagnostic::error(Some(named), format!("the variable name `{name}` contains `{odd}`"))
                .help("a name is letters, digits, `_`, `.`, `-`, `[` and `]`"));
        }
        let Some(separator) = separator else {
            self.at += end;
            return Ok(Statement { name, at: named, value: Value::Inherit });
        };
        self.at += end + separator.len_utf8();
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_blank).len();
        let value = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => self.unquoted(),
        };
        Ok(Statement { name, at: named, value })
    }

    fn unquoted(&mut self) -> Value {
        let start = self.at;
        let line = self.rest().split('\n').next().unwrap_or("");
        let value = line.split(" #").next().unwrap_or("").trim_end().to_owned();
        let span = self.span(start, start + value.len());
        self.at += line.len();
        Value::Expand(value, span)
    }

    fn quoted(&mut self, quote: char) -> Result<Value, Diagnostic> {
        let start = self.at;
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in self.text[start + 1..].char_indices() {
            if c == quote && !escaped {
                self.at = start + 1 + at + 1;
                let span = self.span(start, self.at);
                return Ok(if quote == '"' { Value::Expand(unescape(&value), span) } else { Value::Literal(value) });
            }
            if escaped && c != quote {
                value.push('\\');
            }
            let escapes = c == '\\' && !escaped;
            if !escapes {
                value.push(c);
            }
            escaped = escapes;
        }
        Err(Diagnostic::error(Some(self.span(start, start + 1)), "this quote is never closed"))
    }
}

/// Blank space within a line, as compose-go counts it.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{a0}')
}

/// Replaces the escapes of double quotes; `\$` becomes `$$`, which interpolation turns into a dollar sign. Any other
/// backslash stays.
fn unescape(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        value.push_str(before);
        let c = after.chars().next();
        let replacement = match c {
            Some('n') => "\n",
            Some('r') => "\r",
            Some('t') => "\t",
            Some('a') => "\u{7}",
            Some('b') => "\u{8}",
            Some('f') => "\u{c}",
            Some('v') => "\u{b}",
            Some('\\') => "\\",
            Some('"') => "\"",
            Some('$') => "$$",
            _ => "",
        };
        if !replacement.is_empty() {
            value.push_str(replacement);
            rest = &after[1..];
        } else if let Some(byte) = after.strip_prefix('0').and_then(octal) {
            value.push(char::from(byte));
            rest = &after[4..];
        } else {
            // compose-go drops the zero of an octal number that is none.
            value.push('\\');
            rest = after.strip_prefix('0').unwrap_or(after);
        }
    }
    value.push_str(rest);
    value
}

/// Returns the byte that three octal digits name.
fn octal(text: &str) -> Option<u8> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Sources, render};

    fn read(text: &str) -> Result<Found, String> {
        let mut sources = Sources::default();
        let file = sources.add(".env", text);
        let outer: Env = [("HOME".to_owned(), "/root".to_owned())].into();
        let mut found = Found::new();
        match parse(file, text, &outer, &mut found, &mut Vec::new()) {
            Ok(()) => Ok(found),
            Err(error) => Err(render(&error, &sources, false)),
        }
    }

    #[test]
    fn each_form_is_read() {
        for (text, name, value) in [
            ("A=plain # comment", "A", Some("plain")),
            ("A=a#b", "A", Some("a#b")),
            ("A=a b c  ", "A", Some("a b c")),
            ("\u{feff}A=bom", "A", Some("bom")),
            ("export A=x", "A", Some("x")),
            ("A : yaml style\r\n", "A", Some("yaml style")),
            ("A=", "A", Some("")),
            ("A=\nB=x", "A", Some("")),
            ("HOME", "HOME", Some("/root")),
            ("NOWHERE\nA=1", "NOWHERE", None),
            ("A='single $HOME \\' \\n'", "A", Some("single $HOME ' \\n")),
            ("A=\"line\\nbreak\\t\\\"q\\\" \\$x \\0101\"", "A", Some("line\nbreak\t\"q\" $x A")),
            ("A=\"\\c \\012 \\0400 \\q \\0377\"", "A", Some("\\c \\12 \\400 \\q ÿ")),
            ("A=\"a\nb\" # more", "A", Some("a\nb")),
            ("export\tA\u{a0}=\u{a0}x", "A", Some("x")),
            ("A=${HOME}/x", "A", Some("/root/x")),
            ("B=1\nA=$B-${C:-d}", "A", Some("1-d")),
            ("A-b.c[0]=1", "A-b.c[0]", Some("1")),
            ("1A=1", "1A", Some("1")),
        ] {
            let found = read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(found.get(name).map(|f| f.value.as_str()), value, "{text}");
        }
    }

    #[test]
    fn mistakes_are_shown_with_their_line() {
        insta::assert_snapshot!(read("A=1\nthis is not a variable\n").unwrap_err(), @r#"
error: the variable name `this is not a variable` contains a space
 --> .env:2:1
  |
2 | this is not a variable
  | ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: a line is `NAME=value`, `NAME` or a comment after `#`
"#);
        insta::assert_snapshot!(read("A=\"open\nB=1").unwrap_err(), @r#"
error: this quote is never closed
 --> .env:1:3
  |
1 | A="open
  |   ^
"#);
        insta::assert_snapshot!(read("A=${NEED:?please}").unwrap_err(), @r#"
error: the variable `NEED` is required: please
 --> .env:1:3
  |
1 | A=${NEED:?please}
  |   ^^^^^^^^^^^^^^^
  |
  = help: set it in the environment, or in the file `.env`
"#);
        insta::assert_snapshot!(read("A%=1").unwrap_err(), @r#"
error: the variable name `A%` contains `%`
 --> .env:1:1
  |
1 | A%=1
  | ^^
  |
  = help: a name is letters, digits, `_`, `.`, `-`, `[` and `]`
"#);
    }
}
