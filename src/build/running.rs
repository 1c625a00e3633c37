//! `RUN`: from the instruction to a [`Job`], and from what it wrote to a layer.
//!
//! The key of a `RUN` is all that its program can see: the layers below, program, environment, user, directory, network and
//! what is mounted. Secrets, SSH agents and tmpfs do not enter, nor do the proxy variables. A directory of the build context
//! that is mounted is a layer like one of `COPY`, so that its content enters, and nobody sees what `.dockerignore` hides.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use rustix::fs::FileType;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use crate::build::configure::{self, Failure, fail};
use crate::build::context::{Context, Ignore, clean};
use crate::build::copying::{Copying, Pieces, Source, of_store, pieces};
use crate::build::dockerfile::{Command, Mount, MountKind, Run, Script, Sharing, Text};
use crate::build::execute::{Build, Files, PROXIES, Secret};
use crate::build::explain::{Inputs, Made};
use crate::build::run::{Job, JobMount, JobNetwork, JobSource, Ran, Runner, SecretVariables, Surroundings};
use crate::build::stage::{ASK_AGAIN, Stage, key};
use crate::diag::{Diagnostic, Quote, Report, Span, harmless, unstyled};
use crate::event::{Event, Progress, Subject};
use crate::fault;
use crate::image::Error;
use crate::image::config::ContainerConfig;
use crate::image::diff;
use crate::image::digest::Digest;
use crate::image::fixup::View;
use crate::image::mount::of_layers;
use crate::image::piped::unpack_written;
use crate::image::steps::{StepLock, StepRecord};
use crate::runtime::DEFAULT_PATH;

/// How many of the last lines are shown when a program fails.
const LAST_LINES: usize = 20;
/// Longest line that is shown, in bytes.
const LINE_MAX: usize = 4096;
/// Where the program is that a heredoc is, in the container.
const PIPES: &str = "/dev/pipes";

/// What is mounted, and what of it enters the key.
struct Mounted {
    mounts: Vec<JobMount>,
    env: Vec<String>,
    secrets: Vec<String>,
    inputs: Vec<Value>,
    /// Layers that are mounted.
    upon: Vec<Digest>,
    caches: Vec<Cache>,
    /// The same inputs, to be told.
    told: Inputs,
}

/// Names of caches, and the locks of those that nobody else may use meanwhile.
type Taken = (Vec<String>, Vec<StepLock>);

