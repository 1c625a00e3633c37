//! What every command has at hand: the global options, the output, the model, the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hoist::compose;
use hoist::compose::model::Project;
use hoist::diag::{Diagnostic, Report, Sources};
use hoist::engine::backend::Backend;
use hoist::engine::commands::Target;
use hoist::engine::step::Plan;
use hoist::engine::up::Up;
use hoist::engine::{Engine, Finish, Prepared};
use hoist::name::{ProjectName, ServiceName};
use hoist::network::firewall::choice;
use hoist::paths::Paths;

use super::{Exit, Globals, Interrupts, Open, Output};

/// What every command has at hand.
pub(crate) struct Context<B> {
    globals: Globals,
    output: Output,
    open: Open<B>,
}

/// A project by its name, with its file if there is one.
pub(crate) struct Named {
    /// The name.
    pub(crate) name: ProjectName,
    /// The model; `None` when only `-p` was given and no file is there.
    pub(crate) project: Option<Project>,
}

impl Named {
    /// Returns the services of the file.
    pub(crate) fn services(&self) -> Vec<ServiceName> {
        self.project.iter().flat_map(|p| p.services.keys().chain(p.disabled.keys()).cloned()).collect()
    }

    /// Returns what a command is about that was given these services; `defined` is [`Named::services`].
    pub(crate) fn target<'a>(&'a self, defined: &'a [ServiceName], services: &'a [String]) -> Target<'a> {
        Target { project: &self.name, defined: self.project.as_ref().map(|_| defined), services }
    }
}

impl<B: Backend> Context<B> {
    pub(crate) fn new(globals: Globals, output: Output, open: Open<B>) -> Self {
        Self { globals, output, open }
    }

    /// Returns where output goes.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Gives the output back.
    pub(crate) fn into_output(self) -> Output {
        self.output
    }

    /// Returns whether the plan is only to be printed.
    pub(crate) fn dry_run(&self) -> bool {
        self.globals.dry_run
    }

    /// Shows what would be done.
    pub(crate) fn show(&self, plan: &Plan) {
        self.output.data(&plan.to_string());
        if plan.is_empty() && plan.warnings.is_empty() {
            self.output.note("Nothing to do: all is as the file says.");
        }
    }

    /// Shows a plan, if it is only to be shown, or applies it; Ctrl-C ends that.
    ///
    /// # Errors
    /// What could not be done.
    pub(crate) async fn apply(&self, engine: &Engine<B>, prepared: Prepared<B::Lock>) -> Result<Exit, Report> {
        if self.dry_run() {
            self.show(&prepared.plan);
            return Ok(Exit::Success);
        }
        match engine.apply(prepared, self.output(), Interrupts::listen().next()).await? {
            Finish::Done => Ok(Exit::Success),
            Finish::Interrupted | Finish::TakenBack => Ok(Exit::Interrupted),
        }
    }

    /// Plans what is asked for and does it, or shows the plan.
    ///
    /// # Errors
    /// What keeps it from being planned or done.
    pub(crate) async fn bring(&self, request: &Up<'_>, sources: Sources) -> Result<Exit, Report> {
        let mut interrupts = Interrupts::listen();
        let engine = self.engine()?;
        self.note_wait(&engine, &request.project.name);
        let prepared = tokio::select! {
            prepared = engine.prepare_up(request, self.output()) => prepared,
            () = interrupts.next() => return Ok(Exit::Interrupted),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(report) => return Err(with_sources(sources)(report)),
        };
        for warning in &prepared.warnings {
            self.output.diagnostic(warning, &sources);
        }
        if self.dry_run() {
            self.show(&prepared.plan);
            return Ok(Exit::Success);
        }
        match engine.apply(prepared, self.output(), interrupts.next()).await.map_err(with_sources(sources))? {
            Finish::Done => Ok(Exit::Success),
            Finish::Interrupted | Finish::TakenBack => Ok(Exit::Interrupted),
        }
    }

    /// Returns where the engine's files are: `HOIST_ROOT` and `HOIST_RUN`, or their defaults.
    pub(crate) fn paths(&self) -> Paths {
        let dir = |name, default: &str| {
            let given = std::env::var_os(name).filter(|value| !value.is_empty());
            let path = given.map_or_else(|| PathBuf::from(default), PathBuf::from);
            std::path::absolute(&path).unwrap_or(path) // a supervisor does not have our current directory
        };
        Paths::new(dir("HOIST_ROOT", "/var/lib/hoist"), dir("HOIST_RUN", "/run/hoist"))
    }

    /// Opens the engine; with `--dry-run` only to look.
    ///
    /// # Errors
    /// When we are not root, or the host cannot be opened.
    pub(crate) fn engine(&self) -> Result<Engine<B>, Report> {
        if self.dry_run() {
            return self.looking();
        }
        let [open, _] = self.open;
        self.open(open).map(Engine::new)
    }

    /// Opens the engine for somebody who changes nothing.
    ///
    /// # Errors
    /// As for [`Self::engine`].
    pub(crate) fn looking(&self) -> Result<Engine<B>, Report> {
        let [_, look] = self.open;
        self.open(look).map(Engine::looking)
    }

    fn open(&self, open: fn(&Paths) -> Result<B, Report>) -> Result<B, Report> {
        self.require_root()?;
        if let Some(word) = std::env::var(choice::VARIABLE).ok().filter(|word| !word.is_empty()) {
            choice::prefer(word.parse().map_err(|e| Report::message(format!("{}: {e}", choice::VARIABLE)))?);
        }
        let paths = self.paths();
        open(&paths).map_err(|mut report| {
            if let Some(last) = report.diagnostics.last_mut().filter(|d| d.help.is_none()) {
                let (root, run) = (paths.root().display(), paths.run().display());
                last.help = Some(format!("hoist keeps its files in HOIST_ROOT ({root}) and HOIST_RUN ({run})"));
            }
            report
        })
    }

