//! A commit of a git repository, by the `git` program of this host.
//!
//! One commit is fetched, with its submodules, and nothing of it is run: no hook, filter or helper, as no configuration but
//! ours is read. Protocols are http, https, ssh and git: neither files of this host nor programs can be named as a
//! repository. The files have the modes 0755 and 0644 and the time of the commit, so that they are the same in each checkout.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use super::repository::Repository;
use super::{Access, Failed, Fetched, Fetcher};
use crate::image::registry::credentials::encode;
use crate::image::registry::error::clean;
use crate::image::store::Store;

/// Protocols that git may speak, in submodules as well.
const PROTOCOLS: &str = "http:https:ssh:git";
/// What git is told besides (git-config(1)).
const CONFIG: [(&str, &str); 10] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("core.autocrlf", "false"),
    ("core.logAllRefUpdates", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "master"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];
/// Variables that git has from us.
const PASSED: [&str; 14] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "TMPDIR",
    "USER",
];
/// No questions: nobody is there to answer them.
const SSH: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o StrictHostKeyChecking=accept-new";
/// How often it is asked whether a program that has said all has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Most of what git says that is kept, in bytes.
const SAID_MAX: usize = 1 << 20;

/// A program that is ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A checkout under way.
struct Checkout<'a> {
    fetcher: &'a Fetcher,
    repository: &'a Repository,
    dir: PathBuf,
    /// Variables that hold what is secret.
    secrets: Vec<(String, String)>,
    socket: Option<PathBuf>,
}

impl Fetcher {
    /// Fetches a commit and its files.
    pub(super) async fn commit(
        &self,
        repository: &Repository,
        access: Access<'_>,
        store: &Store,
    ) -> Result<Fetched, Failed> {
        let dir = self.directory(store)?;
        let agent = access.ssh.cloned().or_else(|| (self.environment)("SSH_AUTH_SOCK").map(PathBuf::from));
        let secrets = authorization(repository, access)?;
        let checkout = Checkout { fetcher: self, repository, dir, secrets, socket: agent };
        checkout.make().await
    }
}

/// Returns the header that a secret asks to be sent, as with BuildKit: `GIT_AUTH_HEADER` or `GIT_AUTH_TOKEN`, also with `.<host>`.
fn authorization(repository: &Repository, access: Access<'_>) -> Result<Vec<(String, String)>, Failed> {
    let Some(scope) = repository.http_scope() else { return Ok(Vec::new()) };
    let host = repository.host();
    let mut value = None;
    for suffix in [format!(".{host}"), String::new()] {
        if value.is_none() {
            value = access.secret(&format!("GIT_AUTH_HEADER{suffix}"))?;
        }
        if value.is_none() {
            let token = access.secret(&format!("GIT_AUTH_TOKEN{suffix}"))?;
            value = token.map(|token| format!("basic {}", encode(format!("x-access-token:{token}").as_bytes())));
        }
    }
    let header = value.map(|value| (format!("http.{scope}.extraHeader"), format!("Authorization: {value}")));
    Ok(header.into_iter().collect())
}

