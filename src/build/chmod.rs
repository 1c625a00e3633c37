//! `--chmod`: octal as `chmod 0755`, or symbolic as `chmod u=rwX,go=rX` (POSIX.1-2017, chmod, "EXTENDED DESCRIPTION").
//!
//! Invariant: pure.

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    /// All of them are these.
    Octal(u32),
    /// Clauses, in their order.
    Symbolic(Vec<Clause>),
}

/// `u=rwX`: for whom, and what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// Mask of the bits of those that it is for.
    who: u32,
    actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Action {
    operator: u8,
    /// Letters of `rwxXst`, or one of `ugo`.
    letters: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl Chmod {
    /// Reads a mode; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let is_octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            return u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777).map(Self::Octal);
        }
        text.split(',').map(clause).collect::<Option<Vec<_>>>().map(Self::Symbolic)
    }

    /// Returns the permissions that something with `mode` has afterwards.
    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..at].chars() {
        who |= match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    let mut actions = Vec::new();
    let mut rest = &text[at..];
    while let Some(operator) = rest.bytes().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |i| i + 1);
        let letters = rest[1..end].to_owned();
        let copies = matches!(letters.as_str(), "u" | "g" | "o");
        if !copies && !letters.chars().all(|c| "rwxXst".contains(c)) {
            return None;
        }
        actions.push(Action { operator, letters });
        rest = &rest[end..];
    }
    Some(Clause { who: if who == 0 { USER | GROUP | OTHER } else { who }, actions })
}

impl Clause {
    fn apply(&self, mut mode: u32, is_dir: bool) -> u32 {
        for Action { operator, letters } in &self.actions {
            let three = |shift: u32| (mode >> shift & 7) * 0o111;
            let mut bits = match letters.as_str() {
                "u" => three(6),
                "g" => three(3),
                "o" => three(0),
                _ => 0,
            };
            if bits == 0 {
                for letter in letters.chars() {
                    bits |= match letter {
                        'r' => 0o444,
                        'w' => 0o222,
                        'x' => 0o111,
                        'X' if is_dir || mode & 0o111 != 0 => 0o111,
                        's' => 0o6000,
                        't' => 0o1000,
                        _ => 0,
                    };
                }
            }
            let bits = bits & self.who;
            mode = match operator {
                b'+' => mode | bits,
                b'-' => mode & !bits,
                // A directory keeps what makes its group inherited unless it is named in numbers, as GNU chmod has it.
                _ => mode & !(self.who & 0o777) | bits,
            };
        }
        mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        for (text, mode, is_dir, expected) in [
            ("0755", 0o600, false, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o640, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
            ("u=r-w+x", 0o755, false, 0o555),
            ("o=", 0o777, false, 0o770),
        ] {
            let chmod = Chmod::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(chmod.apply(mode, is_dir), expected, "{text} {mode:o}");
        }
        for text in ["9", "0o755", "77777", "z=r", "u", "u=q", "", "u=rw,"] {
            assert_eq!(Chmod::parse(text), None, "{text}");
        }
    }
}
