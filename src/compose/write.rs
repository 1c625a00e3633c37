//! [`Value`] → YAML, with the quoting of go-yaml, whose output other tools and our golden files compare with.
//!
//! Two blanks a level, lists indented below their key, no folding. A text is plain where it reads back as the same text,
//! literal (`|`) when it has several lines, double-quoted when it would be taken for something else or cannot be shown,
//! single-quoted otherwise.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::scalar;
use super::value::{Fields, Value};

/// Keys longer than this are written with `?`.
const LONGEST_KEY: usize = 128;

/// Returns `value` as a YAML document.
pub(crate) fn yaml(value: &Value<'_>) -> String {
    let mut writer = Writer { out: String::new() };
    match value {
        Value::Map(map) if !map.is_empty() => writer.map(map, 0, false),
        Value::List(list) if !list.is_empty() => writer.list(list, 0, false),
        other => writer.value(other, 0, false),
    }
    writer.end_line();
    writer.out
}

/// Orders keys as go-yaml does: letters by code point, numbers by value (`web9` before `web10`), what is neither first.
pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphabetic());
    if letters(a) && letters(b) {
        return a.cmp(b);
    }
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else { return left.len().cmp(&right.len()) };
    let after_digit = at > 0 && left[at - 1].is_numeric();
    match (left[at].is_alphabetic(), right[at].is_alphabetic()) {
        (true, true) => return left[at].cmp(&right[at]),
        // A letter ends a number, so that what it ends is the smaller one; elsewhere letters come last.
        (true, false) => return if after_digit { Ordering::Less } else { Ordering::Greater },
        (false, true) => return if after_digit { Ordering::Greater } else { Ordering::Less },
        (false, false) => {}
    }
    // The numbers that differ here: a zero counts only behind a digit that is none.
    let digits_before = left[..at].iter().rev().take_while(|c| c.is_numeric());
    let zero = left[at] == '0' || right[at] == '0';
    let lead = u128::from(zero && digits_before.clone().any(|c| *c != '0'));
    let number = |chars: &[char]| {
        let digits = chars[at..].iter().map_while(|c| c.to_digit(10));
        let count = digits.clone().count();
        (digits.fold(lead, |n, d| n.saturating_mul(10).saturating_add(d.into())), count)
    };
    number(&left).cmp(&number(&right)).then(left[at].cmp(&right[at]))
}

struct Writer {
    out: String,
}

impl Writer {
    fn end_line(&mut self) {
        if self.out.as_bytes().last().is_some_and(|last| *last != b'\n') {
            self.out.push('\n');
        }
    }

    fn start_line(&mut self, indent: usize) {
        self.end_line();
        self.blanks(indent);
    }

    fn blanks(&mut self, count: usize) {
        const BLANKS: &str = "                                ";
        let mut left = count;
        while left > 0 {
            let now = left.min(BLANKS.len());
            self.out.push_str(&BLANKS[..now]);
            left -= now;
        }
    }

    /// Writes the entries at `indent`; the first on the current line when `inline`.
    fn map(&mut self, map: &Fields<'_>, indent: usize, inline: bool) {
        for (at, (key, value)) in map.iter().enumerate() {
            if at > 0 || !inline {
                self.start_line(indent);
            }
            if key.len() > LONGEST_KEY || key.contains('\n') {
                self.out.push_str("? ");
                self.text(key, indent + 2, false);
                self.start_line(indent);
                self.out.push_str(": ");
                self.nested(value, indent + 2);
                continue;
            }
            self.text(key, indent, true);
            self.out.push(':');
            match value {
                Value::Map(map) if !map.is_empty() => self.map(map, indent + 2, false),
                Value::List(list) if !list.is_empty() => self.list(list, indent + 2, false),
                scalar => {
                    self.out.push(' ');
                    self.value(scalar, indent + 2, false);
                }
            }
        }
    }

