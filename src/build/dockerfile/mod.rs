//! Reads Dockerfiles: text in, stages and instructions with their places out.
//!
//! Rules: Docker's "Dockerfile reference"; what it leaves open is as in buildkit's `frontend/dockerfile`, and
//! `docs/conformance.md` lists where it is not. Variables are left in the pieces of instructions and expanded when their
//! values are known ([`expand()`]).
//!
//! Invariant: pure.

use std::time::Duration;

use crate::diag::{Diagnostic, Span};

pub mod check;
#[cfg(test)]
mod conformance;
mod expand;
mod flags;
mod instructions;
mod lines;
mod mounts;
#[cfg(test)]
mod tests;
mod words;

pub use check::{Around, check, check_with};
pub use expand::{expand, expand_heredoc, expand_words};
pub use mounts::{Mount, MountKind, Sharing};

use instructions::{Found, Parser, Takes};
use words::{Json, blank, json};

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// `ARG`s before the first `FROM`: usable in `FROM` alone, and by a bare `ARG` of the same name in a stage.
    pub globals: Vec<Instruction>,
    /// In their order; at least one.
    pub stages: Vec<Stage>,
    /// `\` unless the `escape` directive says otherwise.
    pub escape: char,
    /// What is odd but allowed.
    pub warnings: Vec<Diagnostic>,
    /// What the `check` directive asks for.
    pub options: check::Options,
    /// What was found of the way it is written.
    findings: Vec<check::Finding>,
}

/// `FROM` and what follows until the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The image or stage to build on, as written.
    pub from: Text,
    /// `--platform`.
    pub platform: Option<Text>,
    /// Its name, in lower case.
    pub name: Option<Text>,
    /// The `FROM` on one line.
    pub line: String,
    /// The place of that line.
    pub span: Span,
    /// What follows, in order.
    pub instructions: Vec<Instruction>,
}

/// A piece of an instruction as written: quotes and variables are still in it. Of a flag's value the outer quotes are not.
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
    /// `ADD`.
    Add(Copy),
    /// `ARG`: names, and values if they have some.
    Arg(Vec<(Text, Option<Text>)>),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Vec<(Text, Text)>),
    /// `EXPOSE`.
    Expose(Vec<Text>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<(Text, Text)>),
    /// `MAINTAINER`: the image's author. No variables.
    Maintainer(Text),
    /// `ONBUILD`: what follows the keyword, heredocs included, as it is stored in the image. It can be read
    /// ([`parse_trigger`]).
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Text),
    /// `USER`.
    User(Text),
    /// `VOLUME`.
    Volume(Vec<Text>),
    /// `WORKDIR`.
    Workdir(Text),
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// What is copied; at least one.
    pub sources: Vec<Source>,
    /// Path in the image.
    pub dest: Text,
    /// `--chown`.
    pub chown: Option<Text>,
    /// `--chmod`: octal or symbolic; checked when its variables are known.
    pub chmod: Option<Text>,
    /// `COPY --from`: a stage's name or number, an image, a named context. No variables.
    pub from: Option<Text>,
    /// `--link`.
    pub link: bool,
    /// `COPY --parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<Text>,
    /// `ADD --checksum`.
    pub checksum: Option<Text>,
    /// `ADD --keep-git-dir`.
    pub keep_git_dir: bool,
    /// `ADD --unpack`; `None` is what the source suggests.
    pub unpack: Option<bool>,
}

/// What `COPY` or `ADD` copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, or for `ADD` an address.
    Path(Text),
    /// A text in the file itself; its name is that of the heredoc.
    Heredoc(Heredoc),
}

/// A text in the file itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Whether variables in it are expanded ([`expand_heredoc`]): its word was not quoted.
    pub expand: bool,
    /// Its text, leading tabs taken off where `<<-` says so.
    pub content: String,
    /// The place of its word.
    pub span: Span,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// As written, without the texts of heredocs: [`Run::script`] has them.
    pub command: Command,
    /// Those of its line, in their order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, each as written: [`Mount::parse`] reads them when their variables are known.
    pub mounts: Vec<Text>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Text>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Text>,
    /// `--device`.
    pub devices: Vec<Text>,
}

