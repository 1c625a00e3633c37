//! What the grammar says to a mistake: commands and options of docker compose that are still to come are told from those
//! that nobody knows, and an option at the wrong side of the command is told its place.
//!
//! Invariant: pure. What is not known better is left to clap's own words.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use hoist::diag::{Diagnostic, Report, nearest};

use super::Root;

/// Commands that are to come, and what serves until then.
const LATER: &[(&str, &str)] = &[
    ("bridge", ""),
    ("container", "run a project's containers with: hoist up"),
    ("network", ""),
    ("publish", ""),
    ("serve", ""),
    ("system", ""),
    ("volume", ""),
];

/// Commands on images that are to come.
const LATER_IMAGE: &[&str] = &["build", "history", "inspect", "prune", "rm", "save", "tag"];

/// Options of docker compose's commands that are to come; the empty name has those before the command.
const LATER_OPTIONS: &[(&str, &[&str])] =
    &[("", &["--all-resources", "--compatibility", "--insecure-registry", "--parallel", "--verbose", "--workdir"])];

/// Returns what is wrong, if we know better than clap.
pub(super) fn explain(error: &clap::Error, args: &[String]) -> Option<Report> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => Some(command(text(ContextKind::InvalidSubcommand)?, args).into()),
        ErrorKind::UnknownArgument => Some(argument(text(ContextKind::InvalidArg)?, args).into()),
        _ => None,
    }
}

/// Returns the words of the command that was meant, such as `image load`.
fn path(args: &[String]) -> Vec<&str> {
    let root = Root::command();
    let mut at = &root;
    let mut path = Vec::new();
    for arg in args.iter().skip(1) {
        if let Some(inner) = at.find_subcommand(arg) {
            at = inner;
            path.push(arg.as_str());
        } else if !path.is_empty() && !arg.starts_with('-') {
            break;
        }
    }
    path
}

fn command(wanted: &str, args: &[String]) -> Diagnostic {
    let later = |name: &str| format!("`hoist {name}` is not part of this version yet");
    let root = Root::command();
    if path(args) == ["image"] {
        if LATER_IMAGE.contains(&wanted) {
            return Diagnostic::error(None, later(&format!("image {wanted}")));
        }
        return Diagnostic::error(None, format!("unknown command `hoist image {wanted}`"))
            .help("hoist image --help lists the commands");
    }
    if path(args) == ["builder"] {
        return Diagnostic::error(None, format!("unknown command `hoist builder {wanted}`"))
            .help("hoist builder --help lists the commands");
    }
    if wanted == "compose" {
        return Diagnostic::error(None, "docker compose's commands stand at the top: there is no `hoist compose`")
            .help("leave `compose` out, as in: hoist up");
    }
    if let Some((name, instead)) = LATER.iter().find(|(name, _)| *name == wanted) {
        let diagnostic = Diagnostic::error(None, later(name));
        return if instead.is_empty() { diagnostic } else { diagnostic.help(*instead) };
    }
    let help = nearest(wanted, root.get_subcommands().map(clap::Command::get_name))
        .map_or_else(|| "hoist --help lists the commands".to_owned(), |near| format!("did you mean `{near}`?"));
    Diagnostic::error(None, format!("unknown command `{wanted}`")).help(help)
}

