//! `hoist build`: build the images of services.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hoist::compose::model::Project;
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::images::{Build, Push};
use hoist::event::{Silent, Sink};

use super::context::with_sources;
use super::explain::{Explaining, Form};
use super::output::ProgressMode;
use super::terminal;
use super::{Context, Exit, Interrupts};

/// Build the images of services
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Args {
    /// Give a build argument a value
    #[arg(long, value_name = "KEY=VALUE")]
    build_arg: Vec<String>,
    /// Check the Dockerfiles, and build nothing
    #[arg(long)]
    check: bool,
    /// Tell why each step was carried out: as text or as json
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    explain: Option<Form>,
    /// A shell in what a failed step has left
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    debug_shell: Option<String>,
    /// Build every step anew
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the images to their registries
    #[arg(long)]
    push: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// SSH agents or keys for the build
    #[arg(long, value_name = "ID=PATH")]
    ssh: Vec<String>,
    /// Also build the images of services that the named ones depend on
    #[arg(long)]
    with_dependencies: bool,
    /// Print what would be built, for buildx
    #[arg(long)]
    print: bool,
    /// Most memory of a build
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// The builder that is meant; there is one
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// How the image was made, as an attestation
    #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// What is in the image, as an attestation
    #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// As the option for all commands; docker compose once had it here
    #[arg(long, value_enum, hide = true)]
    pub(super) progress: Option<ProgressMode>,
    #[arg(long, hide = true)]
    compress: bool,
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(long, hide = true)]
    no_rm: bool,
    #[arg(long, hide = true)]
    parallel: bool,
    /// The services; none is all
    services: Vec<String>,
}

impl Args {
    /// Returns the first option that would make the image another one than this version can build.
    fn refused(&self) -> Option<&'static str> {
        let is_on = |value: &Option<String>| value.as_deref().is_some_and(|value| value != "false");
        [(self.print, "--print"), (is_on(&self.provenance), "--provenance"), (is_on(&self.sbom), "--sbom")]
            .into_iter()
            .find_map(|(given, name)| given.then_some(name))
    }

    /// Changes the builds of the project as the command line says.
    ///
    /// # Errors
    /// When an option cannot be understood.
    fn apply(&self, project: &mut Project) -> Result<(), Report> {
        let memory = self.memory.as_deref().map(bytes).transpose()?;
        let args = build_args(&self.build_arg);
        let agents = agents(&self.ssh)?;
        for build in project.services.values_mut().filter_map(|service| service.build.as_mut()) {
            for (name, value) in &args {
                match value {
                    Some(value) => drop(build.args.insert(name.clone(), value.clone())),
                    None => drop(build.args.shift_remove(name)),
                }
            }
            build.no_cache |= self.no_cache;
            build.ssh.extend(agents.clone());
            build.memory = memory.or(build.memory);
        }
        Ok(())
    }
}

/// Reads `NAME=value`, or `NAME` for the value that it has here; `None` when it has none.
pub(super) fn build_args(given: &[String]) -> BTreeMap<String, Option<String>> {
    let value = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), std::env::var(text).ok()),
    };
    given.iter().map(value).collect()
}

/// Reads `ID=PATH`, or `ID` for the agent of the environment.
///
/// # Errors
/// When there is none.
pub(super) fn agents(given: &[String]) -> Result<BTreeMap<String, PathBuf>, Report> {
    let mut found = BTreeMap::new();
    for text in given {
        let (id, path) = match text.split_once('=') {
            Some((id, path)) => (id, path.to_owned()),
            None => {
                let socket = std::env::var("SSH_AUTH_SOCK").map_err(|_| {
                    let help = "start one: `eval $(ssh-agent)`, then `ssh-add`; or write `--ssh ID=SOCKET`";
                    Report::from(
                        Diagnostic::error(None, format!("there is no SSH agent for `--ssh {text}`")).help(help),
                    )
                })?;
                (text.as_str(), socket)
            }
        };
        found.insert(id.to_owned(), PathBuf::from(path));
    }
    Ok(found)
}

/// Reads a number of bytes, as `512m`.
///
/// # Errors
/// When it is none.
pub(super) fn bytes(text: &str) -> Result<u64, Report> {
    hoist::compose::bytes(text).map_err(|why| Diagnostic::error(None, why).help("write it as `512m` or `2g`").into())
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    if cx.dry_run() {
        return Err(Report::message("`hoist build` has no plan: leave --dry-run out"));
    }
    if let Some(option) = args.refused() {
        return Err(Report::message(format!("{option} is not supported yet")));
    }
    if args.builder.is_some() {
        cx.output().send(hoist::event::Event::Warning("--builder has no effect: there is one".to_owned()));
    }
    let mut interrupts = Interrupts::listen();
    let (mut project, sources) = cx.load_for(&args.services)?;
    args.apply(&mut project)?;
    if args.check {
        return check(cx, &project, args);
    }
    let engine = cx.engine()?;
    if let Some(program) = &args.debug_shell {
        engine.debug_builds(terminal::front(cx, program)?);
    }
    let request = Build {
        project: &project,
        services: &args.services,
        with_dependencies: args.with_dependencies,
        pull: args.pull,
    };
    let inner: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    let events = &Explaining { inner, output: cx.output(), form: args.explain };
    let push = Push {
        project: &project,
        services: &args.services,
        include_deps: args.with_dependencies,
        ignore_failures: false,
    };
    let work = async {
        let built = engine.build(&request, events).await?;
        if args.push && built > 0 {
            engine.push(&push, events).await?;
        }
        Ok(built)
    };
    let result = tokio::select! {
        result = work => result,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    if result.as_ref().is_ok_and(|built| *built == 0) {
        cx.output().send(hoist::event::Event::Warning("No services to build".to_owned()));
    }
    result.map(|_| Exit::Success).map_err(with_sources(sources))
}

/// Tells what is wrong with the Dockerfiles, or could be written better.
fn check<B: Backend>(cx: &Context<B>, project: &Project, args: &Args) -> Result<Exit, Report> {
    let mut clean = true;
    for (service, report) in hoist::engine::builds::check(project, &args.services)? {
        match report.diagnostics.is_empty() {
            true => cx.output().data(&format!("{service}: check complete, no warnings found.\n")),
            false => {
                clean = false;
                cx.output().data(&format!("{service}:\n{}\n", report.render(false)));
            }
        }
    }
    Ok(if clean { Exit::Success } else { Exit::Code(1) })
}
