//! The attribute table: what a compose file may say, each path once.
//!
//! A tree of static [`Type`]s, from [`FILE`] down. Everything that depends on *which* attribute it is looks here: which keys
//! there are and what may stand there (`canonical`), how files merge (`merge`), which entries of a list are one (`unique`),
//! what is relative to a directory (`paths`), in which order and form `config` prints (`print`), and what the engine does
//! with it (`effects`). A test walks the schema of the specification and fails on a path that is missing here.
//!
//! The order of fields is the order of printing.
//!
//! Invariant: static data and lookups in it, no decisions.

mod build;
mod deploy;
mod service;
mod storage;
mod top;

#[cfg(test)]
mod tests;

pub(crate) use service::SERVICE;
pub(crate) use top::FILE;

use super::map::{MARKS, is_same, mark};

/// One attribute, wherever it stands: below a key, in a list, as a value of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    /// What may be written.
    pub(crate) shape: Shape,
    /// How a later file changes it.
    pub(crate) merge: Merge,
    /// Which entries of this list are the same one.
    pub(crate) unique: Option<Unique>,
    /// When `config` prints it.
    pub(crate) print: Print,
    /// Whether it is a path, and relative to what.
    pub(crate) path: Path,
    /// What it does here.
    pub(crate) effect: Effect,
}

/// What may be written for an attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Anything, as it is: extensions, `version`.
    Any,
    /// Text.
    Text(Text),
    /// `true` or `false`, also as text unless strict.
    Bool {
        /// Text is refused.
        strict: bool,
    },
    /// A whole number, also as text unless strict.
    Int(Int),
    /// A number of 32 bits, also as text; the text says what is wanted.
    Float(&'static str),
    /// A size in bytes; in canonical form the number as text.
    Bytes {
        /// A number is accepted besides text.
        number: bool,
        /// The least that means something here: 0, or -1 for no limit.
        sensible: i64,
    },
    /// A duration as text; in canonical form as Go prints it.
    Duration,
    /// The mode of a file: a number, or octal digits as text; in canonical form `0` and octal digits.
    Mode,
    /// `all` or a number, which is -1 for `all`.
    Count,
    /// The words of a command: a list, or a text that is split; nothing is something else than no words.
    Words,
    /// `healthcheck.test`: a list, or a text for a shell.
    Test,
    /// A list.
    List(&'static List),
    /// `KEY: value`, or a list of `KEY=value`; in canonical form a mapping to text.
    Pairs(Pairs),
    /// Hosts and addresses; in canonical form a sorted list of `host=address`.
    Hosts,
    /// A mapping with names of the user's choice.
    Map(&'static Map),
    /// A mapping with fixed keys.
    Struct(&'static Struct),
    /// A mapping with fixed keys, or something shorter.
    Short(Form, &'static Struct),
}

/// What a whole number may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int {
    /// The least that docker compose accepts.
    pub(crate) min: i64,
    /// The greatest.
    pub(crate) max: i64,
    /// The least that means something here.
    pub(crate) sensible: i64,
    /// Text is refused.
    pub(crate) strict: bool,
}

/// What text may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// What it must be one of, or look like.
    pub(crate) pattern: Pattern,
    /// Which numbers are taken for their text.
    pub(crate) number: Number,
    /// A boolean is taken for its text.
    pub(crate) boolean: bool,
    /// What nothing is.
    pub(crate) null: Null,
    /// What is wanted, in the words of a message.
    pub(crate) want: &'static str,
}

/// Which numbers are taken for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// None.
    No,
    /// Those without a fraction.
    Whole,
    /// All.
    Any,
}

/// What nothing in place of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Null {
    /// A mistake.
    No,
    /// The same as if the key were not there.
    Unset,
    /// Empty text.
    Empty,
}

/// What text must be like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pattern {
    /// Anything.
    Any,
    /// One of these.
    Words(&'static [&'static str]),
    /// A name that a container may have.
    ContainerName,
    /// A policy for pulling.
    PullPolicy,
}

/// A list.
#[derive(Debug)]
pub(crate) struct List {
    /// Its entries.
    pub(crate) item: Type,
    /// What an entry is called: `a port`; empty is `an entry of` the key.
    pub(crate) each: &'static str,
    /// Whether one text stands for a list of one.
    pub(crate) one: One,
    /// Nothing may stand there twice.
    pub(crate) distinct: bool,
}

/// Whether one text stands for a list of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum One {
    /// It does not.
    No,
    /// It does.
    Yes,
    /// It does, and without interpolation it is left as it is.
    Late,
    /// Only the text `all`, which is a request for all devices.
    All,
}

/// What a key without value means in a list or mapping of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// It is looked up in the environment, and stays without value when it is not there.
    Environment,
    /// It is looked up in the environment, and left out when it is not there.
    Args,
    /// The value is empty.
    Empty,
    /// A list entry must have one.
    Required,
}

