//! What fuzz targets (`fuzz/`) may call of the parsers, and what must hold for any text.
//!
//! Invariant: a function returns, in bounded time and memory, or panics because something does not hold.

use super::dotenv::Found;
use super::{Env, Request, dotenv, envfile, interpolate, scalar, short};

fn variables() -> Env {
    let pairs =
        [("A", "a"), ("EMPTY", ""), ("N", "80"), ("Y", "yes"), ("D", "$A ${"), ("HOME", "/root"), ("LONG", "x")];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.repeat(if name == "LONG" { 4000 } else { 1 })))
        .collect()
}

/// Loads a whole file, and draws what there is to say about it.
pub fn load(text: &str) {
    let request = Request {
        files: vec!["-".into()],
        project_name: Some("p".into()),
        cwd: "/nonexistent/p".into(),
        env: variables(),
        stdin: Some(text.to_owned()),
        names_only: true,
        ..Request::default()
    };
    match super::load(&request) {
        Ok(loaded) => {
            let model = super::Question::Model(super::Format::Yaml);
            assert!(super::answer(&request, &model).is_ok(), "what can be brought up can be printed");
            for warning in &loaded.warnings {
                let _ = crate::diag::render(warning, &loaded.sources, false);
            }
        }
        Err(report) => {
            assert!(!report.diagnostics.is_empty(), "a failure without a reason");
            let _ = report.render(false);
        }
    }
}

/// Replaces the variables of a value; one in which every dollar sign is doubled gives what it was.
pub fn interpolate(text: &str) {
    let env = variables();
    let _ = interpolate::expand(text, &env);
    let doubled = text.replace('$', "$$");
    assert_eq!(interpolate::expand(&doubled, &env).map(|(value, _)| value).as_deref(), Ok(text));
}

/// Reads a file of variables in both formats.
pub fn dotenv(text: &str) {
    let env = variables();
    let mut found = Found::new();
    let _ = dotenv::parse(0, text, &env, &mut found, &mut Vec::new());
    for (name, assigned) in &found {
        assert!(!name.is_empty(), "a variable without a name");
        let at = text.get(assigned.at.lo as usize..assigned.at.hi as usize);
        assert_eq!(at, Some(name.as_str()), "a variable's place");
    }
    let mut found = Found::new();
    let _ = envfile::raw(0, text, &env, &mut found);
    for (name, assigned) in &found {
        assert_eq!(
            text.get(assigned.at.lo as usize..assigned.at.hi as usize),
            Some(name.as_str()),
            "a variable's place"
        );
    }
}

/// Reads a short form as everything that it could be.
pub fn short(text: &str) {
    let _ = short::ports::parse(text);
    let _ = short::mounts::parse(text);
    let _ = short::command::split(text);
    let _ = short::units::duration(text);
    let _ = short::units::bytes(text);
    let _ = scalar::resolve(text);
}
