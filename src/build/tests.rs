//! Builds without a program, against a store.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::execute::*;
use super::remote::Fetcher;
use super::run::Runner;
use crate::build::run::{Job, Ran};
use crate::diag::Report;
use crate::event::Silent;
use crate::image::compression::tests::{bzip2, xz};
use crate::image::diff::Upper;
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::image::tarball::tests::TarBuilder;
use crate::image::tests::{Fixture, fixture};

pub(super) struct Setup {
    pub(super) fixture: Fixture,
    pub(super) spec: BuildSpec,
    pub(super) context: PathBuf,
    pub(super) file: PathBuf,
    fetcher: Fetcher,
}

/// Runs nothing.
struct Nobody;

impl Runner for Nobody {
    type Container = ();

    async fn run(&self, _job: &Job, _output: OwnedFd) -> Result<Ran<()>, Report> {
        Err(Report::message("nobody runs anything"))
    }

    async fn forget(&self, (): ()) -> Result<(), Report> {
        Ok(())
    }

    async fn finish(&self) -> Result<(), Report> {
        Ok(())
    }
}

pub(super) fn setup(dockerfile: &str, files: &[(&str, &str)]) -> Setup {
    let fixture = fixture();
    fixture.image(&[TarBuilder::default()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n")
        .file("etc/group", b"root:x:0:\nweb:x:33:\n")
        .dir_mode("srv/", 0o1777)
        .symlink("www", "srv")
        .end()]);
    let context = fixture.dir.path().join("context");
    fs::create_dir(&context).expect("writable");
    for (path, text) in files {
        let path = context.join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("writable");
        fs::write(&path, text).expect("writable");
    }
    let file = context.join("Dockerfile");
    fs::write(&file, dockerfile).expect("writable");
    let mut spec = BuildSpec::new("web", context.clone(), Recipe::File(file.clone()));
    spec.tags.push(Reference::parse("shop-web").expect("valid"));
    spec.labels.insert("l".to_owned(), "1".to_owned());
    Setup { fixture, spec, context, file, fetcher: Fetcher::new(|_| None, |_| ()) }
}

impl Setup {
    fn try_build(&self) -> Result<Built, Report> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(build(&self.spec, &self.fixture.store, &Nobody, &self.fetcher, &Silent))
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// What follows is another command, with this environment.
    pub(super) fn again(&mut self, environment: &[(&'static str, &str)]) {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.fetcher = Fetcher::new(
            move |name| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()),
            |_| (),
        );
    }

    pub(super) fn build(&self) -> Image {
        self.try_build().unwrap_or_else(|r| panic!("{}", r.render(false))).image
    }

    pub(super) fn error(&self) -> String {
        let report = self.try_build().expect_err("must be refused");
        report.render(false).replace(&*self.context.to_string_lossy(), "/context")
    }
}

pub(super) fn content(image: &Image, path: &str) -> Option<String> {
    let bytes = image.view().expect("opens").read(path.as_bytes(), 1000).expect("readable")?;
    Some(String::from_utf8(bytes).expect("text"))
}

