//! What a `RUN` has mounted: files of contexts, stages and images, caches, secrets, agents, and what of it enters the key.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;
use serde_json::{Value, json};

use crate::build::configure::{self, Failure, fail};
use crate::build::context::{Context, Ignore, clean};
use crate::build::copying::{Copying, Pieces, Source, of_store, pieces};
use crate::build::dockerfile::{Mount, MountKind, Run, Sharing, Text};
use crate::build::execute::{Build, Files, Secret};
use crate::build::explain::Inputs;
use crate::build::run::{JobMount, JobSource, Runner};
use crate::build::stage::{ASK_AGAIN, Stage, key};
use crate::diag::Span;
use crate::image::Error;
use crate::image::digest::Digest;
use crate::image::fixup::View;
use crate::image::mount::of_layers;
use crate::image::piped::unpack_written;
use crate::image::steps::StepLock;

/// What is mounted, and what of it enters the key.
pub(super) struct Mounted {
    pub(super) mounts: Vec<JobMount>,
    pub(super) env: Vec<String>,
    pub(super) secrets: Vec<String>,
    pub(super) inputs: Vec<Value>,
    /// Layers that are mounted.
    pub(super) upon: Vec<Digest>,
    pub(super) caches: Vec<Cache>,
    /// The same inputs, to be told.
    pub(super) told: Inputs,
}

/// Names of caches, and the locks of those that nobody else may use meanwhile.
type Taken = (Vec<String>, Vec<StepLock>);

/// A directory that is kept between builds.
pub(super) struct Cache {
    id: String,
    sharing: Sharing,
    target: String,
    read_only: bool,
    /// Of a new one: permissions and owner.
    mode: u32,
    owner: (u32, u32),
    /// What a new one begins with.
    begin: Option<Beginning>,
    span: Span,
}

impl Mounted {
    pub(super) fn enter(&mut self, place: &str, input: Value) {
        self.told.open(&format!("mount {place}"), input.to_string());
        self.inputs.push(input);
    }

    /// Of a context its files are told.
    fn enter_files(&mut self, place: &str, input: Value, told: Option<Inputs>) {
        match told {
            None => self.enter(place, input),
            Some(files) => {
                self.told.below(&format!("mount {place}: "), files);
                self.inputs.push(input);
            }
        }
    }
}

/// Files of layers.
struct Beginning {
    /// The directories of the layers, base first, and their digests.
    layers: Vec<PathBuf>,
    ids: Vec<String>,
    /// Path in them, clean; empty is all.
    path: Vec<u8>,
    /// Of a context: its files, to be told.
    told: Option<Inputs>,
}

