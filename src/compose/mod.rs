//! YAML in, [`Project`] out; no network, no containers.
//!
//! [`read`] is the pipeline: find and read the files (`locate`) → trees with places (`yaml`) → one tree (`assemble`: variables,
//! `extends`, `include`, overrides) → long forms and types (`canonical`) → what is left implicit (`complete`, `paths`) →
//! rules across sections (`check`) → the services' own files of variables (`envfile`) → the services that are meant
//! (`select`). What an attribute is, each step asks the one table (`schema`). The tree that comes of it is the [`Model`], which
//! `config` prints; [`load`] gives the typed [`Project`] beside it (`bind`), for the engine, and refuses what is valid and
//! cannot be brought up. Who only looks pays for neither. Only `locate` touches the disk; time and environment are arguments.
//!
//! All mistakes of the files are reported in one run, in file order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::diag::{Diagnostic, Report, Severity, Sources};
use crate::name::ProjectName;

pub mod model;
pub mod oneoff;
pub mod value;

mod answer;
mod assemble;
mod bind;
mod canonical;
mod cast;
mod check;
mod complete;
mod config;
mod consistency;
mod directive;
mod dotenv;
mod effects;
mod envfile;
mod explain;
mod extends;
mod facets;
mod include;
mod interpolate;
mod json;
mod lint;
mod locate;
mod map;
mod merge;
mod paths;
mod place;
mod print;
mod provenance;
mod rules;
mod scalar;
mod schema;
mod select;
mod short;
mod trail;
mod tree;
mod unique;
mod variables;
mod write;
mod yaml;

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Question, answer};
use assemble::{Assembly, Document, Scope};
pub use config::{config, service_hash};
pub use facets::{Facet, FacetValue, Written, facets, is_inert};
use model::Project;
pub use print::Format;
pub use short::hosts::parse as short_host;
pub use short::units::bytes;
pub use variables::Variable;

/// Environment variables.
pub type Env = BTreeMap<String, String>;

/// The message of the error that no file is where one is looked for; commands that can do without one know it by this.
pub const NO_FILE: &str = "no compose file was found";

/// What to load, and from where.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `-f`, in order; `-` is [`Self::stdin`]. Empty: `COMPOSE_FILE`, else a search upward from [`Self::cwd`].
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--env-file`, in order; they replace `.env`.
    pub env_files: Vec<PathBuf>,
    /// `--profile`; empty: `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Absolute current directory.
    pub cwd: PathBuf,
    /// The process's environment.
    pub env: Env,
    /// What stands for `-f -`; `None` is standard input, which is read when it is asked for.
    pub stdin: Option<String>,
    /// Leave the files of `env_file` alone: who needs nothing but names must not fail for one that is missing.
    pub names_only: bool,
    /// The services that are meant; none is all. Files of `env_file` are read for these and what they depend on.
    pub services: Vec<String>,
    /// Steps that are left out.
    pub leave: Leave,
    /// Keep what each file says, for who asks where a value came from.
    pub trail: bool,
}

/// Steps on the way to a [`Model`] that are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of `config`")]
pub struct Leave {
    /// `--no-interpolate`: variables stay as they are written, and with them all values.
    pub variables: bool,
    /// `--no-normalize`: what is implicit stays so.
    pub implicit: bool,
    /// `--no-path-resolution`: relative paths stay so.
    pub paths: bool,
    /// Files of `env_file` are not read, and stay in the model.
    pub env_files: bool,
    /// `--no-consistency`: rules across sections are not asked.
    pub consistency: bool,
    /// Resources that no service uses stay in the model.
    pub unused: bool,
}

/// A whole project in canonical form, every value with its place.
#[derive(Debug)]
pub struct Model {
    /// The tree, without the services that are switched off.
    pub(crate) root: yaml::Node,
    /// Services that are switched off by their profiles, or were not meant.
    pub(crate) disabled: yaml::Map,
    /// Variables were left as they are written, and values too.
    pub(crate) raw: bool,
    /// The project's environment.
    pub(crate) env: Env,
    /// What each file says, if that was asked for.
    pub(crate) trail: Option<trail::Trail>,
}

/// A model and what there was to say about it.
#[derive(Debug)]
pub struct Read {
    /// The model.
    pub model: Model,
    /// Warnings in file order.
    pub warnings: Vec<Diagnostic>,
    /// The texts that the warnings and the model's places point into.
    pub sources: Sources,
}

/// A project and what there was to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// Warnings in file order.
    pub warnings: Vec<Diagnostic>,
    /// The texts that the warnings and the project's spans point into.
    pub sources: Sources,
}

/// Which project is meant, for commands that need no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The project's name.
    pub name: ProjectName,
    /// Its absolute directory.
    pub directory: PathBuf,
    /// Its files; empty when there is none and the name was given.
    pub files: Vec<PathBuf>,
}