/// A directory that is kept between builds.
struct Cache {
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
    fn enter(&mut self, place: &str, input: Value) {
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
    /// Carries out a `RUN`.
    pub(super) async fn run(&self, stage: &Stage, run: &Run, span: Span, title: &str) -> Result<Made, Failure> {
        let begun = Instant::now();
        let mut mounted = self.mounts(stage, run).await?;
        let config = &stage.config.config;
        let argv = argv(config, run, &mut mounted);
        let network = self.network(stage, run)?;
        let env = self.environment(stage);
        let inputs = json!({
            "form": "run/1",
            "layers": stage.diff_ids(),
            "argv": argv,
            "env": env,
            "user": config.user,
            "directory": config.working_dir,
            "network": format!("{network:?}"),
            "mounts": mounted.inputs,
            "hosts": format!("{:?}", self.spec.around.extra_hosts),
            "privileged": self.spec.around.privileged,
            "epoch": self.spec.epoch,
        });
        let proxies =
            PROXIES.iter().filter(|name| !env.iter().any(|e| e.split_once('=').is_some_and(|(k, _)| k == **name)));
        let proxies = proxies.filter_map(|name| Some(format!("{name}={}", self.spec.args.get(*name)?.as_ref()?)));
        let (caches, mut told) = (mounted.caches, mounted.told);
        let upon: Vec<Digest> = stage.config.rootfs.diff_ids.iter().cloned().chain(mounted.upon).collect();
        let mut job = Job {
            argv,
            env: env.iter().cloned().chain(proxies).chain(mounted.env).collect(),
            secrets: SecretVariables(mounted.secrets),
            user: config.user.clone(),
            working_dir: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
            layers: stage.layers.clone(),
            mounts: mounted.mounts,
            around: Surroundings { network, ..self.spec.around.clone() },
        };
        let key = key(&inputs);
        let inputs = (!self.notes.knows(&key)).then(|| {
            told.below("", self.notes.variables(stage, &env));
            for name in ["argv", "network", "hosts", "privileged", "epoch"] {
                let value = &inputs[name];
                told.open(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            told
        });
        let made = self.step(stage.number, &key, span, async || {
            self.tell(title, Progress::Working("Building"), begun);
            let _locks = self.take(&caches, &mut job.mounts).await?;
            let record = self.run_job(&job, self.is_fresh(stage.number), span, title).await;
            if record.is_err() {
                self.tell(title, Progress::Failed, begun);
            }
            Ok(StepRecord { upon, ..record? })
        });
        let (record, came) = made.await?;
        self.tell(title, Progress::Done(came.word()), begun);
        Ok(Made { record, came, key, inputs })
    }

    /// Runs the program, and makes a layer of what it wrote.
    async fn run_job(&self, job: &Job, fresh: bool, span: Span, title: &str) -> Result<StepRecord, Failure> {
        let no_pipe = |e: std::io::Error| fail(span, format!("cannot make a pipe: {e}"));
        let (output, input) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| no_pipe(e.into()))?;
        fault::point("build.run-begins");
        let (said, ran) = tokio::join!(self.listen(output, title), self.runner.run(job, input));
        let said = said.map_err(no_pipe)?;
        let Ran { code, upper, container } = ran.map_err(|report| self.refused(report, said.clone(), span, title))?;
        fault::point("build.run-ended");
        let made = match code {
            0 => self.layer_of(&upper, fresh, span, title),
            code => {
                let failure = self.failed(code, said, span, title);
                self.look_around(job, &upper, &failure.message, title).await;
                Err(failure)
            }
        };
        if let Err(error) = self.runner.forget(container).await {
            tracing::warn!("{}", error.render(false)); // the next build tries again
        }
        made
    }

    /// Reads what a program says: every line is told, the last ones are returned.
    async fn listen(&self, output: OwnedFd, title: &str) -> std::io::Result<Vec<String>> {
        let mut reader = BufReader::new(pipe::Receiver::from_owned_fd(output)?);
        let mut last = VecDeque::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let ended = read_line(&mut reader, &mut line).await?;
            if !line.is_empty() {
                let text = plain(&line);
                if !self.is_hushed.get() {
                    self.events.send(Event::Said { subject: Subject::Step(title.to_owned()), line: text.clone() });
                }
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(text);
            }
            if ended {
                return Ok(last.into());
            }
        }
    }

    /// Gives the user a shell in what a program left that failed, if he asked for one. Meanwhile nothing else is shown.
    async fn look_around(&self, job: &Job, upper: &diff::Upper, why: &str, title: &str) {
        let Some(program) = self.runner.debug_shell() else { return };
        if self.is_hushed.replace(true) {
            return; // a step beside this one has failed already
        }
        let program = match program {
            "" => "/bin/sh",
            program => program,
        };
        self.events.send(Event::End);
        let text = format!("{title}: {why}; here is `{program}` in what it left: leave it with `exit`");
        self.events.send(Event::Warning(text));
        let mut env = job.env.clone();
        env.push("TERM=xterm".to_owned());
        let layers = job.layers.iter().chain([&upper.path]).cloned().collect();
        let shell = Job { argv: vec![program.to_owned()], env, layers, ..job.clone() };
        if let Err(report) = self.runner.look_around(&shell).await {
            self.events.send(Event::Warning(report.render(false)));
        }
    }

    fn layer_of(&self, upper: &diff::Upper, fresh: bool, span: Span, title: &str) -> Result<StepRecord, Failure> {
        let dir = self.scratch.layer(&self.name()).map_err(of_store(span))?;
        let stop = AtomicBool::new(false);
        let upper = diff::Upper { epoch: self.spec.epoch, ..upper.clone() };
        let written = unpack_written("RUN", &upper.path, &dir.join("fs"), |out| diff::write(&upper, out, &stop));
        let (written, unpacked, diff_id) = written.map_err(of_store(span))?;
        fault::point("build.layer-unpacked");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let newest = self.spec.epoch.or(i64::try_from(now).ok());
        for warning in &written.warnings {
            self.events.send(Event::Warning(warning.clone()));
        }
        let made_by = Some(title.to_owned());
        match written.content.filter(|_| written.entries > 0) {
            None => Ok(StepRecord::of(None, None, made_by)),
            Some(content) => {
                let adopt = || {
                    self.store.adopt_layer(&dir, &diff_id, &unpacked)?;
                    Ok(StepRecord::of(Some(diff_id.clone()), newest, made_by))
                };
                self.keep(&content, adopt, fresh).map_err(of_store(span))
            }
        }
    }

    /// Says that a program ended otherwise than well, with the last that it said.
    fn failed(&self, code: i32, said: Vec<String>, span: Span, title: &str) -> Failure {
        let message = match code {
            127 => "the command was not found: exit code 127".to_owned(),
            137 => "the command was killed: exit code 137, which may mean that it had too little memory".to_owned(),
            code => format!("the command failed: exit code {code}"),
        };
        self.quote(said, title);
        Box::new(Diagnostic::error(Some(span), message))
    }

    fn refused(&self, report: Report, said: Vec<String>, span: Span, title: &str) -> Failure {
        self.quote(said, title);
        self.quotes.borrow_mut().extend(report.quotes);
        let first = report.diagnostics.into_iter().next();
        let first = first.unwrap_or_else(|| Diagnostic::error(None, "the command could not be run"));
        Box::new(Diagnostic { span: Some(span), ..first })
    }

    /// Keeps the last that a program said, to be shown with what is wrong.
    fn quote(&self, said: Vec<String>, title: &str) {
        if !said.is_empty() {
            self.quotes.borrow_mut().push(Quote { title: format!("last output of {title}"), lines: said });
        }
    }

    fn network(&self, stage: &Stage, run: &Run) -> Result<JobNetwork, Failure> {
        let Some(network) = &run.network else { return Ok(self.spec.around.network) };
        match self.text(stage, network)?.as_str() {
            "default" => Ok(self.spec.around.network),
            "none" => Ok(JobNetwork::None),
            "host" if self.spec.around.network == JobNetwork::Host => Ok(JobNetwork::Host),
            "host" => {
                let help = "give the whole build the host's network, with `build.network: host` or --network host";
                Err(Box::new(fail(network.span, "a RUN may not take the host's network by itself").help(help)))
            }
            other => Err(fail(network.span, format!("`{other}` is not a network of a RUN: default, none or host"))),
        }
    }

    /// Returns the environment of a `RUN`: that of the image, and what `ARG`s say.
    fn environment(&self, stage: &Stage) -> Vec<String> {
        let mut env = stage.config.config.env.clone();
        let has =
            |env: &[String], name: &str| env.iter().any(|e| e.split_once('=').is_some_and(|(key, _)| key == name));
        for (name, value) in &stage.args {
            if let Some(value) = value.as_ref().filter(|_| !has(&env, name)) {
                env.push(format!("{name}={value}"));
            }
        }
        if !has(&env, "PATH") {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        env
    }

    async fn mounts(&self, stage: &Stage, run: &Run) -> Result<Mounted, Failure> {
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
    async fn take(&self, caches: &[Cache], mounts: &mut Vec<JobMount>) -> Result<Vec<StepLock>, Failure> {
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

/// Returns program and arguments: the shell form is a text for the shell of this place. A heredoc that is a program is mounted.
fn argv(config: &ContainerConfig, run: &Run, mounted: &mut Mounted) -> Vec<String> {
    match run.script() {
        Script::Exec(words) => words.to_vec(),
        Script::Shell(text) => configure::argv(config, &Command::Shell(text)),
        Script::Program(heredoc) => {
            let target = format!("{PIPES}/{}", heredoc.name);
            mounted.inputs.push(json!(["program", target, heredoc.content]));
            let content = heredoc.content.clone().into_bytes();
            let source = JobSource::Secret { content, mode: 0o755, uid: 0, gid: 0 };
            mounted.mounts.push(JobMount { source, target: target.clone(), read_only: true });
            vec![target]
        }
    }
}

/// Reads one line, with its end; one that is very long comes in pieces. Returns whether nothing more comes.
async fn read_line(reader: &mut BufReader<pipe::Receiver>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(true);
        }
        let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1).min(LINE_MAX);
        line.extend_from_slice(&bytes[..end]);
        let whole = line.ends_with(b"\n") || line.len() >= LINE_MAX;
        reader.consume(end);
        if whole {
            return Ok(false);
        }
    }
}

/// Returns a line as it can be shown: without what acts upon a terminal. Of a line that was drawn over, the last remains.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').next().unwrap_or_default();
    harmless(&unstyled(text))
}