impl Checkout<'_> {
    fn failed(&self, why: &str) -> Failed {
        Failed { message: format!("cannot fetch `{}`: {why}", self.repository), help: None }
    }

    fn io(&self) -> impl Fn(io::Error) -> Failed {
        |e| self.failed(&e.to_string())
    }

    async fn make(self) -> Result<Fetched, Failed> {
        self.git(&["init", "--quiet", "--template="]).await?;
        self.write_origin(&self.repository.remote)?;
        self.fetch().await?;
        let commit = self.git(&["rev-parse", "--verify", "HEAD^{commit}"]).await?.trim().to_owned();
        if let Some(wanted) = &self.repository.checksum
            && !commit.starts_with(wanted.as_str())
        {
            let message = format!("`{}` is the commit {commit}, not {wanted}", self.repository);
            return Err(Failed { message, help: Some("if that is what it should be now, write it there".into()) });
        }
        let time = self.git(&["show", "--no-patch", "--format=%ct", "HEAD"]).await?;
        let time: i64 = time.trim().parse().map_err(|_| self.failed("its commit has no time"))?;
        if self.repository.submodules && self.dir.join(".gitmodules").symlink_metadata().is_ok_and(|m| m.is_file()) {
            self.git(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]).await?;
        }
        // With a part of the files a repository would be of no use.
        let keeps = self.repository.keep_git_dir && self.repository.subdir.is_none();
        if keeps {
            self.settle().await?;
        }
        settle_files(&self.dir, time, keeps).map_err(self.io())?;
        Ok(Fetched { dir: self.subdir()?, file: None })
    }

    /// Writes where the repository is into its configuration: a program's arguments could be seen by others.
    fn write_origin(&self, url: &str) -> Result<(), Failed> {
        let quoted = url.replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = \"{quoted}\"\n"
        );
        let path = self.dir.join(".git/config");
        let written = fs::File::create(&path).and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())
        });
        written.map_err(self.io())
    }

    /// Fetches the commit, alone if the server can do that, and checks it out.
    async fn fetch(&self) -> Result<(), Failed> {
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--update-head-ok"];
        let (what, found) = match self.repository.reference.as_deref() {
            None => (vec!["HEAD".to_owned()], "FETCH_HEAD".to_owned()),
            Some(commit) if is_commit(commit) => (vec![commit.to_owned()], commit.to_owned()),
            Some(name) => {
                let full = self.full_name(name).await?;
                let spec = if full.starts_with("refs/tags/") { format!("+{full}:{full}") } else { full };
                (vec![spec], "FETCH_HEAD".to_owned())
            }
        };
        let words = |more: &[&str], what: &[String]| -> Vec<String> {
            let all = fetch.iter().chain(more).chain(&["origin"]).map(|word| (*word).to_owned());
            all.chain(what.iter().cloned()).collect()
        };
        let shallow = words(&["--depth=1"], &what);
        if self.git(&shallow.iter().map(String::as_str).collect::<Vec<_>>()).await.is_err() {
            // Some servers give nothing but whole histories, and some no commit by its hash.
            let all = ["+refs/heads/*:refs/remotes/origin/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
            let whole = words(&[], if what == [found.clone()] { &all } else { &what });
            self.git(&whole.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
        self.git(&["checkout", "--quiet", "--detach", &found]).await.map(drop)
    }

    /// Returns the whole name of a branch, a tag or another ref; the first of them counts, as with BuildKit.
    async fn full_name(&self, name: &str) -> Result<String, Failed> {
        let bare = name.strip_prefix("refs/").unwrap_or(name);
        let mut candidates = vec![format!("refs/{bare}")];
        if bare == name {
            candidates.extend([format!("refs/heads/{name}"), format!("refs/tags/{name}")]);
        }
        let words: Vec<&str> =
            ["ls-remote", "--quiet", "origin"].into_iter().chain(candidates.iter().map(String::as_str)).collect();
        let listed = self.git(&words).await?;
        let there = |candidate: &String| listed.lines().any(|line| line.split('\t').nth(1) == Some(candidate));
        let found = candidates.iter().find(|candidate| there(candidate)).cloned();
        found.ok_or_else(|| Failed {
            message: format!("cannot fetch `{}`: it has no branch and no tag `{name}`", self.repository),
            help: Some("`git ls-remote URL` shows what it has; a commit is named by all of its hash".into()),
        })
    }

    /// Takes what differs from one checkout to the next out of the repository, and what is secret.
    async fn settle(&self) -> Result<(), Failed> {
        self.git(&["read-tree", "HEAD"]).await?; // an index without the times of files
        for name in ["FETCH_HEAD", "ORIG_HEAD", "logs"] {
            let path = self.dir.join(".git").join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(e) = removed
                && e.kind() != io::ErrorKind::NotFound
            {
                return Err(self.io()(e));
            }
        }
        // Only http has a password in its URL.
        let remote = &self.repository.remote;
        self.write_origin(&if self.repository.http_scope().is_some() { super::shown(remote) } else { remote.clone() })
    }

    /// Returns the directory that is wanted; no link leads out of the repository.
    fn subdir(&self) -> Result<PathBuf, Failed> {
        let Some(subdir) = &self.repository.subdir else { return Ok(self.dir.clone()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.dir, flags, Mode::empty()).map_err(|e| self.io()(e.into()))?;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened =
            rustix::fs::openat2(&root, subdir.as_str(), flags, Mode::empty(), within).map_err(|e| match e {
                Errno::NOENT | Errno::NOTDIR => self.failed(&format!("it has no directory `{subdir}`")),
                Errno::XDEV => self.failed(&format!("`{subdir}` leads out of it through a symbolic link")),
                e => self.io()(e.into()),
            })?;
        use std::os::fd::AsRawFd as _;
        fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).map_err(self.io())
    }

    /// Runs git and returns what it prints.
    async fn git(&self, arguments: &[&str]) -> Result<String, Failed> {
        let environment = &self.fetcher.environment;
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.dir).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", environment("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
        for name in PASSED {
            command.envs(environment(name).map(|value| (name, value)));
        }
        command.envs(self.socket.as_ref().map(|socket| ("SSH_AUTH_SOCK", socket)));
        command.envs([
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("GIT_SSH_COMMAND", SSH),
            ("GIT_PAGER", "cat"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ]);
        command.env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap_or(&self.dir));
        let config = CONFIG.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config: Vec<_> = config.chain(self.secrets.iter().cloned()).collect();
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (number, (key, value)) in config.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        (self.fetcher.tame)(&mut command);
        let child = command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Failed {
                message: format!("cannot fetch `{}`: there is no `git` on this host", self.repository),
                help: Some("install it (Debian: apt-get install git), or use a directory or an archive".into()),
            },
            _ => self.failed(&format!("cannot run git: {e}")),
        })?;
        let (ended, out, err) = wait(child).await.map_err(self.io())?;
        if ended {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said =
            String::from_utf8_lossy(&err).replace(&self.repository.remote, &super::shown(&self.repository.remote));
        let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let chosen = said.iter().find(|line| line.starts_with("fatal: ")).or(said.last()).copied();
        let why = clean(chosen.unwrap_or("git fails and says nothing").trim_start_matches("fatal: "));
        Err(Failed { help: help_of(&said.join("\n")), ..self.failed(why.trim_end_matches('.')) })
    }
}

