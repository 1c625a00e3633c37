//! What instructions consist of: flags, words, lists, pairs.
//!
//! Rules: Docker's "Dockerfile reference", and where it is silent buildkit's `parser/{split_command,line_parsers}.go`.

use std::ops::Range;

use crate::build::dockerfile::instructions::Parser;
use crate::build::dockerfile::lines::Line;
use crate::build::dockerfile::{Command, Text};
use crate::diag::Span;

/// Returns whether a character separates words.
pub(super) fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// `--name` or `--name=value`.
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<Text>,
    pub(super) span: Span,
}

/// What a text is as JSON.
pub(super) enum Json {
    Strings(Vec<String>),
    /// A list, but not of strings alone.
    Other,
    /// No list.
    None,
}

/// Reads a text that may be a JSON list.
pub(super) fn json(text: &str) -> Json {
    if !text.starts_with('[') {
        return Json::None;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::None };
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    strings.map_or(Json::Other, Json::Strings)
}

/// Words, or the strings of a JSON list.
pub(super) enum List {
    Json(Vec<Text>),
    Words(Vec<Text>),
}

impl List {
    pub(super) fn into_words(self) -> Vec<Text> {
        match self {
            Self::Json(words) | Self::Words(words) => words,
        }
    }
}

/// Splits flags off; returns each as a text whose quotes and escapes are taken off, and where the rest starts.
pub(super) fn split_flags(text: &str, escape: char) -> (Vec<(String, Range<usize>)>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        let start = at + (text[at..].len() - text[at..].trim_start().len());
        if !text[start..].starts_with("--") {
            return (flags, start);
        }
        let mut word = String::new();
        let mut quote: Option<char> = None;
        let mut end = text.len();
        let mut chars = text[start..].char_indices();
        while let Some((i, c)) = chars.next() {
            match (quote, c) {
                (None, c) if c.is_whitespace() => {
                    end = start + i;
                    break;
                }
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (_, c) if c == escape => word.extend(chars.next().map(|(_, c)| c)),
                (_, c) => word.push(c),
            }
        }
        at = end;
        if word == "--" {
            return (flags, end + (text[end..].len() - text[end..].trim_start().len()));
        }
        flags.push((word, start..end));
    }
}

/// Returns where the text after an instruction's flags starts.
pub(super) fn after_flags(text: &str, escape: char) -> usize {
    split_flags(text, escape).1
}

impl Parser {
    /// Reads `--name=value` words; returns them and where the rest starts.
    pub(super) fn flags(&self, line: &Line, at: usize) -> (Vec<Flag>, usize) {
        let (flags, rest) = split_flags(&line.text[at..], self.escape);
        let flags = flags.into_iter().map(|(word, range)| {
            let span = line.span(self.file, at + range.start, at + range.end);
            let flag = word.strip_prefix("--").unwrap_or(&word);
            match flag.split_once('=') {
                Some((name, value)) => {
                    Flag { name: name.to_owned(), value: Some(Text { raw: value.to_owned(), span }), span }
                }
                None => Flag { name: flag.to_owned(), value: None, span },
            }
        });
        (flags.collect(), at + rest)
    }

    fn text(&self, line: &Line, lo: usize, hi: usize) -> Text {
        Text { raw: line.text[lo..hi].to_owned(), span: line.span(self.file, lo, hi) }
    }

    /// Returns the text from `lo` to `hi` without blanks at its ends.
    pub(super) fn piece(&self, line: &Line, lo: usize, hi: usize) -> Text {
        let raw = &line.text[lo..hi];
        let start = lo + (raw.len() - raw.trim_start().len());
        self.text(line, start, start + raw.trim().len())
    }

    /// Reads the exec form if the text is a JSON list of strings, else takes it for the shell.
    pub(super) fn command(&mut self, text: &Text) -> Option<Command> {
        match json(&text.raw) {
            Json::Strings(words) => Some(Command::Exec(words)),
            Json::None => Some(Command::Shell(text.raw.clone())),
            Json::Other => {
                self.not_strings(text.span);
                None
            }
        }
    }

    fn not_strings(&mut self, span: Span) {
        let help = "put each of its elements in double quotes, such as `[\"sleep\", \"5\"]`";
        self.error(span, "the list holds something that is no string").help = Some(help.into());
    }

    /// Returns a JSON list's strings if it is one, else the words.
    pub(super) fn list(&mut self, line: &Line, rest: usize) -> Option<List> {
        let whole = self.piece(line, rest, line.text.len());
        match json(&whole.raw) {
            Json::Strings(strings) => {
                let escape = self.escape;
                let text = |string: &String| Text { raw: quoted(string, escape), span: whole.span };
                Some(List::Json(strings.iter().map(text).collect()))
            }
            Json::None => Some(List::Words(self.words(line, rest))),
            Json::Other => {
                self.not_strings(whole.span);
                None
            }
        }
    }

