//! Lines to instructions: one function for each that is more than its words.

use std::mem;
use std::time::Duration;

use crate::build::dockerfile::check::{self, Finding, Keyword, Rule};
use crate::build::dockerfile::flags::{
    ADD_FLAGS, COPY_FLAGS, FROM_FLAGS, HEALTHCHECK_FLAGS, RUN_FLAGS, is_set, many, one,
};
use crate::build::dockerfile::lines::Line;
use crate::build::dockerfile::words::{Flag, List};
use crate::build::dockerfile::{
    Command, Copy, Healthcheck, Instruction, Mount, Op, Run, Source, Stage, Text, blank, expand, with_heredocs,
};
use crate::diag::{Diagnostic, Span, nearest};

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

/// Which instructions may stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Those of a file.
    All,
    /// Those of `commit --change`.
    Changes,
    /// Those that may follow `ONBUILD`.
    Triggers,
}

/// What a line is.
pub(super) enum Found {
    Stage(Stage),
    Instruction(Instruction),
}

/// Reads lines one after the other and collects what is wrong with them.
pub(super) struct Parser {
    pub(super) file: u16,
    pub(super) escape: char,
    pub(super) errors: Vec<Diagnostic>,
    takes: Takes,
    /// Whether there was a `FROM`, or one is not needed.
    begun: bool,
    findings: Vec<Finding>,
    keywords: Vec<Keyword>,
}

/// A line of which the keyword and the flags are read.
pub(super) struct Parts<'a> {
    line: &'a Line,
    pub(super) keyword: &'a str,
    /// The place of the keyword.
    at: Span,
    pub(super) flags: Vec<Flag>,
    /// Where the arguments start in the line.
    rest: usize,
    /// The arguments.
    argument: Text,
}

impl Parser {
    pub(super) fn new(file: u16, escape: char, takes: Takes, errors: Vec<Diagnostic>) -> Self {
        let (findings, keywords) = (Vec::new(), Vec::new());
        Self { file, escape, errors, takes, begun: takes != Takes::All, findings, keywords }
    }

    /// Returns what was made, or what is wrong.
    pub(super) fn finish<T>(mut self, make: impl FnOnce(Vec<Finding>) -> T) -> Result<T, Vec<Diagnostic>> {
        if self.errors.is_empty() {
            self.findings.extend(check::casing(&self.keywords));
            return Ok(make(self.findings));
        }
        self.errors.sort_by_key(|error| error.span.map(|span| span.lo));
        Err(self.errors)
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.errors.push(Diagnostic::error(Some(span), message));
        self.errors.last_mut().expect("just pushed")
    }

