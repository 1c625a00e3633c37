//! What is kept of builds: shown, pruned when somebody asks, and kept to a budget after each build that has made something.
//!
//! What goes and how is the store's (`image/reclaim.rs`); here is what only the engine knows: what containers stand on. Their
//! records say so, of projects and of builds, whether they run or not; those of a root are in one place, whatever `HOIST_RUN` is.

use std::time::{Duration, Instant, SystemTime};

use super::Engine;
use super::backend::Backend;
use super::local::Local;
use crate::compose::bytes;
use crate::diag::{Diagnostic, Report};
use crate::image::digest::Digest;
use crate::image::reclaim::{Kept, Prune, Standing};
use crate::state::record::ContainerRecord;

/// The variable that says how much may be kept of builds that no image has.
pub const VARIABLE: &str = "HOIST_BUILD_CACHE";

/// How long somebody who prunes waits for others that use the store, and how often he asks: a build that has all its steps at
/// hand takes some milliseconds, any other one is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// How much may be kept of builds that no image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// A tenth of the file system.
    Tenth,
    /// So many bytes.
    Bytes(u64),
    /// All of it.
    Unlimited,
}

impl Budget {
    /// Reads the variable's value; one that is missing or empty says nothing.
    ///
    /// # Errors
    /// When it is no size.
    pub fn of(text: Option<&str>) -> Result<Self, Report> {
        match text.filter(|text| !text.is_empty()) {
            None => Ok(Self::Tenth),
            Some("none") => Ok(Self::Unlimited),
            Some(text) => bytes(text).map(Self::Bytes).map_err(|why| {
                let help = "`none` keeps all, and `0` nothing that no image has";
                Diagnostic::error(None, format!("{VARIABLE}: {why}")).help(help).into()
            }),
        }
    }
}

/// Returns what containers stand on.
fn standing<'a>(records: impl Iterator<Item = &'a ContainerRecord>) -> Standing {
    let mut standing = Standing::default();
    for record in records {
        standing.images.extend(Digest::parse(&record.image_id).ok());
        collect(&record.spec, &mut standing);
    }
    standing
}

/// Adds the directories of the store that a description of a container leads to, whatever its form: parts of paths that are
/// digests.
fn collect(value: &serde_json::Value, standing: &mut Standing) {
    match value {
        serde_json::Value::String(text) => {
            let digests = text.split('/').filter(|part| Digest::from_hex(part).is_ok());
            standing.directories.extend(digests.map(ToOwned::to_owned));
        }
        serde_json::Value::Array(all) => all.iter().for_each(|inner| collect(inner, standing)),
        serde_json::Value::Object(all) => all.values().for_each(|inner| collect(inner, standing)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

impl<B: Backend> Engine<B> {
    /// Returns what is kept of builds, what was used last first. Takes no lock.
    ///
    /// # Errors
    /// When the store or a record is damaged or cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>, Report> {
        let containers = self.backend.containers()?;
        Ok(self.backend.images().kept(&standing(containers.iter().map(|(record, _)| record)))?)
    }

    /// Removes what is to go, and returns it, what was used longest ago first.
    ///
    /// # Errors
    /// When a build, a pull or another command counts on what is in the store: then nothing goes. When the store or a record is
    /// damaged or cannot be read or written.
    pub async fn prune(&self, prune: &Prune) -> Result<Vec<Kept>, Report> {
        let store = self.backend.images();
        let sizes = store.measure(prune)?;
        let begun = Instant::now();
        let closed = loop {
            match store.close()? {
                Some(closed) => break closed,
                None if begun.elapsed() < PATIENCE => tokio::time::sleep(ASK_AGAIN).await,
                None => {
                    let message = "nothing was removed: another command builds, fetches or uses images at this moment";
                    return Err(Diagnostic::error(None, message).help("run it again when that has ended").into());
                }
            }
        };
        let containers = self.backend.containers()?;
        Ok(closed.prune(&standing(containers.iter().map(|(record, _)| record)), prune, &sizes)?)
    }
}

impl Local {
    /// Removes what builds have left beyond the budget, if it is time to look; not now when somebody else uses the store.
    ///
    /// # Errors
    /// When the store or a record is damaged or cannot be read or written.
    pub(super) fn keep_to(&self, budget: Budget) -> Result<(), Report> {
        let (store, now) = (&self.images, SystemTime::now());
        let budget = match budget {
            Budget::Unlimited => return Ok(()),
            Budget::Bytes(bytes) => bytes,
            Budget::Tenth => store.capacity()? / 10,
        };
        if !store.is_due(budget, now) {
            return Ok(());
        }
        let Some(closed) = store.close()? else { return Ok(()) };
        let records = self.state.containers(None)?;
        let gone = closed.keep_to(&standing(records.iter()), budget, now)?;
        tracing::debug!("{} things of earlier builds were removed", gone.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_variable_is_a_size_or_none() {
        for (text, budget) in [
            (None, Budget::Tenth),
            (Some(""), Budget::Tenth),
            (Some("none"), Budget::Unlimited),
            (Some("0"), Budget::Bytes(0)),
            (Some("20g"), Budget::Bytes(20 << 30)),
        ] {
            assert_eq!(Budget::of(text).expect("valid"), budget, "{text:?}");
        }
        let told = Budget::of(Some("much")).expect_err("no size").render(false);
        assert_eq!(
            told,
            "error: HOIST_BUILD_CACHE: `much` is not a size; write a number of bytes or something like `512m` or `1.5gb`\n\
             help: `none` keeps all, and `0` nothing that no image has\n"
        );
    }

    #[test]
    fn what_a_description_leads_to_is_found_wherever_it_stands() {
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let spec = json!({
            "rootfs": {"layers": [format!("/var/lib/hoist/images/layers/{a}/fs")]},
            "mounts": [{"source": {"Bind": format!("/other/root/images/build/mounts/{b}/fs/in")}, "n": 1, "x": null}],
            "id": c,
        });
        let mut standing = Standing::default();
        collect(&spec, &mut standing);
        assert_eq!(standing.directories.into_iter().collect::<Vec<_>>(), [a, b, c]);
    }
}
