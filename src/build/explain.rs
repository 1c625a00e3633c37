//! Why a step was carried out again: what it was made of the last time, and what of that is another now.
//!
//! What the keys of a build's steps are made of is written down for the place that is built (image name, context, Dockerfile,
//! target): a line a step, and lines for its inputs. A build of the same place compares with them. They are only to be told:
//! no step depends on them, and they are written when a key is another than the last time.
//!
//! What may be secret is told by its name alone: values of `ARG`s, of variables that have one of those in them, or are called
//! as secrets are. They are written down as a hash under the engine's key, which no reader of the file can try out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::build::dockerfile::check::is_secret_name;
use crate::build::execute::{BuildSpec, Recipe};
use crate::build::stage::Stage;
use crate::diag::harmless;
use crate::event::ExplainedStep;
use crate::image::digest::{Digest, Key};
use crate::image::steps::StepRecord;
use crate::image::store::Store;
use crate::name::hex;

/// First line of the form.
const FORM: &str = "hoist build inputs 1\n";
/// Most files of a step that are written down one by one.
pub(super) const FILES: usize = 4096;
/// How many differences are named.
const NAMED: usize = 3;
/// Before a value that is told, and before a hash.
const OPEN: char = '=';
const SEALED: char = '#';

/// What a step is made of: names and values, each on a line of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Adds a value that may be told.
    pub(super) fn open(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.insert(name.to_owned(), format!("{OPEN}{}", value.as_ref()));
    }

    /// Adds all of others, with something before their names.
    pub(super) fn below(&mut self, prefix: &str, inputs: Self) {
        self.0.extend(inputs.0.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }

    /// Adds a file, as it is going to be in the image; of very many only that they are another set.
    pub(super) fn file(&mut self, name: &str, attributes: &str) {
        if self.0.len() < FILES {
            self.open(&format!("file {name}"), attributes);
        }
    }

    /// Adds what makes one very large set another.
    pub(super) fn set(&mut self, count: usize, content: &Digest) {
        if count > FILES {
            self.open("files", content.hex());
        }
    }

    fn write(&self, out: &mut String) {
        for (name, value) in &self.0 {
            let _ = writeln!(out, "\t{}\t{}", line(name), line(value)); // a text takes it
        }
    }

    fn read(lines: &str) -> Self {
        let pairs = lines.lines().filter_map(|line| line.strip_prefix('\t')?.split_once('\t'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Returns a text on one line.
fn line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
}

/// Where the key is that is used for what may not be told, and for what.
#[derive(Debug)]
struct Seal<'a> {
    key: Option<&'a Key>,
    place: &'a Digest,
}

impl Seal<'_> {
    fn mark(&self, name: &str, value: &str) -> String {
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes();
        let mac = |key: &Key| key.mac(&[self.place.hex().as_bytes(), &length, name.as_bytes(), value.as_bytes()]);
        // Without a key nothing is kept: then nobody can tell whether it is another.
        format!("{SEALED}{}", self.key.map(|key| hex(&mac(key)[..8])).unwrap_or_default())
    }
}

/// Where what a step gives has come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// It was carried out.
    Made,
    /// It was known here.
    Known,
    /// It was known to the cache of that name.
    From(String),
}

impl Came {
    /// Returns what progress says.
    pub(super) fn word(&self) -> &'static str {
        if *self == Self::Made { "Built" } else { "Cached" }
    }
}

/// A step that is done.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) record: StepRecord,
    pub(super) came: Came,
    pub(super) key: Digest,
    /// What it was made of; `None` when the last build of this place had the same key.
    pub(super) inputs: Option<Inputs>,
}

/// A step of this build.
#[derive(Debug)]
struct Note {
    stage: usize,
    written: Written,
    told: ExplainedStep,
}

/// A step as it is written down: each field is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    stage: String,
    /// Its number, as `2/5`.
    number: String,
    instruction: String,
    key: String,
    /// Digests of the layers below it, shortened.
    layers: String,
    inputs: String,
}

impl Written {
    fn write(&self, out: &mut String) {
        let Self { stage, number, instruction, key, layers, inputs } = self;
        let _ = writeln!(out, "{key}\t{stage}\t{number}\t{layers}\t{instruction}"); // a text takes it
        out.push_str(inputs);
    }

