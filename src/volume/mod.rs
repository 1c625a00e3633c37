//! Named volumes: create, fill from an image, remove. Knows nothing of Compose or of images' layout.
//!
//! A volume is `<root>/<name>/` with `_data`, which containers see, and `volume.json`.

mod copy;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::diag::Explain;
use crate::fault;
use crate::name::VolumeName;
use crate::sys;

/// A volume that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its full name.
    pub name: VolumeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What can go wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made.
    #[error("cannot create volume `{name}`")]
    Create {
        /// The volume.
        name: VolumeName,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be removed.
    #[error("cannot remove volume `{name}`")]
    Remove {
        /// The volume.
        name: VolumeName,
        /// Why not.
        source: io::Error,
    },
    /// The record of a volume cannot be read.
    #[error("cannot read the record of volume `{name}`")]
    Read {
        /// The volume.
        name: VolumeName,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be filled with what the image has.
    #[error("cannot copy `{path}` of the image into the volume `{}`", data.display())]
    CopyUp {
        /// Path in the image.
        path: String,
        /// The volume's data.
        data: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The image has something else there.
    #[error("the image has a file at `{path}`, where a volume is to be mounted")]
    NotADirectory {
        /// Path in the image.
        path: String,
    },
}

impl Explain for Error {}

/// Creates a volume, or leaves the one that is there; returns its `_data`.
///
/// # Errors
/// When it cannot be written.
pub fn create(root: &Path, spec: &VolumeSpec) -> Result<PathBuf, Error> {
    let failed = |source| Error::Create { name: spec.name.clone(), source };
    let dir = root.join(spec.name.as_str());
    let data = dir.join("_data");
    if dir.join("volume.json").exists() && data.is_dir() {
        return Ok(data);
    }
    let make = || -> io::Result<()> {
        make_private(root)?;
        make_private(&dir)?;
        match fs::create_dir(&data) {
            // The directory's own mode is what a container sees; others cannot reach it through its parents.
            Ok(()) => rustix::fs::chmod(&data, Mode::from_raw_mode(0o755))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        // The record comes last: without it, a crash left something that is made again.
        let tmp = dir.join(format!(".volume.json.{}", std::process::id()));
        let mut file = File::create(&tmp)?;
        file.write_all(&serde_json::to_vec(spec).map_err(io::Error::other)?)?;
        file.sync_data()?;
        fault::point("volume.written");
        fs::rename(&tmp, dir.join("volume.json"))
    };
    make().map_err(failed)?;
    Ok(data)
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Returns what was written down about a volume; `None` if there is none of that name.
///
/// # Errors
/// When the record cannot be read.
pub fn read(root: &Path, name: &VolumeName) -> Result<Option<VolumeSpec>, Error> {
    let failed = |source| Error::Read { name: name.clone(), source };
    match fs::read(root.join(name.as_str()).join("volume.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(e.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// Returns all volumes, sorted by name.
///
/// # Errors
/// When a record cannot be read.
pub fn list(root: &Path) -> Result<Vec<VolumeSpec>, Error> {
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir(root) else { return Ok(all) };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().ok().and_then(|n| VolumeName::new(n).ok());
        if let Some(name) = name {
            all.extend(read(root, &name)?);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Removes a volume with its data; false if there was none.
///
/// It is renamed away first, so that a crash leaves no half volume under its name. A rename of what a symbolic link
/// names moves the link only, and what lies below is removed by descriptor, following no link.
///
/// # Errors
/// When it cannot be removed; what is left is removed with the next volume.
pub fn remove(root: &Path, name: &VolumeName) -> Result<bool, Error> {
    let failed = |source: io::Error| Error::Remove { name: name.clone(), source };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(root, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        other => other.map_err(|e| failed(e.into()))?,
    };
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).map_err(|e| failed(e.into()))?;
    // A volume's name starts with no dot.
    let trash = format!(".trash-{}", crate::name::hex(&bytes));
    let removed = match rustix::fs::renameat(&dir, name.as_str(), &dir, &trash[..]) {
        Ok(()) => true,
        Err(rustix::io::Errno::NOENT) => false,
        Err(e) => return Err(failed(e.into())),
    };
    fault::point("volume.trashed");
    for left in sys::tree::names(&dir).map_err(failed)? {
        if left.to_bytes().starts_with(b".trash-") {
            sys::tree::remove(&dir, left.to_bytes()).map_err(failed)?;
        }
    }
    Ok(removed)
}

/// Fills an empty volume with what the image has at `path`, and gives it the owner, mode, times and xattrs of that
/// directory. A volume that holds something is left alone, and so is one for which the image has nothing.
///
/// `image_root` is the root of the image's files; `path` is resolved inside it. The copy is made beside `_data` and
/// renamed over it, so that a crash leaves it empty or full; a lock makes the first of several containers win.
/// To be called before the volume is mounted anywhere.
///
/// # Errors
/// When the image has something else than a directory there, or copying fails.
pub fn copy_up(data: &Path, image_root: BorrowedFd<'_>, path: &str) -> Result<(), Error> {
    let failed = |source: io::Error| Error::CopyUp { path: path.to_owned(), data: data.to_owned(), source };
    let sys_failed = |e: rustix::io::Errno| failed(e.into());
    let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(sys_failed)?;
    // The lock is on the volume's directory itself and ends with the descriptor.
    rustix::fs::flock(&parent, FlockOperation::LockExclusive).map_err(sys_failed)?;
    let target = rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(sys_failed)?;
    if !sys::tree::names(&target).map_err(failed)?.is_empty() {
        return Ok(());
    }
    let source = match sys::tree::open_in_root(image_root, path.as_bytes(), flags) {
        Ok(source) => source,
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) => return Ok(()),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => {
            return Err(Error::NotADirectory { path: path.to_owned() });
        }
        Err(e) => return Err(failed(e)),
    };
    let fresh = b"_data.filling";
    sys::tree::remove(&parent, fresh).map_err(failed)?;
    let fill = || -> io::Result<()> {
        rustix::fs::mkdirat(&parent, &fresh[..], Mode::from_raw_mode(0o700))?;
        let to = sys::tree::open_dir_at(&parent, fresh)?;
        copy::tree(&source, &to)?;
        rustix::fs::syncfs(&to)?;
        rustix::fs::renameat(&parent, &fresh[..], &parent, name)?;
        Ok(())
    };
    fill().map_err(|e| {
        if let Err(second) = sys::tree::remove(&parent, fresh) {
            tracing::debug!(%second, "a half-filled copy is left for the next attempt"); // it is removed first then
        }
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn spec(name: &str) -> VolumeSpec {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        VolumeSpec { name: VolumeName::new(name).expect("valid"), labels }
    }

    fn open(dir: &Path) -> File {
        File::open(dir).expect("there")
    }

    #[test]
    fn a_volume_is_created_once_and_removed_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("volumes");
        let spec = spec("shop_db");
        assert!(!remove(&root, &spec.name).expect("nothing to do"));
        let data = create(&root, &spec).expect("creates");
        fs::write(data.join("kept"), b"x").expect("writable");
        assert_eq!(create(&root, &spec).expect("again"), data);
        assert!(data.join("kept").exists());
        assert_eq!(list(&root).expect("readable"), std::slice::from_ref(&spec));
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("writable");
        fs::write(outside.join("f"), b"").expect("writable");
        symlink(&outside, data.join("link")).expect("writable");
        assert!(remove(&root, &spec.name).expect("removes"));
        assert!(outside.join("f").exists());
        assert_eq!(fs::read_dir(&root).expect("there").count(), 0);
        // A link in the volume's place is removed itself.
        symlink(&outside, root.join("shop_db")).expect("writable");
        assert!(remove(&root, &spec.name).expect("removes"));
        assert!(outside.join("f").exists());
    }

    #[test]
    fn an_empty_volume_gets_what_the_image_has() {
        if !crate::testing::is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = dir.path().join("image");
        let source = image.join("var/real");
        fs::create_dir_all(source.join("sub")).expect("writable");
        symlink("/var/real", image.join("data")).expect("writable");
        fs::write(source.join("f"), b"content").expect("writable");
        fs::hard_link(source.join("f"), source.join("sub/g")).expect("writable");
        symlink("/etc/passwd", source.join("l")).expect("writable");
        rustix::fs::mknodat(CWD, source.join("p"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("makes");
        rustix::fs::chown(source.join("f"), Some(rustix::fs::Uid::from_raw(7)), None).expect("root");
        fs::set_permissions(source.join("f"), fs::Permissions::from_mode(0o4711)).expect("root");
        fs::set_permissions(&source, fs::Permissions::from_mode(0o1770)).expect("root");
        rustix::fs::chown(&source, Some(rustix::fs::Uid::from_raw(999)), Some(rustix::fs::Gid::from_raw(998)))
            .expect("root");
        let root = dir.path().join("volumes");
        let data = create(&root, &spec("v")).expect("creates");
        copy_up(&data, open(&image).as_fd(), "/nothing/here").expect("leaves it");
        assert_eq!(fs::read_dir(&data).expect("there").count(), 0);
        // A crash in between left something: it is replaced.
        fs::create_dir_all(data.with_file_name("_data.filling/half")).expect("writable");
        copy_up(&data, open(&image).as_fd(), "/data")
            .unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        let meta = fs::metadata(&data).expect("there");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (999, 998, 0o1770));
        let (f, g) = (fs::metadata(data.join("f")).expect("there"), fs::metadata(data.join("sub/g")).expect("there"));
        assert_eq!((f.uid(), f.mode() & 0o7777, f.ino()), (7, 0o4711, g.ino()));
        assert_eq!(f.mtime_nsec(), fs::metadata(source.join("f")).expect("there").mtime_nsec());
        assert_eq!(fs::read_link(data.join("l")).expect("there"), Path::new("/etc/passwd"));
        assert!(fs::symlink_metadata(data.join("p")).expect("there").file_type().is_fifo());
        assert!(!data.with_file_name("_data.filling").exists());
        // Only once: what a container wrote stays.
        fs::remove_file(data.join("f")).expect("writable");
        copy_up(&data, open(&image).as_fd(), "/data").expect("leaves it");
        assert!(!data.join("f").exists());
    }

    #[test]
    fn a_path_that_leaves_the_image_or_is_a_file_is_not_copied() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = dir.path().join("image");
        fs::create_dir(&image).expect("writable");
        fs::create_dir(dir.path().join("secret")).expect("writable");
        fs::write(dir.path().join("secret/f"), b"").expect("writable");
        symlink("../secret", image.join("out")).expect("writable");
        fs::write(image.join("file"), b"").expect("writable");
        let data = create(&dir.path().join("volumes"), &spec("v")).expect("creates");
        copy_up(&data, open(&image).as_fd(), "/out").expect("nothing there");
        copy_up(&data, open(&image).as_fd(), "/../secret").expect("nothing there");
        assert_eq!(fs::read_dir(&data).expect("there").count(), 0);
        let error = copy_up(&data, open(&image).as_fd(), "/file").expect_err("refused");
        insta::assert_snapshot!(error.to_string(), @"the image has a file at `/file`, where a volume is to be mounted");
    }
}
