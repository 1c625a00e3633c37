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
