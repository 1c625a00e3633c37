//! What can be read and not built yet: it is refused by name, since leaving it out would build another image than the
//! file says. One function each, so that it goes when its time comes.
//!
//! Invariant: pure.

use crate::build::dockerfile::{Copy, Dockerfile, Instruction, Op, Source};
use crate::diag::{Diagnostic, Span};
use crate::image::config::host_architecture;

/// Returns what a file asks for that cannot be built yet, in the order of the file.
pub(super) fn refuse(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    stages(file, &mut all);
    platforms(file, &mut all);
    for instruction in file.globals.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions)) {
        keywords(instruction, &mut all);
        if let Op::Copy(copy) = &instruction.op {
            flags(copy, instruction, &mut all);
            heredocs(copy, &mut all);
            modes(copy, &mut all);
        }
    }
    all.sort_by_key(|diagnostic| diagnostic.span.map(|span| span.lo));
    all
}

fn later(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(Some(span), format!("{what} is not supported yet; it comes in a later version"))
}

/// Returns the place of an instruction's keyword.
fn keyword(line: &str, span: Span) -> (&str, Span) {
    let word = line.split(' ').next().unwrap_or_default();
    (word, Span::new(span.file, span.lo as usize, span.lo as usize + word.len()))
}

fn stages(file: &Dockerfile, all: &mut Vec<Diagnostic>) {
    for stage in file.stages.iter().skip(1) {
        all.push(later(keyword(&stage.line, stage.span).1, "a second FROM (a build in several stages)"));
    }
}

fn platforms(file: &Dockerfile, all: &mut Vec<Diagnostic>) {
    let own = format!("linux/{}", host_architecture());
    let others = file.stages.iter().filter_map(|stage| stage.platform.as_ref()).filter(|platform| platform.raw != own);
    all.extend(others.map(|platform| later(platform.span, "FROM for another platform than this machine's")));
}

fn keywords(instruction: &Instruction, all: &mut Vec<Diagnostic>) {
    if matches!(instruction.op, Op::Add(_) | Op::Arg(_) | Op::Onbuild(_) | Op::Run(_)) {
        let (word, span) = keyword(&instruction.line, instruction.span);
        all.push(later(span, word));
    }
}

fn flags(copy: &Copy, instruction: &Instruction, all: &mut Vec<Diagnostic>) {
    let whole = keyword(&instruction.line, instruction.span).1;
    let given = [
        ("from", copy.from.as_ref().map(|text| text.span)),
        ("link", copy.link.then_some(whole)),
        ("parents", copy.parents.then_some(whole)),
        ("exclude", copy.exclude.first().map(|text| text.span)),
    ];
    all.extend(given.into_iter().filter_map(|(name, span)| Some(later(span?, &format!("COPY --{name}")))));
}

fn heredocs(copy: &Copy, all: &mut Vec<Diagnostic>) {
    for source in &copy.sources {
        if let Source::Heredoc(heredoc) = source {
            all.push(later(heredoc.span, "a heredoc in COPY"));
        }
    }
}

fn modes(copy: &Copy, all: &mut Vec<Diagnostic>) {
    if let Some(mode) = copy.chmod.as_ref().filter(|mode| octal(&mode.raw).is_none()) {
        let message = format!("`{}` is not an octal mode such as 0755", mode.raw);
        all.push(Diagnostic::error(Some(mode.span), message));
    }
}

/// Reads an octal mode.
pub(super) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;
    use crate::diag::{Sources, render};

    fn refused(text: &str) -> String {
        let mut sources = Sources::default();
        let file = sources.add("Dockerfile", text);
        let parsed = parse(text, file).unwrap_or_else(|e| panic!("{e:?}"));
        refuse(&parsed).iter().map(|d| render(d, &sources, false)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_needs_a_container_or_stages_is_refused_by_name() {
        insta::assert_snapshot!(refused("FROM debian\nRUN apt-get update\nCOPY --from=build /a /b\nFROM x\n"), @r"
        error: RUN is not supported yet; it comes in a later version
         --> Dockerfile:2:1
          |
        2 | RUN apt-get update
          | ^^^

        error: COPY --from is not supported yet; it comes in a later version
         --> Dockerfile:3:6
          |
        3 | COPY --from=build /a /b
          |      ^^^^^^^^^^^^

        error: a second FROM (a build in several stages) is not supported yet; it comes in a later version
         --> Dockerfile:4:1
          |
        4 | FROM x
          | ^^^^
        ");
        for line in ["ADD a /b", "ARG A", "ONBUILD COPY a b", "COPY --link a b", "COPY --exclude=x a b"] {
            assert!(refused(&format!("FROM x\n{line}\n")).contains("comes in a later version"), "{line}");
        }
        assert!(refused("FROM x\nCOPY <<EOF /a\nCMD\nEOF\n").contains("heredoc"));
        assert!(refused("FROM x\nCOPY --chmod=9 a b\n").contains("octal mode"));
        assert!(refused("ARG A\nFROM x\n").contains("ARG is not supported"));
        assert_eq!(refused("FROM x\nCOPY --chmod=0644 a b\nMAINTAINER me\n"), "");
    }
}
