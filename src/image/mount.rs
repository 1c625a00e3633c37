//! An image's files as one read-only mount that is attached nowhere.

use std::os::fd::OwnedFd;

use crate::image::Error;
use crate::image::store::Image;
use crate::sys::mount::overlay;

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
