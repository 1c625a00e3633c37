//! Images: references, the store on disk, loading archives, unpacking layers, mounting the result.
//!
//! Layers are kept by diff id, so that images with different parents share them. A layer's directory depends only on
//! its own tar; what depends on the layers below is a small fix-up layer kept by chain id (see `fixup`).
//!
//! Knows nothing of Compose, containers or builds.

pub(crate) mod cache;
pub mod commit;
pub(crate) mod compression;
pub mod config;
pub mod diff;
pub mod digest;
pub mod fixup;
pub(crate) mod frame;
mod ingest;
pub mod load;
pub(crate) mod mount;
pub mod pin;
pub(crate) mod piped;
mod places;
pub mod platform;
pub mod pull;
pub mod push;
pub mod reclaim;
pub mod reference;
pub mod registry;
pub(crate) mod steps;
pub mod store;
pub(crate) mod tarball;
pub mod unpack;
pub(crate) mod writer;

use std::io;
use std::path::PathBuf;

use crate::diag::Explain;

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A reference breaks the grammar.
    #[error(transparent)]
    Reference(#[from] reference::InvalidReference),
    /// The store on disk cannot be read or written.
    #[error("cannot {action} `{}` in the image store", path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A document in the store is damaged.
    #[error("`{}` in the image store is damaged", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// How.
        source: serde_json::Error,
    },
    /// Something that an image needs is not in the store.
    #[error("{what} of image `{image}` is missing from the store")]
    Incomplete {
        /// What is missing.
        what: String,
        /// The image's digest.
        image: String,
    },
    /// An id prefix fits several images.
    #[error("`{0}` fits more than one image id")]
    Ambiguous(String),
    /// The archive cannot be read.
    #[error("cannot read the image archive")]
    Read(#[source] io::Error),
    /// The archive is no tar, or is cut short.
    #[error("the image archive is damaged: {0}")]
    Archive(String),
    /// The archive is a tar, but holds no image.
    #[error("the file is no image archive: it has neither a `manifest.json` nor an `index.json`")]
    NotAnImage,
    /// A document in the archive is not what it should be.
    #[error("`{name}` in the image archive is not valid: {reason}")]
    Document {
        /// Its name in the archive.
        name: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// A document of the archive names something that is not in it.
    #[error("the image archive is incomplete: it does not contain `{0}`")]
    Missing(String),
    /// Content is not what its digest promises.
    #[error("{what} has the digest {found}, not {expected} as promised")]
    Digest {
        /// What was hashed.
        what: String,
        /// The promise.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A layer tar cannot be read.
    #[error("layer `{layer}` is damaged: {reason}")]
    LayerTar {
        /// Its name in the archive.
        layer: String,
        /// How.
        reason: String,
    },
    /// A layer entry is hostile or has no meaning.
    #[error("layer entry `{name}` is refused: {reason}")]
    Entry {
        /// The entry's name.
        name: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// A layer entry cannot be written.
    #[error("cannot write layer entry `{name}`")]
    Write {
        /// The entry's name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A container's files cannot be read.
    #[error("cannot read `/{path}` of the container")]
    Layer {
        /// Where, without the leading slash.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no room for it.
    #[error("there is no room for {what} in `{}`: {kib} KiB and {inodes} inodes are left", path.display())]
    NoRoom {
        /// What is too large.
        what: String,
        /// The store.
        path: PathBuf,
        /// What was left before.
        kib: u64,
        /// Files that can be made.
        inodes: u64,
    },
    /// An image is larger than allowed.
    #[error("{what} is larger than allowed: the limit is {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// In words.
        limit: String,
    },
    /// Something is compressed in a way that we do not read.
    #[error("{what} is compressed with {method}, which is not supported")]
    Compression {
        /// What it is.
        what: String,
        /// The name of the method.
        method: &'static str,
    },
    /// A registry, or the way to it, has failed.
    #[error(transparent)]
    Registry(#[from] registry::error::Error),
    /// The disk is too small for what is to be pulled.
    #[error("`{image}` needs at least {needed} MB more in the image store, where {free} MB are free")]
    Space {
        /// The familiar reference.
        image: String,
        /// Megabytes of its layers, compressed.
        needed: u64,
        /// Megabytes.
        free: u64,
    },
    /// There is no such image here.
    #[error("image `{0}` is not in the store")]
    NotHere(String),
    /// A name that a digest ends, or none at all, cannot be given.
    #[error("`{0}` cannot be pushed: a digest comes from what is pushed")]
    PushDigest(String),
    /// A layer's tar cannot be made again.
    #[error("layer {layer} cannot be made again: {reason}")]
    Remake {
        /// The first digits of its digest.
        layer: String,
        /// Why not.
        reason: String,
    },
    /// A cache of builds cannot be written.
    #[error("cannot {action} `{}` of the build cache", path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something else is where a cache is to be written.
    #[error("`{}` holds something that is no build cache of hoist's", .0.display())]
    NoCache(PathBuf),
    /// An image's layers cannot be mounted.
    #[error("cannot mount image `{image}`")]
    Mount {
        /// The image's digest.
        image: String,
        /// Why not.
        source: io::Error,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::Store { source, .. } | Self::Write { source, .. } if is_full(source) => Some(MAKE_ROOM.into()),
            Self::NoRoom { .. } => Some(MAKE_ROOM.into()),
            Self::Registry(error) => error.help(),
            Self::Space { .. } => Some(MAKE_ROOM.into()),
            Self::NotAnImage => {
                Some("make one with `docker save`, `podman save` or `skopeo copy … oci-archive:`".into())
            }
            Self::Compression { method, .. } => Some(format!(
                "decompress it with `{method}` first; gzip, zstd, bzip2, xz and plain tars are read as they are"
            )),
            Self::Archive(_) | Self::Missing(_) | Self::Digest { .. } => {
                Some("get the archive again; nothing was loaded".into())
            }
            Self::NotHere(_) => Some("build it, or see what is there with: hoist image ls".into()),
            Self::NoCache(_) => Some("name another directory, or remove this one".into()),
            Self::PushDigest(_) => Some("name it by a tag".into()),
            Self::Remake { .. } => Some(
                "it was unpacked by an earlier version, or says two things of one file; build the image anew".into(),
            ),
            Self::Reference(_)
            | Self::Store { .. }
            | Self::Damaged { .. }
            | Self::Incomplete { .. }
            | Self::Ambiguous(_)
            | Self::Read(_)
            | Self::Document { .. }
            | Self::LayerTar { .. }
            | Self::Entry { .. }
            | Self::Layer { .. }
            | Self::Write { .. }
            | Self::Limit { .. }
            | Self::Cache { .. }
            | Self::Mount { .. } => None,
        }
    }
}

const MAKE_ROOM: &str = "make room there (`df -h`, `df -i`) and run the command again; nothing was kept";

/// Returns whether there was no room for something.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Turns an I/O error into one that names what was tried in the store, and where.
pub(crate) fn store_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Store { action, path, source }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
pub(crate) mod tests;
