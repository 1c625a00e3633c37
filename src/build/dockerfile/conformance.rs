//! Compares what is read with what buildkit's own tests say (`docs/conformance.md`).
//!
//! `HOIST_CORPUS_BUILDKIT` is the directory of a buildkit source tree; without it these tests are skipped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::build::dockerfile::instructions::{Parser, Takes};
use crate::build::dockerfile::lines::{self, Line};
use crate::build::dockerfile::words::{Json, json, split_flags};
use crate::build::dockerfile::{blank, expand, expand_words, parse};
use crate::testing::{go_strings, say, skip};

/// Returns a directory of buildkit's Dockerfile frontend; says that the test is skipped if there is none.
fn corpus(below: &str) -> Option<PathBuf> {
    let Some(tree) = std::env::var_os("HOIST_CORPUS_BUILDKIT") else {
        skip("HOIST_CORPUS_BUILDKIT is not set");
        return None;
    };
    Some(PathBuf::from(tree).join("frontend/dockerfile").join(below))
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns the names in a directory, sorted.
fn names(dir: &PathBuf) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<String> =
        all.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Counts, and fails unless exactly what is `expected` to differ does.
struct Tally {
    corpus: &'static str,
    total: usize,
    differing: Vec<String>,
}

impl Tally {
    fn new(corpus: &'static str) -> Self {
        Self { corpus, total: 0, differing: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, same: bool) {
        self.total += 1;
        if !same {
            self.differing.push(name.into());
        }
    }

    fn finish(self, expected: &[&str]) {
        assert!(self.total > 0, "{}: nothing was compared", self.corpus);
        say(&format!("{}: {} of {}\n", self.corpus, self.total - self.differing.len(), self.total));
        assert_eq!(self.differing, expected, "{}", self.corpus);
    }
}

/// Quotes as Go's `%q` does.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Draws an instruction as buildkit draws its tree.
fn dump(parser: &mut Parser, line: &Line, lo: usize) -> String {
    let lo = lo + (line.text[lo..].len() - line.text[lo..].trim_start().len());
    let end = line.text[lo..].find(blank).map_or(line.text.len(), |end| lo + end);
    let keyword = line.text[lo..end].to_ascii_lowercase();
    let (flags, rest) = split_flags(&line.text[end..], parser.escape);
    let rest = end + rest;
    let argument = parser.piece(line, rest, line.text.len()).raw;
    let words = |parser: &mut Parser| parser.words(line, rest).into_iter().map(|word| word.raw).collect::<Vec<_>>();
    let maybe_json = |text: &str| match json(text) {
        Json::Strings(strings) => strings,
        _ if text.is_empty() => Vec::new(),
        _ => vec![text.to_owned()],
    };
    let arguments = match keyword.as_str() {
        "add" | "copy" | "volume" => match json(&argument) {
            Json::Strings(strings) => strings,
            _ => words(parser),
        },
        "arg" | "expose" | "from" => words(parser),
        "cmd" | "entrypoint" | "run" | "shell" => maybe_json(&argument),
        "healthcheck" => {
            let (kind, command) = argument.split_once(blank).unwrap_or((&argument, ""));
            let mut all: Vec<String> = (!kind.is_empty()).then(|| kind.to_owned()).into_iter().collect();
            all.extend(maybe_json(command.trim()));
            all
        }
        "env" | "label" => {
            let all = words(parser);
            match argument.split_once(blank) {
                Some((key, value)) if !all[0].contains('=') => {
                    vec![key.to_owned(), value.trim().to_owned(), String::new()]
                }
                _ => all
                    .iter()
                    .filter_map(|word| word.split_once('='))
                    .flat_map(|(key, value)| [key.to_owned(), value.to_owned(), "=".to_owned()])
                    .collect(),
            }
        }
        "maintainer" | "stopsignal" | "user" | "workdir" => vec![argument],
        "onbuild" => return format!("(onbuild {})", dump(parser, line, rest)),
        _ => vec![String::new()],
    };
    let flags: Vec<String> = flags.iter().map(|(flag, _)| quote(flag)).collect();
    let flags = if flags.is_empty() { String::new() } else { format!(" [{}]", flags.join(" ")) };
    let arguments: String = arguments.iter().map(|argument| format!(" {}", quote(argument))).collect();
    format!("({keyword}{flags}{arguments})")
}

#[test]
fn the_lexical_tree_is_buildkit_s() {
    let Some(dir) = corpus("parser/testfiles") else { return };
    let mut tally = Tally::new("parser/testfiles");
    for name in names(&dir) {
        let text = read(dir.join(&name).join("Dockerfile"));
        let lines = lines::read(&text, 0);
        let mut parser = Parser::new(0, lines.escape, Takes::All, lines.errors);
        let tree: Vec<String> = lines.all.iter().map(|line| dump(&mut parser, line, 0)).collect();
        let expected = read(dir.join(&name).join("result"));
        let same = tree.join("\n") + "\n" == expected;
        if !same {
            say(&format!("{name}: {:?}\n{}\n--\n{expected}\n", parser.errors, tree.join("\n")));
        }
        tally.add(name, same);
    }
    // A quote that is never closed: here the rest of the line is in it, and it is refused.
    tally.finish(&["escapes"]);
}

#[test]
fn what_buildkit_reads_is_read() {
    let Some(dir) = corpus("parser/testfiles") else { return };
    let mut tally = Tally::new("parser/testfiles, as instructions");
    for name in names(&dir) {
        let text = read(dir.join(&name).join("Dockerfile"));
        let begins = lines::read(&text, 0).all.iter().any(|line| line.text.to_ascii_lowercase().starts_with("from "));
        let parsed = parse(&if begins { text } else { format!("FROM x\n{text}") }, 0);
        if let Err(errors) = &parsed {
            say(&format!("{name}: {}\n", errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("; ")));
        }
        tally.add(name, parsed.is_ok());
    }
    // A quote that is never closed, unknown flags, HEALTHCHECK without a command: buildkit refuses them after its parser.
    tally.finish(&["env", "escapes", "flags", "health"]);
}

#[test]
fn what_buildkit_refuses_is_refused() {
    let Some(dir) = corpus("parser/testfiles-negative") else { return };
    let mut tally = Tally::new("parser/testfiles-negative");
    for name in names(&dir) {
        let refused = parse(&read(dir.join(&name).join("Dockerfile")), 0).is_err();
        tally.add(name, refused);
    }
    tally.finish(&[]);
}

#[test]
fn instructions_stand_at_buildkit_s_lines() {
    let Some(file) = corpus("parser/testfile-line/Dockerfile") else { return };
    let text = read(file);
    let parsed = parse(&text, 0).expect("valid");
    let line = |at: u32| text[..at as usize].matches('\n').count() + 1;
    let stage = &parsed.stages[0];
    let spans = [stage.span].into_iter().chain(stage.instructions.iter().map(|instruction| instruction.span));
    let lines: Vec<_> = spans.map(|span| (line(span.lo), line(span.hi))).collect();
    let mut tally = Tally::new("parser/testfile-line");
    tally.add("testfile-line", lines == [(5, 5), (11, 12), (17, 31)]);
    tally.finish(&[]);
}

#[test]
fn words_are_expanded_as_in_buildkit() {
    let Some(file) = corpus("shell/envVarTest") else { return };
    let mut tally = Tally::new("shell/envVarTest");
    let value = |name: &str| {
        let known = [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    for line in read(file).lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [platform, source, expected] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        if platform == "W" {
            continue; // it is about Windows
        }
        let read = expand(source, '\\', &value);
        let same = if expected == "error" { read.is_err() } else { read.as_deref() == Ok(expected) };
        if !same {
            say(&format!("{line}: {read:?}\n"));
        }
        tally.add(line, same);
    }
    tally.finish(&[]);
}

#[test]
fn words_are_split_as_in_buildkit() {
    let Some(file) = corpus("shell/wordsTest") else { return };
    let mut tally = Tally::new("shell/wordsTest");
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for line in read(file).lines().filter(|line| !line.starts_with('#')) {
        if let Some(pair) = line.strip_prefix("ENV ") {
            let (name, value) = pair.trim_start().split_once('=').expect("a pair");
            env.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (source, expected) = line.split_once('|').expect("two columns");
        let read = expand_words(source.trim(), '\\', &|name| env.get(name).cloned());
        let expected: Vec<&str> = expected.trim_start_matches(' ').split(',').collect();
        let same =
            if expected == ["error"] { read.is_err() } else { read.as_deref().is_ok_and(|read| read == expected) };
        if !same {
            say(&format!("{line}: {read:?}\n"));
        }
        tally.add(line, same);
    }
    tally.finish(&[]);
}

#[test]
fn the_table_of_modifiers_holds() {
    let Some(file) = corpus("shell/lex_test.go") else { return };
    let mut tally = Tally::new("shell/lex_test.go, TestProcessWithMatches");
    let text = read(file);
    let table = &text[text.find("func TestProcessWithMatches(").expect("there")..];
    let table = &table[..table.find("\n\tfor _, c := range").expect("there")];
    for case in table.split("\n\t\t{\n").skip(1) {
        let field = |name: &str| case.find(&format!("{name}:")).map(|at| &case[at + name.len() + 1..]);
        let map = |name: &str| field(name).map(|rest| &rest[..rest.find("\n\t\t\t}").unwrap_or(rest.len())]);
        let first_line = |rest: &str| rest.lines().next().unwrap_or_default().to_owned();
        let input = field("input").map(|rest| go_strings(&first_line(rest))[0].clone()).expect("an input");
        let envs = map("envs").map(|rest| {
            if rest.starts_with(|_| true) && first_line(rest).ends_with("},") {
                first_line(rest)
            } else {
                rest.to_owned()
            }
        });
        let pairs = go_strings(envs.unwrap_or_default().trim_start().trim_start_matches("map[string]string"));
        let env: BTreeMap<&str, &str> = pairs.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        let set = |name: &str| -> BTreeSet<String> {
            field(name).map(|rest| go_strings(&first_line(rest)).into_iter().collect()).unwrap_or_default()
        };
        let (matched, unmatched) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
        let read = expand(&input, '\\', &|name| {
            let found = env.get(name);
            let names = if found.is_some() { &matched } else { &unmatched };
            names.borrow_mut().insert(name.to_owned());
            found.map(|value| (*value).to_owned())
        });
        let same = match field("expected") {
            Some(rest) => {
                read.as_ref() == Ok(&go_strings(&first_line(rest))[0])
                    && *matched.borrow() == set("matches")
                    && *unmatched.borrow() == set("unmatched")
            }
            None => read.is_err(),
        };
        if !same {
            say(&format!("{input} {env:?}: {read:?} {matched:?} {unmatched:?}\n{case}\n"));
        }
        tally.add(input, same);
    }
    tally.finish(&[]);
}
