//! What is allowed and probably not meant: Docker's build checks.
//!
//! Rules: Docker's "Build checks" reference and buildkit's `frontend/dockerfile/linter`; they have the same names.
//! `InvalidBaseImagePlatform` needs the image, and is not made here.
//!
//! Invariant: pure.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::build::dockerfile::{
    Command, Copy, Dockerfile, Instruction, Mount, Op, Source, Stage, Text, expand, expand_heredoc,
};
use crate::diag::{Diagnostic, Severity, Span, nearest};
use crate::image::reference::Reference;

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    ConsistentInstructionCasing,
    CopyIgnoredFile,
    DuplicateStageName,
    ExposeProtoCasing,
    FromAsCasing,
    FromPlatformFlagConstDisallowed,
    InvalidDefaultArgInFrom,
    JSONArgsRecommended,
    LegacyKeyValueFormat,
    MaintainerDeprecated,
    MultipleInstructionsDisallowed,
    NoEmptyContinuation,
    RedundantTargetPlatform,
    ReservedStageName,
    SecretsUsedInArgOrEnv,
    StageNameCasing,
    UndefinedArgInFrom,
    UndefinedVar,
    WorkdirRelativePath,
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
    /// What is found is an error, in a build too.
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

    pub(super) fn skips(&self, rule: Rule) -> bool {
        self.skip_all || self.skip.iter().any(|name| *name == format!("{rule:?}"))
    }
}

/// Returns what is allowed and probably not meant, in the order of the file: warnings, or errors if the file asks for that.
#[must_use]
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    check_with(file, &Around { env_of: &|_| None, hides: &|_| None })
}

/// What is known besides the file.
pub struct Around<'a> {
    /// Returns the names of the variables that an image sets.
    pub env_of: &'a dyn Fn(&str) -> Option<Vec<String>>,
    /// Returns the number of the line of `.dockerignore` that hides a file of the build context, if one does.
    pub hides: &'a dyn Fn(&str) -> Option<usize>,
}

