//! The mount calls that rustix lacks, and the overlay made by file descriptor on kernels that differ.

use std::ffi::{CStr, CString, c_long};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

use super::process;

/// What to change of a mount's attributes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, … or 0 to leave it.
    pub propagation: u64,
    /// The mounts below too.
    pub recursive: bool,
}

/// Changes the attributes of the mount at `path` relative to `fd` (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// What the kernel says; then nothing was changed.
pub fn set_attributes(fd: BorrowedFd<'_>, path: &CStr, change: Attributes) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends in NUL and `attr` is a whole mount_attr of the size that is passed; both outlive the call.
    let result: c_long = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Changes the attributes of the mount that `fd` is.
///
/// # Errors
/// What the kernel says; then nothing was changed.
pub fn set_attributes_of(fd: BorrowedFd<'_>, change: Attributes) -> io::Result<()> {
    set_attributes(fd, c"", change)
}

/// The writable half of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Takes what is written.
    pub upper: &'a Path,
    /// The kernel's own, empty, on the same file system.
    pub work: &'a Path,
}

/// Makes a detached overlay of `layers`, the base first; without `upper` it is read-only.
///
/// Layers go in one by one (`lowerdir+`, Linux 6.7): at most 500. An older kernel takes one string of 255 bytes, in which
/// they are named by descriptor: some sixty.
///
/// # Errors
/// What the kernel says, with its own words from the context's log where it left some.
pub fn overlay(layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    // The kernel refuses a directory that is there twice, as layers of images are. All that the lower one shows or hides is
    // shown or hidden by the upper one.
    let last = |i: &usize| !layers[i + 1..].contains(&layers[*i]);
    let layers: Vec<PathBuf> = (0..layers.len()).filter(last).map(|i| layers[i].clone()).collect();
    let layers = &layers[..];
    overlay_as(if takes_any_option()? { Form::Joined } else { Form::OneByOne }, layers, upper)
}

/// How the kernel is told of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each by itself, else joined where that option is unknown.
    OneByOne,
    /// All in one option.
    Joined,
}

/// Whether overlayfs looks at its options only when all are there, as it did before Linux 6.5: then `lowerdir+` is taken,
/// and the mount fails for it.
fn takes_any_option() -> io::Result<bool> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let taken = fsconfig_set_string(context.as_fd(), c"hoist-is-no-option", c"1").is_ok();
    Ok(*KNOWN.get_or_init(|| taken))
}

fn overlay_as(form: Form, layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<OwnedFd> {
    if let ([only], None) = (layers, upper) {
        // Overlayfs wants two lower layers, or one and an upper; one alone is what it shows anyway.
        let mount = open_tree(CWD, only, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
        let read_only = Attributes { set, ..Attributes::default() };
        set_attributes_of(mount.as_fd(), read_only)?;
        return Ok(mount);
    }
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(context.as_fd(), form, layers, upper).map_err(|e| with_log(context.as_fd(), e))?;
    let attributes = match upper {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV,
    };
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(mount)
}

fn configure(context: BorrowedFd<'_>, form: Form, layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<()> {
    fsconfig_set_string(context, c"source", c"overlay")?;
    if upper.is_none() {
        fsconfig_set_flag(context, c"ro")?;
    }
    if form == Form::OneByOne {
        for (i, layer) in layers.iter().rev().enumerate() {
            match fsconfig_set_string(context, c"lowerdir+", text(layer)?.as_c_str()) {
                Ok(()) => {}
                Err(Errno::INVAL) if i == 0 => return configure_joined(context, layers, upper),
                Err(e) => return Err(e.into()),
            }
        }
        if let Some(Upper { upper, work }) = upper {
            fsconfig_set_string(context, c"upperdir", text(upper)?.as_c_str())?;
            fsconfig_set_string(context, c"workdir", text(work)?.as_c_str())?;
        }
        fsconfig_create(context)?;
        return Ok(());
    }
    configure_joined(context, layers, upper)
}

/// Names every directory by the number of a descriptor, relative to `/proc/self/fd`: short, without a character that would
/// need an escape, and without a comma, which old kernels refuse.
fn configure_joined(context: BorrowedFd<'_>, layers: &[PathBuf], upper: Option<Upper<'_>>) -> io::Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let lower = layers.iter().rev().map(|layer| open(layer)).collect::<Result<Vec<_>, _>>()?;
    let writable = upper.map(|u| Ok::<_, Errno>([open(u.upper)?, open(u.work)?])).transpose()?;
    let list = joined(&lower)?;
    in_descriptors(|| {
        fsconfig_set_string(context, c"lowerdir", list.as_c_str())?;
        if let Some([upper, work]) = &writable {
            fsconfig_set_string(context, c"upperdir", joined(std::slice::from_ref(upper))?.as_c_str())?;
            fsconfig_set_string(context, c"workdir", joined(std::slice::from_ref(work))?.as_c_str())?;
        }
        fsconfig_create(context)?;
        Ok(())
    })
}

/// Does something with `/proc/self/fd` as the calling thread's working directory; other threads keep theirs.
fn in_descriptors<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    process::leave_namespaces(libc::CLONE_FS)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = rustix::fs::open(c".", flags, Mode::empty())?;
    rustix::process::chdir(c"/proc/thread-self/fd")?;
    let result = work();
    rustix::process::fchdir(&home)?;
    result
}

