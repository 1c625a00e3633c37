//! Builds that read from repositories, which git itself serves on this machine.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::build::execute::Recipe;
use crate::build::tests::{Setup, content, setup};
use crate::build::trees::Tree;
use crate::image::store::Image;
use crate::testing::skip;

/// Time of all commits.
const TIME: i64 = 1_600_000_000;

/// Repositories that are served.
struct Daemon {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Runs git in a directory.
fn git(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]).args(arguments);
    command.current_dir(dir).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "me").env(format!("GIT_{who}_EMAIL"), "me@h");
        command.env(format!("GIT_{who}_DATE"), format!("{TIME} +0000"));
    }
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

impl Daemon {
    /// `None`, visibly, where there is no git.
    fn start() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            skip("there is no git: ./dev installs it");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        // Itself: what `git daemon` starts would outlive it.
        let programs = git(dir.path(), &["--exec-path"]);
        let mut command = Command::new(Path::new(&programs).join("git-daemon"));
        let port = format!("--port={}", address.port());
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &port, "--base-path=."]).arg(".");
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("git runs");
        let daemon = Self { child, address, dir };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Some(daemon);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("git daemon does not listen");
    }

    /// Makes an empty repository.
    fn repository(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).expect("writable");
        git(&path, &["init", "--quiet"]);
        path
    }

    fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }
}

fn commit(repository: &Path, files: &[(&str, &str)]) -> String {
    for (name, text) in files {
        let path = repository.join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("writable");
        fs::write(path, text).expect("writable");
    }
    git(repository, &["add", "--all"]);
    git(repository, &["commit", "--quiet", "--message=c"]);
    git(repository, &["rev-parse", "HEAD"])
}

fn context(setup: &mut Setup, url: &str) {
    setup.again(&environment());
    setup.spec.context = Tree::elsewhere(url).unwrap_or_else(|e| panic!("{}", e.render(false))).expect("a URL");
    setup.spec.dockerfile = Recipe::InContext("Dockerfile".into());
}

fn environment() -> Vec<(&'static str, &'static str)> {
    // Where the test has it from.
    let path = std::env::var("PATH").expect("set");
    vec![("PATH", Box::leak(path.into_boxed_str()))]
}

fn stat(image: &Image, path: &str) -> Option<rustix::fs::Stat> {
    Some(image.view().expect("opens").lookup(path.as_bytes()).expect("readable")?.stat)
}

#[test]
fn a_context_is_a_commit_with_its_submodules() {
    if !crate::testing::is_root() {
        return;
    }
    let Some(daemon) = Daemon::start() else { return };
    let (repository, inner) = (daemon.repository("r"), daemon.repository("inner"));
    commit(&inner, &[("i", "I")]);
    let first = commit(
        &repository,
        &[("Dockerfile", "FROM test:1\nCOPY . /d/\n"), ("a", "one"), ("sub/Dockerfile", "FROM test:1\nCOPY . /s/\n")],
    );
    git(&repository, &["tag", "--annotate", "--message=t", "v1"]);
    git(&repository, &["branch", "side"]);
    symlink("a", repository.join("link")).expect("writable");
    git(&repository, &["submodule", "--quiet", "add", inner.to_str().expect("text"), "inner"]);
    let modules = fs::read_to_string(repository.join(".gitmodules")).expect("there");
    fs::write(repository.join(".gitmodules"), modules.replace(inner.to_str().expect("text"), "../inner"))
        .expect("writable");
    let second = commit(&repository, &[("a", "two")]);
    let mut setup = setup("", &[]);
    context(&mut setup, &daemon.url("r"));
    let image = setup.build();
    let of = |image: &Image, path: &str| content(image, path);
    assert_eq!((of(&image, "d/a").as_deref(), of(&image, "d/inner/i").as_deref()), (Some("two"), Some("I")));
    assert!(stat(&image, "d/.git").is_none() && stat(&image, "d/inner/.git").is_none(), "git's own is gone");
    for path in ["d/a", "d/link", "d/inner/i"] {
        assert_eq!(stat(&image, path).expect(path).st_mtime, TIME, "{path}");
    }
    assert_eq!(stat(&image, "d/a").expect("there").st_mode & 0o7777, 0o644);
    let created = image.config.created.clone().expect("known");
    assert!(created.starts_with("2020-09-13T12:26:40"), "{created}");
    for (what, wanted) in [
        (format!("#{second}"), "two"),
        ("#main".into(), "two"),
        (format!("?checksum={}", &second[..12]).replace("checksum", "ref=main&checksum"), "two"),
        (format!("#{first}"), "one"),
        ("#v1".into(), "one"),
        ("#refs/heads/side".into(), "one"),
        ("?branch=side".into(), "one"),
    ] {
        context(&mut setup, &format!("{}{what}", daemon.url("r")));
        let found = setup.build();
        assert_eq!(of(&found, "d/a").as_deref(), Some(wanted), "{what}");
        assert_eq!(found.id == image.id, wanted == "two", "{what}: the same commit is the same image");
    }
    context(&mut setup, &format!("{}#:sub", daemon.url("r")));
    assert!(stat(&setup.build(), "s/Dockerfile").is_some());
    context(&mut setup, &format!("{}?submodules=false", daemon.url("r")));
    assert_eq!(of(&setup.build(), "d/inner/i"), None);
}