    /// Says when another command is changing the project, since ours is going to wait for it.
    pub(crate) fn note_wait(&self, engine: &Engine<B>, project: &ProjectName) {
        if let Some(pid) = engine.backend().busy(project) {
            if engine.is_looking() {
                let text = format!("another hoist command (pid {pid}) is changing project `{project}` at this moment");
                return self.output.note(&text);
            }
            self.output
                .note(&format!("waiting for another hoist command (pid {pid}) that is changing project `{project}`"));
        }
    }

    /// # Errors
    /// When we are not root.
    pub(crate) fn require_root(&self) -> Result<(), Report> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Diagnostic::error(None, "hoist needs root to run containers").help("run it with sudo").into())
    }

    fn request(&self) -> Result<compose::Request, Report> {
        let cwd =
            std::env::current_dir().map_err(|e| Report::message(format!("cannot tell the current directory: {e}")))?;
        Ok(compose::Request {
            files: self.globals.file.clone(),
            project_name: self.globals.project_name.clone(),
            project_directory: self.globals.project_directory.clone(),
            env_files: self.globals.env_file.clone(),
            profiles: self.globals.profile.clone(),
            cwd,
            // A variable that is not UTF-8 cannot be put into a file that is.
            env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            stdin: None,
            names_only: false,
            services: Vec::new(),
            leave: compose::Leave::default(),
            trail: false,
        })
    }

    /// Answers a question about the model.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(crate) fn answer(
        &self,
        services: Vec<String>,
        leave: compose::Leave,
        question: &compose::Question,
    ) -> Result<compose::Answer, Report> {
        compose::answer(&compose::Request { services, leave, ..self.request()? }, question)
    }

    /// Reads the model, and shows the warnings.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(crate) fn read(&self, services: Vec<String>, leave: compose::Leave) -> Result<compose::Model, Report> {
        let read = compose::read(&compose::Request { services, leave, ..self.request()? })?;
        for warning in &read.warnings {
            self.output.diagnostic(warning, &read.sources);
        }
        Ok(read.model)
    }

    /// Loads the project for a command that is about these services, none being all, and shows its warnings.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(crate) fn load_for(&self, services: &[String]) -> Result<(Project, Sources), Report> {
        self.load_with(&compose::Request { services: services.to_vec(), ..self.request()? }, |_| true)
    }

    /// Returns the names of the project's services for who may use them or not: without a file those of its containers, and
    /// none when that is not to be had.
    pub(crate) fn service_names(&self) -> Vec<String> {
        let request = self.request().map(|request| compose::Request { names_only: true, ..request });
        if let Ok(loaded) = request.and_then(|request| compose::load(&request)) {
            let project = loaded.project;
            return project.services.keys().chain(project.disabled.keys()).map(ToString::to_string).collect();
        }
        let name = self.globals.project_name.as_ref().and_then(|text| ProjectName::new(text.as_str()).ok());
        let drawing = name.and_then(|name| self.engine().and_then(|engine| engine.drawing(&name)).ok());
        drawing.into_iter().flat_map(|drawing| drawing.nodes).map(|node| node.name).collect()
    }

    /// Loads the whole model for a command that only shows it; what is not acted upon is told by `up`.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(crate) fn model(&self) -> Result<Project, Report> {
        Ok(self.load_with(&self.request()?, |_| false)?.0)
    }

    fn load_with(
        &self,
        request: &compose::Request,
        is_shown: impl Fn(&Diagnostic) -> bool,
    ) -> Result<(Project, Sources), Report> {
        let loaded = compose::load(request)?;
        for warning in loaded.warnings.iter().filter(|warning| is_shown(warning)) {
            self.output.diagnostic(warning, &loaded.sources);
        }
        Ok((loaded.project, loaded.sources))
    }

    /// Returns the project by its file, or by `-p` alone when there is no file, as Compose does.
    ///
    /// # Errors
    /// Every mistake in the files; no file and no `-p`.
    pub(crate) fn named(&self) -> Result<Named, Report> {
        let no_file_meant = self.globals.file.is_empty() && std::env::var_os("COMPOSE_FILE").is_none();
        if let Some(text) = self.globals.project_name.as_ref().filter(|_| no_file_meant)
            && let Ok(name) = ProjectName::new(text.as_str())
        {
            // With a name, a missing file does not stand in the way of looking and removing; a broken one is an error.
            let missing = |report: &Report| report.diagnostics.iter().any(|d| d.message == compose::NO_FILE);
            return match compose::load(&compose::Request { names_only: true, ..self.request()? }) {
                Ok(loaded) => Ok(Named { name: loaded.project.name.clone(), project: Some(loaded.project) }),
                Err(report) if missing(&report) => Ok(Named { name, project: None }),
                Err(report) => Err(report),
            };
        }
        // What the file says beyond its names does not matter here, and was told by `up`.
        let request = compose::Request { names_only: true, ..self.request()? };
        let (project, _) = self.load_with(&request, |warning| warning.span.is_none())?;
        Ok(Named { name: project.name.clone(), project: Some(project) })
    }
}

/// Returns each service's hash.
pub(crate) fn hashes(project: &Project) -> BTreeMap<ServiceName, String> {
    project.services.values().map(|service| (service.name.clone(), compose::service_hash(service))).collect()
}

/// Gives a report the sources that its spans point into, unless it brought its own, as that of a build does.
pub(crate) fn with_sources(sources: Sources) -> impl FnOnce(Report) -> Report {
    move |report| if report.sources.is_empty() { Report { sources, ..report } } else { report }
}
