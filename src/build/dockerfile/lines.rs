//! Text to lines of instructions: directives at the top, continued lines joined, comments left out, heredocs taken off.
//!
//! Rules: Docker's "Dockerfile reference", and where it is silent buildkit's `frontend/dockerfile/parser`.

use crate::build::dockerfile::check::Options;
use crate::build::dockerfile::words::{self, Marker};
use crate::build::dockerfile::{Heredoc, Json, blank, json};
use crate::diag::{Diagnostic, Span};

/// An instruction on one line: continued lines joined, comments left out.
#[derive(Default)]
pub(super) struct Line {
    pub(super) text: String,
    /// Where pieces of `text` start, and where they stand in the file.
    pieces: Vec<(usize, usize)>,
    pub(super) heredocs: Vec<Document>,
}

/// A heredoc of a line.
pub(super) struct Document {
    pub(super) heredoc: Heredoc,
    /// The text as it stands in the file.
    pub(super) raw: String,
}

impl Line {
    fn push(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    /// Returns the place in the file of a byte of the line.
    fn at(&self, index: usize) -> usize {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= index);
        piece.map_or(0, |(start, at)| at + (index - start))
    }

    pub(super) fn span(&self, file: u16, lo: usize, hi: usize) -> Span {
        let end = if hi > lo { self.at(hi - 1) + 1 } else { self.at(lo) };
        Span::new(file, self.at(lo), end)
    }
}

/// What a file consists of.
pub(super) struct Lines {
    pub(super) all: Vec<Line>,
    pub(super) escape: char,
    pub(super) options: Options,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Goes through the lines of a file.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Returns where the next line starts, and the line with its end.
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let line = self.text[start..].split_inclusive('\n').next()?;
        self.at += line.len();
        Some((start, line))
    }
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// Reads the lines of a file.
pub(super) fn read(text: &str, file: u16) -> Lines {
    let mut lines =
        Lines { all: Vec::new(), escape: '\\', options: Options::default(), errors: Vec::new(), warnings: Vec::new() };
    let bom = '\u{feff}';
    let mut cursor = Cursor { text, at: if text.starts_with(bom) { bom.len_utf8() } else { 0 } };
    if text[cursor.at..].starts_with("#!") {
        cursor.next();
    }
    let mut seen = Some(Vec::new());
    let mut current: Option<Line> = None;
    while let Some((start, whole)) = cursor.next() {
        let line = without_end(whole);
        let trimmed = line.trim_start();
        if let Some(names) = &mut seen {
            match directive(trimmed) {
                Some((name, value)) => {
                    let span = Span::new(file, start + line.len() - trimmed.len(), start + line.trim_end().len());
                    lines.directive(&name, value, span, names.contains(&name));
                    names.push(name);
                    continue;
                }
                None => seen = None,
            }
        }
        if trimmed.starts_with('#') {
            continue;
        }
        if trimmed.is_empty() {
            if current.is_some() {
                let span = Span::new(file, start, start);
                let message = "an empty line continues the instruction above; a later version will end it here";
                lines.warnings.push(Diagnostic::warning(Some(span), message));
            }
            continue;
        }
        // Only the first line of an instruction loses its leading blanks.
        let (mut piece, from) = match &current {
            Some(line_so_far) if !line_so_far.text.is_empty() => (line, start),
            _ => (trimmed, start + line.len() - trimmed.len()),
        };
        let continued = continued(piece, lines.escape);
        if let Some(without) = continued {
            piece = without;
        }
        current.get_or_insert_default().push(piece, from);
        if continued.is_none() {
            lines.end(current.take().unwrap_or_default(), &mut cursor, file);
        }
    }
    if let Some(line) = current {
        lines.end(line, &mut cursor, file);
    }
    lines
}

/// Returns what stands before the character that continues a line, if it ends with one that is not escaped itself.
fn continued(line: &str, escape: char) -> Option<&str> {
    let body = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!body.ends_with(escape)).then_some(body)
}

/// Reads `# name = value` for the names that Docker knows.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}

impl Lines {
    fn directive(&mut self, name: &str, value: &str, span: Span, again: bool) {
        if again {
            let message = format!("the directive `{name}` is given twice");
            self.errors.push(Diagnostic::error(Some(span), message).help("remove one of them"));
            return;
        }
        match (name, value) {
            ("escape", "\\") => self.escape = '\\',
            ("escape", "`") => self.escape = '`',
            ("escape", _) => {
                let message = format!("the escape character is `\\` or a backtick, not `{value}`");
                self.errors.push(Diagnostic::error(Some(span), message));
            }
            ("check", _) => match Options::parse(value) {
                Ok(options) => self.options = options,
                Err(message) => {
                    let help = "write it like `# check=skip=JSONArgsRecommended,StageNameCasing;error=true`";
                    self.errors.push(Diagnostic::error(Some(span), message).help(help));
                }
            },
            // What is built in is used, whichever is asked for.
            _ => {}
        }
    }

    /// Takes a line and the heredocs that follow it.
    fn end(&mut self, mut line: Line, cursor: &mut Cursor<'_>, file: u16) {
        if line.text.trim().is_empty() {
            return;
        }
        if may_have_heredocs(&line.text, self.escape) {
            for marker in words::heredocs(&line.text) {
                let span = line.span(file, marker.word.start, marker.word.end);
                match body(&marker, cursor) {
                    Some(raw) => {
                        let content = if marker.tabs { without_tabs(&raw) } else { raw.clone() };
                        let heredoc = Heredoc { name: marker.name, expand: marker.expand, content, span };
                        line.heredocs.push(Document { heredoc, raw });
                    }
                    None => self.errors.push(never_ended(&marker, span)),
                }
            }
        }
        self.all.push(line);
    }
}

fn never_ended(marker: &Marker, span: Span) -> Diagnostic {
    let name = &marker.name;
    let help = match name.find(['>', '|', ';', '&', ')', '(']) {
        Some(at) if at > 0 => format!("the word ends at a blank: write `<<{} {}`", &name[..at], &name[at..]),
        _ => format!("end it with a line that is only `{name}`; where `<<` begins no heredoc, quote it"),
    };
    Diagnostic::error(Some(span), format!("the heredoc `{name}` is never ended")).help(help)
}

/// Returns the lines until the one that ends a heredoc; `None` if there is none.
fn body(marker: &Marker, cursor: &mut Cursor<'_>) -> Option<String> {
    let mut raw = String::new();
    while let Some((_, whole)) = cursor.next() {
        let line = without_end(whole);
        if (if marker.tabs { line.trim_start_matches('\t') } else { line }) == marker.name {
            return Some(raw);
        }
        raw.push_str(whole);
    }
    None
}

fn without_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Returns whether `<<` begins a heredoc in an instruction: in `RUN`, `COPY` and `ADD` that take no list.
fn may_have_heredocs(text: &str, escape: char) -> bool {
    let mut rest = text.trim_start();
    loop {
        let end = rest.find(blank).unwrap_or(rest.len());
        let (keyword, after) = rest.split_at(end);
        let after = &after[words::after_flags(after, escape)..];
        match keyword.to_ascii_uppercase().as_str() {
            "ONBUILD" if !after.is_empty() => rest = after,
            "RUN" | "COPY" | "ADD" => return after.contains("<<") && matches!(json(after.trim()), Json::None),
            _ => return false,
        }
    }
}
