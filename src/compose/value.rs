//! A plain value without places, for what is passed through and for what `config` prints.

use super::yaml::{Kind, Node};

/// A value as JSON and YAML have it; mappings keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A mapping.
    Map(Vec<(String, Self)>),
}

impl Value {
    /// Returns the value of `node`.
    pub(crate) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Null => Self::Null,
            Kind::Bool(value) => Self::Bool(*value),
            Kind::Int(value) => Self::Int(*value),
            Kind::Float(value) => Self::Float(*value),
            Kind::Time(text) | Kind::Str(text) => Self::Text(text.clone()),
            Kind::Seq(items) => Self::List(items.iter().map(Self::of).collect()),
            Kind::Map(map) => Self::Map(map.iter().map(|(key, entry)| (key.clone(), Self::of(&entry.value))).collect()),
        }
    }

    /// Returns the text as a value.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}
