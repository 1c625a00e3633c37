//! The flags of instructions.

use crate::build::dockerfile::Text;
use crate::build::dockerfile::instructions::{Parser, Parts};
use crate::build::dockerfile::words::Flag;
use crate::diag::nearest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `true` or `false`.
    Bool,
    /// A text.
    One,
    /// A text, and it may be repeated.
    Many,
}

pub(super) const FROM_FLAGS: &[(&str, Value)] = &[("platform", Value::One)];

pub(super) const COPY_FLAGS: &[(&str, Value)] = &[
    ("chmod", Value::One),
    ("chown", Value::One),
    ("exclude", Value::Many),
    ("from", Value::One),
    ("link", Value::Bool),
    ("parents", Value::Bool),
];

pub(super) const ADD_FLAGS: &[(&str, Value)] = &[
    ("checksum", Value::One),
    ("chmod", Value::One),
    ("chown", Value::One),
    ("exclude", Value::Many),
    ("keep-git-dir", Value::Bool),
    ("link", Value::Bool),
    ("unpack", Value::Bool),
];

pub(super) const RUN_FLAGS: &[(&str, Value)] =
    &[("device", Value::Many), ("mount", Value::Many), ("network", Value::One), ("security", Value::One)];

pub(super) const HEALTHCHECK_FLAGS: &[(&str, Value)] = &[
    ("interval", Value::One),
    ("retries", Value::One),
    ("start-interval", Value::One),
    ("start-period", Value::One),
    ("timeout", Value::One),
];

impl Parser {
    /// Checks flags against those that the instruction has.
    pub(super) fn check_flags(&mut self, parts: &Parts<'_>, known: &[(&str, Value)]) -> Option<()> {
        let keyword = parts.keyword;
        let before = self.errors.len();
        for (i, Flag { name, value, span }) in parts.flags.iter().enumerate() {
            let Some((_, takes)) = known.iter().find(|(known, _)| known == name) else {
                let names = known.iter().map(|(name, _)| *name);
                let help = match nearest(name, names.clone()) {
                    Some(near) => format!("did you mean `--{near}`?"),
                    None if known.is_empty() => "write `--` before an argument that begins like a flag".to_owned(),
                    None => {
                        format!("it has {}", names.map(|name| format!("`--{name}`")).collect::<Vec<_>>().join(", "))
                    }
                };
                self.error(*span, format!("{keyword} has no flag `--{name}`")).help = Some(help);
                continue;
            };
            if *takes != Value::Many && parts.flags[..i].iter().any(|before| before.name == *name) {
                self.error(*span, format!("the flag `--{name}` is given twice")).help =
                    Some("remove one of them".into());
            }
            match (takes, value) {
                (Value::Bool, None) | (Value::One | Value::Many, Some(_)) => {}
                (Value::Bool, Some(value)) => {
                    if boolean(&value.raw).is_none() {
                        let help = format!("write `--{name}` or `--{name}=false`");
                        self.error(*span, format!("`{}` is neither `true` nor `false`", value.raw)).help = Some(help);
                    }
                }
                (Value::One | Value::Many, None) => {
                    let help = format!("write `--{name}=` and its value, without blanks around the `=`");
                    self.error(*span, format!("{keyword} --{name} needs a value")).help = Some(help);
                }
            }
        }
        (self.errors.len() == before).then_some(())
    }
}

pub(super) fn one(flags: &[Flag], name: &str) -> Option<Text> {
    flags.iter().find(|flag| flag.name == name).and_then(|flag| flag.value.clone())
}

pub(super) fn many(flags: &[Flag], name: &str) -> Vec<Text> {
    flags.iter().filter(|flag| flag.name == name).filter_map(|flag| flag.value.clone()).collect()
}

pub(super) fn is_set(flags: &[Flag], name: &str) -> Option<bool> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    flag.value.as_ref().map_or(Some(true), |value| boolean(&value.raw))
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
