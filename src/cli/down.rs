//! `hoist down`: stop and remove containers and networks.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::{DownRequest, Finish, Grace, Images};

use super::{Context, Exit, Interrupts};

/// Stop and remove containers and networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also remove the project's volumes, named and anonymous
    #[arg(short, long)]
    volumes: bool,
    /// Remove images: `local` those that were built here and have no other name, `all` those of every service
    #[arg(long, value_name = "local|all")]
    rmi: Option<String>,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_parser = super::seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// Wait for that time even when the stop signal cannot reach a container's first process
    #[arg(long)]
    strict_grace: bool,
    /// Remove containers of services that the file does not have
    #[arg(long, env = "COMPOSE_REMOVE_ORPHANS", value_parser = super::switch())]
    remove_orphans: bool,
    /// The services; none is the whole project
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let images = args.rmi.as_deref().map(images).transpose()?;
    let named = cx.named().map_err(without_file)?;
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let request = DownRequest {
        project: &named.name,
        defined: named.project.as_ref().map(|_| named.services().into_iter().collect()),
        services: &args.services,
        volumes: args.volumes,
        images: images.map(|images| (images, named.project.as_ref())),
        orphans: super::creating::orphans(args.remove_orphans)?,
        grace: Grace { timeout: args.timeout, strict: args.strict_grace },
    };
    let prepared = engine.prepare_down(&request).await?;
    if cx.dry_run() {
        cx.show(&prepared.plan);
        return Ok(Exit::Success);
    }
    match engine.apply(prepared, cx.output(), Interrupts::listen().next()).await? {
        Finish::Done => Ok(Exit::Success),
        Finish::Interrupted | Finish::TakenBack => Ok(Exit::Interrupted),
    }
}

fn images(text: &str) -> Result<Images, Report> {
    match text {
        "local" => Ok(Images::Local),
        "all" => Ok(Images::All),
        _ => Err(Report::message(format!("invalid value for --rmi: \"{text}\" (legal values are \"local\", \"all\")"))),
    }
}

/// Adds to what is wrong with the files how to do without them.
fn without_file(mut report: Report) -> Report {
    if let Some(last) = report.diagnostics.last_mut() {
        let way =
            "a project can be taken down without its file, by its name, where there is none: hoist -p PROJECT down";
        last.help = Some(match last.help.take() {
            Some(help) => format!("{help}\n{way}"),
            None => way.to_owned(),
        });
    }
    report
}
