//! `hoist image build`: build an image from a Dockerfile, without a Compose file. The flags are docker's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoist::build::exchange::{CacheFrom, CacheTo};
use hoist::build::execute::{BuildSpec, NamedContext, Recipe, Secret, check};
use hoist::build::run::JobNetwork;
use hoist::build::trees::{Incoming, Tree};
use hoist::compose::short_host;
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::event::{Event, Silent, Sink};
use hoist::image;
use hoist::image::reference::Reference;
use hoist::image::store::Store;

use super::build::{agents, build_args, bytes};
use super::explain::{Explaining, Form};
use super::output::ProgressMode;
use super::terminal;
use super::{Context, Exit, Interrupts};

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add a line to /etc/hosts of what runs: HOST:ADDRESS
    #[arg(long, value_name = "HOST:ADDRESS")]
    add_host: Vec<String>,
    /// Give a build argument a value
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Give a directory, a URL or an image a name for FROM and --from
    #[arg(long, value_name = "NAME=PATH|URL|docker-image://IMAGE")]
    build_context: Vec<String>,
    /// Take steps from a cache: type=local,src=DIR, type=registry,ref=NAME, or an image
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Write a cache: type=local,dest=DIR, type=registry,ref=NAME, type=inline; mode=max for all stages
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Check the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Tell why each step was carried out: as text or as json
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    explain: Option<Form>,
    /// A shell in what a failed step has left
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    debug_shell: Option<String>,
    /// The Dockerfile, or - for standard input; else PATH/Dockerfile
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Add a label: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Most memory of what runs
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// The network of what runs: default, none or host
    #[arg(long, value_name = "NAME", default_value = "default", hide_default_value = true)]
    network: String,
    /// Carry out every step
    #[arg(long)]
    no_cache: bool,
    /// Carry out every step of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// The platform to build for: this machine's
    #[arg(long, value_name = "OS/ARCH", env = "DOCKER_DEFAULT_PLATFORM")]
    platform: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum)]
    pub(super) progress: Option<ProgressMode>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the image by all its names to their registries
    #[arg(long)]
    push: bool,
    /// Show no progress, and print the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Give what runs a secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Size of /dev/shm of what runs
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// SSH agents for what runs: ID[=SOCKET]
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Name of the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// The stage to build; else the last
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The build context: a directory, a URL, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH|URL|-")]
    path: PathBuf,
}

impl Args {
    /// Returns what is to be built.
    ///
    /// # Errors
    /// When an option cannot be understood.
    fn spec(&self) -> Result<BuildSpec, Report> {
        let whole = |path: &Path| {
            std::path::absolute(path)
                .map_err(|e| Report::message(format!("cannot tell where `{}` is: {e}", path.display())))
        };
        let (context, recipe) = self.context(&whole)?;
        let title = self.tag.first().cloned().unwrap_or_else(|| "image".to_owned());
        let mut spec = BuildSpec::new(title, context, recipe);
        for tag in &self.tag {
            spec.tags.push(Reference::parse(tag).map_err(image::Error::from)?);
        }
        spec.labels = pairs("--label", &self.label)?;
        spec.args = build_args(&self.build_arg);
        spec.target.clone_from(&self.target);
        for (name, place) in pairs("--build-context", &self.build_context)? {
            let context = match place.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None => NamedContext::Files(match Tree::elsewhere(&place)? {
                    Some(tree) if !Path::new(&place).is_dir() => tree,
                    _ => Tree::Directory(whole(Path::new(&place))?),
                }),
            };
            spec.contexts.insert(name, context);
        }
        for text in &self.secret {
            let (id, secret) = secret(text)?;
            spec.secrets.insert(id, secret);
        }
        spec.ssh = agents(&self.ssh)?;
        let here = whole(Path::new("."))?;
        for text in &self.cache_from {
            spec.cache_from.push(CacheFrom::parse("--cache-from", text, &here)?);
        }
        for text in &self.cache_to {
            spec.cache_to.push(CacheTo::parse("--cache-to", text, &here)?);
        }
        spec.no_cache = self.no_cache;
        spec.no_cache_filter.clone_from(&self.no_cache_filter);
        spec.around.network = match self.network.as_str() {
            "default" | "bridge" => JobNetwork::Default,
            "none" => JobNetwork::None,
            "host" => JobNetwork::Host,
            other => {
                let message = format!("`{other}` is not a network of a build");
                return Err(Diagnostic::error(None, message).help("write default, none or host").into());
            }
        };
        for text in &self.add_host {
            let (host, addresses) = short_host(text).map_err(|why| Report::message(format!("--add-host: {why}")))?;
            spec.around.extra_hosts.extend(addresses.into_iter().map(|address| (host.clone(), address)));
        }
        spec.around.shm_size = self.shm_size.as_deref().map(bytes).transpose()?;
        spec.around.memory = self.memory.as_deref().map(bytes).transpose()?;
        Ok(spec)
    }
}