    fn find(&mut self, rule: Rule, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding::new(rule, span, message, help));
    }

    /// Reads the instruction that starts at `lo` of a line.
    pub(super) fn instruction(&mut self, line: &Line, lo: usize) -> Option<Found> {
        let lo = lo + (line.text[lo..].len() - line.text[lo..].trim_start().len());
        let word_end = line.text[lo..].find(blank).map_or(line.text.len(), |end| lo + end);
        let written = &line.text[lo..word_end];
        let at = line.span(self.file, lo, word_end);
        let upper = written.to_ascii_uppercase();
        let Some(keyword) = self.keyword(&upper, written, at) else {
            self.begun |= upper == "FROM";
            return None;
        };
        if self.takes == Takes::All && self.begun || keyword == "FROM" {
            self.keywords.push(Keyword { written: written.to_owned(), span: at });
        }
        let (flags, rest) = self.flags(line, word_end);
        let end = line.text.trim_end().len().max(rest);
        let argument = self.piece(line, rest, end);
        let span = line.span(self.file, lo, end);
        let parts = Parts { line, keyword, at, flags, rest, argument };
        let text = format!("{keyword} {}", line.text[word_end..].trim());
        if keyword == "FROM" {
            self.begun = true;
            return self.from(parts, text, span).map(Found::Stage);
        }
        let op = self.op(&parts)?;
        Some(Found::Instruction(Instruction { op, line: text, span }))
    }

    /// Returns the keyword if it may stand here.
    fn keyword(&mut self, upper: &str, written: &str, at: Span) -> Option<&'static str> {
        let Some(keyword) = KNOWN.into_iter().find(|known| *known == upper) else {
            let help = match nearest(upper, KNOWN) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a line that goes on needs the escape character at the end of the one above".to_owned(),
            };
            self.error(at, format!("unknown instruction `{written}`")).help = Some(help);
            return None;
        };
        match self.takes {
            Takes::Changes if !CHANGES.contains(&keyword) => {
                let (last, first) = CHANGES.split_last().unwrap_or((&"", &[]));
                let help = format!("a change is one of {} and {last}", first.join(", "));
                self.error(at, format!("{keyword} is not a valid change command")).help = Some(help);
                return None;
            }
            Takes::Triggers if matches!(keyword, "FROM" | "ONBUILD" | "MAINTAINER") => {
                let help = "write an instruction that the image built upon this one is to begin with";
                self.error(at, format!("{keyword} cannot follow ONBUILD")).help = Some(help.into());
                return None;
            }
            Takes::All | Takes::Changes | Takes::Triggers => {}
        }
        if !self.begun && !matches!(keyword, "FROM" | "ARG") {
            // The rest is still worth checking.
            self.begun = true;
            let help = "begin the file with the image to build on, such as `FROM debian:12`";
            self.error(at, format!("{keyword} stands before FROM")).help = Some(help.into());
        }
        Some(keyword)
    }

    fn op(&mut self, parts: &Parts<'_>) -> Option<Op> {
        let Parts { line, keyword, at, rest, argument, .. } = parts;
        let known = match *keyword {
            "COPY" => COPY_FLAGS,
            "ADD" => ADD_FLAGS,
            "RUN" => RUN_FLAGS,
            "HEALTHCHECK" => HEALTHCHECK_FLAGS,
            _ => &[],
        };
        self.check_flags(parts, known)?;
        if argument.raw.is_empty() {
            let help = format!("write `{}`", example(keyword));
            self.error(*at, format!("{keyword} needs an argument")).help = Some(help);
            return None;
        }
        match *keyword {
            "ADD" => self.copy(parts).map(Op::Add),
            "ARG" => self.arguments(parts).map(Op::Arg),
            "CMD" => self.command(argument).map(Op::Cmd),
            "COPY" => self.copy(parts).map(Op::Copy),
            "ENTRYPOINT" => self.command(argument).map(Op::Entrypoint),
            "ENV" => self.pairs(parts).map(Op::Env),
            "EXPOSE" => Some(Op::Expose(self.words(line, *rest))),
            "HEALTHCHECK" => self.healthcheck(parts).map(Op::Healthcheck),
            "LABEL" => self.pairs(parts).map(Op::Label),
            "MAINTAINER" => {
                let name: String = argument.raw.chars().take(60).collect();
                let help = format!("write `LABEL org.opencontainers.image.authors={name:?}`");
                self.find(Rule::MaintainerDeprecated, *at, "MAINTAINER is obsolete", help);
                Some(Op::Maintainer(argument.clone()))
            }
            "ONBUILD" => self.onbuild(line, *rest),
            "RUN" => self.run(parts).map(Op::Run),
            "SHELL" => self.shell(argument),
            "STOPSIGNAL" => Some(Op::StopSignal(argument.clone())),
            "USER" => Some(Op::User(argument.clone())),
            "VOLUME" => self.volumes(parts).map(Op::Volume),
            "WORKDIR" => Some(Op::Workdir(argument.clone())),
            _ => None,
        }
    }

    fn from(&mut self, parts: Parts<'_>, text: String, span: Span) -> Option<Stage> {
        self.check_flags(&parts, FROM_FLAGS)?;
        let platform = one(&parts.flags, "platform");
        let words = self.words(parts.line, parts.rest);
        let (from, name) = match &words[..] {
            [image] => (image.clone(), None),
            [image, as_word, name] if as_word.raw.eq_ignore_ascii_case("as") => {
                self.casing_of_as(&parts, as_word);
                (image.clone(), Some(self.stage_name(name)?))
            }
            _ => {
                let message = "FROM needs one image, and may be followed by `AS` and a name";
                let help = "write `FROM debian:12` or `FROM debian:12 AS build`";
                self.error(parts.at, message).help = Some(help.into());
                return None;
            }
        };
        Some(Stage { from, platform, name, line: text, span, instructions: Vec::new() })
    }

    /// Returns the name of a stage in lower case.
    fn stage_name(&mut self, text: &Text) -> Option<Text> {
        let name = text.raw.to_ascii_lowercase();
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
        if !valid {
            let help = "a name begins with a letter, and goes on with letters, digits, `-`, `_` and `.`";
            self.error(text.span, format!("`{}` is not a valid name for a stage", text.raw)).help = Some(help.into());
            return None;
        }
        if name == "scratch" {
            let help = "`FROM scratch` begins without files; choose another name, such as `base`";
            self.error(text.span, "`scratch` cannot be the name of a stage").help = Some(help.into());
            return None;
        }
        if name == "context" {
            let message = "`context` is a reserved name";
            self.find(Rule::ReservedStageName, text.span, message, "choose another name");
        }
        if name != text.raw {
            let message = format!("the name `{}` of a stage is not in lower case", text.raw);
            self.find(Rule::StageNameCasing, text.span, message, format!("write `{name}`"));
        }
        Some(Text { raw: name, span: text.span })
    }

    fn casing_of_as(&mut self, parts: &Parts<'_>, as_word: &Text) {
        let written = self.keywords.last().map(|keyword| keyword.written.clone()).unwrap_or_default();
        let wanted = if written == written.to_ascii_lowercase() {
            "as"
        } else if written == parts.keyword {
            "AS"
        } else {
            return;
        };
        if as_word.raw != wanted {
            let message = format!("`{}` and `{written}` are not written alike", as_word.raw);
            self.find(Rule::FromAsCasing, as_word.span, message, format!("write `{wanted}`"));
        }
    }

    fn copy(&mut self, parts: &Parts<'_>) -> Option<Copy> {
        let (line, keyword) = (parts.line, parts.keyword);
        if let Some(from) = one(&parts.flags, "from")
            && from.raw.contains('$')
        {
            let help =
                "give the stage or image a name with `FROM … AS name`, where variables are known, and write that";
            self.error(from.span, "variables are not expanded in COPY --from").help = Some(help.into());
            return None;
        }
        let mut sources = Vec::new();
        match self.list(line, parts.rest)? {
            List::Json(words) => sources.extend(words.into_iter().map(Source::Path)),
            List::Words(words) => {
                let starts: Vec<u32> = line.heredocs.iter().map(|document| document.heredoc.span.lo).collect();
                for word in words {
                    match starts.iter().position(|start| *start == word.span.lo) {
                        Some(i) => sources.push(Source::Heredoc(line.heredocs[i].heredoc.clone())),
                        // A heredoc's word may stand behind blanks.
                        None if line.heredocs.iter().any(|document| document.heredoc.span.holds(word.span)) => {}
                        None => sources.push(Source::Path(word)),
                    }
                }
            }
        }
        let dest = match sources.pop() {
            Some(Source::Path(dest)) if !sources.is_empty() => dest,
            Some(Source::Heredoc(heredoc)) if !sources.is_empty() => {
                let help = "write the path of the file behind the heredoc's word";
                self.error(heredoc.span, format!("a heredoc cannot be the destination of {keyword}")).help =
                    Some(help.into());
                return None;
            }
            _ => {
                let help = format!("write `{}`", example(keyword));
                self.error(parts.at, format!("{keyword} needs at least one source and a destination")).help =
                    Some(help);
                return None;
            }
        };
        let flags = &parts.flags;
        Some(Copy {
            sources,
            dest,
            chown: one(flags, "chown"),
            chmod: one(flags, "chmod"),
            // As in BuildKit, an empty one is none: it is the build context.
            from: one(flags, "from").filter(|from| !from.raw.is_empty()),
            link: is_set(flags, "link").unwrap_or_default(),
            parents: is_set(flags, "parents").unwrap_or_default(),
            exclude: many(flags, "exclude"),
            checksum: one(flags, "checksum"),
            keep_git_dir: is_set(flags, "keep-git-dir").unwrap_or_default(),
            unpack: is_set(flags, "unpack"),
        })
    }

    fn run(&mut self, parts: &Parts<'_>) -> Option<Run> {
        let before = self.errors.len();
        let mounts = many(&parts.flags, "mount");
        for mount in &mounts {
            let escape = self.escape;
            let value = |text: &str| expand(text, escape, &|_| None);
            // The others are read when their variables are known.
            let read = match mount.raw.contains('$') {
                false => Mount::parse_with(&mount.raw, &value).map(drop),
                true => Mount::check_from(&mount.raw),
            };
            if let Err(message) = read {
                let help = "such as `--mount=type=cache,target=/root/.cache`";
                self.error(mount.span, message).help = Some(help.into());
            }
        }
        let mut choice = |name: &str, all: &[&str]| {
            let value = one(&parts.flags, name)?;
            if !all.contains(&value.raw.as_str()) {
                let all: Vec<String> = all.iter().map(|one| format!("`{one}`")).collect();
                let help = format!("it is {}", all.join(" or "));
                self.error(value.span, format!("`{}` is no value of RUN --{name}", value.raw)).help = Some(help);
            }
            Some(value)
        };
        let network = choice("network", &["default", "none", "host"]);
        let security = choice("security", &["sandbox", "insecure"]);
        let command = self.command(&parts.argument)?;
        if command == Command::Exec(Vec::new()) {
            let help = format!("write `{}`", example("RUN"));
            self.error(parts.argument.span, "RUN needs a command").help = Some(help);
        }
        let heredocs = parts.line.heredocs.iter().map(|document| document.heredoc.clone()).collect();
        let devices = many(&parts.flags, "device");
        (self.errors.len() == before).then_some(Run { command, heredocs, mounts, network, security, devices })
    }

    /// Reads what is to be done later, to tell its mistakes now.
    fn onbuild(&mut self, line: &Line, rest: usize) -> Option<Op> {
        let takes = mem::replace(&mut self.takes, Takes::Triggers);
        let found = self.instruction(line, rest);
        self.takes = takes;
        found?;
        let documents = line.heredocs.iter().map(|document| (document.raw.as_str(), document.heredoc.name.as_str()));
        Some(Op::Onbuild(with_heredocs(line.text[rest..].trim_end(), documents)))
    }

    fn shell(&mut self, argument: &Text) -> Option<Op> {
        match self.command(argument)? {
            Command::Exec(words) if !words.is_empty() => Some(Op::Shell(words)),
            _ => {
                self.error(argument.span, "SHELL needs a list such as `[\"/bin/bash\", \"-c\"]`");
                None
            }
        }
    }

    fn volumes(&mut self, parts: &Parts<'_>) -> Option<Vec<Text>> {
        let words = self.list(parts.line, parts.rest)?.into_words();
        if words.is_empty() || words.iter().any(|word| word.raw.trim().is_empty()) {
            let help = format!("write `{}`", example("VOLUME"));
            self.error(parts.argument.span, "VOLUME needs the path of a directory").help = Some(help);
            return None;
        }
        Some(words)
    }

    fn healthcheck(&mut self, parts: &Parts<'_>) -> Option<Healthcheck> {
        let Parts { line, argument, flags, .. } = parts;
        let mut check = Healthcheck::default();
        let slots = [
            ("interval", &mut check.interval),
            ("timeout", &mut check.timeout),
            ("start-period", &mut check.start_period),
            ("start-interval", &mut check.start_interval),
        ];
        for (name, slot) in slots {
            let Some(value) = one(flags, name) else { continue };
            *slot = duration(&value.raw);
            match slot {
                None => {
                    self.error(value.span, format!("`{}` is not a duration such as 30s or 1m30s", value.raw));
                }
                Some(short) if !short.is_zero() && *short < Duration::from_millis(1) => {
                    self.error(value.span, format!("`{}` is shorter than a millisecond", value.raw));
                }
                Some(_) => {}
            }
        }
        if let Some(value) = one(flags, "retries") {
            check.retries = value.raw.parse().ok().filter(|retries| *retries <= u32::MAX / 2);
            if check.retries.is_none() {
                self.error(value.span, format!("`{}` is not a number of retries", value.raw));
            }
        }
        let kind_end = argument.raw.find(blank).unwrap_or(argument.raw.len());
        let command = self.piece(line, parts.rest + kind_end, line.text.trim_end().len().max(parts.rest + kind_end));
        match argument.raw[..kind_end].to_ascii_uppercase().as_str() {
            "NONE" if command.raw.is_empty() && flags.is_empty() => Some(check),
            "CMD" if !command.raw.is_empty() => {
                check.command = Some(self.command(&command)?);
                Some(check)
            }
            _ => {
                self.error(argument.span, "HEALTHCHECK is followed by `CMD` and a command, or by `NONE`");
                None
            }
        }
    }

    /// Reads `name` and `name=value` words.
    fn arguments(&mut self, parts: &Parts<'_>) -> Option<Vec<(Text, Option<Text>)>> {
        let mut all = Vec::new();
        for word in self.words(parts.line, parts.rest) {
            match word.raw.split_once('=') {
                Some(("", _)) => {
                    let help = format!("write `{}`", example("ARG"));
                    self.error(word.span, "ARG needs a name before the `=`").help = Some(help);
                    return None;
                }
                Some((name, value)) => {
                    let text = |raw: &str| Text { raw: raw.to_owned(), span: word.span };
                    all.push((text(name), Some(text(value))));
                }
                None => all.push((word, None)),
            }
        }
        Some(all)
    }

    /// Reads `key=value` words, or the old form of one key, a blank and its value.
    fn pairs(&mut self, parts: &Parts<'_>) -> Option<Vec<(Text, Text)>> {
        let Parts { line, keyword, rest, .. } = parts;
        let before = self.errors.len();
        let words = self.words(line, *rest);
        let first = words.first()?;
        if !first.raw.contains('=') {
            if words.len() < 2 {
                let help = format!("write `{}`", example(keyword));
                self.error(first.span, format!("{keyword} needs `name=value`")).help = Some(help);
                return None;
            }
            // The name ends at a blank, whatever quotes it has.
            let after = line.text[*rest..].find(blank).map_or(line.text.len(), |end| rest + end);
            let (key, value) = (self.piece(line, *rest, after), self.piece(line, after, line.text.len()));
            let message = format!("`{keyword} name value` is an old form");
            let help = format!("write `{keyword} {}=` and the value in quotes", key.raw);
            self.find(Rule::LegacyKeyValueFormat, parts.at, message, help);
            return (self.errors.len() == before).then(|| vec![(key, value)]);
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

/// Returns how an instruction is written.
fn example(keyword: &str) -> &'static str {
    match keyword {
        "ADD" => "ADD https://example.org/file /dir/",
        "ARG" => "ARG VERSION=1",
        "CMD" => "CMD [\"program\", \"argument\"]",
        "COPY" => "COPY source destination",
        "ENTRYPOINT" => "ENTRYPOINT [\"program\", \"argument\"]",
        "ENV" => "ENV name=value",
        "EXPOSE" => "EXPOSE 80",
        "HEALTHCHECK" => "HEALTHCHECK CMD program",
        "LABEL" => "LABEL name=value",
        "MAINTAINER" => "LABEL org.opencontainers.image.authors=\"name\"",
        "ONBUILD" => "ONBUILD RUN program",
        "RUN" => "RUN program",
        "SHELL" => "SHELL [\"/bin/bash\", \"-c\"]",
        "STOPSIGNAL" => "STOPSIGNAL SIGTERM",
        "USER" => "USER name",
        "VOLUME" => "VOLUME /dir",
        _ => "WORKDIR /dir",
    }
}

/// Reads a duration as Go's `time.ParseDuration` does, without a sign.
pub(super) fn duration(text: &str) -> Option<Duration> {
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
