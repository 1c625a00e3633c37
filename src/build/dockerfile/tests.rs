//! Tests of what is read from whole files.

use super::instructions::duration;
use super::*;
use crate::diag::{Sources, render};

fn ops(text: &str) -> Vec<Op> {
    let mut file = parse(text, 0).unwrap_or_else(|e| panic!("{e:?}"));
    file.stages.swap_remove(0).instructions.into_iter().map(|i| i.op).collect()
}

fn errors(text: &str) -> String {
    let mut sources = Sources::default();
    let file = sources.add("Dockerfile", text);
    let errors = parse(text, file).expect_err("must be refused");
    errors.iter().map(|d| render(d, &sources, false)).collect::<Vec<_>>().join("\n")
}

fn sources(copy: &Copy) -> Vec<String> {
    let name = |source: &'_ Source| match source {
        Source::Path(text) => text.raw.clone(),
        Source::Heredoc(heredoc) => heredoc.name.clone(),
    };
    copy.sources.iter().map(name).collect()
}

#[test]
fn both_forms_of_commands_are_read() {
    for (text, expected) in [
        (r#"CMD ["a", "b c"]"#, Command::Exec(vec!["a".into(), "b c".into()])),
        ("CMD a  b", Command::Shell("a  b".into())),
        ("cmd ['a']", Command::Shell("['a']".into())),
        (r#"CMD ["a", ["b"]"#, Command::Shell(r#"["a", ["b"]"#.into())),
        ("CMD [ -f x ]", Command::Shell("[ -f x ]".into())),
        ("CMD []", Command::Exec(Vec::new())),
        ("CMD a \\\n  b", Command::Shell("a   b".into())),
        ("CMD a \\\n# comment\n\n  b", Command::Shell("a   b".into())),
        ("CMD a \\\\\n", Command::Shell("a \\\\".into())),
    ] {
        assert_eq!(ops(&format!("FROM x\n{text}\n")), [Op::Cmd(expected)], "{text}");
    }
    assert_eq!(ops("# escape=`\nFROM x\nCMD a `\nb\\"), [Op::Cmd(Command::Shell("a b\\".into()))]);
}

#[test]
fn pairs_have_two_forms() {
    for (text, expected) in [
        ("ENV a=1 b=\"2 3\" c=4\\ 5", vec![("a", "1"), ("b", "\"2 3\""), ("c", "4\\ 5")]),
        ("ENV a  1 2", vec![("a", "1 2")]),
        ("ENV a=", vec![("a", "")]),
        ("ENV a=b=c", vec![("a", "b=c")]),
    ] {
        let parsed = ops(&format!("FROM x\n{text}"));
        let [Op::Env(pairs)] = &parsed[..] else { panic!("{text}: {parsed:?}") };
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.raw.as_str(), v.raw.as_str())).collect();
        assert_eq!(pairs, expected, "{text}");
    }
}

#[test]
fn copy_takes_words_or_a_list() {
    for text in ["COPY --chown=1:2 --chmod=644 a b /c/", r#"COPY --chmod=0644 --chown=1:2 ["a", "b", "/c/"]"#] {
        let parsed = ops(&format!("FROM x\n{text}"));
        let [Op::Copy(copy)] = &parsed[..] else { panic!("{parsed:?}") };
        assert_eq!((sources(copy).join(" "), copy.dest.raw.as_str()), ("a b".to_owned(), "/c/"));
        assert_eq!(copy.chown.as_ref().map(|text| text.raw.as_str()), Some("1:2"));
        assert_eq!(copy.chmod.as_ref().map(|text| text.raw.trim_start_matches('0')), Some("644"));
    }
}

#[test]
fn health_checks_have_durations() {
    let parsed =
        ops("FROM x\nHEALTHCHECK --interval=1m30s --timeout=500ms --retries=5 CMD curl -f x\nHEALTHCHECK NONE");
    let [Op::Healthcheck(check), Op::Healthcheck(none)] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!(check.interval, Some(Duration::from_secs(90)));
    assert_eq!(check.timeout, Some(Duration::from_millis(500)));
    assert_eq!(check.retries, Some(5));
    assert_eq!(check.command, Some(Command::Shell("curl -f x".into())));
    assert_eq!(none, &Healthcheck::default());
    for (text, seconds) in [
        ("1h", Some(3600.0)),
        ("1.5s", Some(1.5)),
        ("0", Some(0.0)),
        ("5", None),
        ("", None),
        ("1x", None),
        ("s", None),
    ] {
        assert_eq!(duration(text), seconds.map(Duration::from_secs_f64), "{text}");
    }
}