/// Reads, merges and checks a project, for who wants to bring it up.
///
/// # Errors
/// All mistakes that were found, and what is valid and cannot be brought up, with the warnings between them.
pub fn load(request: &Request) -> Result<Loaded, Report> {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    let mut unmet = Vec::new();
    let made = run(request, &mut sources, &mut out, Some(&mut unmet));
    out.append(&mut unmet);
    sort(&mut out);
    match made {
        Some((mut model, Some(mut project))) if !has_errors(&out) => {
            for (name, entry) in model.root.section_mut("services") {
                if let (Some(service), Some(map)) = (project.services.get_mut(name.as_str()), entry.value.as_map_mut())
                {
                    service.hash = config::hash(map);
                    service.written = Written::new(std::mem::take(map));
                }
            }
            Ok(Loaded { project, warnings: out, sources })
        }
        _ => Err(Report { diagnostics: out, sources, ..Report::default() }),
    }
}

/// Reads, merges and checks a project, for who wants to look at it.
///
/// # Errors
/// All mistakes that were found, with the warnings between them.
pub fn read(request: &Request) -> Result<Read, Report> {
    look(request, None)
}

/// As [`read`]; what is valid and cannot be brought up goes to `unmet`, for who wants to know it.
fn look(request: &Request, unmet: Option<&mut Vec<Diagnostic>>) -> Result<Read, Report> {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    let made = run(request, &mut sources, &mut out, unmet);
    let model = made.and_then(|(mut model, project)| {
        // As in `answer`: what has done its part is not taken apart.
        std::mem::forget(project);
        let profiles = locate::profiles(request, &model.env);
        let Model { root, disabled, raw, .. } = &mut model;
        if *raw {
            return Some(model);
        }
        if let Err(error) = select::services(root, disabled, &request.services, &profiles) {
            out.push(error);
            return None;
        }
        if !request.leave.unused {
            select::used(root);
        }
        Some(model)
    });
    sort(&mut out);
    match model {
        Some(model) if !has_errors(&out) => Ok(Read { model, warnings: out, sources }),
        _ => Err(Report { diagnostics: out, sources, ..Report::default() }),
    }
}

/// Finds the project's name and directory. With a name that was given, by `-p` or `COMPOSE_PROJECT_NAME`, no file needs to
/// exist.
///
/// # Errors
/// When there is neither a name nor a file, or something that was named cannot be read.
pub fn locate(request: &Request) -> Result<Location, Report> {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    let found = (|| {
        let setting = locate::setting(request, locate::Need::NameOrFile, &mut sources, &mut out)?;
        let documents = match setting.explicit {
            Some(_) => Vec::new(),
            None => documents(&setting, request, &mut sources, &mut out)?,
        };
        let name = project_name(&setting, &documents, &sources, &mut out)?;
        Some(Location { name, directory: setting.directory, files: setting.files })
    })();
    found.filter(|_| !has_errors(&out)).ok_or_else(|| {
        sort(&mut out);
        Report { diagnostics: out, sources, ..Report::default() }
    })
}

