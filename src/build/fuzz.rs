//! What fuzz targets (`fuzz/`) may call, and what must hold for any text.
//!
//! Invariant: a function returns, in bounded time and memory, or panics because something does not hold.

use crate::build::dockerfile::{self, Dockerfile, Mount, Op, Source, Text, expand, expand_heredoc, expand_words};
use crate::diag::{Diagnostic, Sources, render};

fn value(name: &str) -> Option<String> {
    match name {
        "A" => Some("a/b.tar.gz".into()),
        "EMPTY" => Some(String::new()),
        "BLANKS" => Some(" a  b ".into()),
        "P" => Some("*?\\*".into()),
        "LONG" => Some("x".repeat(4000)),
        _ => None,
    }
}

/// Reads a text as a whole file, as changes, as a trigger, as a mount and as one word.
pub fn dockerfile(text: &str) {
    let mut sources = Sources::default();
    let file = sources.add("Dockerfile", text);
    let show = |found: &[Diagnostic]| {
        for one in found {
            let span = one.span.expect("each has a place");
            assert!(span.lo <= span.hi && span.hi as usize <= text.len(), "a place outside of the text");
            let _ = render(one, &sources, false);
        }
    };
    match dockerfile::parse(text, file) {
        Ok(parsed) => {
            assert!(!parsed.stages.is_empty(), "a file without a stage");
            show(&parsed.warnings);
            show(&dockerfile::check(&parsed));
            read(&parsed);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a failure without a reason");
            show(&errors);
        }
    }
    for errors in [dockerfile::parse_changes(text, file).err(), dockerfile::parse_trigger(text, file).err()] {
        show(&errors.unwrap_or_default());
    }
    let _ = Mount::parse(text);
    let _ = expand_heredoc(text, &value);
    for escape in ['\\', '`'] {
        let whole = expand(text, escape, &value);
        assert_eq!(expand_words(text, escape, &value).is_ok(), whole.is_ok(), "words and text are read alike");
    }
}

/// Reads what is left to read of a file.
fn read(parsed: &Dockerfile) {
    for stage in &parsed.stages {
        expanded(&stage.from, parsed.escape);
        for instruction in &stage.instructions {
            match &instruction.op {
                Op::Run(run) => {
                    let _ = run.script();
                    for mount in &run.mounts {
                        let _ = Mount::parse_with(&mount.raw, &|text| expand(text, parsed.escape, &value));
                    }
                }
                Op::Onbuild(trigger) if parsed.escape == '\\' => {
                    let again = dockerfile::parse_trigger(trigger, 0);
                    assert!(again.is_ok(), "what was stored can be read: {trigger:?} {again:?}");
                }
                Op::Add(copy) | Op::Copy(copy) => {
                    for source in &copy.sources {
                        match source {
                            Source::Path(text) => expanded(text, parsed.escape),
                            Source::Heredoc(heredoc) => drop(expand_heredoc(&heredoc.content, &value)),
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn expanded(text: &Text, escape: char) {
    drop(expand(&text.raw, escape, &value));
}