#[test]
fn mistakes_are_shown_with_their_place() {
    insta::assert_snapshot!(errors("FROM x\nCPOY a b\n"), @r"
    error: unknown instruction `CPOY`
     --> Dockerfile:2:1
      |
    2 | CPOY a b
      | ^^^^
      |
      = help: did you mean `COPY`?
    ");
    insta::assert_snapshot!(errors("COPY a b\n"), @r"
    error: COPY stands before FROM
     --> Dockerfile:1:1
      |
    1 | COPY a b
      | ^^^^
      |
      = help: begin the file with the image to build on, such as `FROM debian:12`
    ");
    for (text, expected) in [
        ("", "has no FROM"),
        ("# only a comment\n", "has no FROM"),
        ("FROM x\nCOPY a\n", "at least one source"),
        ("FROM x\nCMD [\"a\", [\"b\"]]\n", "no string"),
        ("FROM x\nCOPY --chwon=1 a b\n", "did you mean `--chown`"),
        ("FROM x\nENV A\n", "needs `name=value`"),
        ("FROM x\nENV A=1 B\n", "not of the form"),
        ("FROM x\nENV A=\"1\n", "never closed"),
        ("FROM x\nCMD\n", "needs an argument"),
        ("FROM x\nUSER --a b\n", "has no flag"),
        ("FROM x\nSHELL /bin/sh\n", "needs a list"),
        ("FROM x\nHEALTHCHECK true\n", "followed by `CMD`"),
        ("FROM a b\n", "one image"),
        ("# escape=x\nFROM a\n", "escape character"),
    ] {
        assert!(errors(text).contains(expected), "{text:?}: {}", errors(text));
    }
}

#[test]
fn stages_arguments_and_triggers_are_read() {
    let text = "# escape=`\nARG A=1 B\nFROM --platform=$P $A AS Build\nADD --checksum=x --unpack=false u /d\n\
        COPY --from=build --link --exclude=a --exclude=b --parents . /\nfrom x\nARG c=\"d e\" f\nMAINTAINER me $x\n\
        RUN --network=none --mount=type=cache,target=/c a`\n  b\nONBUILD run <<-EOF cat\n\t\tx\n\tEOF\nUSER $x\n";
    let file = parse(text, 0).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(file.escape, '`');
    let Op::Arg(globals) = &file.globals[0].op else { panic!("{:?}", file.globals) };
    let shown = |pairs: &[(Text, Option<Text>)]| -> Vec<String> {
        let value = |value: &Option<Text>| value.as_ref().map_or("-".to_owned(), |value| value.raw.clone());
        pairs.iter().map(|(name, text)| format!("{} {}", name.raw, value(text))).collect()
    };
    assert_eq!(shown(globals), ["A 1", "B -"]);
    let [first, second] = &file.stages[..] else { panic!("{:?}", file.stages) };
    assert_eq!((first.from.raw.as_str(), first.name.as_ref().map(|name| name.raw.as_str())), ("$A", Some("build")));
    assert_eq!(first.platform.as_ref().map(|text| text.raw.as_str()), Some("$P"));
    assert_eq!(first.line, "FROM --platform=$P $A AS Build");
    let [Op::Add(add), Op::Copy(copy)] = [&first.instructions[0].op, &first.instructions[1].op] else { panic!() };
    assert_eq!((add.unpack, add.checksum.as_ref().map(|text| text.raw.as_str())), (Some(false), Some("x")));
    assert_eq!((copy.link, copy.parents, copy.exclude.len(), copy.unpack), (true, true, 2, None));
    assert_eq!(copy.from.as_ref().map(|text| text.raw.as_str()), Some("build"));
    let ops: Vec<&Op> = second.instructions.iter().map(|instruction| &instruction.op).collect();
    let [Op::Arg(pairs), Op::Maintainer(me), Op::Run(run), Op::Onbuild(trigger), Op::User(user)] = ops[..] else {
        panic!("{ops:?}")
    };
    assert_eq!(shown(pairs), ["c \"d e\"", "f -"]);
    assert_eq!((me.raw.as_str(), user.raw.as_str()), ("me $x", "$x"));
    assert_eq!(run.command, Command::Shell("a  b".into()));
    assert_eq!((run.mounts[0].raw.as_str(), run.network.is_some()), ("type=cache,target=/c", true));
    assert_eq!(trigger, "run <<-EOF cat\n\t\tx\nEOF");
    let (again, escape) = parse_trigger(trigger, 0).unwrap_or_else(|e| panic!("{e:?}"));
    let Op::Run(run) = again.op else { panic!("{again:?}") };
    assert_eq!((run.script(), escape), (Script::Shell("<<-EOF cat\nx\nEOF".into()), '\\'));
    for text in ["", "ONBUILD RUN a", "FROM x", "MAINTAINER x", "RUN a\nRUN b"] {
        assert!(parse_trigger(text, 0).is_err(), "{text}");
    }
}

/// Returns the heredocs of a file's instructions: name, text, whether variables are expanded.
fn heredocs(text: &str) -> Vec<(String, String, bool)> {
    let all = ops(text).into_iter().flat_map(|op| match op {
        Op::Run(run) => run.heredocs,
        Op::Add(copy) | Op::Copy(copy) => {
            let heredoc = |source| if let Source::Heredoc(heredoc) = source { Some(heredoc) } else { None };
            copy.sources.into_iter().filter_map(heredoc).collect()
        }
        _ => Vec::new(),
    });
    all.map(|heredoc| (heredoc.name, heredoc.content, heredoc.expand)).collect()
}

#[test]
fn heredocs_are_read_wherever_they_begin() {
    for (text, expected) in [
        ("RUN <<A\nA\n", &[("A", "", true)][..]),
        ("RUN 3<<A cat\nx\n y\nA\n", &[("A", "x\n y\n", true)]),
        ("RUN <<-A\n\tx\n\t\ty\n\tA\n", &[("A", "x\ny\n", true)]),
        ("RUN <<A\n\tx\n\tA\nA\n", &[("A", "\tx\n\tA\n", true)]),
        ("RUN <<'A'\nx\nA\n", &[("A", "x\n", false)]),
        ("RUN <<\"a b\"\nx\na b\n", &[("a b", "x\n", false)]),
        ("RUN <<a'b'\nab\n", &[("ab", "", false)]),
        ("RUN <<a\\'b\na'b\n", &[("a'b", "", true)]),
        ("RUN <<$A\n$A\n", &[("$A", "", true)]),
        ("RUN << A > x\nA\n", &[("A", "", true)]),
        ("RUN <<- A\n\tx\nA\n", &[("A", "x\n", true)]),
        ("RUN <<A\n# x\n\n\\\nA\n", &[("A", "# x\n\n\\\n", true)]),
        ("RUN <<A\r\nx\r\nA\r\n", &[("A", "x\r\n", true)]),
        ("RUN --mount=type=cache,target=/c <<A\nx\nA\n", &[("A", "x\n", true)]),
        ("RUN cat <<A && \\\n  cat <<B\na\nA\nb\nB\n", &[("A", "a\n", true), ("B", "b\n", true)]),
        ("COPY <<A <<B x /d/\nB\nA\nA\nB\n", &[("A", "B\n", true), ("B", "A\n", true)]),
        ("ADD << A /d\nx\nA\n", &[("A", "x\n", true)]),
        ("RUN \"<<A\"\nRUN '<<A'\nRUN [\"<<A\"]\nRUN a<<A\nRUN cat <<<A\nRUN echo $((1<<2))\nRUN it's <<A\n", &[]),
        ("USER <<A\nUSER A\n", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|(n, c, e)| ((*n).to_owned(), (*c).to_owned(), *e)).collect();
        assert_eq!(heredocs(&format!("FROM x\n{text}USER y\n")), expected, "{text}");
    }
    let parsed = ops("FROM x\nCOPY << A y /d\nx\nA\n");
    let [Op::Copy(copy)] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!((sources(copy), copy.dest.raw.as_str()), (vec!["A".to_owned(), "y".to_owned()], "/d"));
}

#[test]
fn a_heredoc_alone_is_the_script() {
    let script = |text: &str| -> String {
        let parsed = ops(&format!("FROM x\n{text}"));
        let [Op::Run(run)] = &parsed[..] else { panic!("{parsed:?}") };
        match run.script() {
            Script::Exec(words) => format!("exec {words:?}"),
            Script::Shell(text) => format!("shell {text}"),
            Script::Program(heredoc) => format!("{} {}", heredoc.name, heredoc.content),
        }
    };
    for (text, expected) in [
        ("RUN a $b", "shell a $b"),
        ("RUN [\"a\", \"$b\"]", "exec [\"a\", \"$b\"]"),
        ("RUN <<A\nx\ny\nA", "shell x\ny\n"),
        ("RUN 3<<-'A'\n\tx\nA", "shell x\n"),
        ("RUN <<A\n#!/bin/sh\nA", "A #!/bin/sh\n"),
        ("RUN <<A sh\n#!x\nA", "shell <<A sh\n#!x\nA"),
        ("RUN <<A <<B\na\nA\nb\nB", "shell <<A <<B\na\nA\nb\nB"),
    ] {
        assert_eq!(script(text), expected, "{text}");
    }
}

#[test]
fn lines_are_joined_as_in_docker() {
    for (text, expected) in [
        ("\u{feff}FROM x\nRUN a", "a"),
        ("#!/bin/x\n# syntax=y\nFROM x\n  RUN a  \n", "a"),
        ("FROM x\r\nRUN a \\\r\n b\r\n", "a  b"),
        ("FROM x\nRUN a\\\nb", "ab"),
        ("FROM x\nRUN a \\ \t\nb", "a b"),
        ("FROM x\nRUN a \\\n# c\n  # d \\\n\n\tb", "a \tb"),
        ("FROM x\nRUN a \\", "a"),
        ("FROM x\n\\\n  RUN a", "a"),
        ("FROM x\nRUN\\\n a", "a"),
        ("# Escape = `\nFROM x\nRUN a `\nb\\", "a b\\"),
        ("# x\n# escape=`\nFROM x\nRUN a`", "a`"),
        ("FROM x\nRUN\ta\u{b}b", "a\u{b}b"),
    ] {
        let parsed = ops(text);
        let [Op::Run(run)] = &parsed[..] else { panic!("{text}: {parsed:?}") };
        assert_eq!(run.command, Command::Shell(expected.into()), "{text}");
    }
    let long = format!("FROM x\nRUN {}", "a".repeat(1 << 17));
    assert_eq!(ops(&long).len(), 1);
}

#[test]
fn flags_are_read_like_words_of_a_shell() {
    let parsed = ops("FROM x\nCOPY --chown=\"a b\" --from='x' --chmod=a\\ b -- --d --exclude=x\n");
    let [Op::Copy(copy)] = &parsed[..] else { panic!("{parsed:?}") };
    let value = |text: &Option<Text>| text.as_ref().map(|text| text.raw.clone()).unwrap_or_default();
    assert_eq!([&copy.chown, &copy.from, &copy.chmod].map(value), ["a b", "x", "a b"]);
    assert_eq!((sources(copy), copy.dest.raw.as_str()), (vec!["--d".to_owned()], "--exclude=x"));
    let parsed = ops("FROM x\nCOPY --from= a b\n");
    let [Op::Copy(copy)] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!(copy.from, None, "an empty one is none");
    let parsed = ops("FROM x\nADD --link=TRUE --unpack --keep-git-dir=false a b\n");
    let [Op::Add(add)] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!((add.link, add.unpack, add.keep_git_dir), (true, Some(true), false));
    let parsed = ops("FROM x\nRUN --mount='type=bind,\"source=a,b\"' --device=a --device=b --security=sandbox c\n");
    let [Op::Run(run)] = &parsed[..] else { panic!("{parsed:?}") };
    let mount = Mount::parse(&run.mounts[0].raw).expect("valid");
    assert_eq!((mount.source.as_deref(), run.devices.len()), (Some("a,b"), 2));
}

#[test]
fn lists_of_json_keep_their_quotes() {
    let parsed = ops("FROM x\nCOPY [\"it's\", \"a\\\\$b\", \"$c d\", \"/\"]\nVOLUME [\"/a b\"]\n");
    let [Op::Copy(copy), Op::Volume(volumes)] = &parsed[..] else { panic!("{parsed:?}") };
    let read: Vec<String> =
        sources(copy).iter().map(|raw| expand(raw, '\\', &|_| Some("1".into())).expect("valid")).collect();
    assert_eq!((read, volumes[0].raw.as_str()), (vec!["it's".into(), "a$b".into(), "1 d".into()], "/a b"));
}

#[test]
fn what_cannot_be_read_is_told_with_what_to_write() {
    insta::assert_snapshot!(errors("FROM x\nRUN cat <<A>f <<B\na\nA\n"), @r"
    error: the heredoc `A>f` is never ended
     --> Dockerfile:2:9
      |
    2 | RUN cat <<A>f <<B
      |         ^^^^^
      |
      = help: the word ends at a blank: write `<<A >f`

    error: the heredoc `B` is never ended
     --> Dockerfile:2:15
      |
    2 | RUN cat <<A>f <<B
      |               ^^^
      |
      = help: end it with a line that is only `B`; where `<<` begins no heredoc, quote it
    ");
    insta::assert_snapshot!(errors("FROM x AS 1\nFROM y AS scratch\nFROM z as a b\nCOPY --form=1 \\\n  a <<E\nE\n"), @r"
    error: `1` is not a valid name for a stage
     --> Dockerfile:1:11
      |
    1 | FROM x AS 1
      |           ^
      |
      = help: a name begins with a letter, and goes on with letters, digits, `-`, `_` and `.`

    error: `scratch` cannot be the name of a stage
     --> Dockerfile:2:11
      |
    2 | FROM y AS scratch
      |           ^^^^^^^
      |
      = help: `FROM scratch` begins without files; choose another name, such as `base`

    error: FROM needs one image, and may be followed by `AS` and a name
     --> Dockerfile:3:1
      |
    3 | FROM z as a b
      | ^^^^
      |
      = help: write `FROM debian:12` or `FROM debian:12 AS build`

    error: COPY has no flag `--form`
     --> Dockerfile:4:6
      |
    4 | COPY --form=1 \
      |      ^^^^^^^^
      |
      = help: did you mean `--from`?
    ");
    for (text, expected) in [
        ("COPY a <<E\nE\n", "a heredoc cannot be the destination of COPY"),
        ("COPY <<E\nE\n", "at least one source"),
        ("COPY [\"a\"]\n", "at least one source"),
        ("COPY --from=$x a b\n", "not expanded in COPY --from"),
        ("COPY --link=1 a b\n", "neither `true` nor `false`"),
        ("COPY --chown a b\n", "needs a value"),
        ("COPY --chown=a --chown=b a b\n", "given twice"),
        ("ADD --parents a b\n", "ADD has no flag `--parents`"),
        ("RUN --mount=type=cahce,target=/x y\n", "did you mean `cache`?"),
        ("RUN --mount=from=$x,target=/x y\n", "not expanded in `from`"),
        ("RUN --network=bridge x\n", "`default` or `none` or `host`"),
        ("RUN --security=x y\n", "`sandbox` or `insecure`"),
        ("RUN --user=x y\n", "`--device`, `--mount`, `--network`, `--security`"),
        ("RUN []\n", "RUN needs a command"),
        ("RUN [\"a\", 1]\n", "double quotes"),
        ("CMD --x\n", "write `--` before an argument"),
        ("ARG =x\n", "ARG needs a name"),
        ("ENV =x\n", "not of the form"),
        ("ONBUILD FROM x\n", "FROM cannot follow ONBUILD"),
        ("ONBUILD ONBUILD RUN x\n", "ONBUILD cannot follow ONBUILD"),
        ("ONBUILD RNU x\n", "did you mean `RUN`?"),
        ("ONBUILD RUN <<E\n", "never ended"),
        ("ONBUILD\n", "write `ONBUILD RUN program`"),
        ("VOLUME []\n", "path of a directory"),
        ("SHELL []\n", "needs a list"),
        ("HEALTHCHECK --interval=1us CMD x\n", "shorter than a millisecond"),
        ("HEALTHCHECK --retries=-1 CMD x\n", "number of retries"),
        ("HEALTHCHECK NONE x\n", "or by `NONE`"),
    ] {
        let told = errors(&format!("FROM x\n{text}"));
        assert!(told.contains(expected), "{text:?}: {told}");
        assert!(told.contains("Dockerfile:2:"), "{text:?}: {told}");
    }
    for (text, expected) in [
        ("# escape=`\n# ESCAPE=\\\nFROM x\n", "given twice"),
        ("ARG a\nRUN x\n", "RUN stands before FROM"),
        ("FROM --plattform=x y\n", "did you mean `--platform`?"),
    ] {
        assert!(errors(text).contains(expected), "{text:?}: {}", errors(text));
    }
}
