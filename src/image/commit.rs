//! An image of a container's writable directory: its image's layers and one more.
//!
//! First the layer is read ([`Layer::read`]), for which somebody may hold the container's processes; then it becomes an image
//! ([`Layer::finish`]), for which he need not. As with a build, a crash leaves what the next sweep removes, and the name is
//! set last.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::fault;
use crate::image::Error;
use crate::image::config::{History, ImageConfig};
use crate::image::diff::{self, Upper};
use crate::image::digest::Digest;
use crate::image::piped::unpack_written;
use crate::image::reclaim::Hold;
use crate::image::reference::Reference;
use crate::image::store::{Scratch, Store};
use crate::image::unpack::Unpacked;

/// A layer that was read and is not in the store yet.
#[derive(Debug)]
pub struct Layer {
    store: Store,
    scratch: Scratch,
    /// The same layer may be here, and stays.
    hold: Hold,
    /// Its digest, where it is unpacked and what is known of it; `None` if it changes nothing.
    made: Option<(Digest, PathBuf, Unpacked)>,
    warnings: Vec<String>,
}

impl Layer {
    /// Reads a writable directory. When `stop` is set meanwhile, it ends soon, with an error.
    ///
    /// # Errors
    /// When the directory cannot be read, or the store not be written; then nothing is kept.
    pub fn read(store: &Store, upper: &Upper, stop: &AtomicBool) -> Result<Self, Error> {
        store.sweep()?;
        let hold = store.hold()?;
        let scratch = store.scratch()?;
        let dir = scratch.layer("commit")?;
        let (written, unpacked, digest) =
            unpack_written("commit", &upper.path, &dir.join("fs"), |out| diff::write(upper, out, stop))?;
        fault::point("commit.read");
        let mut warnings: Vec<String> = written.warnings.into_iter().collect();
        warnings.extend(unpacked.warnings.iter().cloned());
        let made = (written.entries > 0).then_some((digest, dir, unpacked));
        Ok(Self { store: store.clone(), scratch, hold, made, warnings })
    }

    /// Returns sentences for the user.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes an image of `config`, which is that of the container's image or says something else, and this layer; names it
    /// if a name is given, taking that from the image that had it. A layer that changes nothing is left out and the history
    /// says so, as in Docker.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn finish(self, mut config: ImageConfig, step: History, tag: Option<&Reference>) -> Result<Digest, Error> {
        let Self { store, scratch, hold: _hold, made, .. } = self;
        config.history.push(History { empty_layer: made.is_none(), ..step });
        let mut fresh = BTreeMap::new();
        if let Some((digest, dir, unpacked)) = made {
            config.rootfs.diff_ids.push(digest.clone());
            fresh.insert(digest, (dir, unpacked));
        }
        let document = |e: serde_json::Error| Error::Document { name: "configuration".into(), reason: e.to_string() };
        let bytes = serde_json::to_vec(&config).map_err(document)?;
        let ids = store.add_images(&scratch, &[bytes], &fresh)?;
        fault::point("commit.added");
        store.sync(&ids)?;
        fault::point("commit.synced");
        let id = ids.into_iter().next().expect("one for one");
        if let Some(tag) = tag {
            store.tag(tag, &id)?;
            fault::point("commit.named");
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::image::tarball::tests::TarBuilder;
    use crate::image::tests::fixture;

    fn upper(path: &Path, layers: &[PathBuf]) -> Upper {
        std::fs::create_dir(path).expect("a directory");
        Upper { path: path.to_owned(), layers: layers.to_vec(), places: Vec::new(), epoch: None }
    }

    fn read(store: &Store, upper: &Upper) -> Result<Layer, Error> {
        Layer::read(store, upper, &AtomicBool::new(false))
    }

    #[test]
    fn an_image_of_a_directory_has_one_layer_more_and_the_name() {
        if !crate::testing::is_root() {
            return;
        }
        let fixture = fixture();
        let base = fixture.image(&[TarBuilder::default().dir("./").dir("etc/").file("etc/a", b"A").end()]);
        let upper = upper(&fixture.dir.path().join("upper"), &base.layers);
        let tag = Reference::parse("made:1").expect("valid");
        let step = || History { created_by: Some("run".into()), ..History::default() };
        let layer = read(&fixture.store, &upper).expect("readable");
        let empty = layer.finish(base.config.clone(), step(), Some(&tag)).expect("made");
        let config = fixture.store.image(&empty).expect("readable").expect("there").config;
        assert_eq!((config.rootfs.diff_ids.len(), config.history[0].empty_layer), (1, true));
        std::fs::write(upper.path.join("b"), "B").expect("written");
        let layer = read(&fixture.store, &upper).expect("readable");
        let made = layer.finish(base.config.clone(), step(), Some(&tag)).expect("made");
        let image = fixture.store.resolve("made:1").expect("readable").expect("there");
        assert_eq!(image.id, made, "the name has moved");
        assert_eq!(image.config.history, [step()]);
        let view = image.view().expect("opens");
        assert_eq!(view.read(b"etc/a", 9).expect("readable").as_deref(), Some(&b"A"[..]));
        assert_eq!(view.read(b"b", 9).expect("readable").as_deref(), Some(&b"B"[..]));
        assert_eq!(fixture.store.list().expect("readable").len(), 3, "the first one has no name now");
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused_and_nothing_is_kept() {
        if !crate::testing::is_root() {
            return;
        }
        let fixture = fixture();
        let upper = upper(&fixture.dir.path().join("upper"), &[]);
        let deep = |levels: usize| {
            std::fs::create_dir_all(upper.path.join("d/".repeat(levels))).expect("made");
            read(&fixture.store, &upper).map(drop)
        };
        deep(500).expect("it can be had");
        let error = deep(600).expect_err("refused").to_string();
        assert!(error.contains("more than 512 directories deep"), "{error}");
        assert_eq!(std::fs::read_dir(fixture.store.tmp()).expect("there").count(), 0);
    }
}