#[test]
fn a_build_copies_and_configures() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup(
        "FROM test:1\n\
         ENV APP=/srv/app MODE=\"a b\"\n\
         ENV MODE=c OLD=$MODE\n\
         WORKDIR $APP\n\
         WORKDIR sub\n\
         COPY --chown=app:web index.html style.css ./\n\
         COPY --chmod=0755 dir /www/\n\
         COPY run.sh /usr/bin/run\n\
         EXPOSE 80 53/udp 90-91\n\
         LABEL a=b\n\
         USER app\n\
         VOLUME [\"/data\"]\n\
         STOPSIGNAL SIGQUIT\n\
         HEALTHCHECK --interval=5s CMD true\n\
         ENTRYPOINT [\"run\"]\n\
         CMD x $APP\n",
        &[("index.html", "html"), ("style.css", "css"), ("dir/a", "A"), ("dir/sub/b", "B"), ("run.sh", "#!")],
    );
    fs::set_permissions(setup.context.join("run.sh"), fs::Permissions::from_mode(0o750)).expect("writable");
    let image = setup.build();
    assert_eq!(content(&image, "srv/app/sub/index.html").as_deref(), Some("html"));
    assert_eq!(content(&image, "srv/a").as_deref(), Some("A"), "through the image's link");
    assert_eq!(content(&image, "www/sub/b").as_deref(), Some("B"));
    let view = image.view().expect("opens");
    let stat = |path: &str| view.lookup(path.as_bytes()).expect("readable").expect(path).stat;
    let html = stat("srv/app/sub/index.html");
    assert_eq!((html.st_uid, html.st_gid), (1001, 33));
    assert_eq!(html.st_mtime, fs::metadata(setup.context.join("index.html")).expect("there").mtime());
    assert_eq!(stat("srv").st_mode & 0o7777, 0o1777, "a directory of the image keeps its mode");
    assert_eq!(stat("srv/a").st_mode & 0o7777, 0o755);
    let run = stat("usr/bin/run");
    assert_eq!((run.st_mode & 0o7777, run.st_uid), (0o750, 0));
    assert!(!image.layers.iter().any(|l| l.to_string_lossy().contains("fixups")), "parents are listed");
    let config = serde_json::to_value(&image.config.config).expect("serialises");
    assert_eq!(
        config,
        json!({
            "User": "app",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}},
            "Env": ["APP=/srv/app", "MODE=c", "OLD=a b"],
            "Entrypoint": ["run"],
            "Cmd": ["/bin/sh", "-c", "x $APP"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64},
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv/app/sub",
            "Labels": {"a": "b", "l": "1"},
            "StopSignal": "SIGQUIT",
        })
    );
    assert_eq!(image.config.rootfs.diff_ids.len(), 6);
    let layered = image.config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layered, 5, "three that copy, and two directories");
    assert_eq!(setup.fixture.store.resolve("shop-web:latest").expect("readable"), Some(image));
}

#[test]
fn the_same_input_gives_the_same_image() {
    if !crate::testing::is_root() {
        return;
    }
    let long = format!("{}/f", "long-directory-name".repeat(8));
    let setup = setup("FROM test:1\nCOPY . /app/\nENTRYPOINT [\"a\"]\n", &[("a", "1"), (&long, "2")]);
    let first = setup.build();
    assert_eq!(first.config.config.cmd, None, "the base's command is for the base's entrypoint");
    assert_eq!(setup.build(), first);
    assert_eq!(content(&first, &format!("app/{long}")).as_deref(), Some("2"));
    let context = File::open(&setup.context).expect("there");
    let changed = context.metadata().and_then(|m| m.modified()).expect("known");
    fs::write(setup.context.join("new"), b"3").expect("writable");
    assert_ne!(setup.build().id, first.id);
    fs::remove_file(setup.context.join("new")).expect("there");
    context.set_modified(changed).expect("ours"); // the folder's own time is part of the image
    assert_eq!(setup.build().id, first.id);
}

#[test]
fn scratch_is_an_empty_base_and_wildcards_and_ignores_count() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup(
        "FROM scratch\nCOPY *.txt /t/\nCOPY all /\n",
        &[
            ("a.txt", "a"),
            ("b.txt", "b"),
            ("c.md", "c"),
            ("all/x", "x"),
            ("all/no/y", "y"),
            ("all/no/keep", "k"),
            (".dockerignore", "b.txt\nall/no\n!all/no/keep\n"),
        ],
    );
    symlink("../../etc/passwd", setup.context.join("all/link")).expect("writable");
    let image = setup.build();
    assert_eq!(content(&image, "t/a.txt").as_deref(), Some("a"));
    for gone in ["t/b.txt", "t/c.md", "no/y"] {
        assert_eq!(content(&image, gone), None, "{gone}");
    }
    assert_eq!(content(&image, "no/keep").as_deref(), Some("k"));
    assert_eq!(fs::read_link(image.layers[1].join("link")).expect("kept as a link"), Path::new("../../etc/passwd"));
}

