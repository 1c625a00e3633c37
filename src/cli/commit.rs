//! `hoist commit`: an image of a service's container.

use hoist::build::changes::Changes;
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::commit::Commit;
use hoist::image::reference::Reference;

use super::{Context, Exit, Interrupts};

/// Make an image of what a service's container has changed
#[derive(Debug, clap::Args)]
#[command(override_usage = "hoist commit [OPTIONS] SERVICE [REPOSITORY[:TAG]]")]
pub(crate) struct Args {
    /// Who makes it, such as "Ada Lovelace <ada@example.org>"
    #[arg(short, long, value_name = "AUTHOR", default_value = "", hide_default_value = true)]
    author: String,
    /// What its configuration says otherwise: an instruction of a Dockerfile, such as "ENV LEVEL=debug"
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Number of the replica; else the first
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// What it is, for its history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Hold the container's processes while its files are read
    #[arg(
        short,
        long,
        value_name = "true|false",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pause: bool,
    /// The service
    service: String,
    /// Name of the image; without one it has its id alone
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let changes = Changes::parse(&args.change)?;
    let reference = args.reference.as_deref().filter(|text| !text.is_empty()).map(name).transpose()?;
    let mut interrupts = Interrupts::listen();
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let wanted = [args.service.clone()];
    let shown = reference.as_ref().map_or_else(String::new, |name| format!(" as {}", name.familiar()));
    let commit = Commit {
        index: args.index.filter(|index| *index > 0),
        reference,
        pause: args.pause,
        author: &args.author,
        message: &args.message,
        changes: &changes,
    };
    let target = named.target(&services, &wanted);
    let prepared = tokio::select! {
        prepared = engine.prepare_commit(&target, commit) => prepared?,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    if cx.dry_run() {
        cx.output().data(&format!("commit {}{shown}\n", prepared.name()));
        return Ok(Exit::Success);
    }
    Ok(match engine.commit(prepared, cx.output(), interrupts.next()).await? {
        Some(_) => Exit::Success,
        None => Exit::Interrupted,
    })
}

/// Reads the name of an image that is to be made.
fn name(text: &str) -> Result<Reference, Report> {
    let reference = Reference::parse(text)?;
    if reference.digest().is_some() {
        let message = format!("`{text}` has a digest, which nobody knows before the image is made");
        return Err(Diagnostic::error(None, message).help("name it by a tag, such as shop-web:fixed").into());
    }
    Ok(reference)
}
