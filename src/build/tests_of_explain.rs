//! What is told of the steps that were carried out again.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::execute::*;
use super::tests::{Setup, setup};
use crate::build::run::{Job, Ran, Runner};
use crate::diag::Report;
use crate::event::{Event, ExplainedStep, Sink};
use crate::image::diff::Upper;
use crate::image::digest::Key;

/// Runs nothing, and says of each program that it wrote a file of its own.
pub(super) struct Writes<'a> {
    pub(super) setup: &'a Setup,
    pub(super) ran: RefCell<usize>,
}

impl Runner for Writes<'_> {
    type Container = ();

    async fn run(&self, job: &Job, _output: OwnedFd) -> Result<Ran<()>, Report> {
        let number = self.ran.replace_with(|ran| *ran + 1);
        let path = self.setup.fixture.dir.path().join(format!("upper-{number}-{}", job.layers.len()));
        fs::create_dir_all(&path).expect("writable");
        fs::write(path.join("moment"), format!("{:?}", job.argv)).expect("writable");
        // What is done again within the same second has the same time; so it always has.
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for path in [path.join("moment"), path.clone()] {
            File::open(path).and_then(|file| file.set_modified(moment)).expect("ours");
        }
        Ok(Ran {
            code: 0,
            upper: Upper { path, layers: job.layers.clone(), places: Vec::new(), epoch: None },
            container: (),
        })
    }

    async fn forget(&self, (): ()) -> Result<(), Report> {
        Ok(())
    }

    async fn finish(&self) -> Result<(), Report> {
        Ok(())
    }
}

#[derive(Default)]
struct Listener(Mutex<Vec<ExplainedStep>>);

impl Sink for Listener {
    fn send(&self, event: Event) {
        if let Event::Explained { steps, .. } = event {
            self.0.lock().expect("no panic").extend(steps);
        }
    }
}

impl Setup {
    /// Builds, and returns what is told.
    fn explained(&self) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (runner, listener) = (Writes { setup: self, ran: RefCell::new(0) }, Listener::default());
        let _ = runtime.block_on(build(&self.spec, &self.fixture.store, &runner, self.fetcher(), &listener)); // it may have to fail
        let steps = listener.0.into_inner().expect("no panic");
        let line = |step: ExplainedStep| {
            let result = if step.cached { "cached" } else { "built" };
            let why = if step.reasons.is_empty() { String::new() } else { format!(": {}", step.reasons.join(", ")) };
            format!("[{} {}] {} {result}{why}", step.stage, step.number, step.instruction)
        };
        steps.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn dockerfile(&self, text: &str) {
        fs::write(&self.file, text).expect("writable");
    }
}

