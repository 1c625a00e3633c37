//! What we created, as versioned files: atomic replace, one writer a file, one lock a project.
//!
//! Readers take no lock: a file is either the old one or the new one, never half. A file that cannot be parsed is an
//! error that names it, never silently skipped. Writing does not wait for the disk; a command that must survive a power
//! cut calls [`State::sync_soon`] once at its end.

pub mod before;
pub mod events;
pub mod logs;
pub mod record;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diag::Explain;
use crate::fault;
use crate::name::{ContainerId, EngineId, NetworkId, ProjectName, VolumeName};
use crate::paths::Paths;
use crate::sys::{later, process};
use record::{ContainerRecord, ContainerStatus, NetworkRecord, SupervisorRecord, VolumeRecord};

/// Number of the on-disk format that this binary reads and writes.
const FORMAT: u32 = 1;

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there and is not what we write.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The root was written by a newer hoist.
    #[error("`{}` has format {found}, and this hoist knows formats up to {FORMAT}", path.display())]
    Newer {
        /// The root.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Another command is changing the project.
    #[error("another hoist command (pid {pid}) is changing project `{project}`")]
    Busy {
        /// The project.
        project: ProjectName,
        /// The other command.
        pid: String,
    },
    /// The volatile root could not be made a tmpfs.
    #[error("cannot mount a tmpfs on `{}`", path.display())]
    MountRun {
        /// `HOIST_RUN`.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer hoist, or another HOIST_ROOT".into()),
            Self::Damaged { path, .. } => Some(format!("move `{}` away and run the command again", path.display())),
            Self::Busy { .. } => Some("wait for it to end, or end it".into()),
            Self::Read { source, .. } | Self::Write { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("hoist needs root for now: run it with sudo".into())
            }
            Self::Write { path, source } if is_full(source) => Some(full(path)),
            Self::Read { .. } | Self::Write { .. } | Self::MountRun { .. } => None,
        }
    }
}

/// Returns whether there was no room for something.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Says what to do when there is no room in the file system of `path`, with the numbers.
#[must_use]
pub fn full(path: &Path) -> String {
    let exists = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let room = rustix::fs::statvfs(exists).map_or_else(
        |_| String::new(),
        |found| {
            let kib = found.f_bavail.saturating_mul(found.f_frsize) >> 10;
            format!(" has {kib} KiB and {} inodes left:", found.f_favail)
        },
    );
    format!("the file system of `{}`{room} make room there and run the command again", exists.display())
}

/// The engine's files: opens, reads, writes and lists them.
#[derive(Debug, Clone)]
pub struct State {
    paths: Paths,
    engine: EngineId,
}

impl State {
    /// Opens the engine's roots, making them on first use, and checks the format.
    ///
    /// # Errors
    /// When a root cannot be made or read, or was written by a newer hoist.
    pub fn open(paths: Paths) -> Result<Self, Error> {
        // A root of an older version has no key.
        if !paths.engine_id().exists() || !paths.key().exists() {
            Self::create(&paths)?;
        }
        let state = Self::read(paths)?;
        make_dir(state.paths.run())?;
        ensure_tmpfs(state.paths.run())?;
        for dir in [state.paths.run_projects(), state.paths.netns_dir()] {
            make_dir(&dir)?;
        }
        Ok(state)
    }

    /// Looks at the engine's roots and makes nothing: what is not there holds nothing. Checks the format.
    ///
    /// # Errors
    /// When a root cannot be read, or was written by a newer hoist.
    pub fn look(paths: Paths) -> Result<Self, Error> {
        if paths.engine_id().exists() {
            return Self::read(paths);
        }
        Ok(Self { paths, engine: EngineId::from_bytes([0; 2]) })
    }

    fn read(paths: Paths) -> Result<Self, Error> {
        let version_path = paths.version();
        let found = read_text(&version_path)?.unwrap_or_default();
        if found.trim().parse::<u32>().is_ok_and(|n| n > FORMAT) || found.trim().parse::<u32>().is_err() {
            return Err(Error::Newer { path: paths.root().to_owned(), found: found.trim().to_owned() });
        }
        let path = paths.engine_id();
        let text = read_text(&path)?.unwrap_or_default();
        let engine = EngineId::new(text.trim()).map_err(|e| Error::Read { path, source: io::Error::other(e) })?;
        Ok(Self { paths, engine })
    }

