//! `hoist version`.

use hoist::diag::Report;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Print the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// pretty or json
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Print the number alone
    #[arg(long)]
    short: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Pretty,
    Json,
}

#[expect(clippy::unnecessary_wraps, reason = "every command has this shape")]
pub(crate) fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let version = env!("CARGO_PKG_VERSION");
    cx.output().data(&match args.format {
        _ if args.short => format!("{version}\n"),
        Format::Pretty => format!("hoist version {version}\n"),
        Format::Json => format!("{{\"version\":\"{version}\"}}\n"),
    });
    Ok(Exit::Success)
}
