//! `hoist image ls`, `hoist image load`, `hoist image pull` and `hoist image push`.

use std::fs::File;
use std::path::PathBuf;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::event::{Event, Silent, Sink};
use hoist::image::pull::{self, Outcome, Wanted};
use hoist::image::push::{self, Pushed};
use hoist::image::reference::Reference;
use hoist::image::registry::Client;
use hoist::image::registry::settings::Settings;
use hoist::image::store::Store;
use hoist::image::{self, platform};

use super::{Context, Exit, Interrupts};

/// Work with images
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<super::image_build::Args>),
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
    /// Fetch images from their registries
    Pull {
        /// Print the names of the images alone
        #[arg(short, long)]
        quiet: bool,
        /// The platform to fetch them for, instead of this machine's
        #[arg(long, value_name = "OS/ARCH", env = "DOCKER_DEFAULT_PLATFORM")]
        platform: Option<String>,
        /// The images
        #[arg(required = true, value_name = "NAME[:TAG|@DIGEST]")]
        images: Vec<String>,
    },
    /// Give images to their registries
    Push {
        /// Print the names of the images alone
        #[arg(short, long)]
        quiet: bool,
        /// Push every tag that an image's name has here
        #[arg(short, long)]
        all_tags: bool,
        /// The images
        #[arg(required = true, value_name = "NAME[:TAG]")]
        images: Vec<String>,
    },
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, command: &Command) -> Result<Exit, Report> {
    cx.require_root()?;
    if let Command::Build(args) = command {
        return super::image_build::run(cx, args).await;
    }
    let store = Store::open(&cx.paths().images())?;
    match command {
        Command::Build(_) => {} // done
        Command::Ls { quiet } => list(cx, &store, *quiet)?,
        Command::Load { .. } | Command::Pull { .. } | Command::Push { .. } if cx.dry_run() => {
            return Err(Report::message(
                "`hoist image load`, `hoist image pull` and `hoist image push` have no plan: leave --dry-run out",
            ));
        }
        Command::Push { quiet, all_tags, images } => return push(cx, &store, *quiet, *all_tags, images).await,
        Command::Pull { quiet, platform, images } => {
            return pull(cx, &store, *quiet, platform.as_deref(), images).await;
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

async fn pull<B: Backend>(
    cx: &Context<B>,
    store: &Store,
    quiet: bool,
    platform: Option<&str>,
    images: &[String],
) -> Result<Exit, Report> {
    let platform = platform.map(platform::parse).transpose();
    let platform = platform.map_err(|rule| Report::message(format!("--platform: {rule}")))?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for name in images {
        let reference = Reference::parse(name).map_err(image::Error::from)?;
        if wanted.iter().all(|w| w.reference != reference) {
            wanted.push(Wanted { name: name.clone(), reference, platform: platform.clone(), required: true });
        }
    }
    let mut interrupts = Interrupts::listen();
    let client = Client::new(Settings::new(|name| std::env::var(name).ok()).map_err(image::Error::from)?);
    let now = jiff::Timestamp::now().as_second();
    let silent = Silent;
    let events: &dyn Sink = if quiet { &silent } else { cx.output() };
    events.send(Event::Begin { verb: "pull", total: wanted.len() });
    let outcomes = tokio::select! {
        outcomes = pull::pull(&client, store, &wanted, now, events) => Some(outcomes),
        () = interrupts.next() => None,
    };
    events.send(Event::End);
    let Some(outcomes) = outcomes else { return Ok(Exit::Interrupted) };
    let mut report = Report::default();
    for (wanted, outcome) in wanted.iter().zip(outcomes?) {
        match outcome {
            Outcome::Pulled(_) if quiet => cx.output().data(&format!("{}\n", wanted.reference)),
            Outcome::Pulled(pulled) => {
                let status = if pulled.is_new { "Downloaded newer image for" } else { "Image is up to date for" };
                let name = wanted.reference.familiar();
                let text = format!("Digest: {}\nStatus: {status} {name}\n{}\n", pulled.digest, wanted.reference);
                cx.output().data(&text);
            }
            Outcome::Failed(error) => report.diagnostics.push(Diagnostic::from_error(&error)),
            Outcome::Left => {}
        }
    }
    if report.diagnostics.is_empty() { Ok(Exit::Success) } else { Err(report) }
}

pub(super) async fn push<B: Backend>(
    cx: &Context<B>,
    store: &Store,
    quiet: bool,
    all_tags: bool,
    images: &[String],
) -> Result<Exit, Report> {
    let mut wanted: Vec<push::Wanted> = Vec::new();
    let mut want = |name: String, reference: Reference| {
        if wanted.iter().all(|wanted| wanted.reference != reference) {
            wanted.push(push::Wanted { name, reference, required: true });
        }
    };
    for name in images {
        let reference = Reference::parse(name).map_err(image::Error::from)?;
        if !all_tags {
            want(name.clone(), reference);
            continue;
        }
        if name.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
            return Err(Report::message(format!("`{name}` has a tag, but --all-tags pushes all there are")));
        }
        let own = |tagged: &Reference| tagged.familiar_name() == reference.familiar_name() && tagged.digest().is_none();
        let tags: Vec<Reference> =
            store.list()?.into_iter().filter_map(|listed| listed.reference).filter(own).collect();
        if tags.is_empty() {
            return Err(image::Error::NotHere(name.clone()).into());
        }
        tags.into_iter().for_each(|tagged| want(tagged.familiar(), tagged));
    }
    let mut interrupts = Interrupts::listen();
    let client = Client::new(Settings::new(|name| std::env::var(name).ok()).map_err(image::Error::from)?);
    let now = jiff::Timestamp::now().as_second();
    let silent = Silent;
    let events: &dyn Sink = if quiet { &silent } else { cx.output() };
    events.send(Event::Begin { verb: "push", total: wanted.len() });
    let outcomes = tokio::select! {
        outcomes = push::push(&client, store, &wanted, now, events) => Some(outcomes),
        () = interrupts.next() => None,
    };
    events.send(Event::End);
    let Some(outcomes) = outcomes else { return Ok(Exit::Interrupted) };
    let mut report = Report::default();
    for (wanted, outcome) in wanted.iter().zip(outcomes?) {
        match outcome {
            Ok(_) if quiet => cx.output().data(&format!("{}\n", wanted.reference)),
            Ok(Pushed { digest, size }) => {
                let tag = wanted.reference.tag().unwrap_or("latest");
                cx.output().data(&format!("{tag}: digest: {digest} size: {size}\n"));
            }
            Err(error) => report.diagnostics.push(Diagnostic::from_error(&error)),
        }
    }
    if report.diagnostics.is_empty() { Ok(Exit::Success) } else { Err(report) }
}

fn list<B: Backend>(cx: &Context<B>, store: &Store, quiet: bool) -> Result<(), Report> {
    let images = store.list()?;
    if quiet {
        let ids: String = images.iter().map(|image| format!("{}\n", &image.id.hex()[..12])).collect();
        cx.output().data(&ids);
        return Ok(());
    }
    let mut lines = String::from("REPOSITORY\tTAG\tIMAGE ID\tSIZE\n");
    for image in &images {
        let (name, tag) = match &image.reference {
            Some(reference) => (reference.familiar_name(), reference.tag().unwrap_or("<none>").to_owned()),
            None => ("<none>".to_owned(), "<none>".to_owned()),
        };
        lines.push_str(&format!("{name}\t{tag}\t{}\t{}\n", &image.id.hex()[..12], size(image.size)));
    }
    let text = super::table::aligned(&lines, 10, 3);
    cx.output().data(&text);
    Ok(())
}

/// Returns a size as Docker prints it: powers of 1000, three digits.
pub(super) fn size(bytes: u64) -> String {
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
