//! The keys that leave a terminal and let its program go on: Docker's grammar, and the search for them in what is typed.
//!
//! Invariant: pure.

/// Docker's default: ctrl-p, ctrl-q.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Keys that mean to detach, as the bytes that a terminal sends for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

/// A text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid detach keys ({keys}): `{key}` is no key")]
pub struct Error {
    keys: String,
    key: String,
}

impl Error {
    /// Returns what is allowed.
    #[must_use]
    pub fn help(&self) -> &'static str {
        "a key is one character, or ctrl- and one of: a to z, @ [ \\ ] ^ _; several are separated by commas"
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self(DEFAULT.to_vec())
    }
}

impl Keys {
    /// Parses keys as Docker's `--detach-keys` takes them, such as `ctrl-p,ctrl-q` or `a`; an empty text is the default.
    ///
    /// # Errors
    /// When a key is unknown.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([byte], _) => Some(*byte),
            (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
            (_, Some([b'@'])) => Some(0),
            (_, Some([mark @ b'['..=b'_'])) => Some(mark - b'[' + 27),
            (b"DEL", None) => Some(127),
            _ => None,
        };
        let error = |key: &str| Error { keys: text.to_owned(), key: key.to_owned() };
        text.split(',').map(|name| key(name).ok_or_else(|| error(name))).collect::<Result<_, _>>().map(Self)
    }
}

/// Returns the keys that Docker's `config.json` names, as a text for [`Keys::parse`]; empty when it names none.
///
/// # Errors
/// Where the file breaks the form of such a file.
pub fn of_docker_config(json: &str) -> Result<String, String> {
    /// The file, as far as it is about us.
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default, rename = "detachKeys")]
        keys: String,
    }
    let config: Result<Config, _> = serde_json::from_str(json);
    config.map(|c| c.keys).map_err(|e| format!("line {}, column {}: not Docker's form", e.line(), e.column()))
}

/// What is typed, on its way to the program.
#[derive(Debug)]
pub struct Filter {
    keys: Vec<u8>,
    /// How many of the keys have been typed in a row and are held back.
    held: usize,
}

/// What comes out of the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filtered {
    /// What is for the program.
    pub bytes: Vec<u8>,
    /// The keys have been typed: what comes after them is for nobody.
    pub detach: bool,
}

impl Filter {
    /// Returns a filter that looks for these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys: keys.0, held: 0 }
    }

    /// Takes what was typed next. Keys that may be the beginning of the sequence are held back until it is clear.
    pub fn take(&mut self, typed: &[u8]) -> Filtered {
        let mut bytes = Vec::with_capacity(typed.len() + self.held);
        for byte in typed {
            // The longest beginning of the sequence that what was held and this byte end in stays held.
            let mut candidate: Vec<u8> = self.keys[..self.held].to_vec();
            candidate.push(*byte);
            while !self.keys.starts_with(&candidate) {
                bytes.push(candidate.remove(0));
            }
            self.held = candidate.len();
            if self.held == self.keys.len() {
                self.held = 0;
                return Filtered { bytes, detach: true };
            }
        }
        Filtered { bytes, detach: false }
    }

    /// Returns what is held back, at the end of what is typed.
    pub fn finish(&mut self) -> Vec<u8> {
        self.keys[..std::mem::take(&mut self.held)].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dockers_configuration_names_keys() {
        for (json, keys) in [
            (r#"{"detachKeys": "ctrl-a,b"}"#, Some("ctrl-a,b")),
            (r#"{"auths": {"x": {}}, "detachKeys": ""}"#, Some("")),
            ("{}", Some("")),
            ("{", None),
            ("[]x", None),
            (r#"{"detachKeys": 7}"#, None),
        ] {
            assert_eq!(of_docker_config(json).ok().as_deref(), keys, "{json}");
        }
    }

    #[test]
    fn keys_have_dockers_names() {
        for (text, bytes) in [
            ("", Some(&[16, 17][..])),
            ("a", Some(b"a")),
            ("ctrl-p,ctrl-q", Some(&[16, 17])),
            ("ctrl-@", Some(&[0])),
            ("ctrl-a,b,ctrl-z", Some(&[1, b'b', 26])),
            ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", Some(&[27, 28, 29, 30, 31])),
            ("DEL", Some(&[127])),
            (" ", Some(b" ")),
            ("ctrl-A", None),
            ("ctrl-", None),
            ("ctrl-ab", None),
            ("ctrl-`", None),
            ("ab", None),
            ("a,", None),
            ("ä", None),
        ] {
            assert_eq!(Keys::parse(text).ok().map(|k| k.0).as_deref(), bytes, "{text}");
        }
        let error = Keys::parse("ctrl-p,nope").expect_err("unknown");
        assert_eq!(error.to_string(), "invalid detach keys (ctrl-p,nope): `nope` is no key");
    }

    /// What goes through when it is typed in these pieces, and whether it detached.
    fn through(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = Filter::new(Keys(keys.to_vec()));
        let mut all = Vec::new();
        for piece in pieces {
            let Filtered { bytes, detach } = filter.take(piece);
            all.extend(bytes);
            if detach {
                return (all, true);
            }
        }
        all.extend(filter.finish());
        (all, false)
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        for (keys, pieces, passed, detach) in [
            ("pq", &["apqb"][..], "a", true),
            ("pq", &["ap", "qb"], "a", true),
            ("pq", &["ap", "b"], "apb", false),
            ("pq", &["p"], "p", false),
            ("pq", &["pp", "q"], "p", true), // the first was not meant
            ("aab", &["aaab"], "a", true),
            ("abac", &["ababac"], "ab", true),
            ("x", &["yx"], "y", true),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|p| p.as_bytes()).collect();
            let (bytes, detached) = through(keys.as_bytes(), &pieces);
            assert_eq!((String::from_utf8_lossy(&bytes).as_ref(), detached), (passed, detach), "{keys} {pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_goes_through_unchanged_up_to_the_sequence_however_it_is_cut(
            keys in proptest::collection::vec(0_u8..3, 1..5),
            stream in proptest::collection::vec(0_u8..4, 0..40),
            cuts in proptest::collection::vec(0_usize..40, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let found = stream.windows(keys.len()).position(|window| window == keys);
            let expected = found.map_or((stream.clone(), false), |at| (stream[..at].to_vec(), true));
            prop_assert_eq!(through(&keys, &pieces), expected);
        }
    }
}
