//! Reads Dockerfiles: text in, instructions with their places out.
//!
//! Rules: Docker's "Dockerfile reference". What needs a running container or several stages is refused by name, since
//! leaving it out would build another image than the file says.
//!
//! Invariant: pure.

use std::time::Duration;

use crate::diag::{Diagnostic, Span, nearest};

/// A Dockerfile of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The base image as written.
    pub from: Text,
    /// What follows, in order.
    pub instructions: Vec<Instruction>,
    /// `\` unless the `escape` directive says otherwise.
    pub escape: char,
    /// What is odd but allowed.
    pub warnings: Vec<Diagnostic>,
}

/// A piece of an instruction as written: quotes and variables are still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub raw: String,
    /// Its place.
    pub span: Span,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub op: Op,
    /// The whole of it, on one line, for the history.
    pub line: String,
    /// Its place.
    pub span: Span,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `COPY`.
    Copy {
        /// Paths in the context.
        sources: Vec<Text>,
        /// Path in the image.
        dest: Text,
        /// `--chown`.
        chown: Option<Text>,
        /// `--chmod`, octal.
        chmod: Option<u32>,
    },
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Vec<(Text, Text)>),
    /// `LABEL`.
    Label(Vec<(Text, Text)>),
    /// `WORKDIR`.
    Workdir(Text),
    /// `EXPOSE`.
    Expose(Vec<Text>),
    /// `USER`.
    User(Text),
    /// `STOPSIGNAL`.
    StopSignal(Text),
    /// `VOLUME`.
    Volume(Vec<Text>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `SHELL`.
    Shell(Vec<String>),
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `None` is `NONE`: no check at all.
    pub command: Option<Command>,
    /// `--interval`.
    pub interval: Option<Duration>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--start-period`.
    pub start_period: Option<Duration>,
    /// `--start-interval`.
    pub start_interval: Option<Duration>,
    /// `--retries`.
    pub retries: Option<u32>,
}

/// All instructions of Docker.
const KNOWN: [&str; 18] = [
    "FROM",
    "RUN",
    "CMD",
    "LABEL",
    "MAINTAINER",
    "EXPOSE",
    "ENV",
    "ADD",
    "COPY",
    "ENTRYPOINT",
    "VOLUME",
    "USER",
    "WORKDIR",
    "ARG",
    "ONBUILD",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "SHELL",
];

/// Parses a Dockerfile; `file` is its number in the `Sources`.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn parse(text: &str, file: u16) -> Result<Dockerfile, Vec<Diagnostic>> {
    let mut parser = Parser::new(file);
    let lines = parser.lines(text);
    let mut from: Option<Text> = None;
    let mut instructions = Vec::new();
    for line in &lines {
        parser.line(line, &mut from, &mut instructions);
    }
    if from.is_none() && parser.errors.is_empty() {
        let error = Diagnostic::error(Some(Span::new(file, 0, 0)), "the Dockerfile has no FROM instruction");
        parser.errors.push(error.help("begin it with the image to build on, such as `FROM debian:12`"));
    }
    match from {
        Some(from) if parser.errors.is_empty() => {
            Ok(Dockerfile { from, instructions, escape: parser.escape, warnings: parser.warnings })
        }
        _ => Err(parser.errors),
    }
}

/// What `commit --change` takes, as docker's does.
const CHANGES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses instructions that stand alone and change a configuration; returns them and the character that escapes.
///
/// # Errors
/// All that is wrong with them, in their order.
pub fn parse_changes(text: &str, file: u16) -> Result<(Vec<Instruction>, char), Vec<Diagnostic>> {
    let mut parser = Parser { changes: true, ..Parser::new(file) };
    let lines = parser.lines(text);
    // They go on from something that is there.
    let mut from = Some(Text { raw: "scratch".into(), span: Span::new(file, 0, 0) });
    let mut instructions = Vec::new();
    for line in &lines {
        parser.line(line, &mut from, &mut instructions);
    }
    if parser.errors.is_empty() { Ok((instructions, parser.escape)) } else { Err(parser.errors) }
}

/// A logical line: continuation lines joined, comments left out.
#[derive(Default)]
struct Line {
    text: String,
    /// Where pieces of `text` start, and where they stand in the file.
    pieces: Vec<(usize, usize)>,
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

    fn span(&self, file: u16, lo: usize, hi: usize) -> Span {
        let end = if hi > lo { self.at(hi - 1) + 1 } else { self.at(lo) };
        Span::new(file, self.at(lo), end)
    }

    /// Returns the piece from `lo` to `hi` without blanks at its ends.
    fn piece(&self, file: u16, lo: usize, hi: usize) -> Text {
        let raw = &self.text[lo..hi];
        let start = lo + (raw.len() - raw.trim_start().len());
        let raw = raw.trim();
        Text { raw: raw.to_owned(), span: self.span(file, start, start + raw.len()) }
    }
}

struct Parser {
    file: u16,
    escape: char,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// They are changes, and no file.
    changes: bool,
}

impl Parser {
    fn new(file: u16) -> Self {
        Self { file, escape: '\\', errors: Vec::new(), warnings: Vec::new(), changes: false }
    }

    /// Reads the directives at the top and joins continued lines.
    fn lines(&mut self, text: &str) -> Vec<Line> {
        let mut all = Vec::new();
        let mut current: Option<Line> = None;
        let (mut at, mut directives) = (0, true);
        let mut seen: Vec<String> = Vec::new();
        for whole in text.split_inclusive('\n') {
            let start = at;
            at += whole.len();
            let mut line = whole.trim_end_matches(['\n', '\r']);
            let mut start = start;
            if start == 0 {
                let plain = line.strip_prefix('\u{feff}').unwrap_or(line);
                start += line.len() - plain.len();
                line = plain;
                if line.starts_with("#!") {
                    continue;
                }
            }
            let trimmed = line.trim_start();
            if directives {
                match directive(line) {
                    Some((name, value)) => {
                        let span = Span::new(self.file, start, start + line.len());
                        if seen.contains(&name) {
                            let message = format!("the directive `{name}` is given twice");
                            self.errors.push(Diagnostic::error(Some(span), message));
                        }
                        if name == "escape" {
                            match value {
                                "\\" => self.escape = '\\',
                                "`" => self.escape = '`',
                                _ => self.errors.push(Diagnostic::error(
                                    Some(span),
                                    format!("the escape character is `\\` or a backtick, not `{value}`"),
                                )),
                            }
                        }
                        seen.push(name);
                        continue;
                    }
                    None => directives = false,
                }
            }
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                if current.is_some() {
                    let span = Span::new(self.file, start, start);
                    let message = "an empty line continues the instruction above; a later version will end it here";
                    self.warnings.push(Diagnostic::warning(Some(span), message));
                }
                continue;
            }
            // Only the first line of an instruction loses its leading blanks.
            let (mut piece, from) = match current {
                None => (trimmed, start + line.len() - trimmed.len()),
                Some(_) => (line, start),
            };
            let body = piece.trim_end_matches([' ', '\t']);
            let continued = body.ends_with(self.escape) && {
                let before = &body[..body.len() - self.escape.len_utf8()];
                !before.ends_with(self.escape)
            };
            if continued {
                piece = &body[..body.len() - self.escape.len_utf8()];
            }
            current.get_or_insert_default().push(piece, from);
            if !continued {
                all.extend(current.take());
            }
        }
        all.extend(current);
        all
    }

    fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.errors.push(Diagnostic::error(Some(span), message));
        self.errors.last_mut().expect("just pushed")
    }

    fn later(&mut self, span: Span, what: &str) {
        self.error(span, format!("{what} is not supported yet; it comes in a later version"));
    }

    fn line(&mut self, line: &Line, from: &mut Option<Text>, out: &mut Vec<Instruction>) {
        let word_end = line.text.find([' ', '\t']).unwrap_or(line.text.len());
        let keyword = line.text[..word_end].to_ascii_uppercase();
        let keyword_span = line.span(self.file, 0, word_end);
        let end = line.text.trim_end().len();
        let span = line.span(self.file, 0, end);
        if !KNOWN.contains(&keyword.as_str()) {
            let near = nearest(&keyword, KNOWN).map(|near| format!("did you mean `{near}`?"));
            let shown = line.text[..word_end].to_owned();
            self.error(keyword_span, format!("unknown instruction `{shown}`")).help = near;
            return;
        }
        if self.changes && !CHANGES.contains(&keyword.as_str()) {
            let all: Vec<&str> = CHANGES.into_iter().filter(|change| *change != "ONBUILD").collect();
            let (last, first) = all.split_last().unwrap_or((&"", &[]));
            let help = format!("a change is one of {} and {last}", first.join(", "));
            self.error(keyword_span, format!("{keyword} is not a valid change command")).help = Some(help);
            return;
        }
        if from.is_none() && !matches!(keyword.as_str(), "FROM" | "ARG") {
            self.error(keyword_span, format!("{keyword} stands before FROM")).help =
                Some("begin the file with the image to build on, such as `FROM debian:12`".into());
            // The rest is still worth checking.
            *from = Some(Text { raw: "scratch".into(), span: keyword_span });
        }
        let (flags, rest) = self.flags(line, word_end);
        let takes_flags = matches!(keyword.as_str(), "COPY" | "ADD" | "FROM" | "HEALTHCHECK" | "RUN");
        if let Some((name, _, at)) = flags.first().filter(|_| !takes_flags) {
            let message = format!("{keyword} has no flag `--{name}`");
            self.error(*at, message);
            return;
        }
        let argument = line.piece(self.file, rest, end);
        if argument.raw.is_empty() {
            self.error(keyword_span, format!("{keyword} needs an argument"));
            return;
        }
        let op = match keyword.as_str() {
            "FROM" => return self.from(line, rest, &flags, from, keyword_span),
            "RUN" | "ADD" | "ARG" | "ONBUILD" => return self.later(keyword_span, &keyword),
            "MAINTAINER" => {
                let help = format!("write `LABEL org.opencontainers.image.authors={}`", shown(&argument.raw));
                self.error(keyword_span, "MAINTAINER is obsolete and not supported").help = Some(help);
                return;
            }
            "COPY" => self.copy(line, rest, &flags, keyword_span),
            "CMD" => Some(Op::Cmd(command(&argument.raw))),
            "ENTRYPOINT" => Some(Op::Entrypoint(command(&argument.raw))),
            "ENV" => self.pairs(line, rest, &keyword).map(Op::Env),
            "LABEL" => self.pairs(line, rest, &keyword).map(Op::Label),
            "WORKDIR" => Some(Op::Workdir(argument)),
            "EXPOSE" => Some(Op::Expose(self.words(line, rest))),
            "USER" => Some(Op::User(argument)),
            "STOPSIGNAL" => Some(Op::StopSignal(argument)),
            "VOLUME" => Some(Op::Volume(self.list(line, rest))),
            "HEALTHCHECK" => self.healthcheck(&argument, &flags).map(Op::Healthcheck),
            "SHELL" => match serde_json::from_str::<Vec<String>>(&argument.raw) {
                Ok(words) if !words.is_empty() => Some(Op::Shell(words)),
                _ => {
                    self.error(argument.span, "SHELL needs a list such as `[\"/bin/bash\", \"-c\"]`");
                    None
                }
            },
            _ => None,
        };
        if let Some(op) = op {
            out.push(Instruction { op, line: format!("{keyword} {}", line.text[word_end..].trim()), span });
        }
    }

    /// Reads `--name=value` words; returns them and where the rest starts.
    fn flags(&mut self, line: &Line, mut at: usize) -> (Vec<(String, Option<Text>, Span)>, usize) {
        let mut flags = Vec::new();
        loop {
            let rest = &line.text[at..];
            let start = at + (rest.len() - rest.trim_start().len());
            let word = line.text[start..].split_whitespace().next().unwrap_or_default();
            let Some(flag) = word.strip_prefix("--") else { return (flags, start) };
            at = start + word.len();
            if flag.is_empty() {
                return (flags, at);
            }
            let span = line.span(self.file, start, at);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(Text { raw: value.to_owned(), span })),
                None => (flag, None),
            };
            if flags.iter().any(|(n, ..)| n == name) {
                self.error(span, format!("the flag `--{name}` is given twice"));
            }
            flags.push((name.to_owned(), value, span));
        }
    }

    fn from(
        &mut self,
        line: &Line,
        rest: usize,
        flags: &[(String, Option<Text>, Span)],
        from: &mut Option<Text>,
        keyword: Span,
    ) {
        if from.is_some() {
            return self.later(keyword, "a second FROM (a build in several stages)");
        }
        for (name, value, at) in flags {
            let own = format!("linux/{}", crate::image::config::host_architecture());
            match (name.as_str(), value) {
                ("platform", Some(value)) if value.raw == own => {}
                ("platform", Some(_)) => self.later(*at, "FROM for another platform than this machine's"),
                _ => {
                    self.error(*at, format!("FROM has no flag `--{name}`"));
                }
            }
        }
        let words = self.words(line, rest);
        match &words[..] {
            [image] => *from = Some(image.clone()),
            // A name for the only stage changes nothing.
            [image, as_word, name] if as_word.raw.eq_ignore_ascii_case("as") => {
                let valid = name.raw.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.raw.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                if !valid {
                    self.error(name.span, format!("`{}` is not a valid name for a stage", name.raw));
                }
                *from = Some(image.clone());
            }
            _ => {
                self.error(keyword, "FROM needs one image, and may be followed by `AS` and a name");
                *from = words.into_iter().next();
            }
        }
    }

    fn copy(&mut self, line: &Line, rest: usize, flags: &[(String, Option<Text>, Span)], keyword: Span) -> Option<Op> {
        let (mut chown, mut chmod) = (None, None);
        for (name, value, at) in flags {
            match (name.as_str(), value) {
                ("chown", Some(value)) => chown = Some(value.clone()),
                ("chmod", Some(value)) => match u32::from_str_radix(&value.raw, 8) {
                    Ok(mode) if mode <= 0o7777 => chmod = Some(mode),
                    _ => {
                        let message = format!("`{}` is not an octal mode such as 0755", value.raw);
                        self.error(*at, message);
                    }
                },
                ("from" | "link" | "parents" | "exclude", _) => self.later(*at, &format!("COPY --{name}")),
                ("chown" | "chmod", None) => {
                    self.error(*at, format!("COPY --{name} needs a value"));
                }
                _ => {
                    let near = nearest(name, ["chown", "chmod", "from", "link", "parents", "exclude"]);
                    let help = near.map(|near| format!("did you mean `--{near}`?"));
                    self.error(*at, format!("COPY has no flag `--{name}`")).help = help;
                }
            }
        }
        let mut words = self.list(line, rest);
        if let Some(heredoc) = words.iter().find(|w| w.raw.starts_with("<<")) {
            let span = heredoc.span;
            self.later(span, "a heredoc in COPY");
            return None;
        }
        let dest = words.pop()?;
        if words.is_empty() {
            self.error(keyword, "COPY needs at least one source and a destination");
            return None;
        }
        Some(Op::Copy { sources: words, dest, chown, chmod })
    }

    fn healthcheck(&mut self, argument: &Text, flags: &[(String, Option<Text>, Span)]) -> Option<Healthcheck> {
        let mut check = Healthcheck::default();
        for (name, value, at) in flags {
            let Some(value) = value else {
                self.error(*at, format!("HEALTHCHECK --{name} needs a value"));
                continue;
            };
            let slot = match name.as_str() {
                "interval" => &mut check.interval,
                "timeout" => &mut check.timeout,
                "start-period" => &mut check.start_period,
                "start-interval" => &mut check.start_interval,
                "retries" => {
                    check.retries = value.raw.parse().ok();
                    if check.retries.is_none() {
                        self.error(*at, format!("`{}` is not a number of retries", value.raw));
                    }
                    continue;
                }
                _ => {
                    let near = nearest(name, ["interval", "timeout", "start-period", "start-interval", "retries"]);
                    let help = near.map(|near| format!("did you mean `--{near}`?"));
                    self.error(*at, format!("HEALTHCHECK has no flag `--{name}`")).help = help;
                    continue;
                }
            };
            *slot = duration(&value.raw);
            if slot.is_none() {
                self.error(*at, format!("`{}` is not a duration such as 30s or 1m30s", value.raw));
            }
        }
        let (kind, rest) = argument.raw.split_once([' ', '\t']).unwrap_or((&argument.raw, ""));
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if rest.trim().is_empty() && flags.is_empty() => Some(check),
            "CMD" if !rest.trim().is_empty() => {
                check.command = Some(command(rest.trim()));
                Some(check)
            }
            _ => {
                self.error(argument.span, "HEALTHCHECK is followed by `CMD` and a command, or by `NONE`");
                None
            }
        }
    }

    /// Returns a JSON list's strings if it is one, else the words.
    fn list(&mut self, line: &Line, rest: usize) -> Vec<Text> {
        let whole = line.piece(self.file, rest, line.text.len());
        match serde_json::from_str::<Vec<String>>(&whole.raw) {
            // A JSON string needs no quotes any more; what would be read as some is escaped.
            Ok(strings) => strings
                .into_iter()
                .map(|s| {
                    let mut raw = String::new();
                    for c in s.chars() {
                        if c == self.escape || c == '"' || c == '\'' {
                            raw.push(self.escape);
                        }
                        raw.push(c);
                    }
                    Text { raw, span: whole.span }
                })
                .collect(),
            Err(_) => self.words(line, rest),
        }
    }

    /// Splits at blanks that are not quoted or escaped.
    fn words(&mut self, line: &Line, rest: usize) -> Vec<Text> {
        let mut words = Vec::new();
        let mut start: Option<usize> = None;
        let mut quote: Option<(char, usize)> = None;
        let mut chars = line.text[rest..].char_indices();
        while let Some((i, c)) = chars.next() {
            let i = rest + i;
            match (quote, c) {
                (None, ' ' | '\t') => {
                    if let Some(from) = start.take() {
                        words.push(line.piece(self.file, from, i));
                    }
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
            self.error(span, format!("the quote {open} is never closed"));
        }
        if let Some(from) = start {
            words.push(line.piece(self.file, from, line.text.len()));
        }
        words
    }

    /// Reads `key=value` words, or the old form of one key, a blank and its value.
    fn pairs(&mut self, line: &Line, rest: usize, keyword: &str) -> Option<Vec<(Text, Text)>> {
        let words = self.words(line, rest);
        let first = words.first()?;
        if !first.raw.contains('=') {
            if words.len() < 2 {
                self.error(first.span, format!("{keyword} needs `name=value`"));
                return None;
            }
            let after = rest + line.text[rest..].find(&first.raw)? + first.raw.len();
            return Some(vec![(first.clone(), line.piece(self.file, after, line.text.len()))]);
        }
        let mut pairs = Vec::new();
        for word in words {
            match word.raw.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    let text = |raw: &str| Text { raw: raw.to_owned(), span: word.span };
                    pairs.push((text(key), text(value)));
                }
                _ => {
                    let error = self.error(word.span, format!("`{}` is not of the form `name=value`", word.raw));
                    error.help = Some("a value that contains blanks needs quotes".into());
                }
            }
        }
        Some(pairs)
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

/// Reads `# name = value` for the names that Docker knows.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}

/// Reads the exec form if the text is exactly a JSON list of strings, else takes it for the shell.
fn command(text: &str) -> Command {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => Command::Exec(words),
        Err(_) => Command::Shell(text.to_owned()),
    }
}