/// What a `RUN` runs, heredocs included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script<'a> {
    /// A program and its arguments.
    Exec(&'a [String]),
    /// A text for the shell.
    Shell(String),
    /// A text that is a program: it is put into a file of mode 0755, named like its heredoc, and run.
    Program(&'a Heredoc),
}

impl Run {
    /// Returns what to run. A heredoc that stands alone is the script itself; beside a command it is the shell's to read.
    #[must_use]
    pub fn script(&self) -> Script<'_> {
        let line = match &self.command {
            Command::Exec(words) => return Script::Exec(words),
            Command::Shell(line) => line,
        };
        match &self.heredocs[..] {
            [] => Script::Shell(line.clone()),
            [one] if words::sole_heredoc(line) => match one.content.starts_with("#!") {
                true => Script::Program(one),
                false => Script::Shell(one.content.clone()),
            },
            all => Script::Shell(with_heredocs(line, all.iter().map(|doc| (doc.content.as_str(), doc.name.as_str())))),
        }
    }
}

/// Puts the texts of heredocs and their ends after a line.
fn with_heredocs<'a>(line: &str, all: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = line.to_owned();
    for (content, name) in all {
        text.push('\n');
        text.push_str(content);
        text.push_str(name);
    }
    text
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

/// Parses a Dockerfile; `file` is its number in the `Sources`.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn parse(text: &str, file: u16) -> Result<Dockerfile, Vec<Diagnostic>> {
    let lines = lines::read(text, file);
    let mut parser = Parser::new(file, lines.escape, Takes::All, lines.errors);
    let mut globals = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for line in &lines.all {
        match parser.instruction(line, 0) {
            Some(Found::Stage(stage)) => stages.push(stage),
            Some(Found::Instruction(instruction)) => match stages.last_mut() {
                Some(stage) => stage.instructions.push(instruction),
                None => globals.push(instruction),
            },
            None => {}
        }
    }
    if stages.is_empty() && parser.errors.is_empty() {
        let error = Diagnostic::error(Some(Span::new(file, 0, 0)), "the Dockerfile has no FROM instruction");
        parser.errors.push(error.help("begin it with the image to build on, such as `FROM debian:12`"));
    }
    let (escape, mut warnings, options) = (lines.escape, lines.warnings, lines.options);
    if options.skips(check::Rule::NoEmptyContinuation) {
        warnings.clear();
    }
    parser.finish(|findings| Dockerfile { globals, stages, escape, warnings, options, findings })
}

/// Parses instructions that stand alone and change a configuration; returns them and the character that escapes.
///
/// # Errors
/// All that is wrong with them, in their order.
pub fn parse_changes(text: &str, file: u16) -> Result<(Vec<Instruction>, char), Vec<Diagnostic>> {
    parse_part(text, file, Takes::Changes)
}

/// Parses what an `ONBUILD` of a base image stored; returns the instruction and the character that escapes.
///
/// # Errors
/// All that is wrong with it; `FROM`, `ONBUILD` and `MAINTAINER` are refused.
pub fn parse_trigger(text: &str, file: u16) -> Result<(Instruction, char), Vec<Diagnostic>> {
    let (mut all, escape) = parse_part(text, file, Takes::Triggers)?;
    match (all.pop(), all.is_empty()) {
        (Some(instruction), true) => Ok((instruction, escape)),
        _ => {
            let span = Span::new(file, 0, text.len());
            Err(vec![Diagnostic::error(Some(span), "a trigger is exactly one instruction")])
        }
    }
}

fn parse_part(text: &str, file: u16, takes: Takes) -> Result<(Vec<Instruction>, char), Vec<Diagnostic>> {
    let lines = lines::read(text, file);
    let mut parser = Parser::new(file, lines.escape, takes, lines.errors);
    let mut instructions = Vec::new();
    for line in &lines.all {
        if let Some(Found::Instruction(instruction)) = parser.instruction(line, 0) {
            instructions.push(instruction);
        }
    }
    parser.finish(|_| (instructions, lines.escape))
}
