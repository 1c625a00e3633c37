//! What the unit tests of all modules share: how a test says that it cannot run here.
//!
//! `HOIST_REQUIRE_ROOT=1`, which `./dev test` sets, turns the lack of root into a failure.
#![expect(clippy::print_stderr, reason = "a test that was skipped must be seen")]

/// Says that a test is skipped because something outside the project is not there.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Says what a test has measured or counted.
pub(crate) fn say(text: &str) {
    eprint!("{text}");
}

/// Says that a test is skipped because this process may not do what it needs.
///
/// # Panics
/// When root is required, as then it should have been allowed.
pub(crate) fn skip_unprivileged(why: &str) {
    assert!(std::env::var_os("HOIST_REQUIRE_ROOT").is_none_or(|v| v != "1"), "root is required, and: {why}");
    skip(why);
}

/// Returns whether this process is root; says that the test is skipped if not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip_unprivileged("needs root");
    }
    root
}

/// Returns the string literals of a piece of Go, in their order.
pub(crate) fn go_strings(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut chars = text.chars();
    while let Some(open) = chars.next() {
        if !matches!(open, '"' | '`') {
            continue;
        }
        let mut literal = String::new();
        loop {
            match chars.next().expect("a literal is closed") {
                c if c == open => break,
                '\\' if open == '"' => literal.push(match chars.next().expect("something is escaped") {
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                }),
                c => literal.push(c),
            }
        }
        all.push(literal);
    }
    all
}
