//! Instructions that change how containers of an image are made: no file, no process.
//!
//! Rules: Docker's "Dockerfile reference". Those of a build and of `commit --change` are the same.
//!
//! Invariant: pure.

use serde_json::json;

use crate::build::context::clean;
use crate::build::dockerfile::{Command, Healthcheck, Heredoc, Op, Text, expand, expand_heredoc, expand_words};
use crate::build::stages::Args;
use crate::diag::{Diagnostic, Span};
use crate::image::config::{ContainerConfig, HealthcheckConfig};

/// Why an instruction cannot be carried out.
pub(super) type Failure = Box<Diagnostic>;

pub(super) fn fail(span: Span, message: impl Into<String>) -> Failure {
    Box::new(Diagnostic::error(Some(span), message))
}

/// Returns the value of a variable: `ENV` wins over an `ARG` of the same name, wherever they stand.
fn value(config: &ContainerConfig, args: &Args, name: &str) -> Option<String> {
    let mut found = config.env.iter().rev().filter_map(|e| e.split_once('=')).filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| value.to_owned()).or_else(|| args.get(name).cloned().flatten())
}

/// Expands a piece of an instruction with the variables of this place.
pub(super) fn text(config: &ContainerConfig, args: &Args, escape: char, text: &Text) -> Result<String, Failure> {
    expand(&text.raw, escape, &|name| value(config, args, name)).map_err(|e| fail(text.span, e))
}

/// Replaces the variables of a text that is a part of a piece.
pub(super) fn expanded(config: &ContainerConfig, args: &Args, escape: char, raw: &str) -> Result<String, String> {
    expand(raw, escape, &|name| value(config, args, name))
}

/// Replaces the variables of a heredoc that is copied.
pub(super) fn body(config: &ContainerConfig, args: &Args, heredoc: &Heredoc) -> Result<String, Failure> {
    expand_heredoc(&heredoc.content, &|name| value(config, args, name)).map_err(|e| fail(heredoc.span, e))
}

/// Expands words; one that becomes empty is dropped, and one may become several.
pub(super) fn texts(
    config: &ContainerConfig,
    args: &Args,
    escape: char,
    texts: &[Text],
) -> Result<Vec<(String, Span)>, Failure> {
    let mut all = Vec::new();
    for one in texts {
        let words = expand_words(&one.raw, escape, &|name| value(config, args, name)).map_err(|e| fail(one.span, e))?;
        all.extend(words.into_iter().filter(|word| !word.is_empty()).map(|word| (word, one.span)));
    }
    Ok(all)
}

/// Returns a path of the image, clean and without its leading slash; a relative one starts at the WORKDIR.
pub(super) fn in_workdir(config: &ContainerConfig, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", config.working_dir) };
    String::from_utf8_lossy(&clean(whole.as_bytes())).into_owned()
}

/// Applies an instruction; what makes a layer is the caller's. `cmd_is_ours` is whether a CMD came before.
pub(super) fn apply(
    config: &mut ContainerConfig,
    args: &Args,
    escape: char,
    cmd_is_ours: &mut bool,
    op: &Op,
) -> Result<(), Failure> {
    match op {
        // What makes files, is only known while building, or is no matter of containers.
        Op::Add(_) | Op::Arg(_) | Op::Copy(_) | Op::Maintainer(_) | Op::Run(_) => {}
        Op::Cmd(command) => {
            config.cmd = Some(argv(config, command));
            *cmd_is_ours = true;
        }
        Op::Entrypoint(command) => {
            config.entrypoint = Some(argv(config, command));
            // A command of the base was meant for the base's entrypoint.
            if !*cmd_is_ours {
                config.cmd = None;
            }
        }
        Op::Env(pairs) => env(config, args, escape, pairs)?,
        Op::Label(pairs) => {
            for (key, value) in pairs {
                let (key, value) = (text(config, args, escape, key)?, text(config, args, escape, value)?);
                config.labels.insert(key, value);
            }
        }
        Op::Workdir(path) => {
            let wanted = text(config, args, escape, path)?;
            if wanted.is_empty() {
                return Err(fail(path.span, "WORKDIR is empty"));
            }
            // An absolute one stays as it is written, as in Docker.
            config.working_dir = match wanted.starts_with('/') {
                true => wanted,
                false => format!("/{}", in_workdir(config, &wanted)),
            };
        }
        Op::Expose(ports) => {
            for (port, span) in texts(config, args, escape, ports)? {
                let unknown = || fail(span, format!("`{port}` is not a port such as `80`, `53/udp` or `8000-8010`"));
                for port in expose(&port).ok_or_else(unknown)? {
                    config.exposed_ports.insert(port, json!({}));
                }
            }
        }
        Op::User(user) => config.user = text(config, args, escape, user)?,
        Op::StopSignal(signal) => config.stop_signal = Some(text(config, args, escape, signal)?),
        Op::Volume(paths) => {
            for path in paths {
                let path = text(config, args, escape, path)?;
                config.volumes.insert(path, json!({}));
            }
        }
        Op::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)),
        Op::Onbuild(text) => config.on_build.push(text.clone()),
        Op::Shell(words) => config.shell = Some(words.clone()),
    }
    Ok(())
}

fn env(config: &mut ContainerConfig, args: &Args, escape: char, pairs: &[(Text, Text)]) -> Result<(), Failure> {
    let mut new = Vec::new();
    for (key, value) in pairs {
        // A variable set on this line is not seen on this line.
        new.push((text(config, args, escape, key)?, text(config, args, escape, value)?));
    }
    for (key, value) in new {
        let entry = format!("{key}={value}");
        match config.env.iter_mut().find(|e| e.split_once('=').is_some_and(|(k, _)| k == key)) {
            Some(old) => *old = entry,
            None => config.env.push(entry),
        }
    }
    Ok(())
}

fn healthcheck(check: &Healthcheck) -> HealthcheckConfig {
    let test = match &check.command {
        None => vec!["NONE".to_owned()],
        Some(Command::Exec(words)) => [vec!["CMD".to_owned()], words.clone()].concat(),
        Some(Command::Shell(line)) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let nanos = |d: Option<std::time::Duration>| d.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    HealthcheckConfig {
        test,
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: check.retries.map_or(0, i64::from),
    }
}

/// Returns a command as it is stored: the shell form is wrapped in the shell of this place.
pub(super) fn argv(config: &ContainerConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) => {
            let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut argv = config.shell.clone().unwrap_or_else(default);
            argv.push(line.clone());
            argv
        }
    }
}

/// Reads `80`, `80/udp`, `8000-8010/tcp`.
fn expose(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |t: &str| t.parse::<u16>().ok().filter(|n| *n > 0 && t.bytes().all(|b| b.is_ascii_digit()));
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then(|| (low..=high).map(|p| format!("{p}/{protocol}")).collect())
}
