//! Which files, which directory, which environment: the rules of Compose's command line. The one file of the loader that
//! reads from disk.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::dotenv::{self, Found};
use super::interpolate::Variables;
use super::paths::clean;
use super::{Env, Request};
use crate::diag::{Diagnostic, Sources, Span};
use crate::name::ProjectName;

/// Names that are looked for, in this order.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Names of the file that is merged onto a found one.
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The variable that leaves the files of variables alone.
const DISABLE: &str = "COMPOSE_DISABLE_ENV_FILE";
/// How large a file may be, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// What must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A file.
    File,
    /// A file, unless a name was given.
    NameOrFile,
}

/// Where a project is loaded from.
pub(crate) struct Setting {
    /// Absolute directory of the project.
    pub(crate) directory: PathBuf,
    /// Absolute files in order; `-` is standard input.
    pub(crate) files: Vec<PathBuf>,
    /// The process's environment and that of the env files.
    pub(crate) variables: Variables,
    /// A name that was given from outside of the files.
    pub(crate) explicit: Option<ProjectName>,
}

/// Finds the files, the directory and the environment.
pub(crate) fn setting(
    request: &Request,
    need: Need,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<Setting> {
    let cwd = &request.cwd;
    let given_dir = request.project_directory.as_ref().map(|dir| clean(&cwd.join(dir)));
    let mut variables = Variables { values: request.env.clone(), ..Variables::default() };
    let explicit_env = explicit_env_files(request);
    let no_dotenv = match request.env.get(DISABLE).map(|text| switch(text)) {
        None => false,
        Some(Some(off)) => off,
        Some(None) => {
            let message = format!("`{DISABLE}` must be `true` or `false`, not `{}`", request.env[DISABLE]);
            out.push(Diagnostic::error(None, message));
            return None;
        }
    };
    let dotenv = explicit_env.is_empty() && !no_dotenv;
    if !explicit_env.is_empty() {
        let mut found = Found::new();
        for path in &explicit_env {
            read_env(&clean(&cwd.join(path)), &variables.values, &mut found, request, sources, out)?;
        }
        variables.adopt(found);
    }
    let beside = |files: &[PathBuf]| {
        let first = files.iter().find(|file| !is_stdin(file))?;
        clean(&cwd.join(first)).parent().map(Path::to_path_buf)
    };
    let first_dir = given_dir.clone().or_else(|| beside(&request.files)).unwrap_or_else(|| cwd.clone());
    if dotenv {
        read_dotenv(&first_dir, &mut variables, request, sources, out)?;
    }

    let given = variables.values.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    let explicit = match request.project_name.as_ref().filter(|name| !name.is_empty()).or(given) {
        Some(text) => match ProjectName::new(text.as_str()) {
            Ok(name) => Some(name),
            Err(error) => {
                let better = normalise(text);
                let mut diagnostic = Diagnostic::error(None, error.to_string());
                diagnostic.help = (!better.is_empty()).then(|| format!("`{better}` would be one"));
                out.push(diagnostic);
                return None;
            }
        },
        None => None,
    };

    let files = files(request, &variables.values, given_dir.as_deref().unwrap_or(cwd), out);
    if files.is_empty() && (need == Need::File || explicit.is_none()) {
        let from = given_dir.as_deref().unwrap_or(cwd).display().to_string();
        out.push(
            Diagnostic::error(None, super::NO_FILE)
                .help(format!("looked for {} in `{from}` and above; name one with `-f`", NAMES.join(", "))),
        );
        return None;
    }
    let directory = given_dir.or_else(|| beside(&files)).unwrap_or_else(|| cwd.clone());
    if dotenv && directory != first_dir {
        read_dotenv(&directory, &mut variables, request, sources, out)?;
    }
    variables.values.entry("PWD".into()).or_insert_with(|| cwd.to_string_lossy().into_owned());
    Some(Setting { directory, files, variables, explicit })
}

/// Reads a boolean of the environment, as Go's `strconv.ParseBool` does.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Returns the profiles that are on.
pub(crate) fn profiles(request: &Request, env: &Env) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let text = env.get("COMPOSE_PROFILES").map_or("", String::as_str);
    text.split(',').map(str::trim).filter(|profile| !profile.is_empty()).map(str::to_owned).collect()
}

/// Makes a project name of any text: lower case, nothing but letters, digits, `_` and `-`, a letter or digit first.
pub(crate) fn normalise(text: &str) -> String {
    let text: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    text.trim_start_matches(['_', '-']).to_owned()
}

/// Reads a compose file into `sources`.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path, request: &Request, sources: &mut Sources) -> Result<u16, Diagnostic> {
    if !is_stdin(path) {
        return read_text(path, request, sources);
    }
    match &request.stdin {
        Some(text) => Ok(sources.add("stdin", text.clone())),
        None => read_from(std::io::stdin().lock(), 0, Path::new("stdin"), sources),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads a text file into `sources`, under the path that a user sitting in the current directory would write.
///
/// # Errors
/// When it cannot be read, is too large, or is no text; without a place, unless it is within the file.
pub(crate) fn read_text(path: &Path, request: &Request, sources: &mut Sources) -> Result<u16, Diagnostic> {
    let shown = path.strip_prefix(&request.cwd).unwrap_or(path);
    let refused = |why: &str| Diagnostic::error(None, format!("`{}` is {why}, not a file", shown.display()));
    let failed = |error| Diagnostic::error(None, format!("cannot read `{}`: {error}", shown.display()));
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(refused("a directory"));
    }
    // What a shell hands over as /dev/fd/63 is a pipe with somebody at its other end; of any other, nobody knows.
    if !kind.is_file() && !is_handed_over(path) {
        return Err(refused(if kind.is_fifo() { "a named pipe" } else { "a device" }));
    }
    read_from(std::fs::File::open(path).map_err(failed)?, metadata.len(), shown, sources)
}

