//! The golden cases: what docker compose prints for a project, byte for byte, and what it refuses.
//!
//! `tests/data/compose-golden` holds ours; the whole corpus is run where it is at hand. Its README says what the fields of a
//! case mean.

use std::path::{Path, PathBuf};

use super::answer::{Question, answer};
use super::{Env, Format, Request, paths};

#[derive(serde::Deserialize)]
struct Case {
    args: Vec<String>,
    config_args: Vec<String>,
    env: Env,
    cwd: String,
    expect: String,
    #[serde(default)]
    error_at: Vec<String>,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    variants: Vec<Variant>,
}

#[derive(serde::Deserialize)]
struct Variant {
    file: String,
    config_args: Vec<String>,
    expect: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    unordered: bool,
}

/// One run of a case.
struct Run<'a> {
    args: &'a [String],
    config_args: &'a [String],
    expect: &'a str,
    file: &'a str,
    unordered: bool,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory for the case");
    for entry in std::fs::read_dir(from).expect("the case") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == "case.json" || text.starts_with("expected") {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).expect("a copy");
        }
    }
}

/// Reads the command line of a run.
fn request(run: &Run<'_>, case: &Case, dir: &Path) -> (Request, Question, bool) {
    let mut request = Request { cwd: paths::clean(&dir.join(&case.cwd)), ..Request::default() };
    request.env = case.env.clone();
    request.env.insert("HOME".into(), "/home/golden".into());
    request.env.insert("PATH".into(), "/usr/bin:/bin".into());
    request.stdin = Some(match &case.stdin {
        Some(file) => std::fs::read_to_string(dir.join(file)).expect("stdin of the case"),
        None => String::new(),
    });
    let mut args = run.args.iter();
    while let Some(arg) = args.next() {
        if arg == "--all-resources" {
            request.leave.unused = true;
            continue;
        }
        let value = args.next().unwrap_or_else(|| panic!("{arg} without value"));
        match arg.as_str() {
            "-f" | "--file" => request.files.push(value.into()),
            "-p" | "--project-name" => request.project_name = Some(value.clone()),
            "--project-directory" => request.project_directory = Some(value.into()),
            "--env-file" => request.env_files.push(value.into()),
            "--profile" => request.profiles.push(value.clone()),
            other => panic!("the argument {other} is not known to this test"),
        }
    }
    let mut format = None;
    let mut question = None;
    let mut quiet = false;
    let mut args = run.config_args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--format" => {
                format = match args.next().map(String::as_str) {
                    Some("json") => Some(Format::Json),
                    Some("yaml") => Some(Format::Yaml),
                    other => panic!("no such format: {other:?}"),
                };
            }
            "--services" => question = Some(Question::Services),
            "--volumes" => question = Some(Question::Volumes),
            "--networks" => question = Some(Question::Networks),
            "--models" => question = Some(Question::Models),
            "--profiles" => question = Some(Question::Profiles),
            "--images" => question = question.or(Some(Question::Images)),
            "--variables" => question = Some(Question::Variables(None)),
            "--environment" => question = question.or(Some(Question::Environment)),
            "--quiet" => quiet = true,
            "--no-interpolate" => request.leave.variables = true,
            "--no-normalize" => request.leave.implicit = true,
            "--no-path-resolution" => request.leave.paths = true,
            "--no-env-resolution" => request.leave.env_files = true,
            "--no-consistency" => request.leave.consistency = true,
            name if !name.starts_with('-') => request.services.push(name.to_owned()),
            other => panic!("the flag {other} is not known to this test"),
        }
    }
    let question = match question {
        Some(Question::Variables(_)) => Question::Variables(format),
        Some(question) => question,
        None => Question::Model(format.unwrap_or(Format::Yaml)),
    };
    (request, question, quiet)
}

/// Runs one run of a case in `dir`, a copy of it.
fn one(run: &Run<'_>, case: &Case, folder: &Path, dir: &Path) -> Result<(), String> {
    let (request, question, quiet) = request(run, case, dir);
    match answer(&request, &question) {
        Ok(_) if run.expect == "error" => Err("it was accepted".into()),
        Ok(answer) => {
            let text = if quiet { String::new() } else { answer.text };
            let text = text.replace(&dir.to_string_lossy().into_owned(), "$DIR");
            let wanted = std::fs::read_to_string(folder.join(run.file)).expect("the golden file");
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            if text == wanted || run.unordered && sorted(&text) == sorted(&wanted) {
                return Ok(());
            }
            let at = text.lines().zip(wanted.lines()).position(|(a, b)| a != b);
            let at = at.unwrap_or_else(|| text.lines().count().min(wanted.lines().count()));
            let line = |text: &str| text.lines().nth(at).map(str::to_owned);
            Err(format!("line {}: {:?}, not {:?}", at + 1, line(&text), line(&wanted)))
        }
        Err(report) if run.expect == "ok" => Err(report.render(false)),
        Err(report) => {
            let text = report.render(false);
            let at = |place: &String| text.contains(&format!("--> {place}:"));
            if case.error_at.is_empty() || run.file != "expected.yaml" || case.error_at.iter().any(at) {
                Ok(())
            } else {
                Err(format!("not at {:?}:\n{text}", case.error_at))
            }
        }
    }
}