/// Does the same with what is known besides.
#[must_use]
pub fn check_with(file: &Dockerfile, around: &Around<'_>) -> Vec<Diagnostic> {
    let mut found = file.findings.clone();
    for warning in &file.warnings {
        let message = "an empty line continues the instruction above";
        let span = warning.span.unwrap_or_default();
        found.push(Finding::new(Rule::NoEmptyContinuation, span, message, "remove the line"));
    }
    let mut checker = Checker { file, around, found };
    checker.names();
    checker.froms();
    checker.stages();
    let mut found = checker.found;
    found.retain(|finding| !file.options.skips(finding.rule));
    found.sort_by_key(|finding| (finding.span.lo, finding.rule));
    found.dedup();
    let severity = if file.options.error { Severity::Error } else { Severity::Warning };
    let shown = found.into_iter().map(|Finding { rule, span, message, help }| Diagnostic {
        severity,
        ..Diagnostic::warning(Some(span), format!("{message} [{rule:?}]")).help(help)
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

/// Variables that can be used in `FROM` without an `ARG`.
const PLATFORM: [&str; 11] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// What is known at a place of a stage.
#[derive(Clone, Default)]
struct Known {
    /// Variables that are set or declared.
    names: BTreeSet<String>,
    /// There may be others.
    open: bool,
    /// There was a `WORKDIR`.
    workdir: bool,
    /// There was a `SHELL`.
    shell: bool,
}

struct Checker<'a> {
    file: &'a Dockerfile,
    around: &'a Around<'a>,
    found: Vec<Finding>,
}

impl Checker<'_> {
    fn find(&mut self, rule: Rule, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Finding::new(rule, span, message, help));
    }

    fn names(&mut self) {
        let names: Vec<&Text> = self.file.stages.iter().filter_map(|stage| stage.name.as_ref()).collect();
        for (i, name) in names.iter().enumerate() {
            if names[..i].iter().any(|before| before.raw == name.raw) {
                let message = format!("a stage above is called `{}` too; from here on this one is meant", name.raw);
                self.find(Rule::DuplicateStageName, name.span, message, "give one of them another name");
            }
        }
    }

    fn froms(&mut self) {
        let file = self.file;
        let globals = declared(&file.globals);
        for stage in &file.stages {
            let names = || globals.iter().map(|(name, _)| name.as_str());
            for text in [Some(&stage.from), stage.platform.as_ref()].into_iter().flatten() {
                for name in used(text, file.escape) {
                    if names().chain(PLATFORM).any(|known| known == name) {
                        continue;
                    }
                    let help = match nearest(&name, names().chain(PLATFORM)) {
                        Some(near) => format!("did you mean `${near}`?"),
                        None => format!("write `ARG {name}` before the first FROM"),
                    };
                    let message = format!("`${name}` is not declared before the first FROM");
                    self.find(Rule::UndefinedArgInFrom, text.span, message, help);
                }
            }
            let value = |name: &str| {
                let found = globals.iter().rev().find(|(known, _)| known == name);
                found.map_or_else(|| Some("x".to_owned()), |(_, value)| value.clone())
            };
            let variables = used(&stage.from, file.escape);
            let declared = variables.iter().all(|name| names().any(|known| known == name));
            if !variables.is_empty() && declared {
                let default = expand(&stage.from.raw, file.escape, &value).unwrap_or_default();
                if Reference::parse(&default).is_err() {
                    let message = format!("without build arguments `{}` names no image", stage.from.raw);
                    let help = "give the ARG a default, such as `ARG BASE=debian:12`";
                    self.find(Rule::InvalidDefaultArgInFrom, stage.from.span, message, help);
                }
            }
            self.platform(stage);
        }
    }

    fn platform(&mut self, stage: &Stage) {
        let Some(platform) = &stage.platform else { return };
        if matches!(platform.raw.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!("`--platform={}` says what is so anyway", platform.raw);
            self.find(Rule::RedundantTargetPlatform, platform.span, message, "remove the flag");
        }
        let name = stage.name.as_ref().map_or("", |name| &name.raw);
        if !platform.raw.contains('$') && !platform.raw.split('/').any(|part| name.contains(part)) {
            let message = format!("the stage is of platform `{}` whatever is asked for", platform.raw);
            let help = "write `--platform=$BUILDPLATFORM` or leave it out; a stage that is only for one platform has \
                its name in its own";
            self.find(Rule::FromPlatformFlagConstDisallowed, platform.span, message, help);
        }
    }

    fn stages(&mut self) {
        let file = self.file;
        let mut after: Vec<(Option<&str>, Known)> = Vec::new();
        for stage in &file.stages {
            let base = after.iter().rev().find(|(name, _)| *name == Some(stage.from.raw.to_ascii_lowercase().as_str()));
            let mut known = match (base, stage.from.raw.as_str()) {
                (Some((_, known)), _) => known.clone(),
                (None, "scratch") => Known::default(),
                (None, image) => {
                    let names = (self.around.env_of)(image).filter(|_| !image.contains('$'));
                    Known { open: names.is_none(), names: names.into_iter().flatten().collect(), ..Known::default() }
                }
            };
            known.names.insert("PATH".into());
            self.only_the_last_counts(stage);
            for instruction in &stage.instructions {
                self.variables(instruction, &known);
                self.instruction(instruction, &mut known);
            }
            after.push((stage.name.as_ref().map(|name| name.raw.as_str()), known));
        }
    }

    fn only_the_last_counts(&mut self, stage: &Stage) {
        for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let is = |one: &&Instruction| match one.op {
                Op::Cmd(_) => keyword == "CMD",
                Op::Entrypoint(_) => keyword == "ENTRYPOINT",
                Op::Healthcheck(_) => keyword == "HEALTHCHECK",
                _ => false,
            };
            let all: Vec<&Instruction> = stage.instructions.iter().filter(is).collect();
            for one in all.iter().rev().skip(1) {
                let message = format!("a later {keyword} of the stage replaces this one");
                self.find(Rule::MultipleInstructionsDisallowed, one.span, message, "remove it");
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction, known: &mut Known) {
        let span = instruction.span;
        match &instruction.op {
            Op::Arg(pairs) => {
                for (name, _) in pairs {
                    self.secret("ARG", name);
                    known.names.insert(name.raw.clone());
                }
            }
            Op::Env(pairs) => {
                for (name, _) in pairs {
                    self.secret("ENV", name);
                    known.names.insert(name.raw.clone());
                }
            }
            Op::Cmd(Command::Shell(_)) if !known.shell => self.shell_form("CMD", span),
            Op::Entrypoint(Command::Shell(_)) if !known.shell => self.shell_form("ENTRYPOINT", span),
            Op::Shell(_) => known.shell = true,
            Op::Workdir(path) => {
                if !known.workdir && !path.raw.starts_with(['/', '$', '"', '\'']) {
                    let message = format!("`{}` is relative to what the base image says, which may change", path.raw);
                    self.find(Rule::WorkdirRelativePath, path.span, message, format!("write `WORKDIR /{}`", path.raw));
                }
                known.workdir = true;
            }
            Op::Expose(ports) => {
                for port in ports {
                    let Some((_, protocol)) = port.raw.split_once('/') else { continue };
                    if !port.raw.contains('$') && protocol != protocol.to_ascii_lowercase() {
                        let message = format!("the protocol of `{}` is not in lower case", port.raw);
                        let help = format!("write `{}`", port.raw.to_ascii_lowercase());
                        self.find(Rule::ExposeProtoCasing, port.span, message, help);
                    }
                }
            }
            Op::Add(copy) | Op::Copy(copy) => self.hidden(copy),
            Op::Cmd(_)
            | Op::Entrypoint(_)
            | Op::Healthcheck(_)
            | Op::Label(_)
            | Op::Maintainer(_)
            | Op::Onbuild(_)
            | Op::Run(_)
            | Op::StopSignal(_)
            | Op::User(_)
            | Op::Volume(_) => {}
        }
    }

    fn hidden(&mut self, copy: &Copy) {
        let paths = copy.sources.iter().filter(|_| copy.from.is_none()).filter_map(|source| match source {
            Source::Path(path) => Some(path),
            Source::Heredoc(_) => None,
        });
        for path in paths.filter(|path| !path.raw.contains(['$', ':'])) {
            if let Some(line) = (self.around.hides)(&path.raw) {
                let message = format!("line {line} of `.dockerignore` hides `{}`, which is copied here", path.raw);
                let help = format!("take the line away, or write `!{}` below it", path.raw);
                self.find(Rule::CopyIgnoredFile, path.span, message, help);
            }
        }
    }

    fn shell_form(&mut self, keyword: &str, span: Span) {
        let message = format!("{keyword} runs in a shell, which passes no signals on");
        let help = format!("write `{keyword} [\"program\", \"argument\"]`, or a SHELL before it if that is meant");
        self.find(Rule::JSONArgsRecommended, span, message, help);
    }

    fn secret(&mut self, keyword: &str, name: &Text) {
        if is_secret_name(&name.raw) {
            let lower = name.raw.to_ascii_lowercase();
            let message = format!("who has the image has what {keyword} gives `{}`", name.raw);
            let help = format!("use `RUN --mount=type=secret,id={lower},env={}`", name.raw);
            self.find(Rule::SecretsUsedInArgOrEnv, name.span, message, help);
        }
    }

    fn variables(&mut self, instruction: &Instruction, known: &Known) {
        let globals = declared(&self.file.globals);
        for (name, span) in variables(&instruction.op, self.file.escape) {
            if known.names.contains(&name) {
                continue;
            }
            let (message, help) = if globals.iter().any(|(global, _)| *global == name) {
                (
                    format!("`${name}` is declared before FROM and not in this stage"),
                    format!("write `ARG {name}` above"),
                )
            } else if let Some(near) = nearest(&name, known.names.iter().map(String::as_str)) {
                (format!("`${name}` is not set"), format!("did you mean `${near}`?"))
            } else if !known.open {
                (format!("`${name}` is not set"), format!("write `ARG {name}` or `ENV {name}=value` above"))
            } else {
                continue;
            };
            self.find(Rule::UndefinedVar, span, message, help);
        }
    }
}

/// Returns what `ARG`s declare, and the defaults as they are written.
fn declared(globals: &[Instruction]) -> Vec<(String, Option<String>)> {
    let pairs = globals.iter().flat_map(|instruction| match &instruction.op {
        Op::Arg(pairs) => pairs.as_slice(),
        _ => &[],
    });
    pairs.map(|(name, value)| (name.raw.clone(), value.as_ref().map(|value| value.raw.clone()))).collect()
}

/// Calls what reads a text and returns the variables that it asked for.
fn asked(read: impl FnOnce(&dyn Fn(&str) -> Option<String>)) -> Vec<String> {
    let names: RefCell<Vec<String>> = RefCell::default();
    read(&|name: &str| {
        // `$1` or `$@` are never set, and nobody expects them to be.
        if name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            names.borrow_mut().push(name.to_owned());
        }
        Some("x".into())
    });
    names.into_inner()
}

