//! The gallery of typical mistakes, `docs/mistakes.md`: what is written for each of `tests/data/mistakes/`.
//!
//! The page is the snapshot: `./dev bless` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::binary;

const BEGIN: &str = "# Typical mistakes, and what hoist says

Each of these is a file that does not mean what was meant, with the words of `hoist config`, which every other command says
as well. This page is written by a test (`tests/it/mistakes.rs`).
";

#[test]
fn the_gallery_shows_what_is_said() {
    let mut page = BEGIN.to_owned();
    let mut count = 0;
    for folder in sorted(&data()) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let said = said_of(&folder);
        assert!(said.contains(" --> "), "{name}: there is no place in what is said:\n{said}");
        write!(page, "\n## {}\n", title(&name)).expect("memory");
        for (path, text) in files(&folder) {
            let kind = if path.ends_with(".yaml") { "yaml" } else { "sh" };
            write!(page, "`{path}`\n```{kind}\n{text}```\n").expect("memory");
        }
        write!(page, "```text\n{said}```\n").expect("memory");
        count += 1;
    }
    assert!(count >= 25, "{count}");
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mistakes.md");
    if std::env::var_os("HOIST_BLESS").is_some() {
        fs::write(&place, &page).expect("the page is written");
    }
    let there = fs::read_to_string(&place).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| there.lines().count().min(page.lines().count()));
    let around = |text: &str| text.lines().skip(line.saturating_sub(8)).take(20).collect::<Vec<_>>().join("\n");
    assert!(
        there == page,
        "docs/mistakes.md differs from line {}; look at it and run ./dev bless\n--- there\n{}\n--- now\n{}",
        line + 1,
        around(&there),
        around(&page)
    );
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mistakes")
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the mistakes are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// `port-from-a-variable` → `Port from a variable`.
fn title(name: &str) -> String {
    let words = name.replace('-', " ");
    let (first, rest) = words.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

/// Returns the files of a case, `compose.yaml` first.
fn files(folder: &Path) -> Vec<(String, String)> {
    let all: BTreeMap<(bool, String), String> = sorted(folder)
        .into_iter()
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            ((name != "compose.yaml", name), fs::read_to_string(&path).expect("text"))
        })
        .collect();
    all.into_iter().map(|((_, name), text)| (name, text)).collect()
}

/// Returns what `hoist config` says of a copy of the case; `--lint` too where it has nothing to refuse.
fn said_of(folder: &Path) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().join("shop");
    fs::create_dir(&project).expect("a directory");
    for (name, text) in files(folder) {
        fs::write(project.join(name), text).expect("a file");
    }
    let run = |arguments: &[&str]| {
        let mut hoist = Command::new(binary());
        hoist
            .args(arguments)
            .current_dir(&project)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", directory.path());
        let output = hoist.output().expect("hoist runs");
        assert!(output.status.code().is_some_and(|code| code < 126), "{}: {output:?}", folder.display());
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.success(), said.replace(&directory.path().display().to_string(), "/home/ada"))
    };
    match run(&["config", "-q"]) {
        (false, said) => said,
        (true, _) => {
            let (_, said) = run(&["config", "--lint", "-q"]);
            format!("$ hoist config --lint\n{said}")
        }
    }
}