impl Args {
    /// Returns the build context and where its Dockerfile is. What comes in on standard input is waited for.
    ///
    /// # Errors
    /// When there is none.
    fn context(&self, whole: &dyn Fn(&Path) -> Result<PathBuf, Report>) -> Result<(Tree, Recipe), Report> {
        let is_input = |path: &Path| path == Path::new("-");
        let incoming = self.file.as_deref().is_some_and(is_input);
        // Where a tree from elsewhere has its Dockerfile, unless that is on this host.
        let within = || match &self.file {
            Some(_) if incoming => Incoming::text(std::io::stdin()).map(Recipe::Input),
            Some(file) if file.is_absolute() => Ok(Recipe::File(file.clone())),
            Some(file) => Ok(Recipe::InContext(file.clone())),
            None => Ok(Recipe::InContext("Dockerfile".into())),
        };
        if is_input(&self.path) {
            if incoming {
                let message = "the build context and the Dockerfile cannot both come in on standard input";
                return Err(Diagnostic::error(None, message).help("put the Dockerfile into the archive").into());
            }
            return match Incoming::read(std::io::stdin())? {
                Incoming::Archive(input) => Ok((Tree::Archive(input), within()?)),
                Incoming::Text(_) if self.file.is_some() => {
                    let message = "what comes in on standard input is no archive, so it has no file to name with -f";
                    Err(Diagnostic::error(None, message).help("leave -f out to build from it as a Dockerfile").into())
                }
                Incoming::Text(text) => Ok((Tree::Empty, Recipe::Input(text))),
            };
        }
        if let Some(text) = self.path.to_str().filter(|_| !self.path.is_dir())
            && let Some(tree) = Tree::elsewhere(text)?
        {
            return Ok((tree, within()?));
        }
        let context = whole(&self.path)?;
        if !context.is_dir() {
            let message = format!("the build context `{}` is not a directory", self.path.display());
            let help = "name the directory that COPY copies from, a URL, or - for standard input";
            return Err(Diagnostic::error(None, message).help(help).into());
        }
        let recipe = match &self.file {
            Some(_) if incoming => Recipe::Input(Incoming::text(std::io::stdin())?),
            Some(file) => Recipe::File(whole(file)?),
            None => Recipe::File(context.join("Dockerfile")),
        };
        Ok((Tree::Directory(context), recipe))
    }
}

/// Reads `KEY=VALUE`s.
fn pairs(option: &str, given: &[String]) -> Result<BTreeMap<String, String>, Report> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Report::message(format!("{option} `{text}` is not of the form NAME=VALUE"))),
    };
    given.iter().map(pair).collect()
}

/// Reads `id=ID,src=FILE`, `id=ID,env=NAME`, or `id=ID` for the variable of that name, else the file.
fn secret(text: &str) -> Result<(String, Secret), Report> {
    let (mut id, mut source, mut variable) = (None, None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file")) => {}
            Some(("type", "env")) => variable = variable.or_else(|| source.clone()).or_else(|| id.clone()),
            _ => {
                let message = format!("`{part}` in --secret `{text}` is unknown");
                return Err(Diagnostic::error(None, message).help("write id=ID,src=FILE or id=ID,env=NAME").into());
            }
        }
    }
    let Some(id) = id.or_else(|| source.clone()) else {
        return Err(Diagnostic::error(None, format!("--secret `{text}` has no id"))
            .help("write id=ID,src=FILE")
            .into());
    };
    let named = |name: &str| {
        let missing = || Report::message(format!("the variable `{name}` of secret `{id}` is not set"));
        std::env::var(name).map(|value| Secret::Value(value.into_bytes())).map_err(|_| missing())
    };
    let secret = match (variable, source) {
        (Some(name), _) => named(&name)?,
        (None, Some(path)) => Secret::File(PathBuf::from(path)),
        (None, None) => named(&id).unwrap_or_else(|_| Secret::File(PathBuf::from(&id))),
    };
    Ok((id, secret))
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    if cx.dry_run() {
        return Err(Report::message("`hoist image build` has no plan: leave --dry-run out"));
    }
    let own = format!("linux/{}", hoist::image::config::host_architecture());
    if let Some(platform) = args.platform.as_ref().filter(|platform| **platform != own) {
        let message = format!("platform `{platform}` is not this machine's, which is {own}");
        return Err(Diagnostic::error(None, message).help("this version builds for the machine it runs on").into());
    }
    let spec = args.spec()?;
    if args.check {
        let report = check(&spec);
        return Ok(match report.diagnostics.is_empty() {
            true => {
                cx.output().data("Check complete, no warnings found.\n");
                Exit::Success
            }
            false => {
                cx.output().data(&format!("{}\n", report.render(false)));
                Exit::Code(1)
            }
        });
    }
    if args.push && args.tag.is_empty() {
        let help = "name the registry in it: `-t registry.example/name --push`";
        return Err(Diagnostic::error(None, "--push needs a name to push the image by").help(help).into());
    }
    let mut interrupts = Interrupts::listen();
    let engine = cx.engine()?;
    if let Some(program) = &args.debug_shell {
        engine.debug_builds(terminal::front(cx, program)?);
    }
    let inner: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    let events = &Explaining { inner, output: cx.output(), form: args.explain };
    let image = tokio::select! {
        image = engine.build_image(&spec, args.pull, events) => image?,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id.to_string())
            .map_err(|e| Report::message(format!("cannot write the image's id to `{}`: {e}", path.display())))?;
    }
    if args.quiet {
        cx.output().data(&format!("{}\n", image.id));
    } else if spec.tags.is_empty() {
        cx.output().send(Event::Warning(format!("the image has no name: its id is {}", image.id)));
    }
    match args.push {
        true => super::image::push(cx, &Store::open(&cx.paths().images())?, args.quiet, false, &args.tag).await,
        false => Ok(Exit::Success),
    }
}
