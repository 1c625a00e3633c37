//! A cache at a registry: one of ours, or the records in the configuration of an image.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{BUILDKIT, Blob, Found, OF_BUILDKIT, RECORDS, RECORDS_MAX, Records};
use crate::event::Sink;
use crate::image::config::{Descriptor, ImageConfig, Index, Manifest};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::registry::error::Error as RegistryError;
use crate::image::registry::{CONFIG_MAX, Client};
use crate::image::store::Store;
use crate::image::{Error, platform, pull};

/// Where the layers of a cache are.
#[derive(Debug)]
pub(crate) struct Remote {
    reference: Reference,
    /// The number of the place that has it.
    place: usize,
}

impl Remote {
    /// Fetches a layer and unpacks it into the store.
    ///
    /// # Errors
    /// When the registry or the store fails, or the layer is not what it should be.
    pub(crate) async fn unpack(
        &self,
        client: &Client,
        store: &Store,
        diff: &Digest,
        blob: &Blob,
        events: &dyn Sink,
    ) -> Result<(), Error> {
        pull::layer(client, store, &self.reference, self.place, &blob.descriptor(), diff, events).await
    }
}

/// Reads the records that a reference leads to.
///
/// # Errors
/// In words, when the registry cannot be asked, or what it has is damaged.
pub(crate) async fn read(client: &Client, reference: &Reference) -> Result<Found<Remote>, String> {
    match fetch(client, reference).await {
        Ok(found) => found,
        Err(RegistryError::NotFound { .. } | RegistryError::Missing { .. }) => Ok(Found::Absent),
        Err(error) => Err(error.to_string()),
    }
}

async fn fetch(client: &Client, reference: &Reference) -> Result<Result<Found<Remote>, String>, RegistryError> {
    let name = reference.familiar();
    let expected = reference.digest().and_then(|digest| Digest::parse(digest).ok());
    let target = expected.as_ref().map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), ToString::to_string);
    let mut fetched = client.manifest(reference, &target, 0, expected.as_ref()).await?;
    if let Ok(index) = serde_json::from_slice::<Index>(&fetched.bytes) {
        if index.manifests.iter().any(|entry| entry.media_type.starts_with(BUILDKIT)) {
            return Ok(Ok(Found::Other(OF_BUILDKIT)));
        }
        let Some(chosen) = platform::choose(&index.manifests, &platform::host()) else {
            return Ok(Ok(Found::Other("it has no image for this machine")));
        };
        fetched = client.manifest(reference, &chosen.digest.to_string(), fetched.place, Some(&chosen.digest)).await?;
    }
    let place = fetched.place;
    let manifest: Manifest = match serde_json::from_slice(&fetched.bytes) {
        Ok(manifest) => manifest,
        Err(e) => return Ok(Err(format!("its manifest is none: {e}"))),
    };
    let Manifest { config, layers, .. } = manifest;
    let remote = Remote { reference: reference.clone(), place };
    if config.media_type.starts_with(BUILDKIT) {
        return Ok(Ok(Found::Other(OF_BUILDKIT)));
    }
    if config.media_type == RECORDS {
        let what = format!("the records of `{name}`");
        let bytes = client.document(reference, place, &config, &what, RECORDS_MAX).await?;
        return Ok(Records::parse(&bytes).map(|records| Found::Cache(records, remote)));
    }
    let what = format!("the configuration of `{name}`");
    let bytes = client.document(reference, place, &config, &what, CONFIG_MAX).await?;
    Ok(of_image(&bytes, &layers).map(|found| match found {
        Some(records) => Found::Cache(records, remote),
        None => Found::Other(NONE_IN_IMAGE),
    }))
}

/// What is told of an image that was built without `type=inline`.
const NONE_IN_IMAGE: &str = "the image has no cache in it";

/// Returns the records in an image's configuration.
fn of_image(config: &[u8], layers: &[Descriptor]) -> Result<Option<Records>, String> {
    let value: Value = serde_json::from_slice(config).map_err(|e| format!("its configuration is no JSON: {e}"))?;
    let Ok(config) = serde_json::from_value::<ImageConfig>(value) else { return Ok(None) };
    let blob = |layer: &Descriptor| Blob { digest: layer.digest.clone(), size: layer.size };
    let diffs = &config.rootfs.diff_ids;
    if diffs.len() != layers.len() {
        return Err("its configuration and its manifest are not about the same layers".to_owned());
    }
    let layers: BTreeMap<Digest, Blob> = diffs.iter().cloned().zip(layers.iter().map(blob)).collect();
    Records::of_config(&config.other, layers)
}

/// Returns the records in the configuration of an image of the store, whose layers are all there.
///
/// # Errors
/// In words, when they are damaged or the store cannot be read.
pub(crate) fn of_store(store: &Store, reference: &Reference) -> Result<Option<Records>, String> {
    let Some(image) = store.resolve(&reference.to_string()).map_err(|e| e.to_string())? else { return Ok(None) };
    let diffs = image.config.rootfs.diff_ids.iter();
    let layers = diffs.map(|diff| (diff.clone(), Blob { digest: diff.clone(), size: 0 }));
    Records::of_config(&image.config.other, layers)
}