/// Joins directories by the numbers of their descriptors, as the option `lowerdir` wants them.
fn joined(directories: &[OwnedFd]) -> io::Result<CString> {
    let names: Vec<String> = directories.iter().map(|d| d.as_raw_fd().to_string()).collect();
    let list = names.join(":");
    if list.len() > 255 {
        let message = format!("{} layers need Linux 6.7 or newer", directories.len());
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(CString::new(list)?)
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Appends what the file system wrote into its context's log (fsconfig contexts are read(2) for messages).
fn with_log(context: BorrowedFd<'_>, error: io::Error) -> io::Error {
    let mut text = String::new();
    let mut buffer = [0_u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut buffer) {
        if n == 0 {
            break;
        }
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(&buffer[..n]).trim());
    }
    if text.is_empty() { error } else { io::Error::new(error.kind(), format!("{error}{text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_s_layers_are_named_by_descriptor() {
        let open = || OwnedFd::from(std::fs::File::open("/").expect("the root"));
        let two = [open(), open()];
        let names = two.iter().map(|d| d.as_raw_fd().to_string()).collect::<Vec<_>>();
        assert_eq!(joined(&two).expect("short").to_str(), Ok(names.join(":").as_str()));
        let many: Vec<OwnedFd> = (0..200).map(|_| open()).collect();
        assert_eq!(joined(&many).expect_err("long").kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_layer_that_is_there_twice_is_there_once() {
        if !crate::testing::is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let layer = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).expect("a directory");
            std::fs::write(path.join("file"), text).expect("a file");
            path
        };
        let (one, two) = (layer("one", "1"), layer("two", "2"));
        for (layers, expected) in [([&one, &two, &one], "1"), ([&two, &one, &two], "2"), ([&one, &one, &one], "1")] {
            let layers: Vec<PathBuf> = layers.into_iter().cloned().collect();
            let mount = overlay(&layers, None).expect("an overlay");
            let file = rustix::fs::openat(&mount, "file", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let text = io::read_to_string(std::fs::File::from(file.expect("there"))).expect("text");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn each_form_makes_the_same_overlay() {
        if !crate::testing::is_root() {
            return;
        }
        // A tmpfs, since an overlay is no upper of another; and a comma, which an option must not have.
        let directory = tempfile::Builder::new().prefix("a,b:").tempdir_in("/dev/shm").expect("a directory");
        let make = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).expect("a directory");
            path
        };
        let layers: Vec<PathBuf> = (0..40).map(|i| make(&format!("layer{i}"))).collect();
        for (i, layer) in layers.iter().enumerate() {
            std::fs::write(layer.join("top"), i.to_string()).expect("a file");
            std::fs::write(layer.join(format!("only{i}")), "").expect("a file");
        }
        let before = std::env::current_dir().expect("a directory");
        let read = |mount: &OwnedFd, name: &str| {
            let file = rustix::fs::openat(mount, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            file.map(|file| io::read_to_string(std::fs::File::from(file)).expect("text"))
        };
        for form in [Form::OneByOne, Form::Joined] {
            if form == Form::OneByOne && takes_any_option().expect("overlayfs is there") {
                continue; // an old kernel
            }
            let (upper, work) = (make(&format!("upper{form:?}")), make(&format!("work{form:?}")));
            for upper in [None, Some(Upper { upper: &upper, work: &work })] {
                let mount = overlay_as(form, &layers, upper).expect("an overlay");
                assert_eq!(read(&mount, "top").as_deref(), Ok("39"), "{form:?}");
                assert!(read(&mount, "only0").is_ok() && read(&mount, "only39").is_ok(), "{form:?}");
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                let written = rustix::fs::openat(&mount, "new", flags, Mode::from_raw_mode(0o600));
                assert_eq!(written.is_ok(), upper.is_some(), "{form:?}");
            }
            assert!(upper.join("new").exists());
        }
        assert_eq!(std::env::current_dir().expect("a directory"), before);
    }
}