/// The phases in order; `None` after an error that leaves nothing to go on with. What is valid and cannot be brought up goes
/// to `unmet`; without that there is no project either.
fn run(
    request: &Request,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
    mut unmet: Option<&mut Vec<Diagnostic>>,
) -> Option<(Model, Option<Project>)> {
    let leave = request.leave;
    let mut setting = locate::setting(request, locate::Need::File, sources, out)?;
    let documents = documents(&setting, request, sources, out)?;
    let name = project_name(&setting, &documents, sources, out)?;
    setting.variables.values.insert("COMPOSE_PROJECT_NAME".into(), name.to_string());
    setting.variables.origins.remove("COMPOSE_PROJECT_NAME");

    let mut assembly = Assembly::new(request, sources);
    let scope = Scope { dir: setting.directory.clone(), variables: setting.variables, chain: Vec::new(), id: 0 };
    let merged = assembly.merged(documents, &scope);
    let Assembly { out: mut mistakes, mut outcome, incomplete, partial, origins, mut trail, .. } = assembly;
    let mut root = merged?;
    let broken = assemble::places_of_errors(&outcome.diagnostics);
    out.append(&mut outcome.diagnostics);

    let mut canon = canonical::Canon::new(leave.variables, &mut mistakes);
    canon.file(&mut root);
    let damaged = canon.damaged;
    unique::entries(&schema::FILE, &mut root);
    if let Some(unmet) = unmet.as_deref_mut().filter(|_| !leave.variables) {
        effects::file(&root, unmet);
    }
    complete::defaults(&mut root, leave.variables);
    rules::file(&root, &mut mistakes);
    let env = &scope.variables.values;
    if !leave.paths {
        let base = paths::Base { dir: &setting.directory, env, real: &locate::real };
        base.resolve(&schema::FILE, &mut root);
    }
    if !leave.implicit {
        // Where variables are left alone, so are those that have only a name.
        let none = Env::new();
        complete::normalise(&mut root, name.as_str(), if leave.variables { &none } else { env });
    }

    let profiles = locate::profiles(request, env);
    let mut project = unmet.as_deref_mut().map(|unmet| {
        let declared = bind::Binder { name: &name, unmet, env }.project(&root);
        let origin = check::Origin { name: name.clone(), working_dir: setting.directory, files: setting.files };
        check::project(declared, origin, &profiles, unmet)
    });
    let mut inconsistent = Vec::new();
    rules::services(&root, &mut inconsistent);
    let missing = incomplete.into_iter().chain(damaged).collect();
    let missing = consistency::Missing { services: &missing, file: partial };
    consistency::check(&root, &profiles, &missing, &mut inconsistent);
    if !leave.consistency && !leave.variables {
        mistakes.append(&mut inconsistent);
    }
    let mut model = Model { root, disabled: yaml::Map::default(), raw: leave.variables, env: env.clone(), trail: None };
    if !leave.variables {
        model.disabled = select::profiles(&mut model.root, &profiles);
        if leave.implicit {
            model.root.put("name", model.root.span, yaml::Kind::Str(name.to_string()));
        }
        let meant = select::meant(&model.root, &request.services);
        let services = model.root.section_mut("services").filter(|_| !request.names_only);
        for (name, entry) in services.filter(|(name, _)| meant.as_ref().is_none_or(|meant| meant.contains(*name))) {
            let node = &mut entry.value;
            let section = std::cell::Cell::new("labels");
            let mut read = |file: &envfile::EnvFile, sources: &mut Sources| {
                let path = request.cwd.join(&file.path);
                let number = locate::read_env_file(&path, file.span, request, sources)?;
                if let (Some(trail), Some(number)) = (&mut trail, number) {
                    trail.files.push(trail::ServiceFile {
                        service: name.clone(),
                        section: section.get(),
                        file: number,
                        at: file.span,
                        raw: file.raw,
                    });
                }
                Ok(number)
            };
            envfile::labels(name, node, &mut read, sources, &mut mistakes);
            if !leave.env_files {
                section.set("environment");
                envfile::environment(name, node, env, &mut read, sources, &mut mistakes);
            }
            if let Some(service) = project.as_mut().and_then(|project| project.services.get_mut(name.as_str())) {
                bind::service::files(service, node);
            }
        }
    }
    let said = assemble::places_of_errors(&mistakes);
    mistakes.extend(outcome.misfits.into_iter().filter(|d| !d.span.is_some_and(|at| said.iter().any(|s| s.holds(at)))));
    // What follows from a value that could not be expanded would only repeat it.
    let is_new = |d: &Diagnostic| !d.span.is_some_and(|at| broken.iter().any(|b| at.holds(*b)));
    mistakes.retain(is_new);
    provenance::add_variables(&mut mistakes, &outcome.uses);
    out.append(&mut mistakes);
    provenance::add_files(out, &origins);
    if let Some(unmet) = unmet {
        unmet.retain(is_new);
        provenance::add_variables(unmet, &outcome.uses);
        provenance::add_files(unmet, &origins);
    }
    model.trail = trail.map(|trail| trail::Trail { origins, ..trail });
    Some((model, project))
}

