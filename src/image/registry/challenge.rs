//! `WWW-Authenticate`: what a registry asks for before it answers (RFC 9110, section 11.6.1).
//!
//! Registries in the field send several headers, several challenges in one, commas inside quotes and schemes in any
//! case. What cannot be read is skipped.
//!
//! Invariant: pure.

/// One way to prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic` …
    pub(crate) scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// Returns a parameter's value; names are in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one header's challenges.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut text = Text { rest: header };
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        text.skip(|c| c == ',' || c.is_ascii_whitespace());
        if text.rest.is_empty() {
            return found;
        }
        let word = text.take(is_token);
        if word.is_empty() {
            text.next();
            continue;
        }
        let spaced = !text.skip(|c| c.is_ascii_whitespace()).is_empty();
        match found.last_mut() {
            Some(challenge) if text.rest.starts_with('=') => {
                text.next();
                text.skip(|c| c.is_ascii_whitespace());
                challenge.params.push((word.to_ascii_lowercase(), text.value()));
            }
            _ => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                if spaced {
                    text.skip_token68();
                }
            }
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        self.take(fits)
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// Reads a token or a quoted string, with its escapes.
    fn value(&mut self) -> String {
        if !self.rest.starts_with('"') {
            // Some write a URL without quotes.
            return self.take(|c| !c.is_ascii_whitespace() && c != ',').to_owned();
        }
        self.next();
        let mut value = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => value.extend(self.next()),
                _ => value.push(c),
            }
        }
        value
    }

    /// Passes over the one opaque word that some schemes have instead of parameters, such as Negotiate's.
    fn skip_token68(&mut self) {
        let before = self.rest;
        self.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        self.take(|c| c == '=');
        let after = self.rest.trim_start();
        if !(after.is_empty() || after.starts_with(',')) {
            self.rest = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> String {
        let all = parse(header).into_iter().map(|c| {
            let params: Vec<String> = c.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}({})", c.scheme, params.join("; "))
        });
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_are_read() {
        for (header, wanted) in [
            ("", ""),
            ("Basic", "basic()"),
            ("Basic realm=\"a b\"", "basic(realm=a b)"),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
                "bearer(realm=https://auth.docker.io/token; service=registry.docker.io; scope=repository:a/b:pull,push)",
            ),
            ("BEARER Realm=\"x\" , SERVICE = y", "bearer(realm=x; service=y)"),
            ("Basic realm=\"x\", Bearer realm=\"y\",service=\"z\"", "basic(realm=x) bearer(realm=y; service=z)"),
            ("Negotiate, Bearer realm=y", "negotiate() bearer(realm=y)"),
            ("Negotiate YWJj==, Basic realm=\"x\"", "negotiate() basic(realm=x)"),
            (
                "Bearer realm=https://r.example/token?a=b,service=s",
                "bearer(realm=https://r.example/token?a=b; service=s)",
            ),
            (r#"Digest qop="auth, auth-int", nonce="a\"b\\c""#, r#"digest(qop=auth, auth-int; nonce=a"b\c)"#),
            ("Bearer realm=\"unfinished", "bearer(realm=unfinished)"),
            (",, ;= Bearer realm=\"x\"", "bearer(realm=x)"),
            ("realm=\"x\"", "realm() x()"),
        ] {
            assert_eq!(shown(header), wanted, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(
            scheme in "[A-Za-z][a-z]{0,8}",
            params in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 1..4),
            also in "(|, Basic realm=\"other\")",
        ) {
            let quoted = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"");
            let list: Vec<String> = params.iter().map(|(k, v)| format!("{k}=\"{}\"", quoted(v))).collect();
            let read = parse(&format!("{scheme} {}{also}", list.join(", ")));
            prop_assert_eq!(&read[0].scheme, &scheme.to_ascii_lowercase());
            prop_assert_eq!(&read[0].params, &params);
            prop_assert_eq!(read.len(), if also.is_empty() { 1 } else { 2 });
        }
    }
}