fn argument(wanted: &str, args: &[String]) -> Diagnostic {
    let mut path = path(args);
    let place = |word: &str| args.iter().position(|arg| arg == word);
    if path.first().is_some_and(|command| place(wanted).is_some_and(|at| Some(at) < place(command))) {
        path.clear(); // it stands before the command
    }
    let name = path.join(" ");
    let whole = ["hoist"].into_iter().chain(path.iter().copied()).collect::<Vec<_>>().join(" ");
    let option = wanted.split('=').next().unwrap_or(wanted);
    if !wanted.starts_with('-') {
        let diagnostic = Diagnostic::error(None, format!("`{whole}` takes no argument `{wanted}`"));
        return diagnostic.help(match name.as_str() {
            "image load" => "name the archive with: hoist image load -i FILE".to_owned(),
            _ => format!("{whole} --help shows its form"),
        });
    }
    let root = Root::command();
    let before = root.get_arguments().find(|arg| is(arg, option));
    if let Some(arg) = before.filter(|_| !path.is_empty()) {
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).and_then(|names| names.first());
        let value = value.map_or_else(String::new, |value| format!(" {value}"));
        return Diagnostic::error(None, format!("`{option}` goes before the command"))
            .help(format!("write: hoist {option}{value} {name}"));
    }
    if LATER_OPTIONS.iter().any(|(command, options)| *command == name && options.contains(&option)) {
        return Diagnostic::error(None, format!("`{option}` of `{whole}` is not part of this version yet"));
    }
    let there = path.iter().try_fold(&root, |at, word| at.find_subcommand(word)).unwrap_or(&root);
    let longs: Vec<String> = there.get_arguments().filter_map(|a| Some(format!("--{}", a.get_long()?))).collect();
    let help = nearest(option, longs.iter().map(String::as_str))
        .map_or_else(|| format!("{whole} --help lists the options"), |near| format!("did you mean `{near}`?"));
    Diagnostic::error(None, format!("`{whole}` has no option `{option}`")).help(help)
}

/// Returns whether an argument is spelled so.
fn is(arg: &clap::Arg, option: &str) -> bool {
    let long = option.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
    let short = option.strip_prefix('-').and_then(|name| name.chars().next());
    long || (!option.starts_with("--") && short.is_some() && arg.get_short() == short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let args: Vec<String> = line.split(' ').map(Into::into).collect();
        let error = super::super::parse(&args).expect_err("a mistake");
        explain(&error, &args).map_or_else(|| "clap's words\n".to_owned(), |report| report.render(false))
    }

    #[test]
    fn mistakes_name_the_next_step() {
        let all: String = [
            "hoist upp",
            "hoist xyzzy",
            "hoist compose up",
            "hoist container ls",
            "hoist publish",
            "hoist image rm x",
            "hoist image load x.tar",
            "hoist builder ls",
            "hoist up -p shop",
            "hoist -f a.yaml down --profile x",
            "hoist --parallel 3 up",
            "hoist up --nope",
            "hoist up --force-recreat",
            "hoist exec",
        ]
        .into_iter()
        .map(told)
        .collect();
        insta::assert_snapshot!(all, @r"
        error: unknown command `upp`
        help: did you mean `up`?
        error: unknown command `xyzzy`
        help: hoist --help lists the commands
        error: docker compose's commands stand at the top: there is no `hoist compose`
        help: leave `compose` out, as in: hoist up
        error: `hoist container` is not part of this version yet
        help: run a project's containers with: hoist up
        error: `hoist publish` is not part of this version yet
        error: `hoist image rm` is not part of this version yet
        error: `hoist image load` takes no argument `x.tar`
        help: name the archive with: hoist image load -i FILE
        error: unknown command `hoist builder ls`
        help: hoist builder --help lists the commands
        error: `-p` goes before the command
        help: write: hoist -p NAME up
        error: `--profile` goes before the command
        help: write: hoist --profile NAME down
        error: `--parallel` of `hoist` is not part of this version yet
        error: `hoist up` has no option `--nope`
        help: hoist up --help lists the options
        error: `hoist up` has no option `--force-recreat`
        help: did you mean `--force-recreate`?
        clap's words
        ");
    }

    #[test]
    fn what_is_to_come_is_not_there_yet() {
        let root = Root::command();
        assert!(LATER.iter().all(|(name, _)| root.find_subcommand(name).is_none()));
        for (name, options) in LATER_OPTIONS {
            let command = if name.is_empty() { &root } else { root.find_subcommand(name).expect("a command") };
            for option in *options {
                assert!(!command.get_arguments().any(|arg| is(arg, option)), "{name} {option}");
            }
        }
    }
}
