//! `build:`.

use nix::sys::signal::Signal;

use super::support::project::TestProject;
use super::support::run::Running;
use super::support::tmux::Tmux;
use super::support::{Secs as _, require_root};

const COMPOSE: &str = "
services:
  app:
    build: ./app
";

const DOCKERFILE: &str = r#"# A comment
FROM busybox
LABEL org.example.kind=test
ENV GREETING="good morning" NAME=world
WORKDIR /srv/app
COPY server.sh server.sh
COPY conf/ conf/
EXPOSE 3000/tcp
USER www-data
ENTRYPOINT ["sh"]
CMD ["server.sh", "started"]
"#;

fn project(dockerfile: &str) -> TestProject {
    let shop = TestProject::new("shop", COMPOSE);
    shop.write("app/Dockerfile", dockerfile);
    shop.write("app/server.sh", "echo \"$GREETING, $NAME: $1 as $(id -u) in $(pwd)\"\nexec sleep 1000\n");
    shop.write("app/conf/a", "a\n");
    shop.write("app/conf/deep/b", "b\n");
    shop
}

#[test]
fn an_image_is_built_tagged_and_run() {
    require_root!();
    let shop = project(DOCKERFILE);
    shop.up();
    shop.wait_log("app", "its greeting", |line| line == "good morning, world: started as 33 in /srv/app");
    assert_eq!(shop.shell("app", "cat conf/a conf/deep/b; stat -c %u server.sh"), "a\nb\n0");
    let listed = shop.hoist(&["image", "ls"]).ok();
    assert!(listed.lines().any(|l| l.starts_with("shop-app") && l.contains("latest")), "{listed}");
    let pid = shop.pid("app");
    shop.up();
    assert_eq!(shop.pid("app"), pid);
    assert_eq!(shop.record("app").image, "shop-app");
}

#[test]
fn a_changed_context_is_seen_with_build_and_only_then() {
    require_root!();
    let shop = project(DOCKERFILE);
    shop.up();
    let (id, pid) = (shop.record("app").image_id, shop.pid("app"));
    shop.hoist(&["up", "-d", "--build"]).ok();
    assert_eq!((shop.record("app").image_id, shop.pid("app")), (id.clone(), pid), "nothing changed");
    shop.write("app/conf/a", "changed\n");
    shop.up();
    assert_eq!(shop.pid("app"), pid, "not asked to build");
    shop.hoist(&["up", "-d", "--build"]).ok();
    assert_ne!(shop.record("app").image_id, id);
    assert_eq!(shop.shell("app", "cat conf/a"), "changed");
}

/// Returns what was said with the times that steps took redacted.
fn timeless(said: &str) -> String {
    let is_time =
        |word: &str| word.strip_suffix('s').is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok());
    let words = said.split_inclusive(' ').map(|word| if is_time(word.trim_end()) { "[TIME] " } else { word });
    words.collect()
}