fn used(text: &Text, escape: char) -> Vec<String> {
    asked(|lookup| drop(expand(&text.raw, escape, lookup)))
}

/// Returns the variables that an instruction uses, with their places.
fn variables(op: &Op, escape: char) -> Vec<(String, Span)> {
    let mut all = Vec::new();
    let mut add = |text: &Text| all.extend(used(text, escape).into_iter().map(|name| (name, text.span)));
    match op {
        Op::Add(copy) | Op::Copy(copy) => {
            let Copy { sources, dest, chown, chmod, exclude, checksum, .. } = copy;
            for source in sources {
                if let Source::Path(path) = source {
                    add(path);
                }
            }
            [chown, chmod, checksum].into_iter().flatten().chain([dest]).chain(exclude).for_each(add);
            for source in sources {
                if let Source::Heredoc(heredoc) = source
                    && heredoc.expand
                {
                    let names = asked(|lookup| drop(expand_heredoc(&heredoc.content, lookup)));
                    all.extend(names.into_iter().map(|name| (name, heredoc.span)));
                }
            }
        }
        Op::Arg(pairs) => pairs.iter().filter_map(|(_, value)| value.as_ref()).for_each(add),
        Op::Env(pairs) | Op::Label(pairs) => {
            for (key, value) in pairs {
                add(key);
                add(value);
            }
        }
        Op::Expose(texts) | Op::Volume(texts) => texts.iter().for_each(add),
        Op::StopSignal(text) | Op::User(text) | Op::Workdir(text) => add(text),
        Op::Run(run) => {
            for mount in &run.mounts {
                let names = asked(|lookup| {
                    drop(Mount::parse_with(&mount.raw, &|value| expand(value, escape, lookup)));
                });
                all.extend(names.into_iter().map(|name| (name, mount.span)));
            }
        }
        Op::Cmd(_) | Op::Entrypoint(_) | Op::Healthcheck(_) | Op::Maintainer(_) | Op::Onbuild(_) | Op::Shell(_) => {}
    }
    all
}

