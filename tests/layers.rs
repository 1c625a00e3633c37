//! The rules between modules that the compiler does not know: which module may name which, and where an outside crate
//! has its home. A change of a rule is a change of a table here, so that it is seen in review.
//!
//! The sources are read as tokens, without comments and literals; modules that do not exist yet are no error.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Lowest first; a module may name only modules listed above it, and of those only the ones it lists.
const LAYERS: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("fault", &[]),
    ("diag", &[]),
    ("sys", &["fault"]),
    ("event", &["name"]),
    ("paths", &["name"]),
    ("dns", &["diag"]),
    ("state", &["name", "fault", "diag", "sys", "paths"]),
    ("compose", &["name", "diag"]),
    ("network", &["name", "fault", "diag", "sys", "dns"]),
    ("volume", &["name", "fault", "diag", "sys"]),
    ("runtime", &["name", "diag", "sys"]),
    ("image", &["name", "fault", "diag", "event", "paths", "sys", "dns"]),
    ("supervisor", &["name", "fault", "diag", "paths", "sys", "state", "network", "runtime"]),
    ("build", &["name", "fault", "diag", "event", "paths", "image", "network", "runtime", "supervisor"]),
    (
        "engine",
        &[
            "name",
            "fault",
            "diag",
            "sys",
            "event",
            "paths",
            "dns",
            "state",
            "compose",
            "network",
            "volume",
            "runtime",
            "image",
            "supervisor",
            "build",
        ],
    ),
    (
        "api",
        &[
            "name", "diag", "sys", "event", "paths", "dns", "state", "network", "volume", "runtime", "image", "build",
            "engine",
        ],
    ),
];

/// The binary: it sees the library from outside, as `hoist::`, and its own files as `crate::`.
const BINARY: &[&str] = &["main.rs", "cli/"];

/// Outside crates and the only places below `src/` that may name them; a path with a slash at its end is a folder.
const HOMES: &[(&str, &[&str])] = &[
    ("granit_parser", &["compose/yaml.rs"]),
    ("annotate_snippets", &["diag.rs"]),
    ("petgraph", &["engine/graph.rs"]),
    ("simple_dns", &["dns/message.rs"]),
    ("netlink_sys", &["network/"]),
    ("iptables", &["network/firewall/iptables.rs"]),
    ("oci_spec", &["runtime/spec.rs", "runtime/launch.rs"]),
    ("tar", &["image/", "build/"]),
    ("flate2", &["image/", "build/"]),
    ("ruzstd", &["image/"]),
    ("bzip2", &["image/"]),
    ("lzma_rust2", &["image/"]),
    ("hyper", &["image/registry/http.rs", "image/registry/payload.rs"]),
    ("hyper_util", &["image/registry/http.rs"]),
    ("http_body_util", &["image/registry/http.rs", "image/registry/payload.rs"]),
    ("tokio_rustls", &["image/registry/http.rs"]),
    ("rustls", &["image/registry/http.rs"]),
    ("rustls_native_certs", &["image/registry/http.rs"]),
    ("bytes", &["image/"]),
    ("syscalls", &["runtime/", "sys/"]),
    ("anyhow", BINARY),
    ("clap", BINARY),
    ("anstream", &["cli/"]),
    ("tabwriter", &["cli/table.rs"]),
    ("clap_complete", &["cli/completion.rs"]),
    ("clap_mangen", &["cli/man.rs"]),
    ("regex_lite", &["cli/ls.rs"]),
    ("tracing_subscriber", BINARY),
];

/// Outside crates and the places that may never name them: what clones has one thread, and rules are plain functions.
const BANNED: &[(&str, &[&str])] =
    &[("tokio", &["compose/", "sys/", "runtime/", "network/", "supervisor/"]), ("serde_yaml", &[""])];

/// Macros that print, which only one file may use.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln"];
const PRINTER: &[&str] = &["cli/output.rs", "testing.rs"];

/// What unit tests share: no layer, and no part of the library.
const TESTING: &str = "testing";