#[test]
fn add_takes_repositories() {
    if !crate::testing::is_root() {
        return;
    }
    let Some(daemon) = Daemon::start() else { return };
    let repository = daemon.repository("r");
    let hash = commit(&repository, &[("a", "A"), ("sub/b", "B")]);
    let mut setup = setup("", &[("file", "x")]);
    let url = daemon.url("r");
    let build = |setup: &mut Setup, text: &str| {
        setup.again(&environment());
        fs::write(&setup.file, text.replace('@', &url)).expect("writable");
    };
    let text = format!(
        "FROM test:1\nADD @#main:sub /s/\nADD --keep-git-dir=true @#{hash} /r\nADD --checksum={hash} --chown=app:web @ /c\n"
    );
    build(&mut setup, &text);
    let image = setup.build();
    for (path, wanted) in [("s/b", "B"), ("r/a", "A"), ("c/sub/b", "B")] {
        assert_eq!(content(&image, path).as_deref(), Some(wanted), "{path}");
    }
    assert_eq!(content(&image, "r/.git/HEAD").as_deref(), Some(&*format!("{hash}\n")));
    assert!(content(&image, "r/.git/config").is_some_and(|text| text.contains(&format!("url = \"{url}\""))));
    assert_eq!(stat(&image, "c/a").map(|s| (s.st_uid, s.st_gid)), Some((1001, 33)));
    assert!(stat(&image, "c/.git").is_none());
    build(&mut setup, &text);
    assert_eq!(setup.build().id, image.id, "also with `.git`");
    for (line, wanted) in [
        ("ADD --checksum=0123456789abcdef @ /c", "not 0123456789abcdef"),
        ("ADD --checksum=sha256:00 @ /c", "`sha256:00` is no hash of a commit"),
        ("ADD --keep-git-dir=true file /c", "--keep-git-dir needs a source that is a git repository"),
        ("ADD @#none /c", "it has no branch and no tag `none`"),
        ("ADD @x /c", "cannot fetch `git://"),
        ("ADD ssh://h.example/x#-y /c", "names the ref `-y`"),
    ] {
        build(&mut setup, &format!("FROM test:1\n{line}\n"));
        let error = setup.error();
        assert!(error.contains(wanted) && error.contains("Dockerfile:2:"), "{line}: {error}");
    }
}

#[test]
fn a_hostile_repository_reaches_nothing_of_the_host() {
    if !crate::testing::is_root() {
        return;
    }
    let Some(daemon) = Daemon::start() else { return };
    let mut setup = setup("", &[]);
    let secret = setup.fixture.dir.path().join("secret");
    fs::create_dir(&secret).expect("writable");
    fs::write(secret.join("Dockerfile"), "FROM test:1\nCOPY . /\n").expect("writable");
    let other = daemon.repository("other");
    commit(&other, &[("x", "secret")]);
    let repository = daemon.repository("r");
    symlink(&secret, repository.join("out")).expect("writable");
    symlink("out", repository.join("chain")).expect("writable");
    commit(&repository, &[("Dockerfile", "FROM test:1\nCOPY . /\n"), ("dir/x", "x")]);
    let url = daemon.url("r");
    for (what, wanted) in [
        ("#:out", "leads out of it through a symbolic link"),
        ("#:chain", "leads out of it through a symbolic link"),
        ("#:none", "it has no directory `none`"),
        ("#:Dockerfile", "it has no directory `Dockerfile`"),
    ] {
        context(&mut setup, &format!("{url}{what}"));
        let error = setup.error();
        assert!(error.contains(wanted), "{what}: {error}");
    }
    // Submodules are fetched with the same protocols alone.
    for (name, module) in
        [("file", other.to_str().expect("text").to_owned()), ("url", format!("file://{}", other.display()))]
    {
        let repository = daemon.repository(name);
        git(&repository, &["submodule", "--quiet", "add", other.to_str().expect("text"), "m"]);
        git(&repository, &["config", "--file=.gitmodules", "submodule.m.url", &module]);
        commit(&repository, &[("Dockerfile", "FROM test:1\nCOPY . /\n")]);
        context(&mut setup, &daemon.url(name));
        let error = setup.error();
        assert!(error.contains("cannot fetch `git://"), "{name}: {error}");
        assert!(error.contains("http, https, ssh and git are allowed"), "{name}: {error}");
    }
    context(&mut setup, &url);
    setup.again(&[("PATH", "/nonexistent")]);
    let error = setup.error();
    assert!(error.contains("there is no `git` on this host"), "{error}");
    for text in ["file:///etc", "ext::sh -c x", "/etc/x.git", "ssh://-oProxyCommand=x/y"] {
        let found = Tree::elsewhere(text).ok().flatten();
        assert_eq!(found, None, "{text}");
    }
}
