//! `hoist cp`: files between a service's containers and the host. `-` is a tar on stdin or stdout.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::copy::{End, Manner, Way, Which, split};

use super::exec::streams;
use super::{Context, Exit};

/// Copy files and directories between a service's containers and the host
#[derive(Debug, clap::Args)]
#[command(override_usage = "hoist cp [OPTIONS] SERVICE:PATH PATH|-\n       hoist cp [OPTIONS] PATH|- SERVICE:PATH")]
pub(crate) struct Args {
    /// Containers of `run` too
    #[arg(long)]
    all: bool,
    /// Keep owners and groups
    #[arg(short, long)]
    archive: bool,
    /// Copy what SRC links to, when it is a symbolic link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Number of the replica; else from the first, and to all
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// What is copied
    source: String,
    /// Where it goes
    destination: String,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let help = "one of the two is SERVICE:PATH, such as web:/etc/hosts, and the other a path here or -";
    let (from, to) = (split(&args.source), split(&args.destination));
    let (service, first) = match (from.0, to.0) {
        (Some(_), Some(_)) => {
            let diagnostic = Diagnostic::error(None, "copying between services is not supported");
            return Err(diagnostic.help("copy to the host first, and from there to the other").into());
        }
        (None, None) => return Err(Diagnostic::error(None, "unknown copy direction").help(help).into()),
        (Some(service), None) => (service, true),
        (None, Some(service)) => (service, false),
    };
    if first && args.destination.is_empty() || !first && (args.source.is_empty() || to.1.is_empty()) {
        return Err(Diagnostic::error(None, "a path is empty").help(help).into());
    }
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let way = match first {
        true if to.1 == "-" => {
            if stdout.is_terminal() {
                let diagnostic = Diagnostic::error(None, "an archive is not for a terminal");
                return Err(diagnostic.help("redirect it to a file or a pipe, or name a destination").into());
            }
            Way::From(from.1, End::Stream(stdout.as_fd().try_clone_to_owned().map_err(streams)?))
        }
        true => Way::From(from.1, End::Path(Path::new(to.1))),
        false if from.1 == "-" => Way::To(End::Stream(stdin.as_fd().try_clone_to_owned().map_err(streams)?), to.1),
        false => Way::To(End::Path(Path::new(from.1)), to.1),
    };
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let wanted = [service.to_owned()];
    let which = Which { index: args.index.filter(|index| *index > 0), all: args.all };
    let chosen = engine.choose(&named.target(&services, &wanted), which, first).await?;
    if cx.dry_run() {
        for name in chosen.names() {
            cx.output().data(&match first {
                true => format!("copy {name}:{} to {}\n", from.1, to.1),
                false => format!("copy {} to {name}:{}\n", from.1, to.1),
            });
        }
        return Ok(Exit::Success);
    }
    engine.copy(&chosen, way, Manner { archive: args.archive, follow: args.follow_link }, cx.output())?;
    Ok(Exit::Success)
}
