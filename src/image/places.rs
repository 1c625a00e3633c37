//! What the steps of a build were made of the last time, by the place that is built: only to tell what has changed.
//!
//! Nothing depends on it; what cannot be read is as good as none.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::image::Error;
use crate::image::digest::Digest;
use crate::image::store::Store;

/// Most places that are remembered; those that were built longest ago go first.
const PLACES: usize = 256;
/// Largest text of a place that is read, in bytes.
const LARGEST: u64 = 16 << 20;

impl Store {
    fn places(&self) -> PathBuf {
        self.root().join("build/places")
    }

    /// Returns what was written down of a place.
    pub(crate) fn place(&self, place: &Digest) -> Option<String> {
        let file = File::open(self.places().join(place.hex())).ok()?;
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Writes down what a place is made of now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn write_place(&self, place: &Digest, text: &str) -> Result<(), Error> {
        let path = self.places().join(place.hex());
        if !path.exists() {
            self.forget_places();
        }
        self.replace(&self.places(), place.hex(), text.as_bytes(), false)
    }

    /// Makes room for one more.
    fn forget_places(&self) {
        let Ok(entries) = fs::read_dir(self.places()) else { return };
        let mut all: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        all.sort();
        for (_, path) in all.iter().take((all.len() + 1).saturating_sub(PLACES)) {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "cannot remove {}", path.display()); // the next one tries again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::fixture;

    #[test]
    fn the_places_that_were_built_last_are_remembered() {
        let fixture = fixture();
        let place = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..PLACES + 3 {
            fixture.store.write_place(&place(number), "text").expect("writable");
            // The clock of a file system may be coarser than a write takes.
            let moment = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            let path = fixture.store.places().join(place(number).hex());
            File::options().append(true).open(path).and_then(|file| file.set_modified(moment)).expect("ours");
        }
        assert_eq!(fixture.store.place(&place(2)), None);
        assert_eq!(fixture.store.place(&place(3)).as_deref(), Some("text"));
        assert_eq!(fs::read_dir(fixture.store.places()).expect("there").count(), PLACES);
        fixture.store.write_place(&place(3), "other").expect("writable");
        assert_eq!(fixture.store.place(&place(3)).as_deref(), Some("other"));
        assert_eq!(fixture.store.place(&place(4)).as_deref(), Some("text"), "none had to go");
    }
}
