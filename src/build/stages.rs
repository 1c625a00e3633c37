//! Which stages a build needs, what each begins with, and what names in `--from` mean.
//!
//! Rules: Docker's "Dockerfile reference", FROM and COPY. A name is that of a stage above, or its number, or that of a named
//! context of the build, or an image. Stages that the target does not need are left out with all that they need.
//!
//! Invariant: pure.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::build::configure::{Failure, fail};
use crate::build::dockerfile::{Copy, Dockerfile, Mount, Op, Run, Text, expand};
use crate::diag::{Diagnostic, Span, nearest};
use crate::image::config::host_architecture;

/// Values of `ARG`s by name, in the order of the file; `None` is declared and has none.
pub(super) type Args = IndexMap<String, Option<String>>;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing: `FROM scratch`.
    Scratch,
    /// A stage, by its number.
    Stage(usize),
    /// A named context of the build.
    Context(String),
    /// An image of the store.
    Image(String),
}

/// The stages of a build.
#[derive(Debug)]
pub(super) struct Stages<'a> {
    file: &'a Dockerfile,
    contexts: Vec<&'a str>,
    /// Values of the `ARG`s before the first `FROM`, and those that are always there.
    pub(super) globals: Args,
    /// What each stage begins with, by its number.
    pub(super) bases: Vec<Origin>,
    /// The stage that is to become the image.
    pub(super) target: usize,
    /// The stages that it needs, itself included, in the order of the file.
    pub(super) needed: Vec<usize>,
}

/// Returns what a build may know of where it runs and for what it builds, as BuildKit names it.
pub(super) fn platform_args() -> Args {
    let (arch, variant) = (host_architecture(), if host_architecture() == "arm64" { "v8" } else { "" });
    let mut args = Args::new();
    for side in ["BUILD", "TARGET"] {
        for (name, value) in [
            ("PLATFORM", format!("linux/{arch}")),
            ("OS", "linux".to_owned()),
            ("OSVERSION", String::new()),
            ("ARCH", arch.to_owned()),
            ("VARIANT", if side == "BUILD" { String::new() } else { variant.to_owned() }),
        ] {
            args.insert(format!("{side}{name}"), Some(value));
        }
    }
    args
}

impl<'a> Stages<'a> {
    /// Reads what the stages begin with and which of them are needed.
    ///
    /// # Errors
    /// All names that lead nowhere.
    pub(super) fn of(
        file: &'a Dockerfile,
        given: &BTreeMap<String, Option<String>>,
        contexts: Vec<&'a str>,
        target: Option<&str>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut stages =
            Self { file, contexts, globals: platform_args(), bases: Vec::new(), target: 0, needed: Vec::new() };
        let mut errors = Vec::new();
        for instruction in &file.globals {
            let Op::Arg(pairs) = &instruction.op else { continue };
            for (name, default) in pairs {
                match stages.global(name, default.as_ref(), given) {
                    Ok((name, value)) => drop(stages.globals.insert(name, value)),
                    Err(failure) => errors.push(*failure),
                }
            }
        }
        match stages.choose(target) {
            Ok(number) => stages.target = number,
            Err(diagnostic) => errors.push(*diagnostic),
        }
        stages.globals.insert("TARGETSTAGE".into(), Some(target.unwrap_or("default").to_owned()));
        for number in 0..file.stages.len() {
            match stages.base(number) {
                Ok(base) => stages.bases.push(base),
                Err(failure) => {
                    errors.push(*failure);
                    stages.bases.push(Origin::Scratch);
                }
            }
        }
        let mut open = vec![stages.target];
        while let Some(number) = open.pop() {
            if stages.needed.contains(&number) {
                continue;
            }
            stages.needed.push(number);
            match stages.needs(number) {
                Ok(needs) => open.extend(needs.into_iter().filter_map(|(origin, _)| match origin {
                    Origin::Stage(number) => Some(number),
                    Origin::Scratch | Origin::Context(_) | Origin::Image(_) => None,
                })),
                Err(failure) => errors.push(*failure),
            }
        }
        stages.needed.sort_unstable();
        if errors.is_empty() { Ok(stages) } else { Err(errors) }
    }

    fn global(
        &self,
        name: &Text,
        default: Option<&Text>,
        given: &BTreeMap<String, Option<String>>,
    ) -> Result<(String, Option<String>), Failure> {
        let name = self.expand(name)?;
        let value = match (given.get(&name).cloned().flatten(), default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => Some(self.expand(default)?),
            // One of those that are always there keeps its value.
            (None, None) => self.globals.get(&name).cloned().flatten(),
        };
        Ok((name, value))
    }

    fn expand(&self, text: &Text) -> Result<String, Failure> {
        let lookup = |name: &str| self.globals.get(name).cloned().flatten();
        expand(&text.raw, self.file.escape, &lookup).map_err(|e| fail(text.span, e))
    }

