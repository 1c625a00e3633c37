//! What can go wrong with a copy.

use std::io;

use rustix::io::Errno;

use crate::diag::Explain;
use crate::image::tarball::{TarError, show};

/// Why something is not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kernel says no.
    #[error("cannot {act} `{path}`")]
    Act { act: &'static str, path: String, source: io::Error },
    /// It is a device.
    #[error("`{0}` is a device, which is not copied")]
    Device(String),
    /// Something else onto a directory.
    #[error("cannot overwrite directory `{0}` with what is none")]
    OntoDirectory(String),
    /// A directory onto something else.
    #[error("cannot overwrite `{0}`, which is not a directory, with a directory")]
    OntoFile(String),
    /// An archive with a name that leads out of it.
    #[error("the archive has an entry named `{0}`, which leads out of it")]
    Name(String),
    /// An archive that cannot be read.
    #[error("cannot read the archive")]
    Archive(#[source] TarError),
    /// The destination is in what is copied, by a mount.
    #[error("`{0}` is the directory that it is copied into")]
    IntoItself(String),
    /// A file changed its kind while it was looked at.
    #[error("`{0}` changes while it is copied")]
    Changing(String),
}

impl Error {
    /// Returns what makes an error of the kernel's one about this path.
    pub(super) fn act<E: Into<io::Error>>(act: &'static str, path: &[u8]) -> impl FnOnce(E) -> Self {
        let path = show(path);
        move |source| Self::Act { act, path, source: source.into() }
    }
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        let words = match self {
            Self::Act { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::ROFS) => {
                    "that file system is read-only in the container: copy to a path in a volume or tmpfs of its own"
                }
                Some(Errno::NOENT) => {
                    "the path, or a directory on its way, is not there: look with ls, or make it first"
                }
                Some(Errno::LOOP) => "the path is a circle of symbolic links",
                Some(Errno::NOSPC | Errno::DQUOT) => "make room there, and copy again",
                _ => return None,
            },
            Self::Device(_) => "copy the files beside it by their names",
            Self::OntoDirectory(_) | Self::OntoFile(_) => "remove what is there first, or copy to another name",
            Self::Archive(TarError::Bad(_)) => "stdin must be an uncompressed tar, such as from: tar -cf - FILES",
            Self::Changing(_) => "copy it again when nobody replaces it",
            Self::IntoItself(_) => "copy to a directory that the container does not have mounted",
            Self::Name(_) | Self::Archive(TarError::Io(_)) => return None,
        };
        Some(words.to_owned())
    }
}