    fn read_all(text: &str) -> Vec<Self> {
        let Some(text) = text.strip_prefix(FORM) else { return Vec::new() };
        let mut all: Vec<Self> = Vec::new();
        for line in text.split_inclusive('\n') {
            if line.starts_with('\t') {
                if let Some(last) = all.last_mut() {
                    last.inputs.push_str(line);
                }
                continue;
            }
            let mut fields = line.trim_end_matches('\n').splitn(5, '\t').map(str::to_owned);
            let mut field = || fields.next().unwrap_or_default();
            let (key, stage, number, layers, instruction) = (field(), field(), field(), field(), field());
            all.push(Self { stage, number, instruction, key, layers, inputs: String::new() });
        }
        all
    }
}

/// What is known of the last build of a place, and what this one has come to.
#[derive(Debug)]
pub(super) struct Notes {
    place: Digest,
    key: Option<Key>,
    before: String,
    old: Vec<Written>,
    keys: BTreeSet<String>,
    all: RefCell<Vec<Note>>,
}

impl Notes {
    /// Begins with what is written down of the place.
    pub(super) fn begin(spec: &BuildSpec, store: &Store) -> Self {
        let place = place(spec);
        let before = store.place(&place).unwrap_or_default();
        let old = Written::read_all(&before);
        let keys = old.iter().map(|step| step.key.clone()).collect();
        Self { place, key: spec.seal.clone(), before, old, keys, all: RefCell::default() }
    }

    /// Returns whether the last build had a step with this key, so that its inputs are known.
    pub(super) fn knows(&self, key: &Digest) -> bool {
        self.keys.contains(key.hex())
    }

    /// Returns what a `RUN` is made of besides its command, the layers below it and what is mounted.
    pub(super) fn variables(&self, stage: &Stage, env: &[String]) -> Inputs {
        let seal = Seal { key: self.key.as_ref(), place: &self.place };
        let mut inputs = Inputs::default();
        let is_given = |value: &str| stage.args.values().flatten().any(|arg| !arg.is_empty() && value.contains(arg));
        let mut add = |name: &str, value: &str, is_closed: bool| match is_closed {
            true => drop(inputs.0.insert(name.to_owned(), seal.mark(name, value))),
            false => inputs.open(name, value),
        };
        let config = &stage.config.config;
        for (name, value) in [("user", &config.user), ("directory", &config.working_dir)] {
            add(name, value, is_given(value));
        }
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            let is_arg = !config.env.contains(entry) && stage.args.contains_key(name);
            let is_closed = is_arg || is_secret_name(name) || is_given(value);
            add(&format!("{} {name}", if is_arg { "arg" } else { "env" }), value, is_closed);
        }
        inputs
    }

    /// Takes note of a step that is done.
    pub(super) fn add(&self, stage: &Stage, titles: (&str, &str), instruction: &str, made: &Made, fresh: bool) {
        let (stage_title, number) = titles;
        let short = |digest: &Digest| digest.hex()[..12].to_owned();
        // A layer of its own is the last one, and not below it.
        let layers: Vec<String> = stage.config.rootfs.diff_ids.iter().map(short).collect();
        let mut text = String::new();
        let same = self.old.iter().find(|old| old.key == made.key.hex());
        match (&made.inputs, same) {
            (_, Some(same)) => text.clone_from(&same.inputs),
            (Some(inputs), None) => inputs.write(&mut text),
            (None, None) => {}
        }
        let written = Written {
            stage: line(stage_title),
            number: number.to_owned(),
            instruction: line(instruction),
            key: made.key.hex().to_owned(),
            layers: layers.join(" "),
            inputs: text,
        };
        let first = instruction.lines().next().unwrap_or_default().chars().take(80).collect();
        let told = ExplainedStep {
            stage: stage_title.to_owned(),
            number: number.to_owned(),
            instruction: first,
            cached: made.came != Came::Made,
            reasons: self.reasons(&written, stage, &made.came, fresh).iter().map(|reason| harmless(reason)).collect(),
        };
        self.all.borrow_mut().push(Note { stage: stage.number, written, told });
    }

    fn reasons(&self, step: &Written, stage: &Stage, came: &Came, fresh: bool) -> Vec<String> {
        if let Came::From(cache) = came {
            return vec![format!("from the cache `{cache}`")];
        }
        let known = *came == Came::Known;
        if fresh {
            return vec!["it was asked for".to_owned()];
        }
        let here = || self.old.iter().filter(|old| old.stage == step.stage);
        let all = self.all.borrow();
        let earlier = all.iter().filter(|n| n.written.stage == step.stage && n.written.instruction == step.instruction);
        let same_text = here().filter(|old| old.instruction == step.instruction).nth(earlier.count());
        let keyword = |text: &str| text.split_whitespace().next().map(str::to_uppercase);
        let is_at_its_place =
            |old: &&Written| old.number == step.number && keyword(&old.instruction) == keyword(&step.instruction);
        let by_number = || {
            // One whose text is still there somewhere is not this one.
            let mut found = here().filter(is_at_its_place);
            found.find(|old| old.instruction != step.instruction)
        };
        let old = match (same_text, by_number()) {
            (Some(old), _) => old,
            _ if known => return Vec::new(),
            (None, Some(_)) => return vec!["the instruction is another".to_owned()],
            (None, None) if self.old.is_empty() => return vec!["no build of this place is known".to_owned()],
            (None, None) => return vec!["the instruction is new".to_owned()],
        };
        if old.key == step.key {
            return if known { Vec::new() } else { vec!["its layer is not in the store any more".to_owned()] };
        }
        if known {
            return vec!["as in an earlier build".to_owned()];
        }
        let mut reasons = Vec::new();
        if keyword(&step.instruction).as_deref() == Some("RUN") {
            reasons.extend(below(&old.layers, &step.layers, &stage.origins));
        }
        reasons.extend(differences(&Inputs::read(&old.inputs), &Inputs::read(&step.inputs)));
        if reasons.is_empty() {
            reasons.push("something else that it depends on changed".to_owned());
        }
        reasons
    }

    /// Ends the build: writes down what it was made of, if that is new, and returns why its steps were carried out, in the
    /// order of the file. Of a build that failed, steps that it did not come to are kept as they were.
    pub(super) fn finish(self, store: &Store, complete: bool) -> Vec<ExplainedStep> {
        let Self { place, before, old, all, .. } = self;
        let mut all = all.into_inner();
        all.sort_by_key(|note| note.stage);
        let mut text = FORM.to_owned();
        all.iter().for_each(|note| note.written.write(&mut text));
        if !complete {
            let is_left = |old: &&Written| {
                let mut news = all.iter().map(|note| &note.written).filter(|new| new.stage == old.stage);
                news.all(|new| new.instruction != old.instruction && new.number != old.number)
            };
            old.iter().filter(is_left).for_each(|step| step.write(&mut text));
        }
        if text != before
            && let Err(error) = store.write_place(&place, &text)
        {
            tracing::debug!(%error, "what the build was made of is not written down"); // it is only to be told
        }
        all.into_iter().map(|note| note.told).collect()
    }
}

