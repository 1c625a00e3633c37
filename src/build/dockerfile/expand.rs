//! Replaces variables and removes quotes.
//!
//! Rules: buildkit's `frontend/dockerfile/shell/lex.go`, which is a part of POSIX' "Parameter Expansion" with bash's
//! `${x/pattern/text}`. An unset variable is empty, and `$1` or `$@` are never set.
//!
//! Invariant: pure. Time and memory are bounded by the text and the values, see `LONGEST` and `DEEPEST`.

/// Longest text that may come out, in bytes: nested replacements multiply.
const LONGEST: usize = 16 << 20;

/// Deepest nesting of `${…}`.
const DEEPEST: usize = 64;

/// Most work for one pattern: its length times that of the value.
const HARDEST: usize = 1 << 26;

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces variables and removes quotes.
///
/// `$x`, `${x}`, `${x:-w}`, `${x-w}`, `${x:+w}`, `${x+w}`, `${x:?w}`, `${x?w}`, `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`,
/// `${x/p/w}`, `${x//p/w}`; words nest. Patterns have `*`, `?` and `\`. Single quotes are literal. An unset variable is empty.
///
/// # Errors
/// What is wrong with the text, as a sentence.
pub fn expand(raw: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    Expander::new(raw, escape, true, lookup).until(None, false).map(|out| out.text)
}

/// Does the same and splits at blanks that are neither quoted nor escaped, also those that come out of variables.
///
/// # Errors
/// What is wrong with the text, as a sentence.
pub fn expand_words(raw: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, String> {
    let mut out = Expander::new(raw, escape, true, lookup).until(None, false)?;
    out.end_word();
    Ok(out.words)
}

/// Replaces the variables of a heredoc's text, in which quotes are like any other character and `\` escapes.
///
/// # Errors
/// What is wrong with the text, as a sentence.
pub fn expand_heredoc(content: &str, lookup: Lookup<'_>) -> Result<String, String> {
    Expander::new(content, '\\', false, lookup).until(None, false).map(|out| out.text)
}

/// A text under way, whole and in words.
#[derive(Default)]
struct Out {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Out {
    /// Adds what was quoted or escaped.
    fn push_raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        for c in text.chars() {
            if c.is_whitespace() { self.end_word() } else { self.word.push(c) }
        }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

struct Expander<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    /// Whether quotes quote.
    quotes: bool,
    lookup: Lookup<'a>,
    depth: usize,
}

impl<'a> Expander<'a> {
    fn new(raw: &str, escape: char, quotes: bool, lookup: Lookup<'a>) -> Self {
        Self { chars: raw.chars().collect(), at: 0, escape, quotes, lookup, depth: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn next_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Reads to the end, or to `stop`, which is consumed. Escapes stay in a pattern, to be read with it.
    fn until(&mut self, stop: Option<char>, pattern: bool) -> Result<Out, String> {
        let mut out = Out::default();
        let mut buffer = [0; 4];
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' if self.quotes => out.push_raw(&self.single()?),
                '"' if self.quotes => out.push_raw(&self.double(pattern)?),
                '$' => out.push(&self.variable()?),
                c if c == self.escape => {
                    if pattern {
                        out.push_raw("\\");
                    }
                    // At the end of the text it escapes nothing.
                    if let Some(c) = self.next() {
                        out.push_raw(c.encode_utf8(&mut buffer));
                    }
                }
                c => out.push(c.encode_utf8(&mut buffer)),
            }
            if out.text.len() > LONGEST {
                return Err(format!("the text becomes longer than {} MiB", LONGEST >> 20));
            }
        }
        match stop {
            None => Ok(out),
            Some('/') => Err("a `${…/…` has no second `/`: write `${name/pattern/text}`".into()),
            Some(_) => Err("a `${` is never closed".into()),
        }
    }

    fn single(&mut self) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(out),
                Some(c) => out.push(c),
                None => return Err("a quote is never closed".into()),
            }
        }
    }

    fn double(&mut self, pattern: bool) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(out),
                Some('$') => out.push_str(&self.variable()?),
                // Inside double quotes only these can be escaped.
                Some(c) if c == self.escape => {
                    if pattern {
                        out.push('\\');
                    }
                    let escaped = self.peek().filter(|c| matches!(c, '"' | '$') || *c == self.escape);
                    self.at += usize::from(escaped.is_some());
                    out.push(escaped.unwrap_or(c));
                }
                Some(c) => out.push(c),
                None => return Err("a quote is never closed".into()),
            }
        }
    }

    /// Reads what follows a `$`.
    fn variable(&mut self) -> Result<String, String> {
        if !self.next_if('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        if matches!(self.peek(), Some('{' | '}' | ':')) {
            return Err("`${` must be followed by the name of a variable".into());
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("variables are nested too deeply".into());
        }
        let out = self.braces();
        self.depth -= 1;
        out
    }

    /// Reads what follows `${`.
    fn braces(&mut self) -> Result<String, String> {
        let name = self.name();
        let value = (self.lookup)(&name);
        let colon = self.next_if(':');
        let operator = self.next();
        let unknown = |operator: char| {
            let colon = if colon { ":" } else { "" };
            format!(
                "`${{{name}{colon}{operator}` is not known: use one of `:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `%` and `/`"
            )
        };
        match operator {
            None => Err("a `${` is never closed".into()),
            Some('}') if !colon => Ok(value.unwrap_or_default()),
            Some(operator @ ('-' | '+' | '?')) => {
                let word = self.until(Some('}'), false)?.text;
                // With a colon, an empty value counts as none.
                let set = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
                match operator {
                    '-' if set => Ok(value.unwrap_or_default()),
                    '-' => Ok(word),
                    '+' if set => Ok(word),
                    '+' => Ok(String::new()),
                    _ if set => Ok(value.unwrap_or_default()),
                    _ => {
                        let what = if value.is_some() { "is empty" } else { "is not set" };
                        let why = if word.is_empty() { word } else { format!(": {word}") };
                        Err(format!("the variable `{name}` {what}{why}"))
                    }
                }
            }
            Some(operator @ ('#' | '%')) if !colon => {
                let longest = self.next_if(operator);
                let pattern = Pattern::parse(&self.until(Some('}'), true)?.text)?;
                let value: Vec<char> = value.unwrap_or_default().chars().collect();
                match operator {
                    '#' => pattern.without_prefix(&value, longest),
                    _ => pattern.without_suffix(&value, longest),
                }
            }
            Some('/') if !colon => {
                let all = self.next_if('/');
                let pattern = Pattern::parse(&self.until(Some('/'), true)?.text)?;
                let text = self.until(Some('}'), true)?.text;
                let value: Vec<char> = value.unwrap_or_default().chars().collect();
                pattern.replace(&value, &text, all)
            }
            Some(operator) => Err(unknown(operator)),
        }
    }

    /// Reads a name, a number, or the sign of a special parameter; the latter are never set.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.next()),
            Some(first) => {
                let number = first.is_numeric();
                while let Some(c) = self.peek()
                    && (c.is_numeric() || !number && (c.is_alphabetic() || c == '_'))
                {
                    name.extend(self.next());
                }
            }
            None => {}
        }
        name
    }
}

