//! `hoist completion`: has a shell complete our commands, options and the names of services.
//!
//! The shell's script asks hoist itself, with `HOIST_COMPLETE` set to the shell's name, so that what it offers is what this
//! binary and the project's file have. A file that is broken, or nothing at all, offers no services and is no error.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;
use hoist::diag::Report;
use hoist::engine::backend::Backend;

use super::{Context, Exit, Globals, Open, Output, Root, output};

/// The variable by which a shell's script asks.
const VARIABLE: &str = "HOIST_COMPLETE";
/// Names of arguments that are services.
const SERVICES: [&str; 3] = ["services", "service", "named"];

/// Print what has a shell complete commands, options and services
///
/// For bash: hoist completion bash >/usr/share/bash-completion/completions/hoist
///
/// For zsh: hoist completion zsh >"${fpath[1]}/_hoist"
///
/// For fish: hoist completion fish >~/.config/fish/completions/hoist.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

pub(crate) fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let mut script = Vec::new();
    let name = args.shell.name();
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Report::message(format!("{name} cannot be had")))?;
    shell
        .write_registration(VARIABLE, "hoist", "hoist", "hoist", &mut script)
        .map_err(|e| Report::message(format!("cannot write for {name}: {e}")))?;
    cx.output().data(&String::from_utf8_lossy(&script));
    Ok(Exit::Success)
}

/// Answers a shell that asks, after `--`, what its words may go on with; `None` when none asks.
pub(super) fn answer<B: Backend + 'static>(args: &[OsString], open: Open<B>) -> Option<String> {
    let shell = std::env::var(VARIABLE).ok().filter(|shell| !shell.is_empty())?;
    let shells = Shells::builtins();
    let shell = shells.completer(&shell)?;
    let words: Vec<OsString> = args.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let typed: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let services = move || names(&typed, open).into_iter().map(CompletionCandidate::new).collect::<Vec<_>>();
    let mut command = Root::command().mut_subcommands(|command| with_services(command, &services));
    command.build();
    let mut answer = Vec::new();
    let here = std::env::current_dir().ok();
    // What cannot be answered is not: a message would stand in the middle of what is being typed.
    shell.write_complete(&mut command, words, here.as_deref(), &mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn with_services(
    command: clap::Command,
    services: &(impl Fn() -> Vec<CompletionCandidate> + Clone + Send + Sync + 'static),
) -> clap::Command {
    let is_service = |arg: &clap::Arg| arg.is_positional() && SERVICES.contains(&arg.get_id().as_str());
    command.mut_args(|arg| if is_service(&arg) { arg.add(ArgValueCandidates::new(services.clone())) } else { arg })
}

/// Returns the names of the services of the project that the words before are about.
fn names<B: Backend>(words: &[String], open: Open<B>) -> Vec<String> {
    let output = Output::new(output::ProgressMode::Quiet, output::Ansi::Never);
    Context::new(globals(words), output, open).service_names()
}

/// Reads the options before the command, as far as they say which project is meant.
fn globals(words: &[String]) -> Globals {
    let mut globals = Globals {
        file: Vec::new(),
        project_name: None,
        project_directory: None,
        env_file: Vec::new(),
        profile: Vec::new(),
        progress: None,
        ansi: None,
        no_ansi: false,
        dry_run: false,
    };
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next().filter(|word| word.starts_with('-')) {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None if !word.starts_with("--") && word.len() > 2 && word.is_char_boundary(2) => {
                (&word[..2], Some(word[2..].to_owned())) // -pNAME
            }
            None => (word.as_str(), None),
        };
        let takes = matches!(
            option,
            "-f" | "--file"
                | "-p"
                | "--project-name"
                | "--project-directory"
                | "--env-file"
                | "--profile"
                | "--progress"
                | "--ansi"
        );
        if !takes {
            continue;
        }
        let Some(value) = value.or_else(|| words.next().cloned()) else { break };
        match option {
            "-f" | "--file" => globals.file.push(PathBuf::from(value)),
            "-p" | "--project-name" => globals.project_name = Some(value),
            "--project-directory" => globals.project_directory = Some(PathBuf::from(value)),
            "--env-file" => globals.env_file.push(PathBuf::from(value)),
            "--profile" => globals.profile.push(value),
            _ => {}
        }
    }
    globals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_before_the_command_say_which_project() {
        let of = |line: &str| globals(&line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>());
        let found = of("hoist -f a.yaml --file=b.yaml --ansi never -pshop --profile x logs -f web");
        assert_eq!(found.file, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert_eq!((found.project_name.as_deref(), &found.profile[..]), (Some("shop"), &["x".to_owned()][..]));
        let found = of("hoist --dry-run -p shop up");
        assert_eq!(found.project_name.as_deref(), Some("shop"));
        assert_eq!(of("hoist -p").project_name, None);
        assert!(of("hoist").file.is_empty());
    }

    #[test]
    fn every_command_about_services_offers_them() {
        let command = Root::command();
        for name in
            ["up", "ps", "logs", "exec", "run", "stop", "stats", "events", "wait", "images", "volumes", "port", "top"]
        {
            let command = command.find_subcommand(name).expect("a command");
            let offers = command.get_positionals().any(|arg| SERVICES.contains(&arg.get_id().as_str()));
            assert!(offers, "{name}");
        }
    }
}