/// Returns what stands for the place that is built.
fn place(spec: &BuildSpec) -> Digest {
    let name = spec.tags.first().map_or_else(|| spec.title.clone(), |tag| tag.familiar_name());
    // One in the Compose file, or that comes in, may be another each time.
    let recipe = match &spec.dockerfile {
        Recipe::Text(_) | Recipe::Input(_) => String::new(),
        recipe => format!("{recipe:?}"),
    };
    let context = format!("{:?}", spec.context);
    Digest::of(serde_json::json!([name, context, recipe, spec.target]).to_string().as_bytes())
}

/// Tells where the layers below a step begin to be others.
fn below(old: &str, new: &str, origins: &[String]) -> Option<String> {
    if old == new {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split(' ').collect(), new.split(' ').collect());
    let first = new.iter().zip(&old).take_while(|(new, old)| new == old).count();
    Some(match origins.get(first) {
        Some(origin) if origin.starts_with('[') => format!("the layers below changed, from {origin} on"),
        Some(origin) => format!("{origin} is another"),
        None => "there are fewer layers below".to_owned(),
    })
}

/// Tells what of a step's inputs is another: the first ones, and how many more.
fn differences(old: &Inputs, new: &Inputs) -> Vec<String> {
    let names: BTreeSet<&String> = old.0.keys().chain(new.0.keys()).collect();
    let mut all: Vec<String> = names
        .into_iter()
        .filter_map(|name| difference(name, old.0.get(name).map(String::as_str), new.0.get(name).map(String::as_str)))
        .collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    all
}

