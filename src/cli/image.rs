//! `hoist image ls` and `hoist image load`.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::image::store::Store;

use super::{Context, Exit};

/// Work with images
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List images
    #[command(alias = "list")]
    Ls {
        /// Print ids alone
        #[arg(short, long)]
        quiet: bool,
    },
    /// Load images from an archive, or from stdin
    Load {
        /// The archive
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
}

pub(crate) fn run<B: Backend>(cx: &Context<B>, command: &Command) -> Result<Exit, Report> {
    cx.require_root()?;
    let store = Store::open(&cx.paths().images())?;
    match command {
        Command::Ls { quiet } => list(cx, &store, *quiet)?,
        Command::Load { .. } if cx.dry_run() => {
            return Err(Report::message("`hoist image load` has no plan: leave --dry-run out"));
        }
        Command::Load { input } => {
            let loaded = match input {
                Some(path) => {
                    let file = File::open(path).map_err(|e| {
                        Report::from(Diagnostic::error(None, format!("cannot read `{}`: {e}", path.display())))
                    })?;
                    store.load(file, cx.output())?
                }
                None => store.load(std::io::stdin().lock(), cx.output())?,
            };
            for image in loaded {
                if image.references.is_empty() {
                    cx.output().data(&format!("Loaded image ID: sha256:{}\n", image.id.hex()));
                }
                for reference in &image.references {
                    cx.output().data(&format!("Loaded image: {}\n", reference.familiar()));
                }
            }
        }
    }
    Ok(Exit::Success)
}

fn list<B: Backend>(cx: &Context<B>, store: &Store, quiet: bool) -> Result<(), Report> {
    let images = store.list()?;
    if quiet {
        let ids: String = images.iter().map(|image| format!("{}\n", &image.id.hex()[..12])).collect();
        cx.output().data(&ids);
        return Ok(());
    }
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(3).minwidth(10);
    let mut lines = String::from("REPOSITORY\tTAG\tIMAGE ID\tSIZE\n");
    for image in &images {
        let (name, tag) = match &image.reference {
            Some(reference) => (reference.familiar_name(), reference.tag().unwrap_or("<none>").to_owned()),
            None => ("<none>".to_owned(), "<none>".to_owned()),
        };
        lines.push_str(&format!("{name}\t{tag}\t{}\t{}\n", &image.id.hex()[..12], size(image.size)));
    }
    // Writing to a Vec cannot fail.
    drop(writer.write_all(lines.as_bytes()).and_then(|()| writer.flush()));
    let text = writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or(lines);
    cx.output().data(&text);
    Ok(())
}

/// Returns a size as Docker prints it: powers of 1000, three digits.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        rest = whole % 1000;
        whole /= 1000;
        unit += 1;
    }
    match whole {
        _ if unit == 0 => format!("{whole}B"),
        0..10 => format!("{whole}.{:02}{}", rest / 10, UNITS[unit]),
        10..100 => format!("{whole}.{}{}", rest / 100, UNITS[unit]),
        _ => format!("{whole}{}", UNITS[unit]),
    }
}