#[test]
fn what_cannot_be_built_is_shown_with_its_line() {
    if !crate::testing::is_root() {
        return;
    }
    let files = [("index.html", ""), ("secret", ""), (".dockerignore", "secret\n")];
    let s = setup("FROM test:1\nCOPY indx.html /\n", &files);
    insta::assert_snapshot!(s.error(), @r"
    error: `indx.html` is not in the build context
     --> /context/Dockerfile:2:6
      |
    2 | COPY indx.html /
      |      ^^^^^^^^^
      |
      = help: did you mean `index.html`?
    ");
    symlink("/etc", s.context.join("out")).expect("writable");
    for (line, expected) in [
        ("COPY secret /", "hidden by line 1 of `.dockerignore`"),
        ("COPY out/passwd /", "leads out of the build context"),
        ("COPY out /", "leads out of the build context"),
        ("COPY nope/* /", "nothing in the build context fits"),
        ("ADD nope/* /", "nothing in the build context fits"),
        ("COPY index.html Dockerfile /new", "must be a directory"),
        ("COPY --chown=ghost index.html /", "no user `ghost`"),
        ("COPY --chown=1:ghosts index.html /", "no group `ghosts`"),
        ("COPY index.html /etc/passwd/x", "is not a directory"),
        ("EXPOSE 80000", "not a port"),
        ("ENV A=${B?gone}", "the variable `B` is not set: gone"),
    ] {
        fs::write(&s.file, format!("FROM test:1\n{line}\n")).expect("writable");
        let error = s.error();
        assert!(error.contains(expected) && error.contains("Dockerfile:2:"), "{line}: {error}");
    }
    fs::write(&s.file, "# check=error=true\nFROM test:1\nCMD x\n").expect("writable");
    assert!(s.error().contains("[JSONArgsRecommended]"), "{}", s.error());
    fs::write(&s.file, "FROM tset:1\nCMD x\n").expect("writable");
    assert!(s.error().contains("did you mean `test:1`?"));
    assert_eq!(s.fixture.store.resolve("shop-web").expect("readable"), None);
}

fn ids(image: &Image) -> Vec<String> {
    image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect()
}

#[test]
fn stages_are_built_upon_each_other_and_copied_from() {
    if !crate::testing::is_root() {
        return;
    }
    let mut setup = setup(
        "ARG BASE=test:1 KIND=prod\n\
         FROM $BASE AS Assets\n\
         ARG KIND\n\
         COPY --chown=app:web site /site\n\
         COPY <<\"RAW\" <<EOF /site/made/\n\
         $KIND\n\
         RAW\n\
         kind=$KIND\n\
         EOF\n\
         FROM scratch AS unused\n\
         COPY missing /\n\
         FROM assets AS dev\n\
         ENV MODE=$KIND\n\
         FROM test:1\n\
         COPY --from=assets /site /srv/site\n\
         COPY --from=0 --chown=5:6 /site/made/EOF /srv/kind\n\
         COPY --from=test:1 /etc/passwd /srv/\n\
         COPY --from=more x /srv/\n\
         COPY --chmod=u=rwX,go= --exclude=*.md site /srv/private/\n\
         COPY --parents site/./sub/b /srv/parents/\n\
         COPY --link site/a /www/a\n",
        &[("site/a", "A"), ("site/sub/b", "B"), ("site/c.md", "C"), ("other/x", "X")],
    );
    setup.spec.contexts.insert("more".into(), NamedContext::Files(setup.context.join("other").into()));
    let image = setup.build();
    for (path, expected) in [
        ("srv/site/a", Some("A")),
        ("srv/site/made/RAW", Some("$KIND\n")),
        ("srv/kind", Some("kind=prod\n")),
        ("srv/x", Some("X")),
        ("srv/private/sub/b", Some("B")),
        ("srv/private/c.md", None),
        ("srv/parents/sub/b", Some("B")),
        ("srv/parents/site", None),
    ] {
        assert_eq!(content(&image, path).as_deref(), expected, "{path}");
    }
    let view = image.view().expect("opens");
    let of = |path: &str| {
        let stat = view.lookup(path.as_bytes()).expect("readable").expect(path).stat;
        (stat.st_uid, stat.st_gid, stat.st_mode & 0o777)
    };
    assert_eq!(of("srv/site/a").0, 1001, "what is copied from a stage keeps its owner");
    assert_eq!((of("srv/kind").0, of("srv/kind").1), (5, 6));
    assert_eq!((of("srv/private/a").2, of("srv/private/sub").2), (0o600, 0o700));
    // A linked copy follows no link of what is below it.
    let linked = view.lookup(b"www").expect("readable").expect("there");
    assert_eq!(linked.file_type(), rustix::fs::FileType::Directory);

    setup.spec.target = Some("DEV".into());
    setup.spec.args.insert("KIND".into(), Some("test".into()));
    setup.spec.args.insert("NOBODY".into(), Some("asks".into()));
    let built = setup.try_build().expect("built");
    assert_eq!(built.image.config.config.env, ["MODE=test"]);
    assert_eq!(content(&built.image, "site/made/EOF").as_deref(), Some("kind=test\n"));
    assert!(built.warnings.render(false).contains("`NOBODY` is not used"), "{}", built.warnings.render(false));
}

#[test]
fn a_wildcard_may_fit_nothing() {
    if !crate::testing::is_root() {
        return;
    }
    let s = setup(
        "FROM test:1\nCOPY a yarn.lock* d/*.lock ./app/\nADD b* a /added/\nCOPY *.nope /none/\n",
        &[("a", "A"), ("d/x", "X"), (".dockerignore", "h\n"), ("h/a", "H")],
    );
    let image = s.build();
    for (path, expected) in [("app/a", Some("A")), ("added/a", Some("A")), ("none", None)] {
        assert_eq!(content(&image, path).as_deref(), expected, "{path}");
    }
    let empty: Vec<bool> = image.config.history.iter().rev().take(3).rev().map(|h| h.empty_layer).collect();
    assert_eq!(empty, [false, false, true]);
    fs::write(&s.file, "FROM test:1\nCOPY a h/*.nope /app/\n").expect("writable");
    assert!(s.error().contains("nothing in the build context fits `h/*.nope`"), "{}", s.error());
}

#[test]
fn names_of_one_file_stay_so() {
    if !crate::testing::is_root() {
        return;
    }
    let s = setup(
        "FROM test:1 AS all\nCOPY --exclude=x . /a/\nFROM scratch\nCOPY --from=all --chown=1:2 --chmod=700 /a /b/\n",
        &[("one", "1"), ("d/e", "2"), ("z", "3")],
    );
    let path = |name: &str| s.context.join(name);
    for name in ["d/two", "three", "x"] {
        fs::hard_link(path("one"), path(name)).expect("writable");
    }
    fs::hard_link(path("z"), s.fixture.dir.path().join("elsewhere")).expect("writable");
    let image = s.build();
    let [layer] = &image.layers[..] else { panic!("one layer: {:?}", image.layers) };
    let meta = |name: &str| fs::metadata(layer.join("b").join(name)).expect("there");
    for name in ["one", "d/two", "three"] {
        assert_eq!((meta(name).ino(), meta(name).nlink()), (meta("one").ino(), 3), "{name}");
        assert_eq!(content(&image, &format!("b/{name}")).as_deref(), Some("1"));
        assert_eq!((meta(name).uid(), meta(name).gid(), meta(name).mode() & 0o7777), (1, 2, 0o700), "{name}");
    }
    assert_eq!((meta("z").nlink(), meta("d/e").nlink()), (1, 1));
    // What is written through one name of the archive is seen through the other.
    fs::write(&s.file, "FROM scratch\nADD a.tar /\n").expect("writable");
    fs::write(path("a.tar"), TarBuilder::default().file("f", b"F").hardlink("g", "f").end()).expect("writable");
    let image = s.build();
    let ino = |name: &str| fs::metadata(image.layers[0].join(name)).expect("there").ino();
    assert_eq!(ino("f"), ino("g"));
}

/// Says that every program ends well and writes nothing, and counts them.
struct Counting {
    dir: PathBuf,
    runs: Cell<usize>,
}

impl Runner for Counting {
    type Container = ();

    async fn run(&self, job: &Job, _output: OwnedFd) -> Result<Ran<()>, Report> {
        self.runs.set(self.runs.get() + 1);
        let path = self.dir.join(self.runs.get().to_string());
        fs::create_dir(&path).expect("writable");
        let upper = Upper { path, layers: job.layers.clone(), places: Vec::new(), epoch: None };
        Ok(Ran { code: 0, upper, container: () })
    }

    async fn forget(&self, (): ()) -> Result<(), Report> {
        Ok(())
    }

    async fn finish(&self) -> Result<(), Report> {
        Ok(())
    }
}

#[test]
fn a_program_in_a_heredoc_is_part_of_its_step() {
    if !crate::testing::is_root() {
        return;
    }
    let s = setup("", &[]);
    let runner = Counting { dir: s.fixture.dir.path().to_owned(), runs: Cell::new(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (text, runs) in [("one", 1), ("one", 1), ("two", 2)] {
        fs::write(&s.file, format!("FROM test:1\nRUN <<EOF\n#!/bin/sh\necho {text}\nEOF\n")).expect("writable");
        let built = runtime.block_on(build(&s.spec, &s.fixture.store, &runner, &s.fetcher, &Silent));
        built.unwrap_or_else(|r| panic!("{}", r.render(false)));
        assert_eq!(runner.runs.get(), runs, "{text}");
    }
}

#[test]
fn what_was_only_touched_changes_nothing() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup("FROM test:1\nCOPY a /a\nCOPY b /b\n", &[("a", "1"), ("b", "2")]);
    let first = setup.build();
    let touch = |path: &str, seconds: u64| {
        let file = File::options().append(true).open(setup.context.join(path)).expect("there");
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(time).expect("ours");
    };
    touch("a", 2_000_000_000);
    assert_eq!(setup.build(), first);
    // Equal size and time, another content: what is read counts.
    fs::write(setup.context.join("a"), "x").expect("writable");
    touch("a", 2_000_000_000);
    let second = setup.build();
    assert_ne!(second.id, first.id);
    assert_eq!(ids(&second)[ids(&second).len() - 1], ids(&first)[ids(&first).len() - 1], "b is as it was");
    fs::set_permissions(setup.context.join("b"), fs::Permissions::from_mode(0o600)).expect("ours");
    assert_ne!(setup.build().id, second.id, "a mode is more than a time");
}

#[test]
fn an_epoch_makes_the_same_image_of_the_same_files() {
    if !crate::testing::is_root() {
        return;
    }
    let build = |second: u64| {
        let mut setup = setup("FROM scratch\nCOPY . /app/\nCMD [\"x\"]\n", &[("d/a", "1")]);
        setup.spec.epoch = Some(1_000_000);
        let file = File::options().append(true).open(setup.context.join("d/a")).expect("there");
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        file.set_modified(time).expect("ours");
        setup.build()
    };
    let (one, two) = (build(3_000_000), build(4_000_000));
    assert_eq!(one.id, two.id);
    assert_eq!(one.created.as_deref(), Some("1970-01-12T13:46:40Z"));
}

#[test]
fn two_clones_of_a_commit_give_one_image() {
    if !crate::testing::is_root() {
        return;
    }
    if Command::new("git").arg("--version").output().is_err() {
        return crate::testing::skip("git is not installed");
    }
    let build = |age: u64, edit: bool| {
        let setup = setup("FROM scratch\nCOPY . /app/\nCOPY <<EOF /made\ntext\nEOF\nCMD [\"x\"]\n", &[("d/a", "1")]);
        let dir = &setup.context;
        for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "one"]] {
            let mut git = Command::new("git");
            git.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(dir);
            git.args(["-c", "user.name=n", "-c", "user.email=e"]).args(arguments);
            let dates = ["GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE"];
            let status = git.envs(dates.map(|name| (name, "100000000 +0000"))).status().expect("git runs");
            assert!(status.success(), "{arguments:?}");
        }
        fs::write(dir.join(".dockerignore"), ".git\n").expect("ours");
        fs::write(dir.join(".git/info/exclude"), ".dockerignore\n").expect("ours");
        if edit {
            fs::write(dir.join("d/a"), "2").expect("ours");
        }
        let file = File::options().append(true).open(dir.join("d/a")).expect("there");
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).expect("ours");
        setup.build()
    };
    let (one, two) = (build(100, false), build(200, false));
    assert_eq!(one.id, two.id);
    assert_eq!(one.created.as_deref(), Some("1973-03-03T09:46:40Z"));
    assert_ne!(build(100, true).id, build(200, true).id, "what was edited is of no commit");
}