    /// Returns the number of the stage that is asked for: the last one unless it is named.
    fn choose(&self, target: Option<&str>) -> Result<usize, Failure> {
        let last = self.file.stages.len().saturating_sub(1);
        let Some(target) = target.filter(|t| !t.is_empty()) else { return Ok(last) };
        if let Some(number) = self.named(target, self.file.stages.len()) {
            return Ok(number);
        }
        match target.parse::<usize>() {
            Ok(number) if number <= last => Ok(number),
            _ => {
                let names = self.file.stages.iter().filter_map(|s| s.name.as_ref()).map(|n| n.raw.as_str());
                let near = nearest(target, names.clone());
                let all = names.collect::<Vec<_>>().join(", ");
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if all.is_empty() => {
                        "no stage of the Dockerfile has a name: write `FROM image AS name`".into()
                    }
                    None => format!("its stages are: {all}"),
                };
                let message = format!("target stage `{target}` could not be found");
                Err(Box::new(Diagnostic::error(None, message).help(help)))
            }
        }
    }

    /// Returns the last stage of that name before a number.
    fn named(&self, name: &str, before: usize) -> Option<usize> {
        let name = name.to_lowercase();
        let named =
            |stage: &usize| self.file.stages[*stage].name.as_ref().is_some_and(|n| n.raw.to_lowercase() == name);
        (0..before).rev().find(named)
    }

    fn base(&self, number: usize) -> Result<Origin, Failure> {
        let stage = &self.file.stages[number];
        if let Some(platform) = &stage.platform {
            let text = self.expand(platform)?;
            let own = format!("linux/{}", host_architecture());
            if !(text == own || text == host_architecture() || text == format!("{own}/v8")) {
                let message = format!("platform `{text}` is not this machine's, which is {own}");
                let help =
                    "this version builds for the machine it runs on: leave --platform out, or write `$TARGETPLATFORM`";
                return Err(Box::new(fail(platform.span, message).help(help)));
            }
        }
        let name = self.expand(&stage.from)?;
        if name.is_empty() {
            let message = format!("base name `{}` is empty when its variables are replaced", stage.from.raw);
            let help = "give the ARG a default before the first FROM, or a value with --build-arg";
            return Err(Box::new(fail(stage.from.span, message).help(help)));
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if let Some(stage) = self.named(&name, number) {
            return Ok(Origin::Stage(stage));
        }
        if self.named(&name, self.file.stages.len()) == Some(number) {
            let message = format!("stage `{name}` is built upon itself");
            return Err(Box::new(fail(stage.from.span, message).help("give the stage another name than its image")));
        }
        Ok(self.elsewhere(&name))
    }

    fn elsewhere(&self, name: &str) -> Origin {
        match self.contexts.iter().find(|context| context.eq_ignore_ascii_case(name)) {
            Some(context) => Origin::Context((*context).to_owned()),
            None if name == "scratch" => Origin::Scratch,
            // Docker's builder takes whole ids alone: `cafe` is a name, and not the beginning of the id of whatever is here.
            None if name.len() < 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Origin::Image(format!("{name}:latest"))
            }
            None => Origin::Image(name.to_owned()),
        }
    }

    /// Returns what `--from` of an instruction of a stage leads to.
    ///
    /// # Errors
    /// When it is a stage that does not come before.
    pub(super) fn origin(&self, name: &str, span: Span, number: usize) -> Result<Origin, Failure> {
        if let Some(stage) = self.named(name, number) {
            return Ok(Origin::Stage(stage));
        }
        if let Ok(index) = name.parse::<usize>() {
            return match index < number {
                true => Ok(Origin::Stage(index)),
                false => Err(Box::new(
                    fail(span, format!("there is no stage {index} before this one"))
                        .help(format!("this is stage {number}; the first one is 0")),
                )),
            };
        }
        if self.named(name, self.file.stages.len()).is_some() {
            let message = format!("stage `{name}` does not come before this one");
            return Err(Box::new(fail(span, message).help("move it up: stages are built upon what is above them")));
        }
        Ok(self.elsewhere(name))
    }

    /// Returns a stage and those that it is built upon.
    pub(super) fn upon(&self, number: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let mut next = Some(number);
        // A base comes before what is built upon it.
        while let Some(number) = next.filter(|number| all.insert(*number)) {
            next = match self.bases[number] {
                Origin::Stage(base) => Some(base),
                Origin::Scratch | Origin::Context(_) | Origin::Image(_) => None,
            };
        }
        all
    }

    /// Returns all that a stage needs, with the places that say so.
    pub(super) fn needs(&self, number: usize) -> Result<Vec<(Origin, Span)>, Failure> {
        let stage = &self.file.stages[number];
        let mut all = vec![(self.bases[number].clone(), stage.from.span)];
        for instruction in &stage.instructions {
            match &instruction.op {
                Op::Copy(Copy { from: Some(from), .. }) | Op::Add(Copy { from: Some(from), .. }) => {
                    all.push((self.origin(&from.raw, from.span, number)?, from.span));
                }
                Op::Run(Run { mounts, .. }) => {
                    for mount in mounts {
                        // What cannot be read, or only with its variables, is told when it is carried out.
                        let from = Mount::parse(&mount.raw).ok().and_then(|mount| mount.from);
                        if let Some(from) = from {
                            all.push((self.origin(&from, mount.span, number)?, mount.span));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }
}
