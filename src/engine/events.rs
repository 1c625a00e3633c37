//! What happens to a project's containers, as it happens: what `events` shows. Where it is written down: [`crate::state::events`].

use std::io;

use super::Engine;
use super::backend::Backend;
use super::logs::Watch;
use crate::diag::Report;
use crate::name::ProjectName;
use crate::state::events::{Happened, Reader};

/// Which events are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Those of containers of these services; none is all.
    pub services: &'a [String],
    /// Also those since this time, in nanoseconds since the epoch; without it what comes from now on.
    pub since: Option<i64>,
    /// None after this time.
    pub until: Option<i64>,
}

impl Asked<'_> {
    /// Returns whether an event is one of them. Those of containers of `run` are not, as in Compose.
    #[must_use]
    pub fn has(&self, project: &ProjectName, event: &Happened) -> bool {
        let named = self.services.is_empty() || self.services.iter().any(|name| name == event.service.as_str());
        let in_time = self.since.is_none_or(|at| event.time >= at) && self.until.is_none_or(|at| event.time <= at);
        event.project == *project && !event.one_off && named && in_time
    }
}

impl<B: Backend> Engine<B> {
    /// Shows events until `stop` is ready. The project may come, go and come again meanwhile.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn events(
        &self,
        project: &ProjectName,
        asked: &Asked<'_>,
        show: &mut dyn FnMut(Happened),
        stop: impl Future<Output = ()>,
    ) -> Result<(), Report> {
        let paths = self.backend.paths();
        let failed = |e: io::Error| Report::message(format!("cannot read `{}`: {e}", paths.events().display()));
        let watch = Watch::new().map_err(|e| Report::message(format!("cannot watch files: {e}")))?;
        watch.add(paths.run());
        let mut reader = Reader::new(paths).map_err(failed)?;
        if asked.since.is_none() {
            reader.skip().map_err(failed)?;
        }
        let mut stop = std::pin::pin!(stop);
        loop {
            for event in reader.read().map_err(failed)? {
                if asked.has(project, &event) {
                    show(event);
                }
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = watch.wait() => {}
            }
        }
        for event in reader.read().map_err(failed)?.into_iter().filter(|event| asked.has(project, event)) {
            show(event);
        }
        Ok(())
    }
}