    /// Makes the root: directories, format number, key, engine id. The id comes last, so that a crash before is repeated.
    fn create(paths: &Paths) -> Result<(), Error> {
        make_dir(paths.root())?;
        let _lock = Lock::wait(&paths.root().join(".create.lock"))?;
        if !paths.key().exists() {
            let mut key = [0_u8; 32];
            random(&mut key);
            write_atomic(&paths.key(), &key)?;
        }
        if paths.engine_id().exists() {
            return Ok(());
        }
        for dir in [paths.containers(), paths.volumes(), paths.networks(), paths.projects(), paths.images()] {
            make_dir(&dir)?;
        }
        write_atomic(&paths.version(), format!("{FORMAT}\n").as_bytes())?;
        let mut bytes = [0_u8; 2];
        random(&mut bytes);
        write_atomic(&paths.engine_id(), format!("{}\n", EngineId::from_bytes(bytes)).as_bytes())
    }

    /// Returns the paths.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns the mark of this engine's kernel objects.
    #[must_use]
    pub fn engine(&self) -> &EngineId {
        &self.engine
    }

    /// Returns the key of the hashes that records keep of what may be secret; `None` when there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn key(&self) -> Result<Option<[u8; 32]>, Error> {
        let path = self.paths.key();
        match fs::read(&path) {
            // One of another length is not ours; hashes under it would be of no use.
            Ok(bytes) => Ok(bytes.try_into().ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Returns all container records of one project, or of all projects, sorted by name.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn containers(&self, project: Option<&ProjectName>) -> Result<Vec<ContainerRecord>, Error> {
        let mut records: Vec<ContainerRecord> = Vec::new();
        for name in list_dir(&self.paths.containers())? {
            let Ok(id) = ContainerId::new(name) else { continue };
            if let Some(record) = read_json::<ContainerRecord>(&self.paths.container_config(&id))?
                && project.is_none_or(|p| record.project == *p)
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| {
            (&a.project, &a.service, a.number, &a.name).cmp(&(&b.project, &b.service, b.number, &b.name))
        });
        Ok(records)
    }

    /// Returns one container's record.
    ///
    /// # Errors
    /// When the record is there and cannot be read.
    pub fn container(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, Error> {
        read_json(&self.paths.container_config(id))
    }

    /// Writes a container's record, making its directory: aside, then by a rename, so that a crash never leaves a directory
    /// that no record speaks for. The caller has the project's lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_container(&self, record: &ContainerRecord) -> Result<(), Error> {
        let path = self.paths.container(&record.id);
        let known = path.is_dir();
        let making = self.paths.containers().join(format!("{}{}", making(&record.project), record.id));
        let root = if known { &path } else { &making };
        let place = |final_place: PathBuf| root.join(final_place.strip_prefix(&path).unwrap_or(&final_place));
        for dir in [self.paths.container_work(&record.id), self.paths.container_logs(&record.id)] {
            make_dir(&place(dir))?;
        }
        make_dir_mode(&place(self.paths.container_upper(&record.id)), 0o755)?; // it is the container's `/`
        fault::point("container.directories");
        write_json(&place(self.paths.container_config(&record.id)), record)?;
        if known {
            return Ok(());
        }
        fault::point("container.made");
        fs::rename(&making, &path).map_err(|source| Error::Write { path, source })
    }

    /// Returns the directory in which a project's volumes are made before they have their place.
    #[must_use]
    pub fn volumes_in_the_making(&self, project: Option<&ProjectName>) -> PathBuf {
        self.paths.volumes().join(project.map_or_else(|| ".making".to_owned(), making))
    }

    /// Removes a container's directory: first out of sight by a rename, so that a crash never leaves half a container.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let path = self.paths.container(id);
        let trash = self.paths.containers().join(format!(".removed-{id}"));
        match fs::rename(&path, &trash) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Write { path, source }),
            Ok(()) => {}
        }
        fault::point("container.trashed");
        remove_tree(&trash)
    }

    /// Removes what commands that were killed left half made or half removed. The caller has the project's lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn empty_trash(&self, project: &ProjectName) -> Result<(), Error> {
        let making = making(project);
        for name in list_dir(&self.paths.containers())? {
            if name.starts_with(".removed-") || name.starts_with(&making) {
                remove_tree(&self.paths.containers().join(name))?;
            }
        }
        remove_tree(&self.volumes_in_the_making(Some(project)))?;
        for name in list_dir(&self.paths.volumes())?.iter().filter(|name| name.starts_with(".trash-")) {
            remove_tree(&self.paths.volumes().join(name))?;
        }
        // Networks are written by commands of all projects: only what its writer cannot finish any more goes.
        for name in list_dir(&self.paths.networks())? {
            let writer = name.strip_suffix(TEMPORARY).and_then(|rest| rest.rsplit('.').next());
            if writer.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_file(&self.paths.networks().join(name))?;
            }
        }
        Ok(())
    }

    /// Returns what the supervisor last wrote about a container.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn status(&self, project: &ProjectName, id: &ContainerId) -> Result<Option<ContainerStatus>, Error> {
        read_json(&self.paths.container_status(project, id))
    }

    /// Returns all network records, sorted by name.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>, Error> {
        let mut records: Vec<NetworkRecord> = Vec::new();
        for name in list_dir(&self.paths.networks())? {
            if let Some(id) = name.strip_suffix(".json").and_then(|n| NetworkId::new(n).ok()) {
                records.extend(read_json::<NetworkRecord>(&self.paths.network(&id))?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Writes a network's record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_network(&self, record: &NetworkRecord) -> Result<(), Error> {
        write_json(&self.paths.network(&record.id), record)
    }

    /// Removes a network's record and volatile files.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_network(&self, id: &NetworkId) -> Result<(), Error> {
        remove_tree(&self.paths.run_network(id))?;
        fault::point("network.volatile-removed");
        remove_file(&self.paths.network(id))
    }

    /// Returns all volume records, sorted by name.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, Error> {
        let mut records: Vec<VolumeRecord> = Vec::new();
        for name in list_dir(&self.paths.volumes())? {
            if let Ok(name) = VolumeName::new(name) {
                records.extend(read_json::<VolumeRecord>(&self.paths.volume(&name).join("volume.json"))?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Returns the record of a project's supervisor, which may have died since.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn supervisor(&self, project: &ProjectName) -> Result<Option<SupervisorRecord>, Error> {
        read_json(&self.paths.supervisor(project))
    }

    /// Takes the lock that a command holds while it changes a project; waits for another command that holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock_project(&self, project: &ProjectName) -> Result<ProjectLock, Error> {
        let lock = Lock::wait(&self.paths.project_lock(project))?;
        self.locked(project, lock)
    }

    /// Takes the lock of a project unless another command holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_lock_project(&self, project: &ProjectName) -> Result<Option<ProjectLock>, Error> {
        let lock = Lock::if_free(&self.paths.project_lock(project))?;
        lock.map(|lock| self.locked(project, lock)).transpose()
    }

    fn locked(&self, project: &ProjectName, lock: Lock) -> Result<ProjectLock, Error> {
        let containers = self.paths.run_containers(project);
        make_dir(&containers)?;
        Ok(ProjectLock { _lock: lock, directory: self.paths.run_project(project), containers })
    }

    /// Returns the projects of builds: of those that run and of those that were killed.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn builds(&self) -> Result<Vec<ProjectName>, Error> {
        let names = list_dir(&self.paths.projects())?;
        let marked = names.iter().filter_map(|name| ProjectName::new(name.strip_suffix(crate::paths::BUILD)?).ok());
        Ok(marked.collect())
    }

    /// Marks a project as that of a build, before anything else is made of it. The caller has its lock, or will take it and
    /// mark it again: who finds a mark and a free lock takes both away.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn mark_build(&self, project: &ProjectName) -> Result<(), Error> {
        make_dir(&self.paths.projects())?;
        mark(&self.paths.project_of_build(project))
    }

    /// Takes the mark away, after all else. The caller has the lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn unmark_build(&self, project: &ProjectName) -> Result<(), Error> {
        remove_file(&self.paths.project_of_build(project))
    }

    /// Returns the pid of the command that holds a project's lock, if one does.
    #[must_use]
    pub fn project_is_locked(&self, project: &ProjectName) -> Option<String> {
        let path = self.paths.project_lock(project);
        let file = File::open(&path).ok()?; // without the file nobody holds it
        // Shared, and let go at once: who waits for it in this moment gets it all the same.
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => fs::read_to_string(&path).ok().map(|pid| pid.trim().to_owned()),
            _ => None,
        }
    }

    /// Takes the lock over what projects share: addresses, firewall tables, forwarding.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock_engine(&self) -> Result<Lock, Error> {
        Lock::wait(&self.paths.engine_lock())
    }

    /// Has everything written so far brought to the disk (syncfs(2) of the root's file system), and what was [left for
    /// later](later) done, by a process that outlives this one: what other programs have written must be brought to the
    /// disk too, which can take long.
    ///
    /// # Errors
    /// When the root cannot be opened or the process cannot be made.
    pub fn sync_soon(&self) -> Result<(), Error> {
        let path = self.paths.root();
        let error = |source| Error::Write { path: path.to_owned(), source };
        let root = File::open(path).map_err(error)?;
        let left = later::take();
        let mut kept = left.descriptors();
        kept.push(root.as_fd());
        process::clone_child(0, None, || {
            // Nothing of ours may be kept waiting: neither the pipe of `$(hoist up -d)` nor a lock.
            if process::close_all_but(&kept).is_ok() {
                left.perform();
                let _ = rustix::fs::syncfs(&root); // nobody is left to be told
            }
            process::exit_now(0)
        })
        .map_err(error)?;
        Ok(())
    }
}