const UNSAFE: &[&str] = &["sys/"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Returns the identifiers and punctuation of a source, `::` as one token, without comments, literals and lifetimes.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let (mut found, mut i, mut line) = (Vec::new(), 0, 1);
    while i < bytes.len() {
        let start = i;
        match at(i) {
            b'/' if at(i + 1) == b'/' => {
                while i < bytes.len() && at(i) != b'\n' {
                    i += 1;
                }
            }
            b'/' if at(i + 1) == b'*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
                        (b'*', b'/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= bytes.len() {
                        break;
                    }
                }
            }
            b'"' => i = end_of_string(bytes, i),
            // 'x' and '\n' are literals; 'a without a quote behind it is a lifetime.
            b'\'' if at(i + 1) == b'\\' => {
                i += 3;
                while i < bytes.len() && at(i) != b'\'' {
                    i += 1;
                }
                i += 1;
            }
            b'\'' => {
                let character = source[i + 1..].chars().next().map_or(1, char::len_utf8);
                i += 1;
                if at(i + character) == b'\'' {
                    i += character + 1;
                } else {
                    while is_word(at(i)) {
                        i += 1;
                    }
                }
            }
            b if is_word(b) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word = &source[start..i];
                let hashes = bytes[i..].iter().take_while(|b| **b == b'#').count();
                if matches!(word, "r" | "br" | "cr") && at(i + hashes) == b'"' {
                    let end = format!("\"{}", "#".repeat(hashes));
                    let body = i + hashes + 1;
                    i = source[body..].find(&end).map_or(bytes.len(), |n| body + n + end.len());
                } else if matches!(word, "b" | "c") && at(i) == b'"' {
                    i = end_of_string(bytes, i);
                } else {
                    found.push(Token { line, text: word });
                }
            }
            b':' if at(i + 1) == b':' => {
                i += 2;
                found.push(Token { line, text: "::" });
            }
            b if b.is_ascii_whitespace() => i += 1,
            _ => {
                i += 1;
                found.push(Token { line, text: &source[start..i] });
            }
        }
        i = i.min(bytes.len());
        line += bytes[start..i].iter().filter(|b| **b == b'\n').count();
    }
    found
}

/// Returns the index behind the string literal whose opening quote is at `i`.
fn end_of_string(bytes: &[u8], mut i: usize) -> usize {
    i += 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// Whether `file`, relative to `src/`, is one of `places`.
fn is_in(file: &str, places: &[&str]) -> bool {
    // `sys/` stands for `sys.rs` too, as a module may begin as one file.
    places.iter().any(|place| match place.strip_suffix('/') {
        Some(folder) => file.starts_with(place) || file.strip_suffix(".rs") == Some(folder),
        None => place.is_empty() || file == *place,
    })
}

fn allowed(module: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed)
}

