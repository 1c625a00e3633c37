//! `hoist wait`: wait until containers end; the exit code of the last is ours.

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::plan::Orphans;
use hoist::engine::wait::Ended;
use hoist::engine::{DownRequest, Finish, Grace};

use super::{Context, Exit, Interrupts};

/// Wait until containers of services end
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take the project down when the first container has ended
    #[arg(long)]
    down_project: bool,
    /// The services
    #[arg(required = true)]
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let mut interrupts = Interrupts::listen();
    let mut last: Option<Ended> = None;
    let mut tell = |ended: &Ended| {
        let id = &ended.container.id;
        cx.output().data(&match ended.code {
            Some(code) => format!("container \"{id}\" exited with status code {code}\n"),
            None => format!("container \"{id}\" exited with an unknown status code\n"),
        });
        last = Some(ended.clone());
    };
    let target = named.target(&services, &args.services);
    tokio::select! {
        result = engine.wait(&target, args.down_project, &mut tell) => result?,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    }
    if args.down_project {
        cx.note_wait(&engine, &named.name);
        let request = DownRequest {
            project: &named.name,
            defined: named.project.as_ref().map(|_| services.iter().cloned().collect()),
            services: &[],
            volumes: false,
            images: None,
            orphans: Orphans::Removed,
            grace: Grace::default(),
        };
        let prepared = engine.prepare_down(&request).await?;
        if engine.apply(prepared, cx.output(), interrupts.next()).await? == Finish::Interrupted {
            return Ok(Exit::Interrupted);
        }
    }
    let Some(Ended { container, code, .. }) = last else { return Ok(Exit::Success) };
    code.map(Exit::of_process).ok_or_else(|| {
        let message = format!("nobody knows the exit code of container `{}`", container.name);
        Diagnostic::error(None, message).help("it ended while no supervisor was there to see it").into()
    })
}