/// A mapping with names of the user's choice.
#[derive(Debug)]
pub(crate) struct Map {
    /// What belongs to a name.
    pub(crate) value: Type,
    /// What an entry is called, the name in place of `{}`: "service `{}`"; empty is the key alone.
    pub(crate) each: &'static str,
    /// Names are checked against `[a-zA-Z0-9._-]+`.
    pub(crate) names: bool,
    /// Nothing may be written for a name.
    pub(crate) null: bool,
    /// A list of names stands for a mapping.
    pub(crate) list: Option<Names>,
}

/// What a name in a list of names stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// The name with nothing said about it.
    Null,
    /// A dependency until it is started.
    Started,
    /// `ID=PATH`, or `default` alone.
    Ssh,
}

/// A mapping with fixed keys.
#[derive(Debug)]
pub(crate) struct Struct {
    /// Its fields in the order of printing.
    pub(crate) fields: &'static [Field],
    /// Keys that begin with `x-` are allowed.
    pub(crate) extensions: bool,
    /// Nothing may be written in its place.
    pub(crate) null: bool,
    /// How it is printed, if not field by field.
    pub(crate) special: Special,
    /// Where to begin to look for a key: the first field with its [`mark`], or beyond all.
    starts: [u8; MARKS],
}

/// How a mapping is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// Field by field.
    None,
    /// `ulimits.*`: one number unless it is 0; the pair always in YAML.
    Ulimit,
    /// `env_file[]`: the path alone when the file is required.
    EnvFile,
    /// Without its extensions, for which compose-go has no place.
    Bare,
    /// `networks.*` and others of the project: with a name that the normalisation adds.
    Resource,
}

/// A key of a [`Struct`].
#[derive(Debug)]
pub(crate) struct Field {
    /// The key.
    pub(crate) name: &'static str,
    /// The key in JSON, which differs where compose-go forgot to name it.
    pub(crate) json: &'static str,
    /// What may stand there.
    pub(crate) ty: Type,
    /// It must be there; the text is what to do about it, or empty.
    pub(crate) required: Option<&'static str>,
}

/// The shorter forms of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text is the value of this key.
    Key(&'static str),
    /// A text is a path, and a file that must be there.
    EnvFile,
    /// `SOURCE:TARGET:OPTIONS`.
    Mount,
    /// `HOST:CONTAINER:rwm`.
    Device,
    /// `IP:HOST:CONTAINER/PROTOCOL`, which may be several.
    Port,
    /// One number for both.
    Ulimit,
    /// `external: true`.
    External,
}

/// How a later file changes an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// By what it is: mappings merge, lists append, scalars replace.
    Kind,
    /// The later one, even when it is nothing.
    Replace,
    /// Both become lists of `KEY=value`, appended.
    Sequence,
    /// Both become mappings by their names.
    Names,
    /// A text is a mapping with this one key.
    Field(&'static str),
    /// As a sequence, without entries that are there already.
    Hosts,
    /// Replaced when `driver` differs, merged otherwise.
    Driver,
    /// Entries with the same `subnet` merge.
    Subnets,
}

/// What makes two entries of a list the same one: the later counts, at the place of the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unique {
    /// What stands before `=`.
    Key,
    /// `target`.
    Target,
    /// `target`, or the source below this directory.
    TargetIn(&'static str),
    /// `path`.
    Path,
    /// Address, ports and protocol.
    Port,
}

/// When `config` prints an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Print {
    /// When it is neither zero nor empty.
    Filled,
    /// Whenever it was set.
    Set,
    /// Always, with a zero when it was not set.
    Always,
    /// When a part of it is printed; in JSON always.
    Part,
    /// Never: docker compose has no place for it.
    Never,
}

/// Whether text is a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// It is none.
    No,
    /// Relative to the directory.
    Local,
    /// As local, but a path of Windows is absolute too.
    Unix,
    /// As local, unless it names something remote.
    Context,
    /// As local, symbolic links followed.
    Real,
    /// A mount, whose `source` is a path when its `type` is `bind`.
    Mount,
    /// A volume, whose `driver_opts.device` is one when it is a bind.
    Volume,
}

/// What an attribute does on this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is acted upon, or its parts are.
    Acts,
    /// It is valid and has no effect yet, or never has on one Linux host.
    Inert,
    /// It is valid, and leaving it out would change what the file means.
    Refused,
}

/// A text without any condition.
pub(crate) const TEXT: Text =
    Text { pattern: Pattern::Any, number: Number::No, boolean: false, null: Null::No, want: "text" };

impl Type {
    /// Returns an attribute with nothing special about it.
    const fn new(shape: Shape) -> Self {
        Self { shape, merge: Merge::Kind, unique: None, print: Print::Filled, path: Path::No, effect: Effect::Acts }
    }

    const fn merge(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }

    const fn unique(self, unique: Unique) -> Self {
        Self { unique: Some(unique), ..self }
    }

    const fn print(self, print: Print) -> Self {
        Self { print, ..self }
    }

    const fn path(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// It has no effect yet.
    const fn inert(self) -> Self {
        Self { effect: Effect::Inert, ..self }
    }

    /// It cannot be left out and is not acted upon yet.
    const fn refused(self) -> Self {
        Self { effect: Effect::Refused, ..self }
    }
}

const fn text() -> Type {
    Type::new(Shape::Text(TEXT))
}

const fn words(words: &'static [&'static str]) -> Type {
    Type::new(Shape::Text(Text { pattern: Pattern::Words(words), ..TEXT }))
}

