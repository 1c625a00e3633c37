//! An error as the user sees it: where, what, what was expected, what to do next.
//!
//! [`Sources`] holds the texts of the files that were read, a [`Span`] points into one of them, and [`render`] draws
//! a [`Diagnostic`] with its line and a caret. Errors of other modules implement [`Explain`] to add their place and
//! their next step.
//!
//! Invariant: nothing here reads a file or prints.

use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

mod json;

pub use json::json;

/// A piece of a file that was read: byte offsets, turned into line and column only for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Index of the file in [`Sources`].
    pub file: u16,
    /// First byte.
    pub lo: u32,
    /// One past the last byte.
    pub hi: u32,
}

impl Span {
    /// Returns the span from `lo` to `hi` in file `file`.
    #[must_use]
    pub fn new(file: u16, lo: usize, hi: usize) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file, lo: clamp(lo), hi: clamp(hi.max(lo)) }
    }

    /// Returns whether `other` lies within it.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.file == other.file && self.lo <= other.lo && other.hi <= self.hi
    }
}

/// The texts of all files that were read in a run, so that a span can be shown.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Adds a file and returns its index. `path` is what the user is shown.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> u16 {
        self.files.push((path.into(), text.into()));
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Returns whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the path of file `file` as shown to the user.
    #[must_use]
    pub fn path(&self, file: u16) -> &Path {
        self.files.get(usize::from(file)).map_or(Path::new("?"), |f| &f.0)
    }

    /// Returns the text of file `file`.
    #[must_use]
    pub fn text(&self, file: u16) -> &str {
        self.files.get(usize::from(file)).map_or("", |f| &f.1)
    }

    /// Returns the span's first line and column, both counted from 1, the column in characters.
    #[must_use]
    pub fn line_col(&self, span: Span) -> (usize, usize) {
        let text = self.text(span.file);
        let lo = floor_char(text, span.lo as usize);
        let before = &text[..lo];
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        (line, before[start..].chars().count() + 1)
    }

    /// Returns `file:line:col` of the span's start.
    #[must_use]
    pub fn place(&self, span: Span) -> String {
        let (line, col) = self.line_col(span);
        format!("{}:{line}:{col}", self.path(span.file).display())
    }
}

/// Returns the greatest character boundary at or below `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The run stops.
    Error,
    /// The run goes on.
    Warning,
}

/// One message for the user, with the place it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop, user values in backticks.
    pub message: String,
    /// Where, if there is a place.
    pub span: Option<Span>,
    /// What to write under the caret, if anything.
    pub label: Option<String>,
    /// Further places with what they have to do with it.
    pub notes: Vec<(Span, String)>,
    /// What to do next.
    pub help: Option<String>,
}

/// Lines that a program wrote, shown below a report. They are shown as they are: who quotes sees to it that nothing in them
/// acts upon a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Whose they are.
    pub title: String,
    /// The lines.
    pub lines: Vec<String>,
}

impl Diagnostic {
    /// Returns an error at `span`.
    pub fn error(span: Option<Span>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span, label: None, notes: Vec::new(), help: None }
    }

    /// Returns a warning at `span`.
    pub fn warning(span: Option<Span>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Returns it as a JSON object; [`json()`] says what is in it.
    #[must_use]
    pub fn json(&self, sources: &Sources) -> serde_json::Value {
        json::one(self, sources)
    }

    /// Adds the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what is written beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a further place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }

    /// Returns what `error` says about itself, its causes appended after colons.
    pub fn from_error(error: &dyn Explain) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self { help: error.help(), ..Self::error(error.span(), message) }
    }
}

/// What an error can add for the person who has to fix it.
pub trait Explain: std::error::Error {
    /// Returns the place in a file that the error is about.
    fn span(&self) -> Option<Span> {
        None
    }
    /// Returns what to do next.
    fn help(&self) -> Option<String> {
        None
    }
}

/// One or more diagnostics that end a run, with the sources they point into.
#[derive(Debug, Default)]
pub struct Report {
    /// All that was found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the spans point into.
    pub sources: Sources,
    /// What was said by what failed.
    pub quotes: Vec<Quote>,
    /// Exit code that the command ends with; `None` is 1.
    pub exit: Option<u8>,
}

