//! The time of the commit that a build context is a clean checkout of.
//!
//! A checkout gives files the time at which it was made, so that two clones of one commit would give two images. Files of a
//! context that is as a commit of git has it get no later time than that commit. The time enters no key: a commit that leaves
//! a file alone does not lead to its layer being made again.
//!
//! `git` is asked, but not within the repository: its configuration may name programs that `git status` runs (`core.fsmonitor`,
//! `filter.*.clean`), and who builds a context need not trust it. The repository's `HEAD`, index and objects are read from a
//! git directory of our own that has none. What git does not understand then (split indexes, ref tables), submodules, and
//! what no git is there to answer, is no checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files of a repository that are read are not larger, in bytes; `packed-refs` may be.
const FILE_MAX: u64 = 1 << 20;
const REFS_MAX: u64 = 64 << 20;

/// Returns the time of the commit, in seconds since the epoch, if all below `dir` is as it has it; files that git is told to
/// ignore do not count. `own` is an empty directory for what git wants to have.
pub(super) fn commit_time(dir: &Path, own: &Path) -> Option<i64> {
    let repository = Repository::around(dir)?;
    if repository.top.join(".gitmodules").exists() {
        return None;
    }
    let commit = repository.head()?;
    repository.imitate(own, &commit).ok()?;
    let git = |arguments: &[&str]| -> Option<Vec<u8>> {
        let mut command = Command::new("git");
        command.env_clear().current_dir(dir).stdin(Stdio::null()).stderr(Stdio::null());
        for (name, value) in [
            ("GIT_DIR", own),
            ("GIT_WORK_TREE", &repository.top),
            ("GIT_INDEX_FILE", &repository.git.join("index")),
            ("GIT_OBJECT_DIRECTORY", &repository.common.join("objects")),
            ("GIT_CONFIG_GLOBAL", Path::new("/dev/null")),
            ("GIT_CONFIG_NOSYSTEM", Path::new("1")),
            ("GIT_OPTIONAL_LOCKS", Path::new("0")),
        ] {
            command.env(name, value);
        }
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let output = command.args(arguments).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all", "--", "."])?;
    if !changed.is_empty() {
        return None;
    }
    let time = git(&["log", "-1", "--format=%ct", &commit, "--"])?;
    String::from_utf8(time).ok()?.trim().parse().ok().filter(|time| *time >= 0)
}

/// A repository with its work tree.
struct Repository {
    /// The work tree.
    top: PathBuf,
    /// What is this work tree's own, and what all of the repository share (gitrepository-layout(5)).
    git: PathBuf,
    common: PathBuf,
}

impl Repository {
    /// Finds the repository that a directory is in.
    fn around(dir: &Path) -> Option<Self> {
        let dir = dir.canonicalize().ok()?;
        let top = dir.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok())?.to_owned();
        let link = top.join(".git");
        let git = match link.is_dir() {
            true => link,
            false => top.join(read(&link, FILE_MAX)?.trim_end().strip_prefix("gitdir: ")?),
        };
        let common =
            read(&git.join("commondir"), FILE_MAX).map_or_else(|| git.clone(), |path| git.join(path.trim_end()));
        Some(Self { top, git, common })
    }

    /// Returns the id of the commit that is checked out.
    fn head(&self) -> Option<String> {
        let head = read(&self.git.join("HEAD"), FILE_MAX)?;
        let id = match head.trim_end().strip_prefix("ref: ") {
            None => head.trim_end().to_owned(),
            Some(name) => {
                let parts = Path::new(name).components();
                let is_ref = name.starts_with("refs/")
                    && parts.clone().all(|part| matches!(part, std::path::Component::Normal(_)));
                let loose = is_ref.then(|| read(&self.common.join(name), FILE_MAX))?;
                let packed = || {
                    let all = read(&self.common.join("packed-refs"), REFS_MAX)?;
                    let line = all.lines().find(|line| line.split_once(' ').is_some_and(|(_, other)| other == name))?;
                    line.split_once(' ').map(|(id, _)| id.to_owned())
                };
                loose.map(|id| id.trim_end().to_owned()).or_else(packed)?
            }
        };
        (matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }

    /// Makes a git directory that has the same commit and ignores the same files, and nothing else.
    fn imitate(&self, own: &Path, commit: &str) -> std::io::Result<()> {
        let config = match commit.len() {
            64 => "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n",
            _ => "[core]\n\trepositoryformatversion = 0\n",
        };
        fs::write(own.join("config"), config)?;
        fs::write(own.join("HEAD"), format!("{commit}\n"))?;
        for dir in ["refs", "objects", "info"] {
            fs::create_dir(own.join(dir))?;
        }
        match read(&self.common.join("info/exclude"), FILE_MAX) {
            Some(text) => fs::write(own.join("info/exclude"), text),
            None => Ok(()),
        }
    }
}

/// Reads a file of text, if it is one and not larger.
fn read(path: &Path, most: u64) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > most {
        return None;
    }
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(dir);
        command.args(["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]);
        command.env("GIT_COMMITTER_DATE", "1000000000 +0000").env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.args(arguments).output().expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn time(dir: &Path) -> Option<i64> {
        let own = tempfile::tempdir().expect("a directory");
        commit_time(dir, own.path())
    }

    #[test]
    fn a_clean_checkout_has_the_time_of_its_commit_and_nothing_else_has_one() {
        if Command::new("git").arg("--version").output().is_err() {
            return crate::testing::skip("git is not installed");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("sub")).expect("ours");
        assert_eq!(time(&top), None, "no repository");
        git(&top, &["init", "-q"]);
        assert_eq!(time(&top), None, "no commit");
        fs::write(top.join("sub/a"), "a").expect("ours");
        fs::write(top.join(".gitignore"), "made\n").expect("ours");
        git(&top, &["add", "."]);
        git(&top, &["commit", "-qm", "one"]);
        assert_eq!(time(&top), Some(1_000_000_000));
        assert_eq!(time(&top.join("sub")), Some(1_000_000_000));
        git(&top, &["pack-refs", "--all"]);
        git(&top, &["gc", "-q"]);
        fs::write(top.join("sub/made"), "x").expect("ours");
        fs::write(top.join("beside"), "x").expect("ours");
        assert_eq!(time(&top), None, "there is a file besides");
        assert_eq!(time(&top.join("sub")), Some(1_000_000_000), "not here; what is ignored does not count");
        fs::remove_file(top.join("beside")).expect("ours");
        git(&top, &["worktree", "add", "-q", "../second"]);
        assert_eq!(time(&dir.path().join("second")), Some(1_000_000_000));
        fs::write(top.join("sub/a"), "b").expect("ours");
        assert_eq!(time(&top), None, "a file was changed");
        fs::write(top.join("sub/a"), "a").expect("ours");
        assert_eq!(time(&top), Some(1_000_000_000), "and changed back");
        fs::write(top.join(".git/HEAD"), "ref: refs/../../../etc/passwd\n").expect("ours");
        assert_eq!(time(&top), None);
    }

    #[test]
    fn a_repository_runs_nothing() {
        if Command::new("git").arg("--version").output().is_err() {
            return crate::testing::skip("git is not installed");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (top, proof) = (dir.path().join("top"), dir.path().join("proof"));
        fs::create_dir(&top).expect("ours");
        git(&top, &["init", "-q"]);
        fs::write(top.join("a"), "a").expect("ours");
        fs::write(top.join(".gitattributes"), "* filter=evil\n").expect("ours");
        git(&top, &["add", "."]);
        git(&top, &["commit", "-qm", "one"]);
        let run = format!("touch {}; cat", proof.display());
        let config = format!(
            "[core]\n\tfsmonitor = \"{run}\"\n\tpager = \"{run}\"\n[filter \"evil\"]\n\tclean = \"{run}\"\n[log]\n\tshowSignature = true\n[gpg]\n\tprogram = \"{run}\"\n"
        );
        fs::write(top.join(".git/config"), config).expect("ours");
        fs::write(top.join("a"), "a").expect("ours"); // git has to look at its content
        assert_eq!(time(&top), Some(1_000_000_000));
        assert!(!proof.exists(), "a program of the repository was run");
    }
}