fn difference(name: &str, old: Option<&str>, new: Option<&str>) -> Option<String> {
    if old == new {
        return None;
    }
    let (place, name) = match name.find(": file").filter(|_| name.starts_with("mount ")) {
        Some(at) => name.split_at(at + ": ".len()),
        None => ("", name),
    };
    let (kind, rest) = name.split_once(' ').unwrap_or((name, ""));
    let value = |side: Option<&str>| side.and_then(|side| side.strip_prefix(OPEN)).map(str::to_owned);
    let text = match (kind, old, new) {
        ("file", None, _) => format!("{rest} is new"),
        ("file", _, None) => format!("{rest} is gone"),
        ("file", Some(old), Some(new)) => {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.splitn(4, ' ').collect(), new.splitn(4, ' ').collect());
            let at = |side: &[&str], index: usize| side.get(index).copied().unwrap_or_default().to_owned();
            match old.iter().zip(&new).take_while(|(old, new)| old == new).count() {
                0 => format!("{rest} is another kind of file"),
                1 => format!("{rest} has mode {}, had {}", at(&new, 1), at(&old, 1)),
                2 => format!("{rest} belongs to {}, did to {}", at(&new, 2), at(&old, 2)),
                _ => format!("{rest} has another content"),
            }
        }
        ("files", ..) => format!("one of more than {FILES} files changed"),
        ("mount", ..) => format!("what is mounted at {rest} is another"),
        ("env" | "arg", ..) => {
            let kind = kind.to_uppercase();
            match (old, new, value(old), value(new)) {
                (_, _, Some(old), Some(new)) => format!("{kind} {rest} was \"{old}\", is \"{new}\""),
                (None, ..) => format!("{kind} {rest} is new"),
                (_, None, ..) => format!("{kind} {rest} is gone"),
                _ => format!("{kind} {rest} has another value"),
            }
        }
        _ => match (value(old), value(new)) {
            (Some(old), Some(new)) if old.len() + new.len() < 100 => format!("{name} was \"{old}\", is \"{new}\""),
            _ => format!("{name} is another"),
        },
    };
    Some(format!("{place}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_in_words() {
        let inputs = |all: &[(&str, &str)]| {
            Inputs(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let file = "=File 0644 0:0 aa";
        for (old, new, expected) in [
            (&[("file a", file)][..], &[("file a", file)][..], ""),
            (&[("file a", file)], &[("file a", "=Symlink 0777 0:0 b")], "a is another kind of file"),
            (&[("file a", file)], &[("file a", "=File 0644 7:0 aa")], "a belongs to 7:0, did to 0:0"),
            (&[("file a b: c", file)], &[("file a b: c", "=File 0644 0:0 bb")], "a b: c has another content"),
            (&[("files", "=1")], &[("files", "=2")], "one of more than 4096 files changed"),
            (&[("mount /x", "=1")], &[("mount /x", "=2")], "what is mounted at /x is another"),
            (&[], &[("mount /x: file y", file)], "mount /x: y is new"),
            (&[("env A", "=1")], &[], "ENV A is gone"),
            (&[], &[("arg A", "#1")], "ARG A is new"),
            (&[("env A", "=1")], &[("env A", "#2")], "ENV A has another value"),
            (&[("network", "=None")], &[("network", "=Host")], "network was \"None\", is \"Host\""),
            (&[("user", "#1")], &[("user", "#2")], "user is another"),
            (
                &[],
                &[("file a", file), ("file b", file), ("file c", file), ("file d", file), ("file e", file)],
                "a is new, b is new, c is new, 2 more",
            ),
        ] {
            assert_eq!(differences(&inputs(old), &inputs(new)).join(", "), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let mut inputs = Inputs::default();
        inputs.open("env A", "two\nlines\tand a \\");
        inputs.file("odd\nname", "File 0644 0:0 aa");
        let mut text = String::new();
        inputs.write(&mut text);
        let step = Written {
            stage: "base".into(),
            number: "1/2".into(),
            instruction: line("RUN <<EOF\n\tx\nEOF"),
            key: "ab".into(),
            layers: "1 2".into(),
            inputs: text.clone(),
        };
        let other = Written { number: "2/2".into(), inputs: String::new(), ..step.clone() };
        let mut all = FORM.to_owned();
        [&step, &other].iter().for_each(|step| step.write(&mut all));
        assert_eq!(Written::read_all(&all), [step, other]);
        assert_eq!(Written::read_all(&all[1..]), [], "another form");
        assert_eq!(Inputs::read(&text).0.len(), 2);
        // Of very many files only their sum is another.
        let mut many = Inputs::default();
        (0..FILES + 10).for_each(|number| many.file(&number.to_string(), "File"));
        many.set(FILES + 10, &Digest::of(b"all"));
        assert_eq!(many.0.len(), FILES + 1);
    }
}