impl Report {
    /// Returns a report of one error without a place.
    pub fn message(message: impl Into<String>) -> Self {
        Self::from(Diagnostic::error(None, message))
    }

    /// Returns the report as a JSON document; [`json()`] says what is in it.
    #[must_use]
    pub fn json(&self) -> String {
        json(&self.diagnostics, &self.sources)
    }

    /// Returns the report as plain text or with terminal colours.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.render_in(colour, WIDTH)
    }

    /// As [`Report::render`], with lines of files cut so that they are at most so wide.
    #[must_use]
    pub fn render_in(&self, colour: bool, width: usize) -> String {
        let drawn = self.diagnostics.iter().map(|d| render_in(d, &self.sources, colour, width));
        let mut text = drawn.collect::<Vec<_>>().join("\n");
        for Quote { title, lines } in &self.quotes {
            text.extend(["\n", title, "\n"]);
            text.extend(lines.iter().flat_map(|line| ["  > ", line, "\n"]));
        }
        text
    }
}

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], ..Self::default() }
    }
}

impl<E: Explain> From<E> for Report {
    fn from(error: E) -> Self {
        Self::from(Diagnostic::from_error(&error))
    }
}

/// How wide a line of a file is shown where nothing says otherwise, in columns.
const WIDTH: usize = 140;

/// Draws one diagnostic, ending in a newline.
#[must_use]
pub fn render(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
    render_in(diagnostic, sources, colour, WIDTH)
}

/// As [`render`], with lines of the file cut so that they are at most so wide.
#[must_use]
pub fn render_in(diagnostic: &Diagnostic, sources: &Sources, colour: bool, width: usize) -> String {
    let message = without_numbers(&diagnostic.message);
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(width.min(WIDTH));
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let paths: Vec<String> = sources.files.iter().map(|f| f.0.display().to_string()).collect();
    let mut group =
        level.primary_title(message.as_str()).elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
    if let Some(span) = diagnostic.span {
        let mut spans = vec![(span, AnnotationKind::Primary, diagnostic.label.as_deref())];
        spans.extend(diagnostic.notes.iter().map(|(s, text)| (*s, AnnotationKind::Context, Some(text.as_str()))));
        let mut files: Vec<u16> = Vec::new();
        for (s, ..) in &spans {
            if !files.contains(&s.file) {
                files.push(s.file);
            }
        }
        for file in files {
            let text = sources.text(file);
            let (window, skipped_lines, skipped_bytes) = window(text, &spans, file);
            let mut snippet = Snippet::source(window).line_start(skipped_lines + 1).fold(true);
            if let Some(path) = paths.get(usize::from(file)) {
                snippet = snippet.path(path.as_str());
            }
            for (s, kind, label) in spans.iter().filter(|(s, ..)| s.file == file) {
                let lo = floor_char(text, s.lo as usize).saturating_sub(skipped_bytes);
                let line_end = window[lo.min(window.len())..].find('\n').map_or(window.len(), |i| lo + i);
                let hi = floor_char(text, s.hi as usize).saturating_sub(skipped_bytes).min(line_end).max(lo);
                snippet = snippet.annotation(kind.span(lo..hi).label(*label));
            }
            group = group.element(snippet);
        }
    }
    let help = diagnostic.help.as_deref();
    if let Some(help) = help.filter(|_| diagnostic.span.is_some()) {
        group = group.element(Level::HELP.message(help));
    }
    let mut text = renderer.render(&[group]);
    text.push('\n');
    if let Some(help) = help.filter(|_| diagnostic.span.is_none()) {
        text.push_str("help: ");
        text.push_str(&help.replace('\n', "\n      "));
        text.push('\n');
    }
    text
}

/// Removes ` (os error 2)`, which std puts behind the system's words.
fn without_numbers(message: &str) -> String {
    let mut rest = message;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once(" (os error ") {
        text.push_str(before);
        match after.split_once(')') {
            Some((number, after)) if number.bytes().all(|b| b.is_ascii_digit()) => rest = after,
            _ => {
                text.push_str(" (os error ");
                rest = after;
            }
        }
    }
    text + rest
}

