//! `command` and `entrypoint` as text: words, not a shell.
//!
//! The rules are those of docker compose: blanks separate, quotes and backslashes protect, nothing is expanded, and an
//! unquoted operator of a shell ends the command. The last rule surprises, so the caller is told what was dropped.

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// The words.
    pub(crate) words: Vec<String>,
    /// What an operator cut off, the operator included.
    pub(crate) dropped: Option<String>,
}

/// Splits `text` into words.
///
/// # Errors
/// A sentence, when a quote or a parenthesis is left open or a backslash stands last.
pub(crate) fn split(text: &str) -> Result<Words, &'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut started = false;
    // Within `…`: until the same character. Within $(…): until the parenthesis.
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            word.push(c);
            started = true;
            escaped = false;
            continue;
        }
        match (c, quote) {
            ('\\', Some('\'')) => word.push(c),
            ('\\', _) => escaped = true,
            (' ' | '\t' | '\r' | '\n', None) => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                started = true;
            }
            ('"' | '\'', Some(open)) if open == c => quote = None,
            ('`', None) => {
                quote = Some('`');
                word.push(c);
                started = true;
            }
            ('`', Some('`')) => {
                quote = None;
                word.push(c);
            }
            ('(', None) if word.ends_with('$') => {
                quote = Some(')');
                word.push(c);
            }
            ('(' | ')', None) => return Err("a parenthesis must be quoted"),
            (')', Some(')')) => {
                quote = None;
                word.push(c);
            }
            (';' | '&' | '|' | '<' | '>', None) => {
                if started {
                    words.push(word);
                }
                return Ok(Words { words, dropped: Some(text[at..].to_owned()) });
            }
            _ => {
                word.push(c);
                started = true;
            }
        }
    }
    if escaped {
        return Err("a backslash stands last");
    }
    match quote {
        Some(')') => return Err("a parenthesis is never closed"),
        Some(_) => return Err("a quote is never closed"),
        None => {}
    }
    if started {
        words.push(word);
    }
    Ok(Words { words, dropped: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_docker_compose_does() {
        for (text, words) in [
            ("echo \"hello world\" 'single $x' a\\ b", vec!["echo", "hello world", "single $x", "a b"]),
            ("sh -c \"exec x\"", vec!["sh", "-c", "exec x"]),
            ("  a\n b\t", vec!["a", "b"]),
            ("a # b", vec!["a", "#", "b"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("--x='a b'c", vec!["--x=a bc"]),
            ("'a\\b' \"a\\\"b\"", vec!["a\\b", "a\"b"]),
            ("echo $(id -u)", vec!["echo", "$(id -u)"]),
            ("", vec![]),
        ] {
            let split = split(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(split.words, words, "{text}");
            assert_eq!(split.dropped, None);
        }
    }

    #[test]
    fn an_operator_ends_the_command_and_is_reported() {
        let split = split("a && b | c > d; e").expect("valid");
        assert_eq!(split.words, ["a"]);
        assert_eq!(split.dropped.as_deref(), Some("&& b | c > d; e"));
    }

    #[test]
    fn open_ends_are_refused() {
        for text in ["echo \"open", "echo 'open", "a\\", "(a)", "$(a", "`a"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