/// Reads all of `reader`, which has some `size` bytes, into `sources`.
fn read_from(reader: impl std::io::Read, size: u64, shown: &Path, sources: &mut Sources) -> Result<u16, Diagnostic> {
    let failed = |error| Diagnostic::error(None, format!("cannot read `{}`: {error}", shown.display()));
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(MAX_FILE)).unwrap_or(0));
    reader.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("`{}` has more than {} MiB", shown.display(), MAX_FILE >> 20);
        return Err(Diagnostic::error(None, message));
    }
    String::from_utf8(bytes).map(|text| sources.add(shown, text)).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let file = sources.add(shown, text);
        Diagnostic::error(Some(Span::new(file, good, good + 1)), "this is not valid UTF-8")
    })
}

/// Returns whether `path` is a descriptor of this process, or `/dev/null`.
fn is_handed_over(path: &Path) -> bool {
    let real = path.parent().and_then(|parent| parent.canonicalize().ok());
    path == Path::new("/dev/null")
        || path == Path::new("/dev/stdin")
        || real.is_some_and(|parent| parent.starts_with("/proc") && parent.ends_with("fd"))
}

/// Reads a file of a service's variables, asked for at `at`, into `sources`; `None` when there is no such file.
pub(crate) fn read_env_file(
    path: &Path,
    at: Span,
    request: &Request,
    sources: &mut Sources,
) -> Result<Option<u16>, Diagnostic> {
    if std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let number = read_text(path, request, sources);
    number.map(Some).map_err(|error| Diagnostic { span: error.span.or(Some(at)), ..error })
}

fn explicit_env_files(request: &Request) -> Vec<PathBuf> {
    if !request.env_files.is_empty() {
        return request.env_files.clone();
    }
    let text = request.env.get("COMPOSE_ENV_FILES").map_or("", String::as_str);
    if text.is_empty() { Vec::new() } else { text.split(',').map(PathBuf::from).collect() }
}

/// Returns the `.env` of a directory, if it has one.
pub(crate) fn dotenv(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(".env")).filter(|path| path.exists() && !path.is_dir())
}

fn read_dotenv(
    directory: &Path,
    variables: &mut Variables,
    request: &Request,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<()> {
    let Some(path) = self::dotenv(directory) else { return Some(()) };
    let mut found = Found::new();
    read_env(&path, &variables.values, &mut found, request, sources, out)?;
    if found.get(DISABLE).is_some_and(|found| switch(&found.value) == Some(true)) {
        // What is said to the program itself is heard nevertheless.
        found.retain(|name, _| name.starts_with("COMPOSE_"));
    }
    variables.adopt(found);
    Some(())
}

fn read_env(
    path: &Path,
    env: &Env,
    found: &mut Found,
    request: &Request,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<()> {
    let result =
        read_text(path, request, sources).and_then(|file| dotenv::parse(file, sources.text(file), env, found, out));
    result.map_err(|error| out.push(error)).ok()
}

/// Returns whether something is at an absolute path; what cannot be looked at counts as there.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).try_exists().unwrap_or(true)
}

/// Returns `path` with its first symbolic link followed, if there is one, as docker compose does for paths that are watched.
pub(crate) fn real(path: &str) -> String {
    let parents: Vec<&Path> = Path::new(path).ancestors().collect();
    for part in parents.into_iter().rev() {
        if part.is_symlink()
            && let Ok(target) = part.canonicalize()
            && let Ok(rest) = Path::new(path).strip_prefix(part)
        {
            return target.join(rest).to_string_lossy().into_owned();
        }
    }
    path.to_owned()
}

/// Returns the absolute files: those named, else those of `COMPOSE_FILE`, else the one that is found and its override.
fn files(request: &Request, env: &Env, from: &Path, out: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let absolute = |path: &Path| if is_stdin(path) { path.to_path_buf() } else { clean(&request.cwd.join(path)) };
    if !request.files.is_empty() {
        return request.files.iter().map(|path| absolute(path)).collect();
    }
    if let Some(list) = env.get("COMPOSE_FILE") {
        let separator = env.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty()).map_or(":", String::as_str);
        if list.split(separator).any(str::is_empty) {
            let message = format!("`COMPOSE_FILE` names an empty path: `{list}`");
            out.push(Diagnostic::error(None, message).help("unset it, or name files in it"));
        }
        return list.split(separator).map(|path| absolute(Path::new(path))).collect();
    }
    for directory in from.ancestors() {
        let found: Vec<PathBuf> = NAMES.iter().map(|name| directory.join(name)).filter(|path| path.is_file()).collect();
        let Some(first) = found.first() else { continue };
        if found.len() > 1 {
            let names: Vec<String> =
                found.iter().filter_map(|p| p.file_name()).map(|n| format!("`{}`", n.to_string_lossy())).collect();
            out.push(
                Diagnostic::warning(
                    None,
                    format!("several compose files are here: {}; the first is used", names.join(", ")),
                )
                .help("name one with `-f`"),
            );
        }
        let beside = OVERRIDES.iter().map(|name| directory.join(name)).find(|path| path.is_file());
        return std::iter::once(first.clone()).chain(beside).collect();
    }
    Vec::new()
}