#[test]
fn a_run_that_fails_is_shown_with_its_line_and_its_last_words() {
    require_root!();
    let shop = project("FROM busybox\nCOPY server.sh .\nRUN echo one; echo two; exit 3\nCMD [\"sh\"]\n");
    let message = timeless(&shop.redact(&shop.hoist(&["up", "-d"]).fails()));
    insta::assert_snapshot!(message, @r"
     Image shop-app Building 
     Step app [stage-0 1/3] COPY server.sh . Building 
     Step app [stage-0 1/3] COPY server.sh . Built [TIME] 
     Step app [stage-0 2/3] RUN echo one; echo two; exit 3 Building 
     app [stage-0 2/3] | one
     app [stage-0 2/3] | two
     Step app [stage-0 2/3] RUN echo one; echo two; exit 3 Error [TIME] 
     Image shop-app Error 
    error: the command failed: exit code 3
     --> [DIR]/app/Dockerfile:3:1
      |
    3 | RUN echo one; echo two; exit 3
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    last output of app [stage-0 2/3] RUN echo one; echo two; exit 3
      > one
      > two
    ");
    assert_eq!(shop.records(), []);
    assert!(!shop.hoist(&["image", "ls"]).ok().contains("shop-app"));
    shop.write("app/Dockerfile", "FROM busybox\nRUN [\"/no/such\"]\n");
    let message = shop.hoist(&["build"]).fails();
    assert!(message.contains("Dockerfile:2:"), "{message}");
}

const STAGES: &str = r#"ARG BASE=busybox
FROM $BASE AS builder
ARG KIND=prod
ENV PLACE=/made
WORKDIR /work
COPY conf/ conf/
RUN --mount=type=cache,target=/cache echo "$KIND $(id -u) $PWD $HOME" > /cache/last && mkdir $PLACE && cat conf/a > $PLACE/a && cp /cache/last $PLACE/
RUN <<EOF
set -e
echo from-a-heredoc > /made/heredoc
test ! -e /cache/last
EOF
FROM busybox AS unused
RUN exit 1
FROM busybox
RUN mkdir -p /srv && echo ran > /srv/own && ln -s own /srv/link && chown 33:33 /srv/own && chmod 640 /srv/own
RUN --mount=type=bind,source=conf,target=/bound --mount=type=bind,from=builder,source=/made,target=/of-builder,rw cat /bound/deep/b /of-builder/a > /srv/bound; echo thrown away > /of-builder/a; ! touch /bound/x
RUN rm /etc/passwd && echo 'web:x:33:33::/:/bin/sh' > /etc/passwd
COPY --from=builder /made /srv/made
USER web
RUN id -un > /tmp/who
CMD ["sleep", "1000"]
"#;

#[test]
fn stages_run_what_they_say_and_steps_are_known_the_next_time() {
    require_root!();
    let shop = project(STAGES);
    shop.up();
    let shell = |command: &str| shop.shell("app", command);
    assert_eq!(shell("cat /srv/made/a /srv/made/last /srv/made/heredoc"), "a\nprod 0 /work /root\nfrom-a-heredoc");
    assert_eq!(shell("stat -c '%u:%g %a' /srv/own; readlink /srv/link"), "33:33 640\nown");
    assert_eq!(shell("cat /srv/bound; cat /tmp/who; cat /etc/passwd"), "b\na\nweb\nweb:x:33:33::/:/bin/sh");
    // Nothing of what a container needs to run is in the image.
    assert_eq!(shell("ls -A /cache /bound /of-builder /dev/pipes 2>/dev/null; echo"), "");
    shop.hoist(&["down"]).ok();
    let built = |shop: &TestProject| shop.hoist(&["--progress", "plain", "build"]).code(0).stderr;
    let id = |shop: &TestProject| {
        let all = shop.hoist(&["image", "ls"]).ok();
        all.lines().find(|line| line.starts_with("shop-app")).expect("listed").to_owned()
    };
    let (first, said) = (id(&shop), built(&shop));
    assert_eq!(said.matches(" Cached").count(), said.matches("Step app").count(), "{said}");
    assert_eq!(id(&shop), first);
    // A changed file: what copies it is done again, and what depends on that; not the rest.
    shop.write("app/conf/a", "changed\n");
    let said = built(&shop);
    let is = |place: &str, word: &str| {
        said.lines().any(|l| l.contains(place) && timeless(l).trim_end().trim_end_matches(" [TIME]").ends_with(word))
    };
    assert!(is("[builder 4/6] COPY", "Built") && is("[builder 5/6] RUN", "Built"), "{said}");
    assert!(is("[stage-2 1/7] RUN", "Cached") && is("[stage-2 2/7] RUN", "Built"), "{said}");
    assert_ne!(id(&shop), first);
}

#[test]
fn a_run_with_the_same_output_stops_what_follows() {
    require_root!();
    let shop = project(
        "FROM busybox\nCOPY conf /conf\nRUN wc -c < /conf/a > /size && rm -r /conf\nRUN cat /proc/sys/kernel/random/uuid > /moment\nCMD [\"sleep\", \"1000\"]\n",
    );
    shop.up();
    let moment = shop.shell("app", "cat /size /moment");
    shop.hoist(&["down"]).ok();
    // The layer of `COPY` is another, that of the first `RUN` is not.
    shop.write("app/conf/deep/b", "c\n");
    shop.hoist(&["up", "-d", "--build"]).ok();
    let then = shop.shell("app", "cat /size /moment");
    assert_eq!(then.lines().next(), moment.lines().next());
    shop.hoist(&["build", "--no-cache"]).ok();
    shop.hoist(&["up", "-d"]).ok();
    assert_ne!(shop.shell("app", "cat /moment"), then.lines().nth(1).unwrap_or_default(), "each step was done again");
}

#[test]
fn secrets_are_given_and_kept() {
    require_root!();
    let compose = "
services:
  app:
    build:
      context: ./app
      secrets: [token, {source: other, target: named}]
      args: [VISIBLE=yes]
secrets:
  token: {file: ./token.txt}
  other: {environment: OTHER}
";
    let shop = TestProject::new("shop", compose);
    shop.write("token.txt", "gehe1m-token");
    shop.write(".env", "OTHER=gehe1m-other\n");
    shop.write(
        "app/Dockerfile",
        r#"FROM busybox
ARG VISIBLE
RUN --mount=type=secret,id=token --mount=type=secret,id=named,env=NAMED,required=true test "$(cat /run/secrets/token)" = "$(printf gehe1m; echo -token)" && test "$NAMED" = "$(printf gehe1m; echo -other)" && stat -c %a /run/secrets/token > /mode && echo $VISIBLE >> /mode
CMD ["cat", "/mode"]
"#,
    );
    let said = shop.hoist(&["--progress", "plain", "build"]).code(0).stderr;
    assert!(!said.contains("gehe1m-"), "{said}");
    assert_eq!(shop.hoist(&["run", "--rm", "-T", "app"]).ok(), "400\nyes\n");
    for place in [shop.host().root(), shop.host().run().to_owned()] {
        let found = std::process::Command::new("grep").args(["-rlF", "gehe1m-"]).arg(&place).output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "in {}", place.display());
    }
    // One that was not given and is required.
    shop.write("app/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=tokne,required=true true\n");
    let message = shop.hoist(&["build"]).fails();
    assert!(message.contains("was not given the secret `tokne`") && message.contains("Dockerfile:2:"), "{message}");
}

