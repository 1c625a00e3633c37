//! YAML in, [`Project`] out; no network, no containers.
//!
//! [`load`] is the pipeline: find and read the files (`locate`) → trees with places (`yaml`) → one tree (`assemble`: variables,
//! `extends`, `include`, overrides) → types (`bind`) → rules across sections and what is left implicit (`check`) → the
//! services' own files of variables (`envfile`). Only `locate` touches the disk; time and environment are arguments.
//!
//! All mistakes of the files are reported in one run, in file order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::diag::{Diagnostic, Report, Severity, Sources};
use crate::name::{ProjectName, ServiceName};

pub mod model;
pub mod value;

mod assemble;
mod bind;
mod cast;
mod check;
mod config;
mod directive;
mod dotenv;
mod envfile;
mod extends;
mod include;
mod interpolate;
mod json;
mod keys;
mod locate;
mod merge;
mod provenance;
mod relative;
mod scalar;
mod short;
mod write;
mod yaml;

#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;

use assemble::{Assembly, Document, Scope};
pub use config::{config_json, config_yaml, service_hash};
use model::Project;

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

/// Reads, merges and checks a project.
///
/// # Errors
/// All mistakes that were found, with the warnings between them.
pub fn load(request: &Request) -> Result<Loaded, Report> {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    match run(request, &mut sources, &mut out) {
        Some(project) if !has_errors(&out) => {
            sort(&mut out);
            Ok(Loaded { project, warnings: out, sources })
        }
        _ => {
            sort(&mut out);
            Err(Report { diagnostics: out, sources, ..Report::default() })
        }
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

/// The phases in order; `None` after an error that leaves nothing to go on with.
fn run(request: &Request, sources: &mut Sources, out: &mut Vec<Diagnostic>) -> Option<Project> {
    let mut setting = locate::setting(request, locate::Need::File, sources, out)?;
    let documents = documents(&setting, request, sources, out)?;
    let name = project_name(&setting, &documents, sources, out)?;
    setting.variables.values.insert("COMPOSE_PROJECT_NAME".into(), name.to_string());
    setting.variables.origins.remove("COMPOSE_PROJECT_NAME");

    let mut assembly = Assembly::new(request, sources);
    let scope = Scope { dir: setting.directory.clone(), variables: setting.variables, chain: Vec::new(), id: 0 };
    let merged = assembly.merged(documents, &scope);
    let Assembly { out: mut mistakes, mut outcome, incomplete, partial, origins, .. } = assembly;
    let merged = merged?;
    let broken = assemble::places_of_errors(&outcome.diagnostics);
    out.append(&mut outcome.diagnostics);

    let env = &scope.variables.values;
    let mut binder = bind::Binder { name: &name, dir: &setting.directory, env, out: &mut mistakes };
    let mut declared = binder.project(&merged);
    declared.partial = partial;
    declared.incomplete.extend(incomplete.into_iter().filter_map(|name| ServiceName::new(name).ok()));
    let origin = check::Origin { name: name.clone(), working_dir: setting.directory, files: setting.files };
    let profiles = locate::profiles(request, env);
    let mut project = check::project(declared, origin, &profiles, &mut mistakes);
    let meant = meant(&project, &request.services);
    for service in project.services.values_mut().filter(|s| !request.names_only && meant.contains(&s.name)) {
        let mut read = |file: &model::EnvFile, sources: &mut Sources| locate::read_env_file(file, request, sources);
        envfile::resolve(service, env, &mut read, sources, &mut mistakes);
    }
    let said = assemble::places_of_errors(&mistakes);
    mistakes.extend(outcome.misfits.into_iter().filter(|d| !d.span.is_some_and(|at| said.iter().any(|s| s.holds(at)))));
    // What follows from a value that could not be expanded would only repeat it.
    mistakes.retain(|d| !d.span.is_some_and(|at| broken.iter().any(|b| at.holds(*b))));
    provenance::add_variables(&mut mistakes, &outcome.uses);
    out.append(&mut mistakes);
    provenance::add_files(out, &origins);
    Some(project)
}

/// Returns the named services with all that they depend on; none named is all.
fn meant(project: &Project, names: &[String]) -> BTreeSet<ServiceName> {
    let is_named = |name: &&ServiceName| names.is_empty() || names.iter().any(|n| n == name.as_str());
    let mut waiting: Vec<&ServiceName> = project.services.keys().filter(is_named).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if let Some(service) = project.services.get(name)
            && found.insert(name.clone())
        {
            waiting.extend(service.depends_on.keys());
        }
    }
    found
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