impl<R: Runner> Build<'_, R> {
    /// Reads what a `RUN` mounts.
    pub(super) async fn mounts(&self, stage: &Stage, run: &Run) -> Result<Mounted, Failure> {
        let mut mounted = Mounted {
            mounts: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            inputs: Vec::new(),
            upon: Vec::new(),
            caches: Vec::new(),
            told: Inputs::default(),
        };
        for text in &run.mounts {
            // Each value by itself: a comma out of a variable separates nothing.
            let value = |raw: &str| configure::expanded(&stage.config.config, &stage.args, self.file.escape, raw);
            let mount = Mount::parse_with(&text.raw, &value).map_err(|e| fail(text.span, e))?;
            match mount.kind {
                MountKind::Bind => self.bind(stage, &mount, text, &mut mounted).await?,
                MountKind::Cache => self.cache(stage, &mount, text, &mut mounted).await?,
                MountKind::Tmpfs => {
                    let target = self.target(stage, &mount, text)?;
                    mounted.enter(&target, json!(["tmpfs", target]));
                    let source = JobSource::Tmpfs { size: mount.size };
                    mounted.mounts.push(JobMount { source, target, read_only: false });
                }
                MountKind::Secret => self.secret(stage, &mount, text, &mut mounted)?,
                MountKind::Ssh => self.agent(&mount, text, &mut mounted)?,
            }
        }
        Ok(mounted)
    }

    /// Returns the absolute path that something is mounted at.
    fn target(&self, stage: &Stage, mount: &Mount, text: &Text) -> Result<String, Failure> {
        let Some(target) = mount.target.as_ref().filter(|t| !t.is_empty()) else {
            return Err(fail(text.span, "the mount needs a `target`"));
        };
        match configure::in_workdir(&stage.config.config, target) {
            path if path.is_empty() => Err(fail(text.span, "nothing can be mounted at the root directory")),
            path => Ok(format!("/{path}")),
        }
    }

    async fn bind(&self, stage: &Stage, mount: &Mount, text: &Text, mounted: &mut Mounted) -> Result<(), Failure> {
        let target = self.target(stage, mount, text)?;
        let Beginning { layers, ids, path, told } = self.source(stage, mount, text.span).await?;
        let inputs = json!(["bind", target, mount.read_only, ids, String::from_utf8_lossy(&path)]);
        mounted.enter_files(&target, inputs, told);
        mounted.upon.extend(ids.iter().filter_map(|id| Digest::parse(id).ok()));
        let source = JobSource::Layers { layers, path };
        mounted.mounts.push(JobMount { source, target, read_only: mount.read_only });
        Ok(())
    }

    /// Returns what `from` and `source` of a mount name.
    async fn source(&self, stage: &Stage, mount: &Mount, span: Span) -> Result<Beginning, Failure> {
        let files = match &mount.from {
            None => Files { root: self.context().await?, layers: None },
            Some(from) => {
                let origin = self.stages.origin(from, span, stage.number)?;
                self.files(&origin, span).await?
            }
        };
        let source = mount.source.clone().unwrap_or_default();
        match files.layers {
            Some((layers, ids)) => Ok(Beginning { layers, ids, path: clean(source.as_bytes()), told: None }),
            None => self.context_layer(stage, files, &source, span).await,
        }
    }

    /// Makes a layer of a file or directory of a context, to be mounted.
    async fn context_layer(&self, stage: &Stage, files: Files, source: &str, span: Span) -> Result<Beginning, Failure> {
        let path = clean(source.as_bytes());
        let found =
            files.root.find(&path).map_err(|_| fail(span, format!("`{source}` is not in {}", files.root.title)))?;
        let is_dir = found.kind() == FileType::Directory;
        let text = String::from_utf8_lossy(&path).into_owned();
        let pieces = self.copied(text, files.root, if is_dir { "/mounted/" } else { "/mounted" }, span)?;
        let made = self.layer(stage.number, &pieces, span, None).await?;
        let layer = made.record.layer.ok_or_else(|| fail(span, "nothing is there to mount"))?;
        let (layers, ids) = (vec![self.store.layer_fs(&layer)], vec![layer.to_string()]);
        Ok(Beginning { layers, ids, path: b"mounted".to_vec(), told: made.inputs })
    }

    /// Returns a copy of files, at `/mounted`.
    fn copied(&self, text: String, root: Arc<Context>, dest: &str, span: Span) -> Result<Pieces, Failure> {
        let copying = Copying {
            keyword: "RUN",
            sources: vec![Source::Path { text, root, span }],
            dest,
            path: "mounted",
            dest_span: span,
            owner: None,
            chmod: None,
            parents: false,
            exclude: Ignore::default(),
        };
        let view = View::of(&[]).map_err(of_store(span))?;
        pieces(&copying, &view, span, self.spec.epoch)
    }

    async fn cache(&self, stage: &Stage, mount: &Mount, text: &Text, mounted: &mut Mounted) -> Result<(), Failure> {
        let target = self.target(stage, mount, text)?;
        let mut id = mount.id.clone().unwrap_or_else(|| target.clone());
        let mut inputs = json!(["cache", target, mount.id]);
        let mut told = None;
        let begin = match mount.from {
            None => None,
            Some(_) => {
                let mut begin = self.source(stage, mount, text.span).await?;
                told = begin.told.take();
                // What begins otherwise is another cache, as in BuildKit.
                let from = json!([begin.ids, String::from_utf8_lossy(&begin.path)]);
                id = format!("{id}@{}", key(&from).hex());
                inputs = json!(["cache", target, mount.id, from]);
                Some(begin).filter(|begin| !begin.layers.is_empty())
            }
        };
        mounted.enter_files(&target, inputs, told);
        mounted.caches.push(Cache {
            id,
            sharing: mount.sharing,
            target,
            read_only: mount.read_only,
            mode: mount.mode.unwrap_or(0o755),
            owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
            begin,
            span: text.span,
        });
        Ok(())
    }

    /// Returns a directory of the scratch with what a cache begins with.
    fn beginning(&self, begin: &Beginning, span: Span) -> Result<PathBuf, Failure> {
        let text = String::from_utf8_lossy(&begin.path).into_owned();
        let root =
            of_layers(&begin.layers).map_err(|e| fail(span, format!("cannot read what the cache begins with: {e}")))?;
        let root = Arc::new(Context::of_image(root, "what the cache begins with".into()));
        if !root.find(&begin.path).is_ok_and(|found| found.kind() == FileType::Directory) {
            let help = "name a directory with `source`";
            return Err(Box::new(
                fail(span, format!("`/{text}` is no directory that a cache can begin with")).help(help),
            ));
        }
        let pieces = self.copied(text, root, "/mounted/", span)?;
        let dir = self.scratch.layer(&self.name()).map_err(of_store(span))?.join("fs");
        let write =
            |out: &mut _| pieces.write(out, None).map_err(|source| Error::Layer { path: String::new(), source });
        unpack_written("RUN", std::path::Path::new(&self.spec.context.to_string()), &dir, write)
            .map_err(of_store(span))?;
        let files = dir.join("mounted");
        match files.is_dir() {
            true => Ok(files),
            false => Ok(self.scratch.layer(&self.name()).map_err(of_store(span))?.join("fs")), // it is empty
        }
    }

    /// Mounts caches. One that is not shared is used by one program at a time: others wait for it, or get another one.
    /// Nobody has a part of what he needs while he waits, so that no two wait for each other.
    pub(super) async fn take(&self, caches: &[Cache], mounts: &mut Vec<JobMount>) -> Result<Vec<StepLock>, Failure> {
        let (ids, locks) = loop {
            match self.try_take(caches)? {
                Some(taken) => break taken,
                None => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        for (cache, id) in caches.iter().zip(ids) {
            let begin = cache.begin.as_ref().filter(|_| !self.store.has_cache(&id));
            let begin = begin.map(|begin| self.beginning(begin, cache.span)).transpose()?;
            let made = self.store.cache_mount(&id, cache.mode, cache.owner, begin);
            let source = JobSource::Path(made.map_err(of_store(cache.span))?);
            mounts.push(JobMount { source, target: cache.target.clone(), read_only: cache.read_only });
        }
        Ok(locks)
    }

    /// Returns the names of the caches that are to be mounted, and their locks; `None` when somebody has one.
    fn try_take(&self, caches: &[Cache]) -> Result<Option<Taken>, Failure> {
        let (mut ids, mut locks): Taken = (Vec::new(), Vec::new());
        for Cache { id: wanted, sharing, span, .. } in caches {
            let mut id = wanted.clone();
            let lock = |id: &str| self.store.lock_cache(id).map_err(of_store(*span));
            match sharing {
                Sharing::Shared => {}
                // The same program may have it already, at another place.
                Sharing::Locked if ids.contains(&id) => {}
                Sharing::Locked => match lock(&id)? {
                    Some(lock) => locks.push(lock),
                    None => return Ok(None),
                },
                Sharing::Private => {
                    for number in 1.. {
                        if let Some(lock) = lock(&id)? {
                            locks.push(lock);
                            break;
                        }
                        id = format!("{wanted}#{number}");
                    }
                }
            }
            ids.push(id);
        }
        Ok(Some((ids, locks)))
    }

    fn secret(&self, stage: &Stage, mount: &Mount, text: &Text, mounted: &mut Mounted) -> Result<(), Failure> {
        let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(id) = mount.id.clone().or_else(|| mount.target.as_ref().map(name)).filter(|id| !id.is_empty()) else {
            return Err(fail(text.span, "a secret needs an `id`"));
        };
        let Some(secret) = self.spec.secrets.get(&id) else {
            if mount.required {
                let help = format!("name it in `build.secrets`, or give it with --secret id={id},src=FILE");
                return Err(Box::new(fail(text.span, format!("the build was not given the secret `{id}`")).help(help)));
            }
            return Ok(());
        };
        let content = match secret {
            Secret::Value(value) => value.clone(),
            Secret::File(path) => std::fs::read(path)
                .map_err(|e| fail(text.span, format!("cannot read secret `{id}`, `{}`: {e}", path.display())))?,
        };
        mounted.enter(&id, json!(["secret", id, mount.target, mount.env]));
        if let Some(variable) = &mount.env {
            let value = String::from_utf8(content.clone())
                .map_err(|_| fail(text.span, format!("secret `{id}` is not text, so that no variable can have it")))?;
            if value.contains('\0') {
                return Err(fail(text.span, format!("secret `{id}` has a NUL in it, so that no variable can have it")));
            }
            mounted.secrets.push(format!("{variable}={value}"));
        }
        if mount.env.is_none() || mount.target.is_some() {
            let target = match &mount.target {
                Some(_) => self.target(stage, mount, text)?,
                None => format!("/run/secrets/{id}"),
            };
            let (mode, uid, gid) = (mount.mode.unwrap_or(0o400), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            let source = JobSource::Secret { content, mode, uid, gid };
            mounted.mounts.push(JobMount { source, target, read_only: true });
        }
        Ok(())
    }

    fn agent(&self, mount: &Mount, text: &Text, mounted: &mut Mounted) -> Result<(), Failure> {
        let id = mount.id.clone().unwrap_or_else(|| "default".into());
        let Some(socket) = self.spec.ssh.get(&id) else {
            if mount.required {
                let help = format!("name it in `build.ssh`, or give it with --ssh {id}");
                let message = format!("the build was not given the SSH agent `{id}`");
                return Err(Box::new(fail(text.span, message).help(help)));
            }
            return Ok(());
        };
        let number = mounted.env.iter().filter(|e| e.starts_with("SSH_AUTH_SOCK=")).count();
        let target = mount.target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        if number == 0 {
            mounted.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        mounted.enter(&target, json!(["ssh", id, target]));
        mounted.mounts.push(JobMount { source: JobSource::Path(socket.clone()), target, read_only: false });
        Ok(())
    }
}