#[test]
fn caches_that_are_not_shared_are_waited_for_and_nobody_waits_for_himself() {
    require_root!();
    // Both take both, the other way round, and each of them twice.
    let dockerfile = |first: &str, second: &str| {
        let mount = |id: &str, target: &str| format!("--mount=type=cache,sharing=locked,id={id},target={target}");
        let mounts = [mount(first, "/1"), mount(second, "/2"), mount(first, "/3")].join(" ");
        let private = "--mount=type=cache,sharing=private,id=p,target=/p";
        format!(
            "FROM busybox\nRUN {mounts} {private} test ! -e /p/only && test ! -e /1/busy && test ! -e /2/busy && touch /1/busy /2/busy && test -e /3/busy && touch /p/only && sleep 1 && rm /1/busy /2/busy /p/only\n"
        )
    };
    let shop = project(&dockerfile("a", "b"));
    shop.write("other/Dockerfile", &dockerfile("b", "a"));
    let builds = ["app", "other"].map(|folder| shop.spawn(&["image", "build", "-t", folder, folder]));
    for build in builds {
        let _ = build.finish(60.secs()).code(0);
    }
}

#[test]
fn two_builds_at_once_share_their_work_and_a_killed_one_leaves_nothing() {
    require_root!();
    let shop =
        project("FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /moment\nCMD [\"cat\", \"/moment\"]\n");
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    let one = shop.spawn(&["image", "build", "-t", "one", "app"]);
    let two = shop.spawn(&["image", "build", "-t", "two", "app"]);
    let _ = one.finish(60.secs()).code(0);
    let _ = two.finish(60.secs()).code(0);
    let listed = shop.hoist(&["image", "ls"]).ok();
    let id = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name)).expect("listed");
        line.split_whitespace().nth(2).map(str::to_owned)
    };
    assert_eq!(id("one "), id("two "), "{listed}");
    shop.write("app/Dockerfile", "FROM busybox\nRUN echo it has begun; sleep 1000\n");
    let mut killed = shop.spawn(&["--progress", "plain", "image", "build", "-t", "three", "app"]);
    killed.wait_for("its program", |line| line.contains("| it has begun"));
    killed.signal(Signal::SIGKILL);
    let _ = killed.finish(10.secs());
    // Its program ends with it, and the next build takes the rest away.
    shop.write("app/Dockerfile", "FROM busybox\nRUN true\n");
    shop.hoist(&["image", "build", "-t", "four", "app"]).ok();
    shop.host().is_again(&before);
}

