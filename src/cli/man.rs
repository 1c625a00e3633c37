//! `hoist man DIR`: writes the manual pages, one a command, for who packages hoist.

use std::path::PathBuf;

use clap::CommandFactory as _;
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;

use super::{Context, Exit, Root};

/// Write the manual pages
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to; such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run<B: Backend>(_cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let failed = |e: std::io::Error| {
        let message = format!("cannot write manual pages to `{}`: {e}", args.directory.display());
        Report::from(Diagnostic::error(None, message))
    };
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(Root::command(), &args.directory).map_err(failed)?;
    Ok(Exit::Success)
}