/// A pattern of `${x#p}` and its like.
struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`: any text.
    Any,
    /// `?`: one character.
    One,
    Literal(char),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    // What ends a pattern is escaped to stand in it.
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(c),
                    Some(c) => {
                        return Err(format!("`\\{c}` in a pattern escapes nothing: only `*`, `?` and `\\` need it"));
                    }
                    None => return Err("a pattern ends with `\\`".into()),
                },
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Returns for each place in `value` the end of what matches from there: the furthest, or the nearest.
    fn ends(&self, value: &[char], longest: bool) -> Result<Vec<Option<usize>>, String> {
        if self.0.len().saturating_mul(value.len()) > HARDEST {
            return Err("a pattern is too long for its value".into());
        }
        let better = |a: Option<usize>, b: Option<usize>| match (a, b) {
            (Some(a), Some(b)) => Some(if longest { a.max(b) } else { a.min(b) }),
            (a, b) => a.or(b),
        };
        // From the last token to the first; the value's end is a place too.
        let mut ends: Vec<Option<usize>> = (0..=value.len()).map(Some).collect();
        for token in self.0.iter().rev() {
            match token {
                Token::Any => {
                    for i in (0..value.len()).rev() {
                        ends[i] = better(ends[i], ends[i + 1]);
                    }
                }
                Token::One | Token::Literal(_) => {
                    for i in 0..value.len() {
                        let fits = *token == Token::One || *token == Token::Literal(value[i]);
                        ends[i] = if fits { ends[i + 1] } else { None };
                    }
                    ends[value.len()] = None;
                }
            }
        }
        Ok(ends)
    }

    fn without_prefix(&self, value: &[char], longest: bool) -> Result<String, String> {
        let end = self.ends(value, longest)?[0].unwrap_or_default();
        Ok(value[end..].iter().collect())
    }

    fn without_suffix(mut self, value: &[char], longest: bool) -> Result<String, String> {
        self.0.reverse();
        let reversed: Vec<char> = value.iter().rev().copied().collect();
        let rest = self.without_prefix(&reversed, longest)?;
        Ok(rest.chars().rev().collect())
    }

    /// Replaces the first match, or all.
    fn replace(&self, value: &[char], text: &str, all: bool) -> Result<String, String> {
        let ends = self.ends(value, true)?;
        let mut out = String::new();
        let mut at = 0;
        let mut last = None;
        while at <= value.len() {
            match ends[at] {
                // Nothing is no match where one has just ended.
                Some(end) if (all || last.is_none()) && (end > at || last != Some(at)) => {
                    out.push_str(text);
                    last = Some(end);
                    if end == at {
                        out.extend(value.get(at));
                    }
                    at = end.max(at + 1);
                }
                _ => {
                    out.extend(value.get(at));
                    at += 1;
                }
            }
            if out.len() > LONGEST {
                return Err(format!("the text becomes longer than {} MiB", LONGEST >> 20));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded() {
        let lookup = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$A", "one"),
            ("${A}x", "onex"),
            ("$A$A", "oneone"),
            ("$NO", ""),
            ("${NO:-w}", "w"),
            ("${EMPTY:-w}", "w"),
            ("${EMPTY-w}", ""),
            ("${A:+w}", "w"),
            ("${NO+w}", ""),
            ("${NO:-${A}}", "one"),
            ("'$A'", "$A"),
            ("\"$A x\"", "one x"),
            ("\\$A", "$A"),
            ("\"\\$A\"", "$A"),
            ("\"a\\b\"", "a\\b"),
            ("a\\ b", "a b"),
            ("$1", ""),
            ("$", "$"),
            ("a\\", "a"),
            ("a$-", "a"),
            ("a$.", "a$."),
            ("${NO:-\"a b\"}", "a b"),
            ("${A?x}", "one"),
        ] {
            assert_eq!(expand(text, '\\', &lookup).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${", "${}", "${:x}", "${A", "${A:}", "'a", "\"a", "${NO?gone}", "${A:#x}", "${A=x}"] {
            assert!(expand(text, '\\', &lookup).is_err(), "{text}");
        }
    }

    #[test]
    fn modifiers_take_off_and_replace() {
        let lookup = |name: &str| match name {
            "A" => Some("a/b.tar.gz".to_owned()),
            "P" => Some("*.".to_owned()),
            "X" => Some("xx".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("${A#*/}", "b.tar.gz"),
            ("${A#*.}", "tar.gz"),
            ("${A##*.}", "gz"),
            ("${A%.*}", "a/b.tar"),
            ("${A%%.*}", "a/b"),
            ("${A%%*}", ""),
            ("${A#$P}", "tar.gz"),
            ("${A#x}", "a/b.tar.gz"),
            ("${A#}", "a/b.tar.gz"),
            ("${NO#x}", ""),
            ("${A/./-}", "a/b-tar.gz"),
            ("${A//./-}", "a/b-tar-gz"),
            ("${A//?/$X}", "xxxxxxxxxxxxxxxxxxxx"),
            ("${A/\\//:}", "a:b.tar.gz"),
            ("${A//\\*/}", "a/b.tar.gz"),
            ("${X//x/$1}", ""),
            ("${X//x*/y}", "y"),
            ("${X///-}", "-x-x-"),
            ("${X//'x'/\"a b\"}", "a ba b"),
            ("${X/#x/y}", "xx"),
        ] {
            assert_eq!(expand(text, '\\', &lookup).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(expand("${A/`//:}", '`', &lookup).as_deref(), Ok("a:b.tar.gz"));
        for text in
            ["${A:#x}", "${A:%x}", "${A:/x/y}", "${A/x}", "${A//x}", "${A#\\x}", "${A#x\\", "${A:=x}", "${#A}", "${A^}"]
        {
            assert!(expand(text, '\\', &lookup).is_err(), "{text}");
        }
    }

    #[test]
    fn words_split_at_blanks_that_are_not_quoted() {
        let lookup = |name: &str| (name == "A").then(|| " 80  81 ".to_owned());
        for (text, expected) in [
            ("$A", &["80", "81"][..]),
            ("x${A}y", &["x", "80", "81", "y"]),
            ("\"$A\"", &[" 80  81 "]),
            ("a\\ b c", &["a b", "c"]),
            ("${NO:-a b}", &["a", "b"]),
            ("''", &[]),
        ] {
            assert_eq!(expand_words(text, '\\', &lookup).expect("valid"), expected, "{text}");
        }
    }

    #[test]
    fn quotes_mean_nothing_in_a_heredoc() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in
            [("it's $A\n\"${A}\" '$A' \\$A \\\\\n", "it's 1\n\"1\" '1' $A \\\n"), ("${NO:-\"x\"}", "\"x\"")]
        {
            assert_eq!(expand_heredoc(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        let lookup = |_: &str| Some("x".repeat(4000));
        let nested = "${A//?/${A//?/${A}}}";
        assert!(expand(nested, '\\', &lookup).expect_err("too long").contains("MiB"));
        assert!(expand(&format!("${{A#{}}}", "*a".repeat(20_000)), '\\', &lookup).is_err());
        assert!(expand(&"${A:-".repeat(100_000), '\\', &lookup).is_err());
    }
}