/// An exclusive flock(2), released when dropped or when the process dies. The file stays.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for it, and writes our pid into the file for people.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn wait(path: &Path) -> Result<Self, Error> {
        let never = || Error::Write { path: path.to_owned(), source: io::ErrorKind::WouldBlock.into() };
        Self::take(path, rustix::fs::FlockOperation::LockExclusive)?.ok_or_else(never)
    }

    /// As [`Lock::wait`], but for one that somebody holds, which is `None`.
    ///
    /// # Errors
    /// As [`Lock::wait`].
    pub fn if_free(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, rustix::fs::FlockOperation::NonBlockingLockExclusive)
    }

    fn take(path: &Path, how: rustix::fs::FlockOperation) -> Result<Option<Self>, Error> {
        let error = |source| Error::Write { path: path.to_owned(), source };
        let file = loop {
            if let Some(parent) = path.parent() {
                make_dir(parent)?; // the last holder may have removed it with the lock in it
            }
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(error)?;
            match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how)) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(error(e.into())),
            }
            // A lock on a file that was removed meanwhile keeps nobody out.
            let ours = file.metadata().map_err(error)?;
            if fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                break file;
            }
        };
        if let Err(e) = file.set_len(0).and_then(|()| write!(&file, "{}", std::process::id())) {
            tracing::debug!("{}: {e}", path.display()); // a full disk must not keep `down` from making room
        }
        Ok(Some(Self { _file: file }))
    }
}