#[test]
fn add_unpacks_archives_of_the_context() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup(
        "FROM test:1\nADD a.tar plain.txt /data/\nADD --unpack=false a.tar /kept/\n",
        &[("plain.txt", "P"), ("zeros", "")],
    );
    let tar = TarBuilder::default().dir("sub/").file("sub/f", b"F").end();
    fs::write(setup.context.join("a.tar"), tar).expect("writable");
    let image = setup.build();
    assert_eq!(content(&image, "data/sub/f").as_deref(), Some("F"));
    assert_eq!(content(&image, "data/plain.txt").as_deref(), Some("P"));
    // What is in an archive takes the place of what was there, whatever it was; a wildcard may name several.
    let other = TarBuilder::default().dir("etc/").dir("etc/passwd/").file("srv", b"no directory").end();
    fs::write(setup.context.join("b.tar"), other).expect("writable");
    fs::write(&setup.file, "FROM test:1\nADD [ab].tar /\n").expect("writable");
    let image_of_both = setup.build();
    assert_eq!(content(&image_of_both, "sub/f").as_deref(), Some("F"));
    assert_eq!(content(&image_of_both, "srv").as_deref(), Some("no directory"));
    let replaced = image_of_both.view().expect("opens").lookup(b"etc/passwd").expect("readable").expect("there");
    assert_eq!(replaced.file_type(), rustix::fs::FileType::Directory);
    fs::write(setup.context.join("a.tar"), b"\x04\x22\x4d\x18").expect("writable");
    assert!(setup.error().contains("it is compressed with lz4"), "{}", setup.error());
    for pack in [bzip2, xz] {
        let tar = TarBuilder::default().dir("sub/").file("sub/f", b"packed").end();
        fs::write(setup.context.join("a.tar"), pack(&tar)).expect("writable");
        fs::write(setup.context.join("plain.txt"), pack(b"no archive")).expect("writable");
        fs::write(&setup.file, "FROM test:1\nADD a.tar plain.txt /data/\n").expect("writable");
        let image = setup.build();
        assert_eq!(content(&image, "data/sub/f").as_deref(), Some("packed"));
        let plain = image.view().expect("opens").read(b"data/plain.txt", 1000).expect("readable");
        assert_eq!(plain, Some(pack(b"no archive")), "what is no archive stays as it is");
    }
    let kept = image.view().expect("opens").lookup(b"kept/a.tar").expect("readable").expect("as it is");
    assert_eq!(kept.file_type(), rustix::fs::FileType::RegularFile);
}