/// Cuts the lines around the annotations out of a large file, so that drawing is cheap.
fn window<'a>(text: &'a str, spans: &[(Span, AnnotationKind, Option<&str>)], file: u16) -> (&'a str, usize, usize) {
    let here = spans.iter().filter(|(s, ..)| s.file == file).map(|(s, ..)| *s);
    let lo = here.clone().map(|s| s.lo as usize).min().unwrap_or(0);
    let hi = here.map(|s| s.hi as usize).max().unwrap_or(0);
    let (lo, hi) = (floor_char(text, lo), floor_char(text, hi));
    let start = text[..lo].rfind('\n').map_or(0, |i| i + 1);
    let end = text[hi..].find('\n').map_or(text.len(), |i| hi + i);
    (&text[start..end], text[..start].bytes().filter(|b| *b == b'\n').count(), start)
}

/// Returns the candidate nearest to `wanted` by edit distance, if one is near enough to be meant.
///
/// Near enough is a third of the longer word's length, at least one edit; a swap of neighbours counts as one edit.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (distance(wanted, c), c))
        .filter(|(d, c)| *d <= (wanted.chars().count().max(c.chars().count()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// Takes colours and movements of the cursor away: ECMA-48, control sequences.
#[must_use]
pub fn unstyled(text: &str) -> String {
    let mut all = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.clone().next() == Some('[') {
                    chars.next();
                    chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
            }
            c => all.push(c),
        }
    }
    all
}

/// How much of one is shown, in characters.
const LONGEST: usize = 300;

/// Returns a line without anything that a terminal acts upon, and not all of a long one.
#[must_use]
pub fn harmless(line: &str) -> String {
    let mut text = String::new();
    let line = line.trim_end();
    for (number, c) in line.chars().enumerate() {
        if number == LONGEST {
            text.push('…');
            break;
        }
        match c {
            '\t' => text.push_str("    "),
            // Also what turns the direction of text around.
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                text.extend(c.escape_unicode());
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_and_caret() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "services:\n  web:\n    depends_on:\n      - dbb\n");
        let at = Span::new(file, 41, 44);
        let text = render(
            &Diagnostic::error(Some(at), "service `web` depends on `dbb`, which is not defined")
                .help("did you mean `db`?"),
            &sources,
            false,
        );
        assert!(text.contains("--> compose.yaml:4:9"), "{text}");
        assert!(text.contains("^^^"), "{text}");
        assert!(text.contains("help: did you mean `db`?"), "{text}");
    }

    #[test]
    fn spans_past_the_end_do_not_panic() {
        let mut sources = Sources::default();
        let file = sources.add("f", "a: ä\n");
        for (lo, hi) in [(0, 900), (4, 4), (5, 5), (900, 901), (6, 6)] {
            let _ = render(&Diagnostic::error(Some(Span::new(file, lo, hi)), "x"), &sources, false);
        }
    }

    #[test]
    fn numbers_of_the_system_are_left_out_and_further_lines_of_help_are_indented() {
        let error = Diagnostic::error(None, "cannot read `x`: No such file or directory (os error 2): y");
        let text = render(&error.help("one\ntwo"), &Sources::default(), false);
        assert_eq!(text, "error: cannot read `x`: No such file or directory: y\nhelp: one\n      two\n");
        assert_eq!(without_numbers("a (os error x) b"), "a (os error x) b");
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("imgae", ["image", "init"]), Some("image"));
        assert_eq!(nearest("xyz", ["image", "init"]), None);
        assert_eq!(nearest("dbb", ["db", "web"]), Some("db"));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        for (line, expected) in [
            ("ready\r", "ready"),
            ("a\tb", "a    b"),
            ("\x1b[2J\x1b]0;title\x07red", "\\u{1b}[2J\\u{1b}]0;title\\u{7}red"),
            ("\u{9b}2J \u{202e}evil", "\\u{9b}2J \\u{202e}evil"),
            ("back\x08\x7f", "back\\u{8}\\u{7f}"),
            ("grün ✔", "grün ✔"),
        ] {
            assert_eq!(harmless(line), expected);
        }
        let long = harmless(&"x".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with("x…")), (LONGEST + 1, true));
    }
}