/// The lock on a project. A project that has nothing but this lock loses its volatile directory with it.
#[derive(Debug)]
pub struct ProjectLock {
    _lock: Lock,
    directory: PathBuf,
    containers: PathBuf,
}

impl Drop for ProjectLock {
    fn drop(&mut self) {
        let only_us =
            list_dir(&self.directory).is_ok_and(|names| names.iter().all(|n| n == "lock" || n == "containers"));
        if !only_us {
            return;
        }
        // A directory with something in it stays. Whoever waits for the lock sees that its file is gone, and makes
        // both again.
        let remove = || {
            fs::remove_dir(&self.containers)?;
            fault::point("lock.containers-removed");
            fs::remove_file(self.directory.join("lock"))?;
            fault::point("lock.removed");
            fs::remove_dir(&self.directory)
        };
        let removed = remove();
        if let Err(e) = removed {
            tracing::debug!("{} stays: {e}", self.directory.display());
        }
    }
}

/// Returns how the names of directories of containers in the making begin; a project's name has no dot.
fn making(project: &ProjectName) -> String {
    format!(".making-{project}.")
}

/// Returns the id of this boot of the host; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Reads a JSON file; `None` when it is not there.
///
/// # Errors
/// When it is there and cannot be read or parsed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source })
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Writes a JSON file by a temporary file and a rename.
///
/// # Errors
/// When the disk refuses; the old file is then still there.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::Write { path: path.to_owned(), source: e.into() })?;
    write_atomic(path, &bytes)
}

/// End of the name of a temporary file, after its writer's pid.
const TEMPORARY: &str = ".tmp";

/// Replaces a file by a temporary file and a rename; mode 0600.
///
/// # Errors
/// When the disk refuses; the old file is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomic_mode(path, bytes, 0o600, None)
}

/// Replaces a file by a temporary file and a rename; mode 0644, whatever the umask.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_readable(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomic_mode(path, bytes, 0o644, None)
}

/// Replaces a file by a temporary file and a rename, for an owner and a group, whatever the umask. Nobody else can read it
/// at any moment, unless `mode` lets them.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_owned(path: &Path, bytes: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), Error> {
    write_atomic_mode(path, bytes, mode, Some((uid, gid)))
}

fn write_atomic_mode(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let error = |source| Error::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        drop(file);
        fault::point("file.written");
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary); // it may not be there; the write's own error is what counts
        error(e)
    })
}