#[test]
fn what_an_image_asks_for_is_done_first_and_once() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup(
        "FROM test:1 AS base\nONBUILD COPY a /asked\nONBUILD ENV ASKED=$WHO\nONBUILD LABEL x=y\nFROM base\nENV LATER=$ASKED\n",
        &[("a", "A")],
    );
    let image = setup.build();
    assert_eq!(content(&image, "asked").as_deref(), Some("A"));
    assert_eq!(image.config.config.env, ["ASKED=", "LATER="]);
    assert_eq!(image.config.config.labels.get("x").map(String::as_str), Some("y"));
    assert!(image.config.config.on_build.is_empty());
}

#[test]
fn names_that_lead_nowhere_are_told_with_their_place() {
    if !crate::testing::is_root() {
        return;
    }
    let mut s = setup("FROM test:1\n", &[("a", "A")]);
    for (text, expected) in [
        ("FROM test:1 AS a\nCOPY --from=b a /\nFROM a AS b\n", "stage `b` does not come before this one"),
        ("FROM test:1\nCOPY --from=1 a /\n", "there is no stage 1 before this one"),
        ("FROM $NO\n", "is empty when its variables are replaced"),
        ("FROM test:1\nARG X=a\nCOPY --from=$X a /\n", "variables are not expanded in COPY --from"),
        ("FROM --platform=plan9/mips test:1\nCMD x\n", "is not this machine's"),
        ("FROM test:1\nCOPY --from=nothere:9 a /\n", "the image `nothere:9` is not here"),
        ("FROM test:1\nCOPY --chmod=u=q a /\n", "is not a mode"),
        ("FROM test:1\nADD https://h/r.git#-x /\n", "names the ref `-x`, which none can have"),
    ] {
        fs::write(&s.file, text).expect("writable");
        let error = s.error();
        assert!(error.contains(expected) && error.contains("Dockerfile:"), "{text}: {error}");
    }
    fs::write(&s.file, "FROM test:1 AS web\nCMD x\n").expect("writable");
    s.spec.target = Some("wbe".into());
    assert!(s.error().contains("did you mean `web`?"), "{}", s.error());
}

