//! An image's files as one read-only mount that is attached nowhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::image::Error;
use crate::image::store::Image;
use crate::sys::mount::overlay;
use crate::sys::tree;

impl Image {
    /// Returns a detached, read-only mount of the image's files; it is gone when the descriptor and all that were
    /// opened through it are closed.
    ///
    /// # Errors
    /// When a layer is gone, or the kernel refuses (`CAP_SYS_ADMIN` is needed).
    pub fn mount(&self) -> Result<OwnedFd, Error> {
        overlay(&self.layers, None).map_err(|source| Error::Mount { image: self.id.to_string(), source })
    }
}

/// Returns a detached, read-only mount of layer directories, base first.
///
/// # Errors
/// When one is gone, or the kernel refuses.
pub(crate) fn of_layers(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    overlay(layers, None)
}

/// Returns the extended attributes of a file that go where it is copied: what it may do, and what users wrote.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn portable_xattrs(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let all = tree::xattrs(file)?.into_iter().map(|(name, value)| (name.into_bytes(), value));
    Ok(all.filter(|(name, _)| name == b"security.capability" || name.starts_with(b"user.")).collect())
}
