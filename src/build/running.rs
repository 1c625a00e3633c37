//! `RUN`: from the instruction to a [`Job`], and from what it wrote to a layer.
//!
//! The key of a `RUN` is all that its program can see: the layers below, program, environment, user, directory, network and
//! what is mounted. Secrets, SSH agents and tmpfs do not enter, nor do the proxy variables. A directory of the build context
//! that is mounted is a layer like one of `COPY`, so that its content enters, and nobody sees what `.dockerignore` hides.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use crate::build::configure::{self, Failure, fail};
use crate::build::copying::of_store;
use crate::build::dockerfile::{Command, Run, Script};
use crate::build::execute::{Build, PROXIES};
use crate::build::explain::Made;
use crate::build::mounting::Mounted;
use crate::build::run::{Job, JobMount, JobNetwork, JobSource, Ran, Runner, SecretVariables, Surroundings};
use crate::build::stage::{Stage, key};
use crate::diag::{Diagnostic, Quote, Report, Span, harmless, unstyled};
use crate::event::{Event, Progress, Subject};
use crate::fault;
use crate::image::config::ContainerConfig;
use crate::image::diff;
use crate::image::digest::Digest;
use crate::image::piped::unpack_written;
use crate::image::steps::StepRecord;
use crate::runtime::DEFAULT_PATH;

/// How many of the last lines are shown when a program fails.
const LAST_LINES: usize = 20;
/// Longest line that is shown, in bytes.
const LINE_MAX: usize = 4096;
/// Where the program is that a heredoc is, in the container.
const PIPES: &str = "/dev/pipes";

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