const fn pattern(pattern: Pattern) -> Type {
    Type::new(Shape::Text(Text { pattern, ..TEXT }))
}

const fn boolean() -> Type {
    Type::new(Shape::Bool { strict: false })
}

const fn strict_boolean() -> Type {
    Type::new(Shape::Bool { strict: true })
}

const fn int() -> Type {
    between(i64::MIN, i64::MAX)
}

const fn between(min: i64, max: i64) -> Type {
    Type::new(Shape::Int(Int { min, max, sensible: min, strict: false }))
}

const fn strict_between(min: i64, max: i64) -> Type {
    Type::new(Shape::Int(Int { min, max, sensible: min, strict: true }))
}

/// Any whole number, of which those below `sensible` mean nothing.
const fn from(sensible: i64) -> Type {
    Type::new(Shape::Int(Int { min: i64::MIN, max: i64::MAX, sensible, strict: false }))
}

const fn float() -> Type {
    Type::new(Shape::Float("a number"))
}

const fn cpus() -> Type {
    Type::new(Shape::Float("a number of CPUs such as `0.5`"))
}

const fn bytes() -> Type {
    Type::new(Shape::Bytes { number: true, sensible: 0 })
}

const fn duration() -> Type {
    Type::new(Shape::Duration)
}

const fn list(list: &'static List) -> Type {
    Type::new(Shape::List(list))
}

const fn map(map: &'static Map) -> Type {
    Type::new(Shape::Map(map))
}

const fn pairs(pairs: Pairs) -> Type {
    Type::new(Shape::Pairs(pairs)).merge(Merge::Sequence).unique(Unique::Key)
}

/// A mapping that is printed whenever it was written, even empty.
const fn fields(fields: &'static Struct) -> Type {
    Type::new(Shape::Struct(fields)).print(Print::Set)
}

const fn short(form: Form, fields: &'static Struct) -> Type {
    Type::new(Shape::Short(form, fields)).print(Print::Set)
}

const fn field(name: &'static str, ty: Type) -> Field {
    Field { name, json: name, ty, required: None }
}

const fn required(name: &'static str, ty: Type, help: &'static str) -> Field {
    Field { name, json: name, ty, required: Some(help) }
}

const fn of(fields: &'static [Field]) -> Struct {
    Struct { fields, extensions: true, null: false, special: Special::None, starts: starts(fields) }
}

const fn starts(fields: &[Field]) -> [u8; MARKS] {
    let mut starts = [u8::MAX; MARKS];
    let mut at = 0_u8;
    while (at as usize) < fields.len() {
        let start = &mut starts[mark(fields[at as usize].name)];
        if *start == u8::MAX {
            *start = at;
        }
        at += 1;
    }
    starts
}

/// Texts.
static TEXTS: List = List { item: text(), each: "", one: One::No, distinct: false };
/// Texts, none of them twice.
static DISTINCT: List = List { item: text(), each: "", one: One::No, distinct: true };
/// Texts; one may stand for a list of one.
static ONE_OR_MORE: List = List { item: text(), each: "", one: One::Late, distinct: false };
/// The same, where docker compose makes the list at once.
static ONE_FOR_MORE: List = List { item: text(), each: "", one: One::Yes, distinct: false };
/// Text, or a number for its text.
const TEXT_OR_NUMBER: Type = Type::new(Shape::Text(Text { number: Number::Any, want: "text or a number", ..TEXT }));
/// Text, or a whole number for its text.
const TEXT_OR_WHOLE: Type =
    Type::new(Shape::Text(Text { number: Number::Whole, want: "text or a whole number", ..TEXT }));
/// Options that are handed on as they are.
static OPTIONS: Map = Map { value: TEXT_OR_NUMBER, each: "", names: false, null: false, list: None };

impl Shape {
    /// Returns the mapping with fixed keys that this is or becomes.
    pub(crate) fn fields(&self) -> Option<&'static Struct> {
        match self {
            Self::Struct(fields) | Self::Short(_, fields) => Some(fields),
            _ => None,
        }
    }

    /// Returns the attribute below `key`, or that of a list's entries for `None`; `None` where there is none.
    pub(crate) fn below(&self, key: Option<&str>) -> Option<&'static Type> {
        match (self, key) {
            (Self::Struct(fields) | Self::Short(_, fields), Some(key)) => fields.field(key).map(|field| &field.ty),
            (Self::Map(map), Some(_)) => Some(&map.value),
            (Self::List(list), None) => Some(&list.item),
            _ => None,
        }
    }
}

impl Struct {
    /// Returns the field with this key.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.place(key).map(|at| &self.fields[at])
    }

    /// Returns where among the fields that with this key stands.
    pub(crate) fn place(&self, key: &str) -> Option<usize> {
        let start = usize::from(self.starts[mark(key)]);
        let at = self.fields.get(start..)?.iter().position(|field| is_same(field.name, key))?;
        Some(start + at)
    }
}