/// Reads a duration as Go's `time.ParseDuration` does, without a sign.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
                .into_iter()
                .find(|(unit, _)| {
                    rest.strip_prefix(unit)
                        .is_some_and(|r| r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
                })?;
        total += value * seconds;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

/// Replaces variables and removes quotes.
///
/// `$x`, `${x}`, `${x:-w}`, `${x-w}`, `${x:+w}`, `${x+w}`, `${x:?w}`, `${x?w}`; words nest. Single quotes are literal. An unset variable is empty.
///
/// # Errors
/// What is wrong with the text, as a sentence.
pub fn expand(raw: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut chars: Vec<char> = raw.chars().collect();
    chars.push('\0'); // a Dockerfile has none; it ends the text
    let mut expander = Expander { chars: &chars, at: 0, escape, lookup, depth: 0 };
    expander.until(&['\0'])
}

struct Expander<'a> {
    chars: &'a [char],
    at: usize,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

impl Expander<'_> {
    fn peek(&self) -> char {
        self.chars.get(self.at).copied().unwrap_or('\0')
    }

    fn next(&mut self) -> char {
        let c = self.peek();
        self.at += usize::from(self.at < self.chars.len());
        c
    }

    /// Reads to one of `ends`, which is not consumed.
    fn until(&mut self, ends: &[char]) -> Result<String, String> {
        let mut out = String::new();
        loop {
            let c = self.peek();
            if ends.contains(&c) {
                return Ok(out);
            }
            if c == '\0' {
                return Err("a `${` is never closed".into());
            }
            self.at += 1;
            match c {
                '\'' => loop {
                    match self.next() {
                        '\'' => break,
                        '\0' => return Err("a quote is never closed".into()),
                        c => out.push(c),
                    }
                },
                '"' => loop {
                    match self.next() {
                        '"' => break,
                        '\0' => return Err("a quote is never closed".into()),
                        '$' => out.push_str(&self.variable()?),
                        // Inside double quotes only these can be escaped.
                        c if c == self.escape && (matches!(self.peek(), '"' | '$') || self.peek() == self.escape) => {
                            out.push(self.next());
                        }
                        c => out.push(c),
                    }
                },
                '$' => out.push_str(&self.variable()?),
                c if c == self.escape => match self.peek() {
                    '\0' => out.push(c),
                    _ => out.push(self.next()),
                },
                c => out.push(c),
            }
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        if self.peek() != '{' {
            let name = self.name();
            if name.is_empty() {
                return Ok(match self.peek() {
                    // Positional and special parameters have no value here.
                    c if c.is_ascii_digit() || matches!(c, '@' | '*' | '#' | '?' | '!') => {
                        self.at += 1;
                        String::new()
                    }
                    _ => "$".into(),
                });
            }
            return Ok((self.lookup)(&name).unwrap_or_default());
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > 64 {
            return Err("variables are nested too deeply".into());
        }
        let name = self.name();
        if name.is_empty() {
            return Err("`${` must be followed by the name of a variable".into());
        }
        let value = (self.lookup)(&name);
        let colon = self.peek() == ':';
        if colon {
            self.at += 1;
        }
        // With a colon, an empty value counts as none.
        let set = value.as_ref().is_some_and(|v| !colon || !v.is_empty());
        let operator = self.next();
        let out = match operator {
            '}' if !colon => {
                self.depth -= 1;
                return Ok(value.unwrap_or_default());
            }
            '-' | '+' | '?' => {
                let word = self.until(&['}'])?;
                self.at += 1;
                match operator {
                    '-' => {
                        if set {
                            value.unwrap_or_default()
                        } else {
                            word
                        }
                    }
                    '+' => {
                        if set {
                            word
                        } else {
                            String::new()
                        }
                    }
                    _ if set => value.unwrap_or_default(),
                    _ if word.is_empty() => return Err(format!("the variable `{name}` is not set")),
                    _ => return Err(format!("the variable `{name}` is not set: {word}")),
                }
            }
            '#' | '%' | '/' => return Err(format!("`${{{name}{operator}…}}` is not supported yet")),
            _ => return Err(format!("`${{{name}` is followed by something unknown")),
        };
        self.depth -= 1;
        Ok(out)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while self.peek().is_ascii_alphabetic()
            || self.peek() == '_'
            || (!name.is_empty() && self.peek().is_ascii_digit())
        {
            name.push(self.next());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Sources, render};

    fn ops(text: &str) -> Vec<Op> {
        parse(text, 0).unwrap_or_else(|e| panic!("{e:?}")).instructions.into_iter().map(|i| i.op).collect()
    }

    fn errors(text: &str) -> String {
        let mut sources = Sources::default();
        let file = sources.add("Dockerfile", text);
        let errors = parse(text, file).expect_err("must be refused");
        errors.iter().map(|d| render(d, &sources, false)).collect::<Vec<_>>().join("\n")
    }

    fn raw(texts: &[Text]) -> Vec<&str> {
        texts.iter().map(|t| t.raw.as_str()).collect()
    }

    #[test]
    fn both_forms_of_commands_are_read() {
        for (text, expected) in [
            (r#"CMD ["a", "b c"]"#, Command::Exec(vec!["a".into(), "b c".into()])),
            ("CMD a  b", Command::Shell("a  b".into())),
            ("cmd ['a']", Command::Shell("['a']".into())),
            (r#"CMD ["a", ["b"]]"#, Command::Shell(r#"["a", ["b"]]"#.into())),
            ("CMD a \\\n  b", Command::Shell("a   b".into())),
            ("CMD a \\\n# comment\n\n  b", Command::Shell("a   b".into())),
            ("CMD a \\\\\n", Command::Shell("a \\\\".into())),
        ] {
            assert_eq!(ops(&format!("FROM x\n{text}\n")), [Op::Cmd(expected)], "{text}");
        }
        assert_eq!(ops("# escape=`\nFROM x\nCMD a `\nb\\"), [Op::Cmd(Command::Shell("a b\\".into()))]);
    }

    #[test]
    fn pairs_have_two_forms() {
        for (text, expected) in [
            ("ENV a=1 b=\"2 3\" c=4\\ 5", vec![("a", "1"), ("b", "\"2 3\""), ("c", "4\\ 5")]),
            ("ENV a  1 2", vec![("a", "1 2")]),
            ("ENV a=", vec![("a", "")]),
            ("ENV a=b=c", vec![("a", "b=c")]),
        ] {
            let parsed = ops(&format!("FROM x\n{text}"));
            let [Op::Env(pairs)] = &parsed[..] else { panic!("{text}: {parsed:?}") };
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.raw.as_str(), v.raw.as_str())).collect();
            assert_eq!(pairs, expected, "{text}");
        }
    }

    #[test]
    fn copy_takes_words_or_a_list() {
        for text in ["COPY --chown=1:2 --chmod=644 a b /c/", r#"COPY --chmod=0644 --chown=1:2 ["a", "b", "/c/"]"#] {
            let parsed = ops(&format!("FROM x\n{text}"));
            let [Op::Copy { sources, dest, chown, chmod }] = &parsed[..] else { panic!("{parsed:?}") };
            assert_eq!((raw(sources), dest.raw.as_str()), (vec!["a", "b"], "/c/"));
            assert_eq!((chown.as_ref().map(|c| c.raw.as_str()), *chmod), (Some("1:2"), Some(0o644)));
        }
    }

    #[test]
    fn health_checks_have_durations() {
        let parsed =
            ops("FROM x\nHEALTHCHECK --interval=1m30s --timeout=500ms --retries=5 CMD curl -f x\nHEALTHCHECK NONE");
        let [Op::Healthcheck(check), Op::Healthcheck(none)] = &parsed[..] else { panic!("{parsed:?}") };
        assert_eq!(check.interval, Some(Duration::from_secs(90)));
        assert_eq!(check.timeout, Some(Duration::from_millis(500)));
        assert_eq!(check.retries, Some(5));
        assert_eq!(check.command, Some(Command::Shell("curl -f x".into())));
        assert_eq!(none, &Healthcheck::default());
        for (text, seconds) in [
            ("1h", Some(3600.0)),
            ("1.5s", Some(1.5)),
            ("0", Some(0.0)),
            ("5", None),
            ("", None),
            ("1x", None),
            ("s", None),
        ] {
            assert_eq!(duration(text), seconds.map(Duration::from_secs_f64), "{text}");
        }
    }

    #[test]
    fn variables_are_expanded() {
        let lookup = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$A", "one"),
            ("${A}x", "onex"),
            ("$A$A", "oneone"),
            ("$NO", ""),
            ("${NO:-w}", "w"),
            ("${EMPTY:-w}", "w"),
            ("${EMPTY-w}", ""),
            ("${A:+w}", "w"),
            ("${NO+w}", ""),
            ("${NO:-${A}}", "one"),
            ("'$A'", "$A"),
            ("\"$A x\"", "one x"),
            ("\\$A", "$A"),
            ("\"\\$A\"", "$A"),
            ("\"a\\b\"", "a\\b"),
            ("a\\ b", "a b"),
            ("$1", ""),
            ("$", "$"),
            ("a$-", "a$-"),
            ("${NO:-\"a b\"}", "a b"),
            ("${A?x}", "one"),
        ] {
            assert_eq!(expand(text, '\\', &lookup).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${", "${}", "${:x}", "${A", "${A:}", "'a", "\"a", "${NO?gone}", "${A#x}"] {
            assert!(expand(text, '\\', &lookup).is_err(), "{text}");
        }
    }

    #[test]
    fn what_needs_a_container_or_stages_is_refused_by_name() {
        insta::assert_snapshot!(errors("FROM debian\nRUN apt-get update\nCOPY --from=build /a /b\nFROM x\n"), @r"
        error: RUN is not supported yet; it comes in a later version
         --> Dockerfile:2:1
          |
        2 | RUN apt-get update
          | ^^^

        error: COPY --from is not supported yet; it comes in a later version
         --> Dockerfile:3:6
          |
        3 | COPY --from=build /a /b
          |      ^^^^^^^^^^^^

        error: a second FROM (a build in several stages) is not supported yet; it comes in a later version
         --> Dockerfile:4:1
          |
        4 | FROM x
          | ^^^^
        ");
        for keyword in ["ADD a /b", "ARG A", "ONBUILD COPY a b"] {
            assert!(errors(&format!("FROM x\n{keyword}\n")).contains("comes in a later version"), "{keyword}");
        }
        assert!(errors("FROM x\nCOPY <<EOF /a\nCMD\n").contains("heredoc"));
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        insta::assert_snapshot!(errors("FROM x\nCPOY a b\n"), @r"
        error: unknown instruction `CPOY`
         --> Dockerfile:2:1
          |
        2 | CPOY a b
          | ^^^^
          |
          = help: did you mean `COPY`?
        ");
        insta::assert_snapshot!(errors("COPY a b\n"), @r"
        error: COPY stands before FROM
         --> Dockerfile:1:1
          |
        1 | COPY a b
          | ^^^^
          |
          = help: begin the file with the image to build on, such as `FROM debian:12`
        ");
        for (text, expected) in [
            ("", "has no FROM"),
            ("# only a comment\n", "has no FROM"),
            ("FROM x\nCOPY a\n", "at least one source"),
            ("FROM x\nCOPY --chmod=9 a b\n", "octal mode"),
            ("FROM x\nCOPY --chwon=1 a b\n", "did you mean `--chown`"),
            ("FROM x\nENV A\n", "needs `name=value`"),
            ("FROM x\nENV A=1 B\n", "not of the form"),
            ("FROM x\nENV A=\"1\n", "never closed"),
            ("FROM x\nCMD\n", "needs an argument"),
            ("FROM x\nUSER --a b\n", "has no flag"),
            ("FROM x\nSHELL /bin/sh\n", "needs a list"),
            ("FROM x\nHEALTHCHECK true\n", "followed by `CMD`"),
            ("FROM a b\n", "one image"),
            ("# escape=x\nFROM a\n", "escape character"),
        ] {
            assert!(errors(text).contains(expected), "{text:?}: {}", errors(text));
        }
    }
}