/// Returns what `source` does against the rules, one `file:line: sentence` each. `file` is relative to `src/`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let binary = is_in(file, BINARY);
    let module = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let top_of_module = !binary && (!file.contains('/') || file == format!("{module}/mod.rs"));
    let mut found = Vec::new();
    if !binary && file != "lib.rs" && module != TESTING && allowed(module).is_none() {
        found.push(format!("src/{file}:1: module `{module}` is not in the table of layers"));
    }
    for (i, token) in tokens.iter().enumerate() {
        let mut no = |sentence: String| found.push(format!("src/{file}:{}: {sentence}", token.line));
        let previous = if i == 0 { "" } else { text(i - 1) };
        let next = text(i + 1);
        let named = text(i + 2);
        // A crate is named where a path begins with it, or by `use` and `extern crate`.
        let starts_path = next == "::" && previous != "::" || matches!(previous, "use" | "extern") && next != "::";
        match token.text {
            "crate" if !binary && previous == "use" && next == "as" => {
                no("the crate under another name hides which module is named".into());
            }
            "crate" if !binary && next == "::" => match named {
                "{" | "*" => no(format!("`crate::{named}` hides which module is named: one `use` a module")),
                _ if named == module || named == TESTING || file == "lib.rs" => {}
                _ => match allowed(module) {
                    None => {}
                    Some(_) if allowed(named).is_none() => {
                        no(format!("`crate::{named}` is no module of the table of layers"));
                    }
                    Some(list) if !list.contains(&named) => no(format!("`{module}` may not name `{named}`")),
                    Some(_) => {}
                },
            },
            "hoist" if !binary && starts_path => no("the library names itself `crate`".into()),
            "super" if !binary && next == "::" && named == "super" => {
                no("`super::super` hides which module is named: write `crate::`".into());
            }
            "super" if top_of_module && next == "::" && named != module && allowed(named).is_some() => {
                no(format!("`super::{named}` goes around the layers: write `crate::{named}`"));
            }
            "unsafe" if !is_in(file, UNSAFE) => no("`unsafe` belongs in `src/sys/`".into()),
            macro_name if PRINTING.contains(&macro_name) && next == "!" && !is_in(file, PRINTER) => {
                no(format!("`{macro_name}!` belongs in `src/{}`; send an event or a `tracing` line", PRINTER[0]));
            }
            name if starts_path => {
                if let Some((_, homes)) = HOMES.iter().find(|(c, homes)| *c == name && !is_in(file, homes)) {
                    let homes = homes.iter().map(|home| format!("`src/{home}`")).collect::<Vec<_>>().join(", ");
                    no(format!("crate `{name}` is at home in {homes} (a module of that name is `self::{name}`)"));
                }
                if BANNED.iter().any(|(c, places)| *c == name && is_in(file, places)) {
                    no(format!("crate `{name}` may not be named here"));
                }
            }
            _ => {}
        }
    }
    found
}

/// Returns the modules that the doc comment of `lib.rs` lists, in order.
fn documented(lib: &str) -> Vec<&str> {
    let docs = lib.lines().take_while(|line| line.starts_with("//!"));
    docs.flat_map(|line| line.split("[`").skip(1)).filter_map(|link| link.split("`]").next()).collect()
}

/// Returns the modules that `lib.rs` declares at its top level.
fn declared(lib: &str) -> Vec<&str> {
    let tokens = tokens(lib);
    let mut depth = 0;
    let mut modules = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            "mod" if depth == 0 => modules.push(pair[1].text),
            _ => {}
        }
    }
    modules
}

/// Reads all Rust files below `dir`: path relative to `src/`, text.
fn sources(dir: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            sources(&path, &format!("{prefix}{name}/"), into);
        } else if name.ends_with(".rs") {
            into.insert(format!("{prefix}{name}"), fs::read_to_string(&path).unwrap());
        }
    }
}