    /// Splits at blanks that are not quoted or escaped.
    pub(super) fn words(&mut self, line: &Line, rest: usize) -> Vec<Text> {
        let mut words = Vec::new();
        let mut start: Option<usize> = None;
        let mut quote: Option<(char, usize)> = None;
        let mut chars = line.text[rest..].char_indices();
        while let Some((i, c)) = chars.next() {
            let i = rest + i;
            match (quote, c) {
                (None, c) if c.is_whitespace() => {
                    words.extend(start.take().map(|from| self.text(line, from, i)));
                    continue;
                }
                (Some((open, _)), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some((c, i)),
                (Some(('\'', _)), _) => {}
                (_, c) if c == self.escape => {
                    chars.next();
                }
                _ => {}
            }
            start.get_or_insert(i);
        }
        if let Some((open, at)) = quote {
            let span = line.span(self.file, at, at + 1);
            let help = format!("close it, or write `{}{open}` for the character itself", self.escape);
            self.error(span, format!("the quote {open} is never closed")).help = Some(help);
        }
        words.extend(start.map(|from| self.text(line, from, line.text.len())));
        words
    }
}

/// Returns a string of a JSON list as a text of which only variables and escapes are left to read: its quotes are its own.
fn quoted(string: &str, escape: char) -> String {
    let mut raw = String::new();
    let mut chars = string.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => raw.extend([escape, c]),
            _ if c == escape => {
                raw.push(c);
                raw.extend(chars.next());
            }
            _ => raw.push(c),
        }
    }
    raw
}

/// A word that begins a heredoc.
pub(super) struct Marker {
    /// Its place in the line.
    pub(super) word: Range<usize>,
    /// What ends the text.
    pub(super) name: String,
    pub(super) expand: bool,
    /// Tabs are taken off the lines.
    pub(super) tabs: bool,
}

/// Returns the words of an instruction that begin a heredoc: `<<EOF`, `3<<-EOF`, `<<"EOF"`. As in buildkit a word ends at a
/// blank alone, `\` escapes whatever the directive says, and a line with a quote that is never closed has none.
pub(super) fn heredocs(text: &str) -> Vec<Marker> {
    markers(text).unwrap_or_default()
}

fn markers(text: &str) -> Option<Vec<Marker>> {
    let mut found = Vec::new();
    let mut start: Option<usize> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if c.is_whitespace() {
            found.extend(start.take().and_then(|from| marker(text, from..i)));
            continue;
        }
        start.get_or_insert(i);
        match c {
            '\\' => {
                chars.next();
            }
            '\'' => {
                chars.by_ref().find(|(_, c)| *c == '\'')?;
            }
            '"' => loop {
                match chars.next()?.1 {
                    '"' => break,
                    '\\' => {
                        chars.next();
                    }
                    _ => {}
                }
            },
            // The word may stand behind blanks.
            '<' if chars.next_if(|(_, c)| *c == '<').is_some() => {
                chars.next_if(|(_, c)| *c == '-');
                while chars.next_if(|(_, c)| matches!(c, ' ' | '\t' | '\r')).is_some() {}
            }
            _ => {}
        }
    }
    found.extend(start.and_then(|from| marker(text, from..text.len())));
    Some(found)
}

/// Returns the heredoc that a text begins if it is nothing else.
pub(super) fn sole_heredoc(text: &str) -> bool {
    marker(text, 0..text.len()).is_some()
}

fn marker(text: &str, word: Range<usize>) -> Option<Marker> {
    let rest = text[word.clone()].trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches([' ', '\t', '\r']);
    if rest.contains('<') {
        return None;
    }
    let (name, expand) = unquoted(rest)?;
    Some(Marker { word, name, expand, tabs })
}

/// Takes quotes and escapes off one word; returns it and whether it had no quotes. `None` if it is not one word.
fn unquoted(word: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut plain = true;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                plain = false;
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => name.push(c),
                    }
                }
            }
            '"' => {
                plain = false;
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => name.push(chars.next_if(|c| matches!(c, '"' | '$' | '\\')).unwrap_or('\\')),
                        c => name.push(c),
                    }
                }
            }
            '\\' => name.extend(chars.next()),
            c if c.is_whitespace() => return None,
            c => name.push(c),
        }
    }
    (!name.is_empty()).then_some((name, plain))
}