#[test]
fn a_step_tells_which_input_changed() {
    if !crate::testing::is_root() {
        return;
    }
    let text = "FROM test:1 AS base\nARG TOKEN\nENV MODE=a API_KEY=k1 T=x$TOKEN\nWORKDIR /srv/app\nCOPY src /app/\nRUN make\nFROM base\nCOPY --from=base /app /copy/\nUSER app\nRUN test\n";
    let mut s = setup(text, &[("src/main.js", "1"), ("src/lib/a", "a"), ("src/lib/b", "b")]);
    s.spec.seal = Some(Key([7; 32]));
    s.spec.args.insert("TOKEN".into(), Some("hush-1".into()));
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app built: no build of this place is known
    [base 4/5] COPY src /app/ built: no build of this place is known
    [base 5/5] RUN make built: no build of this place is known
    [stage-1 1/3] COPY --from=base /app /copy/ built: no build of this place is known
    [stage-1 3/3] RUN test built: no build of this place is known
    ");
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ cached
    [base 5/5] RUN make cached
    [stage-1 1/3] COPY --from=base /app /copy/ cached
    [stage-1 3/3] RUN test cached
    ");
    fs::write(s.context.join("src/main.js"), "2").expect("writable");
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ built: src/main.js has another content
    [base 5/5] RUN make built: the layers below changed, from [base 4/5] on
    [stage-1 1/3] COPY --from=base /app /copy/ built: /copy/main.js has another content
    [stage-1 3/3] RUN test built: the layers below changed, from [base 4/5] on
    ");
    fs::write(s.context.join("src/new"), "2").expect("writable");
    fs::remove_file(s.context.join("src/lib/a")).expect("there");
    fs::set_permissions(s.context.join("src/lib/b"), fs::Permissions::from_mode(0o600)).expect("ours");
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ built: src/lib/a is gone, src/lib/b has mode 0600, had 0644, src/new is new
    [base 5/5] RUN make built: the layers below changed, from [base 4/5] on
    [stage-1 1/3] COPY --from=base /app /copy/ built: /copy/lib/a is gone, /copy/lib/b has mode 0600, had 0644, /copy/new is new
    [stage-1 3/3] RUN test built: the layers below changed, from [base 4/5] on
    ");
    s.spec.args.insert("TOKEN".into(), Some("hush-2".into()));
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ cached
    [base 5/5] RUN make built: ARG TOKEN has another value, ENV T has another value
    [stage-1 1/3] COPY --from=base /app /copy/ cached
    [stage-1 3/3] RUN test built: ARG TOKEN has another value, ENV T has another value
    ");
    s.dockerfile(&text.replace("MODE=a API_KEY=k1", "MODE=b API_KEY=k2").replace("USER app", "USER 5"));
    insta::assert_snapshot!(s.explained(), @r#"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ cached
    [base 5/5] RUN make built: ENV API_KEY has another value, ENV MODE was "a", is "b"
    [stage-1 1/3] COPY --from=base /app /copy/ cached
    [stage-1 3/3] RUN test built: ENV API_KEY has another value, ENV MODE was "a", is "b", user was "app", is "5"
    "#);
    s.dockerfile(&text.replace("RUN make", "RUN make all"));
    insta::assert_snapshot!(s.explained(), @r#"
    [base 3/5] WORKDIR /srv/app cached
    [base 4/5] COPY src /app/ cached
    [base 5/5] RUN make all built: the instruction is another
    [stage-1 1/3] COPY --from=base /app /copy/ cached
    [stage-1 3/3] RUN test built: the layers below changed, from [base 5/5] on, ENV API_KEY has another value, ENV MODE was "b", is "a", user was "5", is "app"
    "#);
    s.spec.no_cache_filter = vec!["base".into()];
    insta::assert_snapshot!(s.explained(), @r"
    [base 3/5] WORKDIR /srv/app built: it was asked for
    [base 4/5] COPY src /app/ built: it was asked for
    [base 5/5] RUN make all built: it was asked for
    [stage-1 1/3] COPY --from=base /app /copy/ cached
    [stage-1 3/3] RUN test cached
    ");
    // No value of an argument is on the disk, nor of a variable that has one.
    let place = fs::read_dir(s.fixture.dir.path().join("images/build/places")).expect("there").next().expect("one");
    let kept = fs::read_to_string(place.expect("readable").path()).expect("text");
    assert!(
        kept.contains("env MODE\t=a\n") && kept.contains("\tenv T\t#") && kept.contains("\targ TOKEN\t#"),
        "{kept}"
    );
    assert!(!kept.contains("hush") && !kept.contains("k1"), "{kept}");
}

#[test]
fn an_instruction_of_several_lines_is_known_again() {
    if !crate::testing::is_root() {
        return;
    }
    let s = setup("FROM test:1\nCOPY a /a\nRUN <<EOF\n\tmake \\\\ all\nEOF\n", &[("a", "1")]);
    s.explained();
    fs::write(s.context.join("a"), "2").expect("writable");
    insta::assert_snapshot!(s.explained(), @r"
    [stage-0 1/2] COPY a /a built: a has another content
    [stage-0 2/2] RUN <<EOF built: the layers below changed, from [stage-0 1/2] on
    ");
}

#[test]
fn a_step_tells_what_became_of_its_layer_and_of_the_base() {
    if !crate::testing::is_root() {
        return;
    }
    let s = setup("FROM test:1\nCOPY a /a\nRUN make\n", &[("a", "1"), ("b", "2")]);
    s.explained();
    let layers = s.fixture.store.resolve("shop-web").expect("readable").expect("built").config.rootfs.diff_ids;
    fs::remove_dir_all(s.fixture.store.layer_dir(&layers[1])).expect("there");
    insta::assert_snapshot!(s.explained(), @r"
    [stage-0 1/2] COPY a /a built: its layer is not in the store any more
    [stage-0 2/2] RUN make cached
    ");
    // Back to what was built before: it is known, and compared with the last time.
    s.dockerfile("FROM test:1\nCOPY b /a\nRUN make\n");
    s.explained();
    fs::write(s.context.join("b"), "3").expect("writable");
    s.explained();
    fs::write(s.context.join("b"), "2").expect("writable");
    insta::assert_snapshot!(s.explained(), @r"
    [stage-0 1/2] COPY b /a cached: as in an earlier build
    [stage-0 2/2] RUN make cached: as in an earlier build
    ");
    // Of a build that fails, what it did not come to is kept.
    s.dockerfile("FROM test:1\nCOPY b /a\nCOPY none /\nRUN make\n");
    insta::assert_snapshot!(s.explained(), @"[stage-0 1/3] COPY b /a cached");
    s.dockerfile("FROM test:1\nCOPY b /a\nCOPY a /\nRUN make\n");
    insta::assert_snapshot!(s.explained(), @r"
    [stage-0 1/3] COPY b /a cached
    [stage-0 2/3] COPY a / cached
    [stage-0 3/3] RUN make built: the layers below changed, from [stage-0 2/3] on
    ");
    s.fixture.image(&[crate::image::tarball::tests::TarBuilder::default().dir("./").file("other", b"base").end()]);
    insta::assert_snapshot!(s.explained(), @r"
    [stage-0 1/3] COPY b /a cached
    [stage-0 2/3] COPY a / cached
    [stage-0 3/3] RUN make built: the base image `test:1` is another
    ");
}
