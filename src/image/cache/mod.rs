//! Caches of builds as they are given away: which key gave which layer, and the layers.
//!
//! A cache has the form of an image, so that a registry takes it: a manifest whose configuration is a document of ours with
//! the records of steps, and whose layers are theirs. It lies in a directory (`layout`) or at a registry (`remote`); the
//! records alone may also be in the configuration of an image, whose layers are theirs then.
//!
//! Who reads one trusts it as to which layer a key gives. Nothing else of it is trusted: digests are checked, sizes have
//! limits, and what is damaged counts as not there.

pub(crate) mod layout;
pub(crate) mod remote;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::image::config::{Descriptor, MANIFEST_TYPES};
use crate::image::digest::Digest;
use crate::image::steps::StepRecord;

/// Media type of the document with the records.
pub(crate) const RECORDS: &str = "application/vnd.hoist.build-cache.v1+json";
/// Key of the records in the configuration of an image.
const INLINE: &str = "hoist.build-cache.v1";
/// Number of the form of the document.
const FORMAT: u32 = 1;
/// Largest document, in bytes, and most of its records and layers.
const RECORDS_MAX: u64 = 16 << 20;
const STEPS_MAX: usize = 100_000;
const LAYERS_MAX: usize = 10_000;
/// What the media types of buildkit's caches begin with, whose keys are made of other things.
const BUILDKIT: &str = "application/vnd.buildkit.cache";

/// A step and what it gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Step {
    key: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest: Option<i64>,
}

/// A layer as it is given away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Blob {
    /// Returns what points at it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        let (digest, size) = (self.digest.clone(), self.size);
        Descriptor { media_type: String::new(), digest, size, platform: None, annotations: indexmap::IndexMap::new() }
    }
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    steps: Vec<Step>,
    /// Diff id → blob.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    layers: BTreeMap<Digest, Blob>,
}

/// What a cache holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Key → what it gave.
    pub(crate) steps: BTreeMap<Digest, StepRecord>,
    /// Diff id → blob.
    pub(crate) layers: BTreeMap<Digest, Blob>,
}

impl Records {
    /// Reads the document.
    ///
    /// # Errors
    /// In words, when it is none, of another form or too large.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("its records are no JSON: {e}"))?;
        Self::of(value)
    }

    fn of(value: Value) -> Result<Self, String> {
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or("none".to_owned(), |n| n.to_string());
            return Err(format!("its records are of another form: {found}, not {FORMAT}"));
        }
        let Document { steps, layers, .. } =
            serde_json::from_value(value).map_err(|e| format!("its records are damaged: {e}"))?;
        if steps.len() > STEPS_MAX || layers.len() > LAYERS_MAX {
            return Err(format!("it has more than {STEPS_MAX} records, or {LAYERS_MAX} layers"));
        }
        let steps = steps.into_iter().map(|Step { key, layer, newest }| (key, StepRecord::of(layer, newest, None)));
        Ok(Self { steps: steps.collect(), layers })
    }

    /// Returns the document: the same records give the same one.
    pub(crate) fn document(&self) -> Vec<u8> {
        let document = Document { format: FORMAT, steps: self.list(), layers: self.layers.clone() };
        serde_json::to_vec(&document).expect("digests serialise")
    }

    fn list(&self) -> Vec<Step> {
        let step = |(key, StepRecord { layer, newest, .. }): (&Digest, &StepRecord)| Step {
            key: key.clone(),
            layer: layer.clone(),
            newest: *newest,
        };
        self.steps.iter().map(step).collect()
    }

    /// Returns the layers that steps gave, each once.
    pub(crate) fn wanted(&self) -> BTreeSet<&Digest> {
        self.steps.values().filter_map(|record| record.layer.as_ref()).collect()
    }

    /// Takes out what gave a layer that cannot be given away.
    pub(crate) fn without(&mut self, layer: &Digest) {
        self.steps.retain(|_, record| record.layer.as_ref() != Some(layer));
    }

    /// Puts the records into the configuration of the image that has their layers.
    pub(crate) fn inline(&self, config: &mut Map<String, Value>) {
        config.insert(INLINE.to_owned(), json!({ "format": FORMAT, "steps": self.list() }));
    }

    /// Returns the records in a configuration, with those of its layers that they may give; `None` when there are none.
    ///
    /// # Errors
    /// In words, when they are damaged.
    pub(crate) fn of_config(
        config: &Map<String, Value>,
        layers: impl IntoIterator<Item = (Digest, Blob)>,
    ) -> Result<Option<Self>, String> {
        let Some(value) = config.get(INLINE) else { return Ok(None) };
        let mut records = Self::of(value.clone())?;
        records.layers = layers.into_iter().collect();
        let has = |record: &StepRecord| record.layer.as_ref().is_none_or(|layer| records.layers.contains_key(layer));
        records.steps.retain(|_, record| has(record));
        Ok(Some(records))
    }
}

/// Takes the records of a base out of a configuration: they are not about what is built upon it.
pub(crate) fn forget_inline(config: &mut Map<String, Value>) {
    config.remove(INLINE);
}

/// Returns the manifest of a cache.
pub(crate) fn manifest(document: &[u8], layers: &[Descriptor]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": {"mediaType": RECORDS, "digest": Digest::of(document), "size": document.len()},
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// What was found where a cache should be.
#[derive(Debug)]
pub(crate) enum Found<P> {
    /// One of ours, and where its layers are.
    Cache(Records, P),
    /// Nothing.
    Absent,
    /// Something without a cache that we can read, in words.
    Other(&'static str),
}

impl<P> Found<P> {
    /// Says otherwise where the layers are.
    pub(crate) fn map<Q>(self, of: impl FnOnce(P) -> Q) -> Found<Q> {
        match self {
            Self::Cache(records, place) => Found::Cache(records, of(place)),
            Self::Absent => Found::Absent,
            Self::Other(what) => Found::Other(what),
        }
    }
}

/// What is told of buildkit's own caches.
const OF_BUILDKIT: &str = "it is a cache of buildkit's, whose keys are made of other things";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_again_and_what_is_no_document_is_told() {
        let (key, layer) = (Digest::of(b"key"), Digest::of(b"layer"));
        let mut records = Records::default();
        records.steps.insert(key.clone(), StepRecord::of(Some(layer.clone()), Some(7), None));
        records.steps.insert(Digest::of(b"nothing"), StepRecord::of(None, None, None));
        records.layers.insert(layer.clone(), Blob { digest: Digest::of(b"blob"), size: 5 });
        let document = records.document();
        assert_eq!(Records::parse(&document), Ok(records.clone()));
        let text = String::from_utf8(document).expect("text");
        for (bad, expected) in [
            ("", "no JSON"),
            ("[]", "of another form: none"),
            (&text.replace("\"format\":1", "\"format\":2"), "of another form: 2, not 1"),
            (&text.replace(key.hex(), "../../etc/passwd"), "damaged"),
            (&text.replace("\"size\":5", "\"size\":-5"), "damaged"),
        ] {
            let error = Records::parse(bad.as_bytes()).expect_err("refused");
            assert!(error.contains(expected), "{bad}: {error}");
        }
        // In an image's configuration they give only what the image has.
        let mut config = Map::new();
        assert_eq!(Records::of_config(&config, []), Ok(None));
        records.inline(&mut config);
        let blob = records.layers[&layer].clone();
        assert_eq!(Records::of_config(&config, [(layer, blob)]), Ok(Some(records)));
        let without = Records::of_config(&config, []).expect("readable").expect("there");
        assert_eq!(without.steps.len(), 1);
        forget_inline(&mut config);
        assert!(config.is_empty());
    }
}