/// Parses every file; the first syntax error of each is reported.
fn documents(
    setting: &locate::Setting,
    request: &Request,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<Vec<Document>> {
    let mut all = Vec::new();
    let mut sound = true;
    for path in &setting.files {
        let parsed =
            locate::read(path, request, sources).and_then(|file| Ok((file, yaml::parse(file, sources.text(file))?)));
        match parsed {
            Ok((file, (mut documents, mut warnings))) => {
                out.append(&mut warnings);
                documents.retain(|document| document.kind != yaml::Kind::Null);
                if documents.is_empty() {
                    sound = false;
                    let shown = sources.path(file).display().to_string();
                    out.push(
                        Diagnostic::error(None, format!("the compose file `{shown}` is empty"))
                            .help("it begins with `services:`"),
                    );
                }
                all.extend(documents.into_iter().map(|tree| Document { path: path.clone(), tree }));
            }
            Err(error) => {
                sound = false;
                out.push(error);
            }
        }
    }
    sound.then_some(all)
}

/// Returns the given name, else the last `name:`, else that of the directory.
fn project_name(
    setting: &locate::Setting,
    documents: &[Document],
    sources: &Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<ProjectName> {
    if let Some(name) = &setting.explicit {
        return Some(name.clone());
    }
    let written = documents.iter().rev().find_map(|document| match &document.tree.kind {
        yaml::Kind::Map(map) => match map.get("name").map(|entry| &entry.value) {
            Some(yaml::Node { kind: yaml::Kind::Str(text), span, .. }) if !text.is_empty() => Some((text, *span)),
            _ => None,
        },
        _ => None,
    });
    // After a mistake the directory's name stands in, so that the rest can be looked at.
    if let Some((text, at)) = written {
        match interpolate::expand(text, &setting.variables.values) {
            Ok((text, _)) => {
                let normal = locate::normalise(&text);
                if !normal.is_empty() {
                    return ProjectName::new(normal)
                        .map_err(|e| out.push(Diagnostic::error(Some(at), e.to_string())))
                        .ok();
                }
                let message = format!("nothing of `{text}` can be in a project's name");
                out.push(
                    Diagnostic::error(Some(at), message)
                        .help("a name is made of lowercase letters of ASCII, digits, `_` and `-`"),
                );
            }
            Err(error) => out.push(error.diagnostic_in(at, sources)),
        }
    }
    let base = setting.directory.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let text = locate::normalise(&base);
    if text.is_empty() {
        out.push(
            Diagnostic::error(None, "the project has no name")
                .help("give it one with `-p NAME` or `name:` in the file"),
        );
        return None;
    }
    ProjectName::new(text).map_err(|error| out.push(Diagnostic::error(None, error.to_string()))).ok()
}

fn has_errors(out: &[Diagnostic]) -> bool {
    out.iter().any(|d| d.severity == Severity::Error)
}

/// Orders by place, each once; what has no place comes first.
fn sort(out: &mut Vec<Diagnostic>) {
    out.sort_by_key(|d| d.span.map(|span| (span.file, span.lo)));
    // What is included or extended twice has its mistakes twice.
    out.dedup();
}

impl Model {
    /// Returns the services in the order in which they start, as far as dependencies tell; else in file order.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        select::in_order(&self.root)
    }

    /// Returns the names of the entries of a section, such as `volumes`, in file order.
    #[must_use]
    pub fn names(&self, section: &str) -> Vec<String> {
        self.root.section(section).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the artifacts of the models, in file order.
    #[must_use]
    pub fn models(&self) -> Vec<String> {
        let models = self.root.section("models");
        models.filter_map(|(_, entry)| entry.value.text_at("model").map(str::to_owned)).collect()
    }

    /// Returns the profiles that any service names, sorted.
    #[must_use]
    pub fn profiles(&self) -> BTreeSet<String> {
        let services = self.root.section("services").chain(&self.disabled);
        let own = services.filter_map(|(_, entry)| entry.value.get("profiles")).flat_map(yaml::Node::items);
        own.filter_map(|profile| profile.as_text().map(str::to_owned)).collect()
    }

    /// Returns each service's image, that which will be built included.
    #[must_use]
    pub fn images(&self) -> Vec<(String, String)> {
        let project = self.root.text_at("name").unwrap_or_default();
        let image = |(name, entry): (&String, &yaml::Entry)| {
            let image = entry.value.text_at("image").map_or_else(|| format!("{project}-{name}"), str::to_owned);
            (name.clone(), image)
        };
        self.root.section("services").map(image).collect()
    }

    /// Returns the images that services name themselves.
    #[must_use]
    pub fn named_images(&self) -> Vec<(String, String)> {
        let services = self.root.section("services");
        services.filter_map(|(name, entry)| Some((name.clone(), entry.value.text_at("image")?.to_owned()))).collect()
    }

    /// Puts other images in place of those that services name.
    pub fn replace_images(&mut self, images: &BTreeMap<String, String>) {
        for (name, entry) in self.root.section_mut("services") {
            if let (Some(image), Some(node)) = (images.get(name), entry.value.get_mut("image")) {
                node.kind = yaml::Kind::Str(image.clone());
            }
        }
    }

    /// Leaves of the services nothing but their images, and of the rest nothing: an override file.
    pub fn only_images(&mut self) {
        if let Some(top) = self.root.as_map_mut() {
            top.retain(|key, _| key == "services");
        }
        for (_, entry) in self.root.section_mut("services") {
            if let Some(service) = entry.value.as_map_mut() {
                service.retain(|key, _| key == "image");
            }
        }
    }

    /// Returns the hash of each service, sorted by name.
    #[must_use]
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let services = self.root.section("services");
        services.filter_map(|(name, entry)| Some((name.clone(), config::hash(entry.value.as_map()?)))).collect()
    }

    /// Returns the variables that the files name, sorted.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, Variable> {
        variables::of(&self.root)
    }

    /// Returns the environment that variables are replaced from.
    #[must_use]
    pub fn environment(&self) -> &Env {
        &self.env
    }
}