#[test]
fn a_missing_base_image_and_a_missing_file_are_named_with_their_line() {
    require_root!();
    let shop = project("FROM example.org/nothing:1\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("example.org/nothing:1") && message.contains("Dockerfile:1:"), "{message}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY no-such-file /\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("no-such-file") && message.contains("Dockerfile:2:"), "{message}");
    std::fs::remove_file(shop.path("app/Dockerfile")).expect("removed");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("Dockerfile"), "{message}");
    assert_eq!(shop.records(), []);
}

#[test]
fn a_copy_cannot_leave_the_context() {
    require_root!();
    let shop = project("FROM busybox\nCOPY ../secret /\n");
    shop.write("secret", "not for you\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("Dockerfile:2:"), "{message}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY link/secret /\n");
    std::os::unix::fs::symlink("..", shop.path("app/link")).expect("linked");
    shop.hoist(&["up", "-d"]).fails();
    assert_eq!(shop.records(), []);
}

#[test]
fn build_builds_what_says_how_and_nothing_else() {
    require_root!();
    let two = "
services:
  web:
    image: busybox
    depends_on: [app]
  app:
    build: ./app
  other:
    build: ./app
    image: other:1
    depends_on: [app]
";
    let shop = TestProject::new("shop", two);
    shop.write("app/Dockerfile", "FROM busybox\nLABEL a=b\n");
    let tagged = || {
        let listed = shop.hoist(&["image", "ls"]).ok();
        ["shop-app", "other"].map(|name| listed.lines().any(|line| line.starts_with(name)))
    };
    let said = shop.hoist(&["build", "web"]).code(0).stderr;
    assert!(said.contains("No services to build"), "{said}");
    assert_eq!(tagged(), [false, false]);
    shop.hoist(&["build", "other"]).ok();
    assert_eq!(tagged(), [false, true]);
    let said = shop.hoist(&["build", "--with-dependencies", "web"]).code(0).stderr;
    assert!(said.contains("shop-app Built"), "{said}");
    assert_eq!(tagged(), [true, true]);
    assert_eq!(shop.hoist(&["build", "-q"]).code(0).stderr, "");
    assert_eq!(shop.records().len(), 0);
    let refused = shop.hoist(&["image", "build", "--push", "app"]).fails();
    assert!(refused.contains("--push needs a name"), "{refused}");
    let unknown = shop.hoist(&["build", "nope"]).fails();
    assert!(unknown.contains("no such service: nope"), "{unknown}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY nothing /\n");
    let failed = shop.hoist(&["build", "app"]).fails();
    assert!(failed.contains("nothing"), "{failed}");
}

#[test]
fn progress_can_be_read_by_programs() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  app:\n    build: .\n    command: sleep 1000\n");
    shop.write("Dockerfile", "FROM busybox AS base\nRUN echo \"hi\"\nCOPY nothing /\n");
    let lines = |said: &str| -> Vec<serde_json::Value> {
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    };
    let failed = lines(&shop.hoist(&["image", "build", "--progress", "json", "-t", "one", "."]).fails());
    let step = "Step one [base 1/";
    let of_step = |lines: &[serde_json::Value], key: &str| -> Vec<String> {
        let own = lines.iter().filter(|line| line["id"].as_str().is_some_and(|id| id.starts_with(step)));
        own.filter_map(|line| line[key].as_str()).map(str::to_owned).collect()
    };
    assert_eq!(of_step(&failed, "status"), ["Building", "Built"]);
    assert_eq!(of_step(&failed, "text"), ["hi"]);
    let error = failed.last().expect("an error");
    assert_eq!((&error["error"], &error["line"]), (&true.into(), &3.into()), "{error}");
    shop.write("Dockerfile", "FROM busybox AS base\nRUN echo \"hi\"\n");
    let again = lines(&shop.hoist(&["image", "build", "--progress", "json", "-t", "one", "."]).code(0).stderr);
    assert_eq!(of_step(&again, "status"), ["Cached"]);
    let up = lines(&shop.hoist(&["--progress", "json", "up", "-d"]).code(0).stderr);
    let container: Vec<&str> =
        up.iter().filter(|l| l["id"] == "Container shop-app-1").filter_map(|l| l["status"].as_str()).collect();
    assert_eq!(container, ["Creating", "Created", "Starting", "Started"]);
}

