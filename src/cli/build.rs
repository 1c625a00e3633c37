//! `hoist build`: build the images of services.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::images::Build;
use hoist::event::{Silent, Sink};

use super::context::with_sources;
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
        [
            (!self.build_arg.is_empty(), "--build-arg"),
            (self.check, "--check"),
            (self.push, "--push"),
            (!self.ssh.is_empty(), "--ssh"),
            (self.print, "--print"),
            (is_on(&self.provenance), "--provenance"),
            (is_on(&self.sbom), "--sbom"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    /// Returns the options that change nothing here: nothing is kept between builds, and no step runs.
    fn idle(&self) -> impl Iterator<Item = &'static str> {
        let all = [(self.memory.is_some(), "--memory"), (self.builder.is_some(), "--builder")];
        all.into_iter().filter_map(|(given, name)| given.then_some(name))
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    if cx.dry_run() {
        return Err(Report::message("`hoist build` has no plan: leave --dry-run out"));
    }
    if let Some(option) = args.refused() {
        return Err(Report::message(format!(
            "{option} is not supported yet: this version builds with `FROM` and `COPY`"
        )));
    }
    for option in args.idle() {
        cx.output().send(hoist::event::Event::Warning(format!("{option} has no effect in this version")));
    }
    let mut interrupts = Interrupts::listen();
    let (project, sources) = cx.load_for(&args.services)?;
    let engine = cx.engine()?;
    let request = Build {
        project: &project,
        services: &args.services,
        with_dependencies: args.with_dependencies,
        pull: args.pull,
    };
    let events: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    let result = tokio::select! {
        result = engine.build(&request, events) => result,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    if result.as_ref().is_ok_and(|built| *built == 0) {
        cx.output().send(hoist::event::Event::Warning("No services to build".to_owned()));
    }
    result.map(|_| Exit::Success).map_err(with_sources(sources))
}
