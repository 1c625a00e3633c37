//! `ADD` of what is elsewhere.

use std::sync::Arc;

use crate::build::configure::{Failure, fail};
use crate::build::context::Context;
use crate::build::copying::Source;
use crate::build::dockerfile::{self, Copy};
use crate::build::execute::Build;
use crate::build::remote::{Failed, Fetched, Remote};
use crate::build::run::Runner;
use crate::build::stage::Stage;
use crate::diag::Span;
use crate::image::digest::Digest;

/// Says at a place why something could not be fetched.
pub(super) fn failed_at(span: Span) -> impl Fn(Failed) -> Failure {
    move |Failed { message, help }| {
        let mut failure = fail(span, message);
        failure.help = help;
        failure
    }
}

impl<R: Runner> Build<'_, R> {
    /// Returns what is to be fetched for a source of `ADD`; `None` when it is a path of the context.
    pub(super) fn remote(&self, text: &str, span: Span) -> Result<Option<Remote>, Failure> {
        Remote::of_source(text).map_err(failed_at(span))
    }

    /// Refuses flags of an `ADD` that have no meaning with its sources.
    pub(super) fn check_flags(&self, stage: &Stage, copy: &Copy) -> Result<(), Failure> {
        let (mut remotes, mut repositories) = (0, 0);
        for source in &copy.sources {
            let dockerfile::Source::Path(path) = source else { continue };
            let remote = self.remote(&self.text(stage, path)?, path.span)?;
            remotes += usize::from(remote.is_some());
            repositories += usize::from(matches!(remote, Some(Remote::Git(_))));
        }
        if copy.keep_git_dir && repositories == 0 {
            let message = "--keep-git-dir needs a source that is a git repository";
            return Err(Box::new(fail(copy.dest.span, message).help("leave it out")));
        }
        if let Some(checksum) = &copy.checksum {
            let (message, help) = match (remotes, copy.sources.len()) {
                (1, 1) => return Ok(()),
                (0, _) => {
                    let help = "leave it out: a file of the context is what it is";
                    ("--checksum needs a source that is elsewhere", help)
                }
                _ => ("--checksum is of one source, and there are several", "write one ADD for each URL"),
            };
            return Err(Box::new(fail(checksum.span, message).help(help)));
        }
        Ok(())
    }

    /// Fetches a source of `ADD`.
    pub(super) async fn added(
        &self,
        stage: &Stage,
        remote: &Remote,
        copy: &Copy,
        span: Span,
    ) -> Result<Source, Failure> {
        let checksum = match &copy.checksum {
            Some(checksum) => Some((self.text(stage, checksum)?, checksum.span)),
            None => None,
        };
        let (mut wanted, mut expected) = (remote.clone(), None);
        match (&mut wanted, checksum) {
            (Remote::Git(repository), checksum) => {
                if copy.keep_git_dir {
                    repository.keep_git_dir();
                }
                if let Some((text, span)) = checksum {
                    repository.check(&remote.to_string(), &text).map_err(failed_at(span))?;
                }
            }
            (Remote::Http(_), Some((text, span))) => {
                let wrong = || {
                    let message = format!("`{text}` is no checksum of a file");
                    Box::new(fail(span, message).help("write it as sha256: and 64 hexadecimal digits"))
                };
                expected = Some((Digest::parse(&text).map_err(|_| wrong())?, span));
            }
            (Remote::Http(_), None) => {}
        }
        let fetched = self.fetcher.source(&wanted, self.spec.access(), self.store).await.map_err(failed_at(span))?;
        if let (Some((expected, span)), Some(file)) = (expected, &fetched.file)
            && file.digest != expected
        {
            let message = format!("`{remote}` has the checksum {}, not {expected}", file.digest);
            let help = "if that is what it should be now, write it here";
            return Err(Box::new(fail(span, message).help(help)));
        }
        self.source_of(remote, &fetched, copy, span)
    }

    /// Returns what was fetched as a source: what it is, or what is in it when it is to be unpacked.
    fn source_of(&self, remote: &Remote, fetched: &Fetched, copy: &Copy, span: Span) -> Result<Source, Failure> {
        let title = format!("`{remote}`");
        let root = Context::fetched(&fetched.dir, title.clone()).map(Arc::new);
        let root = root.map_err(|e| fail(span, format!("cannot read {title}: {e}")))?;
        let (name, is_named) = fetched.file.as_ref().map_or(("", true), |file| (&file.name, file.is_named));
        let path = name.as_bytes().to_vec();
        if copy.unpack == Some(true)
            && let Some(root) = self.unpacked(&root, &path, span)?
        {
            return Ok(Source::Unpacked { root, span });
        }
        Ok(Source::Exact { path, is_named, text: remote.to_string(), root, span })
    }
}