#[test]
fn directories_are_as_they_are_in_the_source_or_as_new() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup(
        "FROM test:1\nCOPY tree /\nCOPY --chmod=0700 tree/new/x /made/by/chmod\nCOPY shown /shown/\n",
        &[
            ("tree/etc/x", "x"),
            ("tree/new/x", "x"),
            ("shown/deep/er/x", "x"),
            ("shown/none/x", "x"),
            (".dockerignore", "shown/*\n!shown/deep/er/x\n"),
        ],
    );
    for path in ["tree/etc", "tree/new", "shown/deep"] {
        let mode = fs::Permissions::from_mode(0o775);
        fs::set_permissions(setup.context.join(path), mode).expect("ours");
    }
    let image = setup.build();
    let view = image.view().expect("opens");
    let mode = |path: &str| view.lookup(path.as_bytes()).expect("readable").map(|node| node.stat.st_mode & 0o7777);
    for (path, expected) in [
        ("etc", Some(0o775)),
        ("new", Some(0o775)),
        ("made", Some(0o700)),
        ("made/by", Some(0o700)),
        ("shown/deep", Some(0o775)),
        ("shown/none", None),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
    fs::write(setup.context.join(".dockerignore"), "**\n!tree/x\n").expect("writable");
    fs::write(&setup.file, "FROM test:1\nCOPY tree /t\n").expect("writable");
    assert!(setup.error().contains("hidden by line 1"), "{}", setup.error());
}