fn help_of(said: &str) -> Option<String> {
    let text = if said.contains("could not read Username") || said.contains("Authentication failed") {
        "a private repository takes `--secret id=GIT_AUTH_TOKEN,…`, or an ssh URL with `--ssh default`"
    } else if said.contains("Permission denied (") {
        "an SSH agent with the key is needed: `--ssh default`"
    } else if said.contains("transport '") || said.contains("is not supported") {
        "http, https, ssh and git are allowed, in submodules as well"
    } else if said.contains("Could not resolve host") || said.contains("Connection refused") {
        "check the host in the URL, and the network"
    } else {
        return None;
    };
    Some(text.into())
}

/// Waits for a program and returns whether it ended well, and what it said. Whoever inherited its output may go on.
async fn wait(child: Child) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let mut running = Running(child);
    let missing = || io::Error::other("a pipe is missing");
    let mut out = Receiver::from_owned_fd(running.0.stdout.take().ok_or_else(missing)?.into())?;
    let mut err = Receiver::from_owned_fd(running.0.stderr.take().ok_or_else(missing)?.into())?;
    let (mut said_out, mut said_err) = (Vec::new(), Vec::new());
    let (mut has_out, mut has_err) = (true, true);
    let (mut some_out, mut some_err) = ([0; 8192], [0; 8192]);
    loop {
        // Who has closed both is about to end.
        let pause = if has_out || has_err { LOOK } else { LOOK / 20 };
        tokio::select! {
            // What was said before the end is read before it.
            biased;
            n = out.read(&mut some_out), if has_out => keep(n?, &some_out, &mut said_out, &mut has_out),
            n = err.read(&mut some_err), if has_err => keep(n?, &some_err, &mut said_err, &mut has_err),
            () = tokio::time::sleep(pause) => {
                if let Some(status) = running.0.try_wait()? {
                    return Ok((status.success(), said_out, said_err));
                }
            }
        }
    }
}

fn keep(count: usize, some: &[u8], all: &mut Vec<u8>, goes_on: &mut bool) {
    *goes_on = count > 0;
    all.extend_from_slice(&some[..count]);
    // What is last says why.
    let over = all.len().saturating_sub(SAID_MAX);
    all.drain(..over);
}

/// Returns whether a ref is all of a commit's hash: SHA-1 or SHA-256.
fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Gives the files of a checkout modes and times that depend on the commit alone, and removes what is git's own.
fn settle_files(dir: &Path, time: i64, keeps_git: bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, is_git) = entry.map(|entry| (entry.path(), entry.file_name() == ".git"))?;
        let meta = path.symlink_metadata()?;
        if is_git && !keeps_git {
            if meta.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        } else if meta.is_dir() {
            settle_files(&path, time, keeps_git)?;
        } else {
            if meta.is_file() {
                let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            set_time(&path, time)?;
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    set_time(dir, time)
}

fn set_time(path: &Path, time: i64) -> io::Result<()> {
    let at = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: at, last_modification: at };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