/// Returns whether a variable is called as secrets are (buildkit, rule `SecretsUsedInArgOrEnv`).
pub(crate) fn is_secret_name(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "secret", "token"];
    const HARMLESS: [&str; 3] = ["file", "public", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;
    use crate::diag::{Sources, render};

    fn findings(text: &str) -> Vec<Diagnostic> {
        check(&parse(text, 0).unwrap_or_else(|e| panic!("{e:?}")))
    }

    /// Returns the names of the rules that find something, with the text that each is about.
    fn rules(text: &str) -> Vec<(String, String)> {
        let shown = findings(text).into_iter().map(|found| {
            let name = found.message.rsplit_once('[').map_or("", |(_, name)| name).trim_end_matches(']').to_owned();
            let span = found.span.expect("each has a place");
            (name, text[span.lo as usize..span.hi as usize].to_owned())
        });
        shown.collect()
    }

    #[test]
    fn each_check_finds_what_it_is_for_and_nothing_else() {
        for (text, expected) in [
            ("FROM a\nCMD [\"x\"]\n", &[][..]),
            ("FROM a AS b\nFROM c AS b\n", &[("DuplicateStageName", "b")]),
            ("FROM a\nEXPOSE 80/TCP 81/udp\n", &[("ExposeProtoCasing", "80/TCP")]),
            ("FROM a as b\n", &[("FromAsCasing", "as")]),
            ("from a as b\n", &[]),
            ("FROM --platform=linux/amd64 a\n", &[("FromPlatformFlagConstDisallowed", "--platform=linux/amd64")]),
            ("FROM --platform=linux/amd64 a AS b-amd64\n", &[]),
            ("FROM --platform=$TARGETPLATFORM a\n", &[("RedundantTargetPlatform", "--platform=$TARGETPLATFORM")]),
            ("ARG A\nFROM $A\n", &[("InvalidDefaultArgInFrom", "$A")]),
            ("ARG A\nFROM a:$A\n", &[("InvalidDefaultArgInFrom", "a:$A")]),
            ("ARG A=1\nFROM a:$A\n", &[]),
            ("FROM a\nCMD x\n", &[("JSONArgsRecommended", "CMD x")]),
            ("FROM a\nSHELL [\"/bin/bash\"]\nENTRYPOINT x\n", &[]),
            ("FROM a\nENV b c\n", &[("LegacyKeyValueFormat", "ENV")]),
            ("FROM a\nMAINTAINER b\n", &[("MaintainerDeprecated", "MAINTAINER")]),
            ("FROM a\nCMD []\nCMD [\"b\"]\n", &[("MultipleInstructionsDisallowed", "CMD []")]),
            ("FROM a\nRUN x \\\n\n  y\n", &[("NoEmptyContinuation", "")]),
            ("FROM a AS context\n", &[("ReservedStageName", "context")]),
            ("FROM a AS B\n", &[("StageNameCasing", "B")]),
            ("FROM a\nARG API_TOKEN\nENV KEY_FILE=x MONKEY=y\n", &[("SecretsUsedInArgOrEnv", "API_TOKEN")]),
            ("ARG VERSION=1\nFROM a:$VERSOIN\n", &[("UndefinedArgInFrom", "a:$VERSOIN")]),
            ("FROM --platform=$BUILDPLATFORM a\n", &[]),
            ("FROM scratch\nCOPY $a ${b:-c} $PATH /\n", &[("UndefinedVar", "$a"), ("UndefinedVar", "${b:-c}")]),
            ("FROM a\nCOPY $a /\n", &[]),
            ("FROM a\nENV DIRECTORY=x\nCOPY $DIRECTORI /\n", &[("UndefinedVar", "$DIRECTORI")]),
            ("ARG V=1\nFROM a\nLABEL v=$V\nARG V\nLABEL w=$V\n", &[("UndefinedVar", "v=$V")]),
            (
                "FROM scratch AS s\nARG a b\nFROM s\nUSER $a$1\nRUN --mount=target=$c x\n",
                &[("UndefinedVar", "--mount=target=$c")],
            ),
            ("FROM scratch\nCOPY <<A <<'B' /\n$x\nA\n$y\nB\n", &[("UndefinedVar", "<<A")]),
            ("FROM a\nWORKDIR b\nWORKDIR c\n", &[("WorkdirRelativePath", "b")]),
            ("FROM a\nWORKDIR /a\nWORKDIR c\n", &[]),
            ("FROM a\nrun x\nRUN y\n", &[("ConsistentInstructionCasing", "run")]),
            ("from a\nrun x\nRUN y\n", &[("ConsistentInstructionCasing", "RUN")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(rule, at)| ((*rule).to_owned(), (*at).to_owned())).collect();
            assert_eq!(rules(text), expected, "{text}");
        }
        let file = parse("FROM a\nUSER $b$c\n", 0).expect("valid");
        let env_of = |image: &str| (image == "a").then(|| vec!["c".into()]);
        let found = check_with(&file, &Around { env_of: &env_of, hides: &|_| None });
        assert_eq!(found.len(), 1, "{found:?}");
        let text = "FROM a\nCOPY b c /\nCOPY --from=x c /\nADD http://host/c $c <<E /\nE\nADD c /\n";
        let hides = |path: &str| (path == "c").then_some(7);
        let found = check_with(&parse(text, 0).expect("valid"), &Around { env_of: &env_of, hides: &hides });
        let shown: Vec<_> = found.iter().map(|one| (one.message.as_str(), one.span.map(|span| span.lo))).collect();
        let message = "line 7 of `.dockerignore` hides `c`, which is copied here [CopyIgnoredFile]";
        assert_eq!(shown, [(message, Some(14)), (message, Some(69))]);
    }

    #[test]
    fn the_directive_skips_checks_or_makes_them_errors() {
        let text = "FROM a AS B\nENV c d\nCMD x \\\n\n y\n";
        let names = |directive: &str| -> Vec<String> {
            rules(&format!("{directive}\n{text}")).into_iter().map(|(name, _)| name).collect()
        };
        let all = ["StageNameCasing", "LegacyKeyValueFormat", "JSONArgsRecommended", "NoEmptyContinuation"];
        assert_eq!(names("#"), all);
        assert_eq!(names("# check=skip=all"), [""; 0]);
        assert_eq!(names("#check = skip=StageNameCasing, NoEmptyContinuation ;error=false"), all[1..3]);
        let file = parse(&format!("# check=skip=NoEmptyContinuation\n{text}"), 0).expect("valid");
        assert_eq!(file.warnings, []);
        assert!(findings(&format!("# check=error=true\n{text}")).iter().all(|one| one.severity == Severity::Error));
        for text in ["# check=skip\nFROM a\n", "# check=error=maybe\nFROM a\n", "# check=skp=all\nFROM a\n"] {
            assert!(parse(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_finding_is_shown_with_its_place_its_rule_and_what_to_do() {
        let text = "ARG TAG=1\nFROM debian:$TAG\nLABEL version=$TAG\n";
        let mut sources = Sources::default();
        let file = sources.add("Dockerfile", text);
        let found = check(&parse(text, file).expect("valid"));
        let shown: Vec<String> = found.iter().map(|one| render(one, &sources, false)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        warning: `$TAG` is declared before FROM and not in this stage [UndefinedVar]
         --> Dockerfile:3:7
          |
        3 | LABEL version=$TAG
          |       ^^^^^^^^^^^^
          |
          = help: write `ARG TAG` above
        ");
    }
}
