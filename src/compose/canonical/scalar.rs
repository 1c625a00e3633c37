//! Scalars: what is accepted for each type, and what it becomes.

use super::{At, Canon};
use crate::compose::place::Place;
use crate::compose::scalar;
use crate::compose::schema::{Int, Null, Number, Pattern, Shape, Text};
use crate::compose::short::{command, pull, units};
use crate::compose::yaml::{Kind, Node};
use crate::diag::{Diagnostic, nearest};

impl Canon<'_> {
    pub(super) fn scalar(&mut self, shape: Shape, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let waits = matches!(&node.kind, Kind::Str(text) if self.waits(text));
        match shape {
            Shape::Text(text) => self.text(text, node, at, place),
            Shape::Bool { strict } => self.boolean(strict, node, at, place),
            _ if waits => true,
            Shape::Int(int) => self.int(int, node, at, place),
            Shape::Float(want) => self.float(want, node, at, place),
            Shape::Bytes { number, sensible } => self.bytes(number, sensible, node, at, place),
            Shape::Duration => self.duration(node, at, place),
            Shape::Mode => self.mode(node, at, place),
            Shape::Count => self.count(node, at, place),
            // The rest are no scalars, and are settled elsewhere.
            _ => true,
        }
    }

    /// Puts the typed value in place of the written one.
    fn become_kind(&self, node: &mut Node, kind: Kind) -> bool {
        if !self.raw {
            node.kind = kind;
        }
        true
    }

    fn text(&mut self, text: Text, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let becomes = match &node.kind {
            Kind::Str(value) => return self.waits(value) || self.matches(text.pattern, value, node, at, place),
            Kind::Null if text.null == Null::Unset => return true,
            Kind::Null if text.null == Null::Empty => Kind::Str(String::new()),
            Kind::Int(number) if text.number != Number::No => Kind::Str(number.to_string()),
            Kind::Float(number) if text.number == Number::Any => Kind::Str(scalar::go_float(*number)),
            Kind::Bool(value) if text.boolean => {
                let kind = Kind::Str(value.to_string());
                if text.number == Number::No {
                    // Where a boolean is all that is accepted besides, it is text at once.
                    node.kind = kind;
                    return true;
                }
                kind
            }
            _ => {
                self.wrong(node, at, place, text.want);
                return false;
            }
        };
        self.become_kind(node, becomes)
    }

    /// Reports text that is not what it must be.
    fn matches(&mut self, pattern: Pattern, value: &str, node: &Node, at: At, place: &Place<'_>) -> bool {
        match pattern {
            Pattern::Any => true,
            Pattern::Words(words) => {
                if words.contains(&value) {
                    return true;
                }
                let all = list_of(words);
                self.error(at.of(node), format!("{place} cannot be `{value}`")).help =
                    Some(match nearest(value, words.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`? it can be {all}"),
                        None => format!("it can be {all}"),
                    });
                false
            }
            Pattern::ContainerName => {
                let fits = |pair: &[u8]| pair[0].is_ascii_alphanumeric() && is_in_name(pair[1]);
                if value.as_bytes().windows(2).any(fits) {
                    return true;
                }
                self.error(at.of(node), format!("`{value}` cannot be the name of a container")).help =
                    Some("a name has at least two letters, digits, `.`, `_` or `-`".into());
                false
            }
            Pattern::PullPolicy => {
                const WORDS: [&str; 8] =
                    ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
                if WORDS.iter().any(|word| value.contains(word)) {
                    return true;
                }
                let Err(why) = pull::policy(value) else { return true };
                self.error(at.of(node), format!("{place} is wrong: {why}")).help = Some(pull::HELP.into());
                false
            }
        }
    }

    fn boolean(&mut self, strict: bool, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let text = match &node.kind {
            Kind::Bool(_) => return true,
            Kind::Str(text) if !strict => text.clone(),
            _ => {
                self.wrong(node, at, place, "`true` or `false`");
                return false;
            }
        };
        if self.waits(&text) {
            return true;
        }
        let (value, old) = match text.to_lowercase().as_str() {
            "true" => (true, false),
            "false" => (false, false),
            "y" | "yes" | "on" => (true, true),
            "n" | "no" | "off" => (false, true),
            _ => {
                self.error(at.of(node), format!("{place} must be `true` or `false`, not `{text}`"));
                return false;
            }
        };
        if old {
            let message = format!("`{text}` is no boolean of YAML 1.2");
            self.out.push(Diagnostic::warning(Some(at.of(node)), message).help(format!("write `{value}`")));
        }
        self.become_kind(node, Kind::Bool(value))
    }

    fn int(&mut self, int: Int, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let number = match &node.kind {
            Kind::Int(number) => i64::try_from(*number).ok(),
            #[expect(clippy::cast_possible_truncation, reason = "a whole number of less than 63 bits")]
            Kind::Float(number) if number.fract() == 0.0 && number.abs() < 9e18 => Some(*number as i64),
            Kind::Str(text) if !int.strict => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number.filter(|number| (int.min..=int.max).contains(number)) else {
            let what = shown(node);
            self.error(at.of(node), format!("{place} must be {}, not {what}", bounds(int)));
            return false;
        };
        self.become_kind(node, Kind::Int(number.into()))
    }

    /// A number with the precision of 32 bits, which is what docker compose keeps of it.
    fn float(&mut self, want: &str, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let text = match &node.kind {
            Kind::Int(number) => number.to_string(),
            Kind::Float(number) => scalar::go_float(*number),
            Kind::Str(text) => text.clone(),
            _ => String::new(),
        };
        let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
        let Some(number) = number.and_then(|number| number.to_string().parse().ok()) else {
            let what = shown(node);
            self.error(at.of(node), format!("{place} must be {want}, not {what}"));
            return false;
        };
        self.become_kind(node, Kind::Float(number))
    }

    fn bytes(&mut self, number: bool, sensible: i64, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let text = match &node.kind {
            Kind::Int(value) if number => return self.become_kind(node, Kind::Str(value.to_string())),
            Kind::Float(value) if number && value.fract() == 0.0 => format!("{value}"),
            Kind::Str(text) => text.clone(),
            Kind::Float(value) if number => scalar::go_float(*value),
            _ => {
                self.wrong(node, at, place, "text");
                return false;
            }
        };
        if text == "-1" && sensible == -1 {
            return true;
        }
        match units::bytes(&text) {
            Ok(size) => self.become_kind(node, Kind::Str(size.to_string())),
            Err(why) => {
                self.error(at.of(node), format!("{place} is wrong: {why}"));
                false
            }
        }
    }

    fn duration(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let Kind::Str(text) = &node.kind else {
            self.wrong(node, at, place, "text");
            if let Kind::Int(number) = node.kind {
                self.help_last(Some(format!("give it a unit: `{number}s`")));
            }
            return false;
        };
        match units::duration(text) {
            Ok(duration) => self.become_kind(node, Kind::Str(units::go_duration(duration))),
            Err(why) => {
                self.error(at.of(node), format!("{place} is not a duration: {why}")).help =
                    Some("a duration is written like `1m30s`, `500ms` or `2h`".into());
                false
            }
        }
    }

    fn mode(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let mode = match &node.kind {
            Kind::Int(number) => i64::try_from(*number).ok(),
            Kind::Str(text) => i64::from_str_radix(text, 8).ok(),
            _ => None,
        };
        let Some(mode) = mode.filter(|mode| *mode >= 0) else {
            let what = shown(node);
            self.error(at.of(node), format!("{place} must be the mode of a file, not {what}")).help =
                Some("write octal digits in quotes: `\"0440\"`".into());
            return false;
        };
        self.become_kind(node, Kind::Str(format!("0{mode:o}")))
    }

    fn count(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let count = match &node.kind {
            Kind::Int(number) => Some(*number),
            Kind::Str(text) if text.eq_ignore_ascii_case("all") => Some((-1_i64).into()),
            Kind::Str(text) => text.parse::<i64>().ok().map(Into::into),
            _ => None,
        };
        let Some(count) = count else {
            let what = shown(node);
            self.error(at.of(node), format!("{place} must be a whole number or `all`, not {what}"));
            return false;
        };
        self.become_kind(node, Kind::Int(count))
    }

    /// The words of a command.
    pub(super) fn words(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let text = match &mut node.kind {
            Kind::Null => return true,
            Kind::Seq(items) => {
                let each = place.item("");
                items.retain_mut(|item| self.plain(item, at, &each));
                return true;
            }
            Kind::Str(text) => text.clone(),
            _ => {
                self.wrong(node, at, place, "text or a list");
                return false;
            }
        };
        if self.raw {
            return true;
        }
        match command::split(&text) {
            Ok(words) => {
                if let Some(dropped) = words.dropped {
                    let dropped = dropped.trim();
                    let message = format!("{place} is no line for a shell; this is dropped: `{dropped}`");
                    self.warn(at.of(node), message, "for a shell write the list form: `[\"sh\", \"-c\", \"…\"]`");
                }
                let span = at.of(node);
                node.kind = Kind::Seq(words.words.into_iter().map(|word| Node::new(span, Kind::Str(word))).collect());
                true
            }
            Err(why) => {
                self.error(at.of(node), format!("{place} cannot be split into words: {why}")).help =
                    Some("or write it as a list of words".into());
                false
            }
        }
    }

    /// `healthcheck.test`.
    pub(super) fn test(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let span = at.of(node);
        match &mut node.kind {
            Kind::Str(_) if self.raw => true,
            Kind::Str(text) => {
                let words = ["CMD-SHELL".to_owned(), std::mem::take(text)];
                node.kind = Kind::Seq(words.map(|word| Node::new(span, Kind::Str(word))).into());
                true
            }
            Kind::Seq(items) => {
                let each = place.item("");
                items.retain_mut(|item| self.plain(item, at, &each));
                true
            }
            _ => {
                self.wrong(node, at, place, "text or a list");
                false
            }
        }
    }

    /// An entry that must be text.
    pub(super) fn plain(&mut self, item: &Node, at: At, each: &Place<'_>) -> bool {
        let sound = matches!(item.kind, Kind::Str(_));
        if !sound {
            self.wrong(item, at, each, "text");
        }
        sound
    }
}

/// Returns what stands there, for a message about a number.
pub(super) fn shown(node: &Node) -> String {
    match &node.kind {
        Kind::Str(text) => format!("`{text}`"),
        Kind::Int(number) => format!("`{number}`"),
        Kind::Float(number) => format!("`{}`", scalar::go_float(*number)),
        _ => node.describe(),
    }
}

/// Returns what a whole number must be, in words.
pub(crate) fn bounds(int: Int) -> String {
    match (int.sensible, int.max) {
        (i64::MIN, i64::MAX) => "a whole number".into(),
        (0, i64::MAX) => "a whole number from 0 on".into(),
        (-1, i64::MAX) => "a whole number, or -1 for no limit".into(),
        (min, max) => format!("a whole number from {min} to {max}"),
    }
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Returns the words in backticks, with commas and `or`.
fn list_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => format!("`{word}`"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", most.join(", "))
        }
    }
}
