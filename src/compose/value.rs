//! A plain value without places, for what is passed through and for what `config` prints. It borrows its texts from the tree
//! that it was made of.

use std::borrow::Cow;
use std::fmt;

use super::yaml::{Kind, Node};

/// A value as JSON and YAML have it; mappings keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(Int),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
    /// A mapping.
    Map(Fields<'a>),
}

/// The entries of a mapping.
pub type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// An integer between the least `i64` and the greatest `u64`, in less room than an `i128` takes in a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Int {
    size: u64,
    negative: bool,
}

impl Int {
    /// Returns `number`, if it is one of those that can be.
    pub(crate) fn new(number: i128) -> Option<Self> {
        let within = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number);
        let size = u64::try_from(number.unsigned_abs()).ok().filter(|_| within)?;
        Some(Self { size, negative: number < 0 })
    }

    /// Returns the number.
    pub(crate) fn get(self) -> i128 {
        let size = i128::from(self.size);
        if self.negative { -size } else { size }
    }
}

impl From<i64> for Int {
    fn from(number: i64) -> Self {
        Self { size: number.unsigned_abs(), negative: number < 0 }
    }
}

impl From<u64> for Int {
    fn from(number: u64) -> Self {
        Self { size: number, negative: false }
    }
}

impl From<u16> for Int {
    fn from(number: u16) -> Self {
        u64::from(number).into()
    }
}

impl TryFrom<Int> for i64 {
    type Error = std::num::TryFromIntError;

    fn try_from(number: Int) -> Result<Self, Self::Error> {
        number.get().try_into()
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<'a> Value<'a> {
    /// Returns the value of `node`.
    pub(crate) fn of(node: &'a Node) -> Self {
        match &node.kind {
            Kind::Null => Self::Null,
            Kind::Bool(value) => Self::Bool(*value),
            Kind::Int(value) => Self::Int(*value),
            Kind::Float(value) => Self::Float(*value),
            Kind::Time(text) | Kind::Str(text) => Self::text(text),
            Kind::Seq(items) => Self::List(items.iter().map(Self::of).collect()),
            Kind::Map(map) => Self::Map(map.iter().map(|(key, entry)| (key.into(), Self::of(&entry.value))).collect()),
        }
    }

    /// Returns the text as a value.
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Returns the same value with texts of its own.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Float(value) => Value::Float(value),
            Self::Text(text) => Value::text(text.into_owned()),
            Self::List(items) => Value::List(items.into_iter().map(Self::into_owned).collect()),
            Self::Map(map) => {
                let owned = map.into_iter().map(|(key, value)| (key.into_owned().into(), value.into_owned()));
                Value::Map(owned.collect())
            }
        }
    }
}
