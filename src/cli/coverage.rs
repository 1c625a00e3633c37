//! Which of docker compose's commands and options are here: `docs/commands.md` is held to clap's tree and to the list in
//! `tests/data/compose-commands.txt`. What is left out has a reason, or the test fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::Root;

/// Commands, or options of one, that are left out, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("bridge", "turns a project into files for Kubernetes: not what hoist is for"),
    ("publish", "a project as an artifact of a registry is still to come"),
];

/// The part of the page that is made.
const MARK: &str = "<!-- The table is made by a test: HOIST_BLESS=1 cargo test --bin hoist coverage -->\n";

fn options(command: &clap::Command) -> BTreeSet<String> {
    let seen =
        command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "dry_run");
    seen.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect()
}

fn knows(command: &clap::Command, option: &str) -> bool {
    command.get_arguments().any(|arg| {
        let longs = arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default());
        longs.into_iter().any(|long| option.strip_prefix("--") == Some(long))
    })
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(" ")
}

fn table() -> String {
    let root = Root::command();
    let why = |what: &str| LEFT_OUT.iter().find(|(left, _)| *left == what).map_or("", |(_, why)| *why);
    let mut text =
        String::from("| command | docker compose's options | further ones | left out |\n|---|---|---|---|\n");
    let mut named = BTreeSet::new();
    for line in include_str!("../../tests/data/compose-commands.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let theirs: Vec<&str> = words.collect();
        named.insert(name);
        let Some(command) = root.find_subcommand(name) else {
            _ = writeln!(text, "| `{name}` | | | all of it: {} |", why(name));
            continue;
        };
        let (here, missing): (Vec<&str>, Vec<&str>) = theirs.iter().partition(|option| knows(command, option));
        let ours = options(command);
        let further = ours.iter().map(String::as_str).filter(|option| !theirs.contains(option));
        let missing: Vec<String> =
            missing.iter().map(|option| format!("`{option}`: {}", why(&format!("{name} {option}")))).collect();
        _ = writeln!(text, "| `{name}` | {} | {} | {} |", list(here), list(further), missing.join("; "));
    }
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let known = named.contains(name) || command.get_all_aliases().any(|alias| named.contains(alias));
        if !known && name != "help" {
            _ = writeln!(text, "| `{name}` | | {} | |", list(options(command).iter().map(String::as_str)));
        }
    }
    while text.contains("|  |") {
        text = text.replace("|  |", "| |");
    }
    text
}

#[test]
fn the_page_of_commands_is_what_the_program_takes() {
    let table = table();
    assert!(!table.contains(": |") && !table.contains(": ;"), "something is left out without a reason:\n{table}");
    let stale: Vec<&str> = LEFT_OUT.iter().map(|(_, why)| *why).filter(|why| !table.contains(why)).collect();
    assert_eq!(stale, [""; 0], "these are here by now");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (head, made) = page.split_once(MARK).expect("the mark");
    if std::env::var_os("HOIST_BLESS").is_some() {
        return std::fs::write(&path, format!("{head}{MARK}{table}")).expect("written");
    }
    assert_eq!(made, table, "HOIST_BLESS=1 writes it anew");
}