#[test]
fn a_cache_may_begin_as_a_copy() {
    require_root!();
    let shop = project(
        "FROM busybox AS seed
RUN mkdir -p /seed/deep && echo one > /seed/deep/a && chown -R 5:6 /seed/deep
FROM busybox
RUN --mount=type=cache,target=/cache,from=seed,source=/seed,mode=0700 \\
    cat /cache/deep/a > /first && stat -c %u:%g:%a /cache/deep /cache >> /first && echo two >> /cache/deep/a
RUN --mount=type=cache,target=/cache,from=seed,source=/seed cat /cache/deep/a > /second
RUN --mount=type=cache,target=/cache,from=scratch ls /cache > /third
CMD [\"sleep\", \"1000\"]
",
    );
    shop.up();
    assert_eq!(shop.shell("app", "cat /first"), "one\n5:6:755\n0:0:700");
    assert_eq!(shop.shell("app", "cat /second /third"), "one\ntwo");
    let bad = "FROM busybox\nRUN --mount=type=cache,target=/c,from=busybox,source=/bin/sh true\n";
    shop.write("app/Dockerfile", bad);
    let message = shop.hoist(&["build"]).fails();
    assert!(message.contains("`/bin/sh` is no directory that a cache can begin with"), "{message}");
    assert!(message.contains("Dockerfile:2:"), "{message}");
}

#[test]
fn a_shell_shows_what_a_failed_step_left() {
    require_root!();
    let shop = project("FROM busybox\nENV KIND=test\nWORKDIR /srv\nRUN echo left > /left; rm /etc/group; exit 3\n");
    let typed = "cat /left; pwd; echo $KIND; test -e /etc/group || echo none; echo more > /srv/more\n";
    for arguments in [&["build", "--debug-shell"][..], &["image", "build", "--debug-shell=/bin/sh", "app"]] {
        let run = Running::of(shop.command(arguments), Some(typed)).finish(60.secs()).code(1);
        assert_eq!(run.stdout, "left\n/srv\ntest\nnone\n", "{run}");
        assert!(run.stderr.contains("exit code 3; here is `/bin/sh` in what it left"), "{run}");
        assert!(run.stderr.contains("Dockerfile:4:"), "{run}");
    }
    let nothing = Running::of(shop.command(&["build", "--debug-shell=/no/shell"]), Some("")).finish(60.secs()).code(1);
    assert!(nothing.stderr.contains("/no/shell") && nothing.stderr.contains("Dockerfile:4:"), "{nothing}");
    shop.write("app/Dockerfile", "FROM busybox\nRUN true\n");
    assert_eq!(Running::of(shop.command(&["build", "--debug-shell"]), Some(typed)).finish(60.secs()).ok(), "");
}

#[test]
fn a_debug_shell_has_the_users_terminal() {
    require_root!();
    let shop = project("FROM busybox\nRUN echo left > /left; exit 3\n");
    let tmux = Tmux::open(&shop);
    tmux.line("hoist image build --debug-shell app; echo code $?");
    tmux.wait("a shell", |screen| screen.contains("in what it left") && screen.trim_end().ends_with('#'));
    tmux.line("test -t 0 && test -t 1 && cat /left /proc/1/comm");
    tmux.wait("what is left", |screen| screen.contains("\nleft\nsh\n"));
    tmux.line("exit");
    tmux.wait("the failure", |screen| screen.contains("the command failed: exit code 3") && screen.contains("code 1"));
    tmux.line("echo typed");
    tmux.wait("an echo", |screen| screen.contains("echo typed"));
}

/// Makes an archive of a folder.
fn packed(folder: &std::path::Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    tar.append_dir_all(".", folder).expect("memory");
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("memory")
}

#[test]
fn a_context_comes_in_or_is_elsewhere() {
    require_root!();
    let shop = project("FROM busybox\nCOPY conf/a /a\nRUN cat /a > /b\nCMD [\"sleep\", \"1000\"]\n");
    let archive = packed(&shop.path("app"));
    let build = |arguments: &[&str], stdin: &[u8]| {
        std::fs::write(shop.path("stdin"), stdin).expect("writable");
        let mut command = shop.command(&[&["--progress", "plain", "image", "build"], arguments].concat());
        command.stdin(std::fs::File::open(shop.path("stdin")).expect("there"));
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let id = |name: &str| {
        let all = shop.hoist(&["image", "ls"]).ok();
        let line = all.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {all}"));
        line.split_whitespace().nth(2).expect("an id").to_owned()
    };
    assert_eq!(build(&["-t", "plain", "app"], b"").0, Some(0));
    for arguments in [&["-t", "tar", "-"][..], &["-t", "tar", "-f", "Dockerfile", "-"]] {
        let (code, said) = build(arguments, &archive);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(id("tar"), id("plain"), "{said}");
    }
    let dockerfile = b"FROM busybox\nCOPY conf/a /a\nRUN cat /a > /b\nCMD [\"sleep\", \"1000\"]\n";
    assert_eq!(build(&["-t", "given", "-f", "-", "app"], dockerfile).0, Some(0));
    assert_eq!(id("given"), id("plain"));
    assert_eq!(build(&["-t", "text", "-"], b"FROM busybox\nENV A=b\n").0, Some(0));
    let (code, said) = build(&["-t", "text", "-"], b"FROM busybox\nCOPY a /\n");
    assert!(
        code == Some(1) && said.contains("`a` is not in the build context") && said.contains("--> -:2:6"),
        "{said}"
    );
    let (code, said) = build(&["-t", "text", "-f", "-", "-"], b"");
    assert!(code == Some(1) && said.contains("cannot both come in on standard input"), "{said}");

    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = server.local_addr().expect("bound");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in server.incoming().flatten() {
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", archive.len());
            let _ = stream.read(&mut [0; 4096]); // all of it comes at once
            let _ = stream.write_all(&[head.as_bytes(), &archive].concat());
        }
    });
    let url = format!("http://{address}/app.tar.gz");
    assert_eq!(build(&["-t", "fetched", &url], b"").0, Some(0));
    assert_eq!(id("fetched"), id("plain"));
    shop.write("compose.yaml", &format!(
        "services:\n  app:\n    build: {url}\n  more:\n    build:\n      context: app\n      additional_contexts: [\"far={url}\"]\n      \
         dockerfile_inline: \"FROM busybox\\nCOPY --from=far conf/deep/b /b\\nCMD sleep 1000\"\n"
    ));
    shop.up();
    assert_eq!((shop.shell("app", "cat /b"), shop.shell("more", "cat /b")), ("a".into(), "b".into()));
}
