//! `hoist export`: the files of a service's container as a tar.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::copy::Which;

use super::exec::streams;
use super::{Context, Exit};

/// Write the files of a service's container as a tar, without what it mounts
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of the replica; else the first
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The service
    service: String,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let path = args.output.as_ref().filter(|path| !path.as_os_str().is_empty());
    if path.is_none() && std::io::stdout().is_terminal() {
        let diagnostic = Diagnostic::error(None, "output option is required when exporting to terminal");
        return Err(diagnostic.help("name a file: hoist export -o FILE SERVICE").into());
    }
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let wanted = [args.service.clone()];
    let which = Which { index: args.index.filter(|index| *index > 0), all: false };
    let chosen = engine.choose(&named.target(&services, &wanted), which, true).await?;
    if cx.dry_run() {
        for name in chosen.names() {
            cx.output().data(&format!("export {name}\n"));
        }
        return Ok(Exit::Success);
    }
    let to = match path {
        Some(path) => File::create(path).map_err(|e| {
            let diagnostic = Diagnostic::error(None, format!("cannot write `{}`: {e}", path.display()));
            Report::from(diagnostic.help("name a file in a directory that is there and can be written"))
        })?,
        None => File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(streams)?),
    };
    engine.export(&chosen, &to, cx.output())?;
    Ok(Exit::Success)
}
