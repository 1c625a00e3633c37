//! `hoist config`: print the model as it is understood.

use hoist::compose;
use hoist::diag::Report;
use hoist::engine::backend::Backend;

use super::context::hashes;
use super::{Context, Exit};

/// Print the model as it is understood
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// yaml or json
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Print the services' names, one a line
    #[arg(long)]
    services: bool,
    /// Check only, print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the hash of these services, by commas, or of all with `*`
    #[arg(long, value_name = "SERVICES")]
    hash: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

pub(crate) fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let (project, _) = cx.load()?;
    if args.quiet {
        return Ok(Exit::Success);
    }
    if let Some(wanted) = &args.hash {
        let hashes = hashes(&project);
        let names: Vec<&str> = match wanted.as_str() {
            "*" => project.services.keys().map(AsRef::as_ref).collect(),
            list => list.split(',').collect(),
        };
        for name in names {
            let Some(hash) = hashes.get(name) else {
                return Err(Report::message(format!("no such service: {name}")));
            };
            cx.output().data(&format!("{name} {hash}\n"));
        }
    } else if args.services {
        for name in project.services.keys() {
            cx.output().data(&format!("{name}\n"));
        }
    } else {
        cx.output().data(&match args.format {
            Format::Yaml => compose::config_yaml(&project),
            Format::Json => compose::config_json(&project),
        });
    }
    Ok(Exit::Success)
}