fn the_sources() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    all
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let all = the_sources();
    assert!(all.contains_key("lib.rs") && all.contains_key("main.rs"), "the sources were not found");
    let found: Vec<String> = all.iter().flat_map(|(file, text)| violations(file, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_map_in_lib_rs_lists_the_layers_in_their_order() {
    let all = the_sources();
    let lib = &all["lib.rs"];
    let order: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let map = documented(lib);
    let expected: Vec<&str> = order.iter().copied().filter(|name| map.contains(name)).collect();
    assert_eq!(map, expected, "the doc comment of src/lib.rs does not follow the table of layers");
    for module in declared(lib).into_iter().filter(|m| *m != TESTING) {
        assert!(map.contains(&module), "src/lib.rs declares `{module}` and does not list it in its doc comment");
    }
}

#[test]
fn the_table_has_no_circles() {
    for (i, (module, allowed)) in LAYERS.iter().enumerate() {
        for name in *allowed {
            let lower = LAYERS[..i].iter().any(|(other, _)| other == name);
            assert!(lower, "`{module}` lists `{name}`, which does not lie above it in the table");
        }
    }
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let cases: &[(&str, &str, &str)] = &[
        ("network/mod.rs", "\nuse crate::state::Record;", "src/network/mod.rs:2: `network` may not name `state`"),
        ("name.rs", "fn f() -> crate::diag::Span {}", "src/name.rs:1: `name` may not name `diag`"),
        ("volume/mod.rs", "use super::image;", "src/volume/mod.rs:1: `super::image` goes around"),
        ("volume.rs", "use super::image::Store;", "src/volume.rs:1: `super::image` goes around"),
        ("state/mod.rs", "use crate::{name, diag};", "`crate::{` hides"),
        ("state/mod.rs", "use crate::*;", "`crate::*` hides"),
        ("state/mod.rs", "use crate as c;", "under another name"),
        ("state/record.rs", "use super::super::name;", "`super::super` hides"),
        ("state/record.rs", "use crate::nonsense::X;", "`crate::nonsense` is no module"),
        ("state/record.rs", "use hoist::name::X;", "names itself `crate`"),
        ("util/mod.rs", "", "src/util/mod.rs:1: module `util` is not in the table"),
        ("compose/mod.rs", "async fn f() { tokio::spawn(x) }", "crate `tokio` may not be named here"),
        ("supervisor/worker.rs", "use tokio;", "crate `tokio` may not be named here"),
        ("network/link.rs", "#[tokio::test] fn f() {}", "crate `tokio` may not be named here"),
        ("engine/mod.rs", "use clap::Parser;", "crate `clap` is at home in `src/main.rs`, `src/cli/`"),
        ("compose/merge.rs", "granit_parser::Event", "at home in `src/compose/yaml.rs`"),
        ("network/firewall/mod.rs", "use iptables as i;", "at home in `src/network/firewall/iptables.rs`"),
        ("name.rs", "unsafe { f() }", "`unsafe` belongs in `src/sys/`"),
        ("main.rs", "fn f() { unsafe { g() } }", "`unsafe` belongs in `src/sys/`"),
        ("engine/up.rs", "println!(\"x\")", "`println!` belongs in `src/cli/output.rs`"),
        ("cli/up.rs", "eprint!(\"x\")", "`eprint!` belongs in `src/cli/output.rs`"),
        ("name.rs", "let s = \"\\\"\"; let c = '\"'; /* /* */ */\nunsafe {}", "src/name.rs:2: `unsafe`"),
        ("name.rs", "fn f<'a>(x: &'a str) { unsafe {} }", "`unsafe` belongs"),
    ];
    for (file, source, expected) in cases {
        let found = violations(file, source);
        assert_eq!(found.len(), 1, "{file}: {source}\n{found:?}");
        assert!(found[0].contains(expected), "{file}: {source}\n{found:?}\nexpected: {expected}");
    }
}

#[test]
fn the_checker_lets_pass_what_is_allowed() {
    let cases: &[(&str, &str)] = &[
        ("network/ipam.rs", "use super::link; use super::volume;"),
        ("name.rs", "mod tests { use super::*; }"),
        ("name.rs", "// crate::engine, unsafe\n/* unsafe /* crate::engine */ println! */"),
        ("name.rs", "let a = \"crate::engine \\\" unsafe\"; let b = r#\"unsafe \" println!\"#; let c = b\"unsafe\";"),
        ("name.rs", "//! [`crate::engine`]\n#![forbid(unsafe_code)]"),
        ("network/firewall/mod.rs", "mod iptables; self::iptables::rules()"),
        ("engine/mod.rs", "tokio::spawn(x); let tar = 1; image.tar; crate::compose::load()"),
        ("sys/process.rs", "unsafe { libc::getpid() }"),
        ("cli/output.rs", "println!(\"x\"); use clap::Args; use crate::cli::up; use hoist::engine;"),
        ("main.rs", "use hoist::{diag, name}; mod cli; use crate::{cli};"),
        ("lib.rs", "pub mod name; pub mod engine; use crate::engine;"),
    ];
    for (file, source) in cases {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn the_map_and_the_declarations_are_read() {
    let lib = "//! Lowest first: [`name`], [`diag`],\n//! [`sys`].\n\npub mod name;\npub mod compose { pub mod model; }\nmod x;";
    assert_eq!(documented(lib), ["name", "diag", "sys"]);
    assert_eq!(declared(lib), ["name", "compose", "x"]);
}