    fn list(&mut self, list: &[Value<'_>], indent: usize, inline: bool) {
        for (at, item) in list.iter().enumerate() {
            if at > 0 || !inline {
                self.start_line(indent);
            }
            self.out.push_str("- ");
            self.nested(item, indent + 2);
        }
    }

    /// Writes a value behind an indicator, on the same line.
    fn nested(&mut self, value: &Value<'_>, indent: usize) {
        match value {
            Value::Map(map) if !map.is_empty() => self.map(map, indent, true),
            Value::List(list) if !list.is_empty() => self.list(list, indent, true),
            scalar => self.value(scalar, indent, false),
        }
    }

    /// Writes a scalar or an empty collection; further lines of it stand at `indent`.
    fn value(&mut self, value: &Value<'_>, indent: usize, key: bool) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => _ = write!(self.out, "{value}"),
            Value::Float(value) if value.is_nan() => self.out.push_str(".nan"),
            Value::Float(value) if value.is_infinite() => {
                self.out.push_str(if *value > 0.0 { ".inf" } else { "-.inf" });
            }
            Value::Float(value) => self.out.push_str(&scalar::go_float(*value)),
            Value::Text(text) => self.text(text, indent, key),
            Value::List(_) => self.out.push_str("[]"),
            Value::Map(_) => self.out.push_str("{}"),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        if is_simple(text) {
            return self.out.push_str(text);
        }
        let wanted = if text.contains('\n') {
            Style::Literal
        } else if reads_as_text(text) {
            Style::Plain
        } else {
            return self.double(text);
        };
        let traits = Traits::of(text);
        let style = match wanted {
            Style::Literal if key || !traits.block => Style::Double,
            Style::Plain if !traits.plain || key && traits.multiline => Style::Single,
            wanted => wanted,
        };
        match style {
            Style::Single if !traits.single || key && traits.multiline => self.double(text),
            Style::Plain => self.out.push_str(text),
            Style::Single => self.single(text, indent),
            Style::Double => self.double(text),
            Style::Literal => self.literal(text, indent),
        }
    }

    fn single(&mut self, text: &str, indent: usize) {
        self.out.push('\'');
        let mut after_break = false;
        for c in text.chars() {
            if is_break(c) {
                after_break = true;
                self.out.push(c);
                continue;
            }
            if after_break {
                self.blanks(indent);
                after_break = false;
            }
            if c == '\'' {
                self.out.push('\'');
            }
            self.out.push(c);
        }
        self.out.push('\'');
    }

    fn double(&mut self, text: &str) {
        // go-yaml escapes every character of a text that begins with a byte order mark.
        let all = text.starts_with('\u{feff}');
        self.out.push('"');
        for c in text.chars() {
            let short = match c {
                '\0' => "\\0",
                '\u{7}' => "\\a",
                '\u{8}' => "\\b",
                '\t' => "\\t",
                '\n' => "\\n",
                '\u{b}' => "\\v",
                '\u{c}' => "\\f",
                '\r' => "\\r",
                '\u{1b}' => "\\e",
                '"' => "\\\"",
                '\\' => "\\\\",
                '\u{85}' => "\\N",
                '\u{2028}' => "\\L",
                '\u{2029}' => "\\P",
                _ => "",
            };
            let code = u32::from(c);
            if !short.is_empty() {
                self.out.push_str(short);
            } else if !all && is_printable(c) {
                self.out.push(c);
            } else if code <= 0xff {
                self.out.push_str(&format!("\\x{code:02X}"));
            } else if code <= 0xffff {
                self.out.push_str(&format!("\\u{code:04X}"));
            } else {
                self.out.push_str(&format!("\\U{code:08X}"));
            }
        }
        self.out.push('"');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with(' ') || text.starts_with(is_break) {
            self.out.push('2');
        }
        let mut last = text.chars().rev();
        match (last.next(), last.next()) {
            (Some(c), _) if !is_break(c) => self.out.push('-'),
            (Some(_), None) => self.out.push('+'),
            (Some(_), Some(c)) if is_break(c) => self.out.push('+'),
            _ => {}
        }
        self.out.push('\n');
        let mut at_start = true;
        for c in text.chars() {
            if is_break(c) {
                self.out.push(c);
                at_start = true;
                continue;
            }
            if at_start {
                self.blanks(indent);
                at_start = false;
            }
            self.out.push(c);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// Whether `text` is plain for sure, without a closer look: most texts are.
fn is_simple(text: &str) -> bool {
    let bytes = text.as_bytes();
    // A letter first, which begins no word for a truth or nothing; then nothing that means something beside a blank, and a
    // colon not before one.
    let word = |bytes: &[u8]| bytes.len() > 5 || !matches!(bytes[0] | 0x20, b'y' | b'n' | b't' | b'f' | b'o');
    let mut after_colon = false;
    let mut is_plain = |b: &u8| {
        let was = std::mem::replace(&mut after_colon, *b == b':');
        matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'-'..=b':' | b'_' | b'=') || *b == b' ' && !was
    };
    matches!(bytes.first(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'/'))
        && word(bytes)
        && !matches!(bytes.last(), Some(b':' | b' '))
        && bytes.iter().all(&mut is_plain)
}

/// Whether `text`, written plain, reads back as text, also for readers of YAML 1.1.
fn reads_as_text(text: &str) -> bool {
    scalar::is_text(text) && !is_base_60(text) && !is_old_bool(text)
}

fn is_old_bool(text: &str) -> bool {
    let words = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];
    words.contains(&text)
}

/// Whether YAML 1.1 reads `text` as a number of base 60: `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut groups = text.split(':');
    let first = groups.next().unwrap_or("");
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let mut count = 0;
    let sixty = groups.all(|group| {
        count += 1;
        matches!(group.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
    });
    first.starts_with(|c: char| c.is_ascii_digit()) && digits(first) && sixty && count > 0 && digits(fraction)
}

/// Which styles a text allows; libyaml's `yaml_emitter_analyze_scalar`.
struct Traits {
    plain: bool,
    single: bool,
    block: bool,
    multiline: bool,
}

impl Traits {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { plain: true, single: true, block: false, multiline: false };
        }
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut breaks, mut special, mut tabs) = (false, false, false);
        let (mut leading, mut trailing_space, mut trailing_break) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        let mut after_blank = true;
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            let last = chars.peek().is_none();
            let before_blank = chars.peek().is_none_or(|c| matches!(c, ' ' | '\t') || is_break(*c));
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if first =>
                {
                    indicators = true;
                }
                '?' | ':' | '-' if first => indicators |= before_blank,
                ':' => indicators |= before_blank,
                '#' => indicators |= after_blank,
                _ => {}
            }
            if c == '\t' {
                tabs = true;
            } else if !is_printable(c) {
                special = true;
            }
            if c == ' ' {
                leading |= first;
                trailing_space |= last;
                break_space |= previous_break;
                (previous_space, previous_break) = (true, false);
            } else if is_break(c) {
                breaks = true;
                leading |= first;
                trailing_break |= last;
                space_break |= previous_space;
                (previous_space, previous_break) = (false, true);
            } else {
                (previous_space, previous_break) = (false, false);
            }
            after_blank = matches!(c, ' ' | '\t') || is_break(c);
            first = false;
        }
        let hard = space_break || special;
        Self {
            plain: !(indicators
                || leading
                || trailing_space
                || trailing_break
                || break_space
                || hard
                || tabs
                || breaks),
            single: !(break_space || hard || tabs),
            block: !(trailing_space || hard),
            multiline: breaks,
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What go-yaml writes as it is: nothing beyond the basic plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_simple_is_plain_by_the_long_way_too(text in "[a-zA-Z/-][a-fn-y :=#'\\-.0-9]{0,6}") {
            let is_plain = Traits::of(&text).plain && reads_as_text(&text);
            prop_assert!(!is_simple(&text) || is_plain, "{:?}", text);
        }
    }

    #[test]
    fn keys_are_ordered_by_the_numbers_in_them() {
        let mut keys = ["web10", "web9", "Web", "a1b", "a1", "a", "a-b", "web", "x01", "x1", "10", "9", "_a"];
        keys.sort_by(|a, b| key_order(a, b));
        assert_eq!(keys, ["_a", "9", "10", "Web", "a", "a-b", "a1", "a1b", "web", "web9", "web10", "x1", "x01"]);
    }

    #[test]
    fn texts_are_quoted_where_they_would_be_misread() {
        let show = |text: &str| {
            let line = yaml(&Value::Map(vec![("k".into(), Value::text(text))]));
            line.strip_prefix("k: ").map(|l| l.trim_end().to_owned()).expect("a line")
        };
        for (text, written) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("y", "\"y\""),
            ("0755", "\"0755\""),
            ("22:22", "\"22:22\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("2001-13-45", "2001-13-45"),
            ("- x", "'- x'"),
            ("-x", "-x"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("it's", "it's"),
            ("'q'", "'''q'''"),
            (" x", "' x'"),
            ("a\tb", "\"a\\tb\""),
            ("a\nb", "|-\n  a\n  b"),
            ("🐳", "\"\\U0001F433\""),
            ("<<", "<<"),
        ] {
            assert_eq!(show(text), written, "{text:?}");
        }
    }
}