#[test]
fn a_check_knows_what_is_hidden() {
    let dockerfile = "FROM scratch\nCOPY conf/a seen /\n";
    let setup = setup(dockerfile, &[(".dockerignore", "# no\nconf/\n"), ("conf/a", "a"), ("seen", "b")]);
    let found = super::execute::check(&setup.spec).diagnostics;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("line 2 of `.dockerignore` hides `conf/a`"), "{found:?}");
}

#[test]
fn a_file_that_would_remove_another_is_not_copied() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup("FROM test:1\nCOPY a /etc/\n", &[("a/.wh.passwd", ""), ("a/b", "")]);
    let message = setup.error();
    assert!(message.contains("`/etc/.wh.passwd` cannot be in an image") && message.contains(":2:1"), "{message}");
    fs::write(setup.context.join(".dockerignore"), "**/.wh.*\n").expect("ours");
    assert_eq!(content(&setup.build(), "etc/b").as_deref(), Some(""));
}

#[test]
fn the_beginning_of_an_id_is_a_name() {
    if !crate::testing::is_root() {
        return;
    }
    let setup = setup("FROM test:1\nCOPY a /\n", &[("a", "")]);
    let id = setup.build().id;
    for (name, is_here) in [(id.to_string(), true), (id.hex().to_owned(), true), (id.hex()[..12].to_owned(), false)] {
        fs::write(&setup.file, format!("FROM {name}\nCOPY a /b\n")).expect("writable");
        match is_here {
            true => drop(setup.build()),
            false => assert!(setup.error().contains(&format!("the image `{name}:latest` is not here"))),
        }
    }
}