/// Runs every run of the case in `folder`; returns those that failed, and how many there were.
fn run_case(folder: &Path) -> (Vec<String>, usize) {
    let text = std::fs::read_to_string(folder.join("case.json")).expect("case.json");
    let case: Case = serde_json::from_str(&text).expect("a case");
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().canonicalize().expect("a real directory");
    let dir = root.join(folder.file_name().expect("a name"));
    copy(folder, &dir);
    let main = Run {
        args: &case.args,
        config_args: &case.config_args,
        expect: &case.expect,
        file: "expected.yaml",
        unordered: false,
    };
    let variants = case.variants.iter().map(|variant| Run {
        args: variant.args.as_ref().unwrap_or(&case.args),
        config_args: &variant.config_args,
        expect: &variant.expect,
        file: &variant.file,
        unordered: variant.unordered,
    });
    let runs: Vec<Run<'_>> = std::iter::once(main).chain(variants).collect();
    let failed = runs.iter().filter_map(|run| {
        let why = one(run, &case, folder, &dir).err()?;
        Some(format!("{} {}: {why}", run.file, run.config_args.join(" ")))
    });
    (failed.collect(), runs.len())
}

fn cases(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut cases: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    cases.retain(|path| path.join("case.json").is_file());
    cases.sort();
    cases
}

/// Where we differ on purpose: `case rule`, each with the rule that says why.
fn differences() -> Vec<(String, String)> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose-golden/differences.txt");
    let text = std::fs::read_to_string(list).expect("the list");
    text.lines().filter_map(|line| line.split_once(' ')).map(|(case, why)| (case.to_owned(), why.to_owned())).collect()
}

/// Runs the cases of a group; a case on the list must differ, so that the list cannot grow old.
fn group(name: &str, root: &Path) -> (String, Vec<String>) {
    let known = differences();
    let mut surprises = Vec::new();
    let cases = cases(root);
    let (mut whole, mut runs, mut passed, mut differ) = (0, 0, 0, 0);
    for folder in &cases {
        let id = format!("{name}/{}", folder.file_name().expect("a name").to_string_lossy());
        let (failed, count) = run_case(folder);
        runs += count;
        passed += count - failed.len();
        let listed = known.iter().any(|(case, _)| *case == id);
        match (listed, failed.is_empty()) {
            (true, false) => differ += 1,
            (true, true) => surprises.push(format!("{id} is on the list of differences and differs in nothing")),
            (false, true) => whole += 1,
            (false, false) => surprises.extend(failed.into_iter().map(|why| format!("{id} {why}"))),
        }
    }
    let summary =
        format!("{name}: {whole} of {} cases, {differ} differ on purpose; {passed} of {runs} runs\n", cases.len());
    (summary, surprises)
}

#[test]
fn our_golden_cases_print_and_fail_as_docker_compose_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose-golden/own");
    let (summary, surprises) = group("own", &root);
    assert!(cases(&root).len() > 300, "only {} cases in {}", cases(&root).len(), root.display());
    assert!(surprises.is_empty(), "{summary}{}", surprises.join("\n"));
}

/// The whole corpus, where it is at hand: `HOIST_COMPOSE_GOLDEN`, else `../shared/data/compose-golden`.
#[test]
fn the_whole_golden_corpus_prints_and_fails_as_docker_compose_does() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = std::env::var_os("HOIST_COMPOSE_GOLDEN")
        .map_or_else(|| manifest.join("../shared/data/compose-golden"), PathBuf::from);
    if !root.is_dir() {
        crate::testing::skip(&format!("the golden corpus is not at {}", root.display()));
        return;
    }
    let mut all = String::new();
    let mut surprises = Vec::new();
    for name in ["awesome-compose", "compose-go", "docker-compose", "own"] {
        let (summary, mut more) = group(name, &root.join(name));
        all.push_str(&summary);
        surprises.append(&mut more);
    }
    crate::testing::say(&all);
    assert!(surprises.is_empty(), "{all}{}", surprises.join("\n"));
}

/// What docker compose prints for a case, read as a file, prints itself again.
#[test]
fn what_is_printed_is_in_canonical_form_already() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose-golden/own");
    let mut read = 0;
    let mut differ = Vec::new();
    for folder in cases(&root) {
        let case = std::fs::read_to_string(folder.join("case.json")).expect("case.json");
        let case: Case = serde_json::from_str(&case).expect("a case");
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        // Keys of `ssh` are printed in a form that is none of theirs, and a line separator as a line break that YAML 1.2 folds.
        let is_unreadable = name.starts_with("build-ssh") || name == "quote-unicode";
        if case.expect == "error" || !case.config_args.is_empty() || is_unreadable {
            continue;
        }
        let printed = std::fs::read_to_string(folder.join("expected.yaml")).expect("the golden file");
        let printed = printed.replace("$DIR", "/dir").replace("/dir$", "/dir$$");
        let request = Request {
            files: vec!["-".into()],
            profiles: vec!["*".into()],
            cwd: "/nonexistent".into(),
            stdin: Some(printed.clone()),
            ..Request::default()
        };
        match answer(&request, &Question::Model(Format::Yaml)) {
            Ok(answer) if answer.text == printed => {}
            Ok(answer) => {
                let line = answer.text.lines().zip(printed.lines()).find(|(again, first)| again != first);
                differ.push(format!("{name}: {line:?}"));
            }
            Err(report) => differ.push(format!("{name}: {}", report.render(false))),
        }
        read += 1;
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(read > 150, "only {read} cases");
}

#[test]
fn few_cases_differ_and_each_has_a_reason() {
    let known = differences();
    assert!(known.len() <= 20, "{} of 571 cases differ", known.len());
    assert!(known.iter().all(|(_, why)| why.len() > 20), "{known:?}");
}