/// Makes an empty file; fine if it is there.
///
/// # Errors
/// When the disk refuses.
pub fn mark(path: &Path) -> Result<(), Error> {
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Makes a directory with mode 0700, its parents too; fine if it is there.
///
/// # Errors
/// When the disk refuses.
pub fn make_dir(path: &Path) -> Result<(), Error> {
    make_dir_mode(path, 0o700)
}

fn make_dir_mode(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Removes a file; fine if it is not there.
///
/// # Errors
/// When the disk refuses.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Write { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Removes a directory and what is in it, never following a link; fine if it is not there.
///
/// # Errors
/// When the disk refuses.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Write { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Returns the device and inode of this process' network namespace.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn host_netns() -> Result<(u64, u64), Error> {
    let path = Path::new("/proc/self/ns/net");
    let meta = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok((meta.dev(), meta.ino()))
}

/// Fills `bytes` from the kernel's random source (getrandom(2)).
pub fn random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => unreachable!("getrandom without flags fails only for EINTR: {e}"),
        }
    }
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Returns the names in a directory; none when it is not there. Names that are not UTF-8 are not ours.
fn list_dir(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Mounts a tmpfs on `path` unless it is on one: what is below must not survive a reboot.
fn ensure_tmpfs(path: &Path) -> Result<(), Error> {
    const TMPFS_MAGIC: i64 = 0x0102_1994; // statfs(2)
    let error = |source: rustix::io::Errno| Error::MountRun { path: path.to_owned(), source: source.into() };
    let found = rustix::fs::statfs(path).map_err(error)?;
    if found.f_type == TMPFS_MAGIC {
        return Ok(());
    }
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    rustix::mount::mount("hoist", path, "tmpfs", flags, Some(c"mode=0700")).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.json");
        assert!(read_json::<Vec<u32>>(&path).expect("missing is fine").is_none());
        write_json(&path, &vec![1_u32]).expect("written");
        write_json(&path, &vec![1_u32, 2]).expect("replaced");
        assert_eq!(read_json::<Vec<u32>>(&path).expect("read"), Some(vec![1, 2]));
        assert_eq!(list_dir(dir.path()).expect("listed"), ["a.json"]);
        fs::write(&path, "{").expect("broken on purpose");
        assert!(matches!(read_json::<Vec<u32>>(&path), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_newer_root_is_refused() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a temporary directory on a tmpfs");
        let paths = Paths::new(dir.path().join("root"), dir.path().join("run"));
        let first = State::open(paths.clone()).expect("made");
        let second = State::open(paths.clone()).expect("opened");
        assert_eq!(first.engine(), second.engine());
        fs::write(paths.version(), "999\n").expect("written");
        assert!(matches!(State::open(paths), Err(Error::Newer { .. })));
    }

    #[test]
    fn builds_are_those_that_are_marked() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a temporary directory on a tmpfs");
        let state = State::open(Paths::new(dir.path().join("root"), dir.path().join("run"))).expect("made");
        let [one, two] = ["hoist-build-1", "hoist-build-2"].map(|name| ProjectName::new(name).expect("a name"));
        make_dir(&state.paths().project(&two)).expect("a project's of that name");
        state.mark_build(&one).expect("marked");
        state.mark_build(&one).expect("marked again");
        assert_eq!(state.builds().expect("listed"), std::slice::from_ref(&one));
        state.unmark_build(&one).expect("unmarked");
        assert_eq!(state.builds().expect("listed"), []);
    }

    #[test]
    fn what_a_killed_command_left_half_made_goes_with_the_next_lock_and_its_directory_too() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a temporary directory on a tmpfs");
        let paths = Paths::new(dir.path().join("root"), dir.path().join("run"));
        let state = State::open(paths.clone()).expect("made");
        let [shop, blog] = ["shop", "blog"].map(|name| ProjectName::new(name).expect("a name"));
        for name in [".making-shop.0a/upper", ".making-blog.0b/upper", ".removed-0c/upper", "0d"] {
            make_dir(&paths.containers().join(name)).expect("made");
        }
        let ours = std::process::id();
        for name in [format!("a.json.{ours}.tmp"), "a.json.999999999.tmp".to_owned(), "b.json".to_owned()] {
            fs::write(paths.networks().join(name), "").expect("written");
        }
        let lock = state.lock_project(&shop).expect("locked");
        state.empty_trash(&shop).expect("emptied");
        let mut left = list_dir(&paths.containers()).expect("listed");
        left.sort();
        assert_eq!(left, [".making-blog.0b", "0d"]);
        let mut left = list_dir(&paths.networks()).expect("listed");
        left.sort();
        assert_eq!(left, [format!("a.json.{ours}.tmp"), "b.json".to_owned()]);

        assert!(state.try_lock_project(&shop).expect("it asked").is_none(), "somebody has it");
        let other = state.try_lock_project(&blog).expect("it asked").expect("locked");
        fs::write(paths.run_containers(&blog).join("something"), "").expect("written");
        drop((lock, other));
        assert_eq!(list_dir(&paths.run_projects()).expect("listed"), ["blog"]);
    }
}
