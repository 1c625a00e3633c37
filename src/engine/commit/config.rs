//! What an image says about its containers, when it is made of one of them.
//!
//! Rules: moby, `daemon/commit.go` (`merge`) and `image/image.go` (`NewChildImage`): user, exposed ports, environment,
//! labels, entrypoint, command, health check, working directory, volumes and stop signal are the container's, and each is
//! the image's unless its service says otherwise. The record of a container has most of them resolved, so here they are
//! taken apart again: what the image or Docker would give anyway is written as the image has it, or not at all.
//!
//! Invariant: pure.

use serde_json::json;

use crate::engine::container;
use crate::image::config::{ContainerConfig, HealthcheckConfig, ImageConfig};
use crate::runtime::ContainerSpec;
use crate::state::record::{ContainerRecord, HealthPolicy};

/// Fields of an image that say how it was made itself, and nothing of one that is made of it.
const OF_ITSELF: [&str; 5] = ["author", "comment", "container", "container_config", "docker_version"];

/// Returns the configuration of an image that is made of a container of `image`; layers and history are still the image's.
pub(super) fn of(record: &ContainerRecord, spec: &ContainerSpec, image: &ImageConfig) -> ImageConfig {
    let mut made = image.clone();
    made.other.retain(|name, _| !OF_ITSELF.contains(&name.as_str()));
    let theirs = &image.config;
    let config = &mut made.config;
    // What is to be done when it is built upon was done, or was not meant for this.
    config.on_build.clear();
    config.user.clone_from(&spec.process.user);
    for endpoint in &record.endpoints {
        for port in &endpoint.ports {
            config.exposed_ports.insert(format!("{}/{}", port.target, port.protocol), json!({}));
        }
    }
    config.env = environment(spec, theirs);
    (config.entrypoint, config.cmd) = command(record, spec, theirs);
    config.labels.extend(record.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    if spec.process.cwd != "/" || !theirs.working_dir.is_empty() {
        config.working_dir.clone_from(&spec.process.cwd);
    }
    let signal = record.policy.stop_signal;
    if theirs.stop_signal.as_deref().map_or(Some(libc::SIGTERM), container::signal) != Some(signal) {
        config.stop_signal = Some(container::signal_name(signal));
    }
    config.healthcheck = healthcheck(record.policy.health.as_ref(), theirs);
    made
}

/// Without the variables that every container has, unless the image has them as well.
fn environment(spec: &ContainerSpec, image: &ContainerConfig) -> Vec<String> {
    let of_image = |name: &str| image.env.iter().any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name));
    let given = [container::DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", spec.hostname)];
    let is_given = |entry: &String| {
        given.contains(entry) && !of_image(entry.split_once('=').map_or(entry.as_str(), |(name, _)| name))
    };
    spec.process.env.iter().filter(|entry| !is_given(entry)).cloned().collect()
}

type Words = Option<Vec<String>>;

/// Takes program and arguments apart into entrypoint and command.
fn command(record: &ContainerRecord, spec: &ContainerSpec, image: &ContainerConfig) -> (Words, Words) {
    let argv = &spec.process.argv;
    let theirs = image.entrypoint.clone().unwrap_or_default();
    let words = match record.entrypoint {
        Some(words) => usize::try_from(words).unwrap_or(usize::MAX).min(argv.len()),
        // The record of an older version: what begins as the image's entrypoint does has the image's.
        None if argv.starts_with(&theirs) => theirs.len(),
        None => argv.len(),
    };
    let (entrypoint, command) = argv.split_at(words);
    let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    (some(entrypoint), some(command))
}

fn healthcheck(ours: Option<&HealthPolicy>, image: &ContainerConfig) -> Option<HealthcheckConfig> {
    const NANOS: i64 = 1_000_000;
    let is_none = |check: &HealthcheckConfig| check.test.first().is_none_or(|kind| kind == "NONE");
    let Some(ours) = ours else {
        // The service has switched off what the image has.
        let off = || HealthcheckConfig { test: vec!["NONE".to_owned()], ..HealthcheckConfig::default() };
        return image.healthcheck.as_ref().map(|check| if is_none(check) { check.clone() } else { off() });
    };
    let test = match &ours.argv[..] {
        [shell, flag, line] if shell == "/bin/sh" && flag == "-c" && image.shell.is_none() => {
            vec!["CMD-SHELL".to_owned(), line.clone()]
        }
        argv => ["CMD".to_owned()].into_iter().chain(argv.iter().cloned()).collect(),
    };
    // Zero is Docker's default.
    let time = |ms: u64, default: u64| {
        if ms == default { 0 } else { i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(NANOS) }
    };
    Some(HealthcheckConfig {
        test,
        interval: time(ours.interval_ms, 30_000),
        timeout: time(ours.timeout_ms, 30_000),
        start_period: time(ours.start_period_ms, 0),
        start_interval: time(ours.start_interval_ms, 5_000),
        retries: if ours.retries == 3 { 0 } else { ours.retries.into() },
    })
}

/// Returns what the history says that the layer was made by: the command, as Docker has it.
pub(super) fn made_by(config: &ContainerConfig) -> Option<String> {
    let words = config.cmd.as_ref()?.join(" ");
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::engine::desired::Recreate;
    use crate::engine::testing::{World, project, service};

    /// A record and spec as `up` writes them, and the configuration of its image.
    fn made(image: Value) -> (ContainerRecord, ContainerSpec, ImageConfig) {
        let world = World::default();
        let desired = world.desired(&project([service("web").publishes(8080)]), &[], &Recreate::Changed);
        let containers = desired.expect("it can be chosen").containers;
        let (creation, _) = containers.into_iter().next().and_then(|c| c.creation).expect("it is made");
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": "somebody", "docker_version": "28", "variant": "v3",
            "config": image, "rootfs": {"type": "layers", "diff_ids": []},
        });
        (creation.record, creation.spec, serde_json::from_value(config).expect("a configuration"))
    }

    fn config(record: &ContainerRecord, spec: &ContainerSpec, image: &ImageConfig) -> Value {
        let mut value = serde_json::to_value(of(record, spec, image).config).expect("serialises");
        let labels = value.as_object_mut().and_then(|map| map.shift_remove("Labels")).expect("labels");
        assert_eq!(labels["com.docker.compose.service"], "web");
        value
    }

    #[test]
    fn what_the_image_gives_anyway_is_as_it_has_it() {
        let image = json!({
            "Cmd": ["run"], "User": "", "StopSignal": "QUIT", "Shell": ["/bin/bash", "-c"], "OnBuild": ["COPY . /"],
            "Env": ["PATH=/opt/bin"], "Healthcheck": {"Test": ["NONE"]}, "Volumes": {"/data": {}}, "ArgsEscaped": true,
        });
        let (mut record, mut spec, image) = made(image);
        record.policy.stop_signal = libc::SIGQUIT;
        spec.process.env = vec!["PATH=/opt/bin".into(), format!("HOSTNAME={}", spec.hostname), "A=b".into()];
        let made = of(&record, &spec, &image);
        assert_eq!((made.other.get("author"), made.other.get("docker_version")), (None, None));
        assert_eq!(made.variant.as_deref(), Some("v3"));
        assert_eq!(
            config(&record, &spec, &image),
            json!({
                "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/opt/bin", "A=b"], "Cmd": ["run"],
                "Healthcheck": {"Test": ["NONE"]}, "Volumes": {"/data": {}}, "StopSignal": "QUIT",
                "Shell": ["/bin/bash", "-c"], "ArgsEscaped": true,
            })
        );
        assert_eq!(made_by(&made.config).as_deref(), Some("run"));
    }

    #[test]
    fn what_the_service_says_is_taken_apart_again() {
        let (mut record, mut spec, image) =
            made(json!({"Entrypoint": ["/start"], "Healthcheck": {"Test": ["CMD", "x"]}}));
        spec.process.argv = ["/start", "a", "b"].map(str::to_owned).to_vec();
        for (words, entrypoint, cmd) in [
            (Some(1), json!(["/start"]), json!(["a", "b"])),
            (Some(0), Value::Null, json!(["/start", "a", "b"])),
            (Some(3), json!(["/start", "a", "b"]), Value::Null),
            (Some(9), json!(["/start", "a", "b"]), Value::Null),
            (None, json!(["/start"]), json!(["a", "b"])), // of an older version
        ] {
            record.entrypoint = words;
            let made = config(&record, &spec, &image);
            let found = |key: &str| made.get(key).cloned().unwrap_or(Value::Null);
            assert_eq!((found("Entrypoint"), found("Cmd")), (entrypoint, cmd), "{words:?}");
        }
        (record.entrypoint, spec.process.argv) = (None, vec!["other".into()]);
        assert_eq!(config(&record, &spec, &image)["Entrypoint"], json!(["other"]));
        assert_eq!(config(&record, &spec, &image)["Healthcheck"], json!({"Test": ["NONE"]}), "switched off");
        record.policy.health = Some(HealthPolicy {
            argv: ["/bin/sh", "-c", "true || false"].map(str::to_owned).to_vec(),
            interval_ms: 30_000,
            timeout_ms: 1_500,
            retries: 5,
            start_period_ms: 0,
            start_interval_ms: 5_000,
        });
        record.policy.stop_signal = 34;
        (spec.process.cwd, spec.process.user) = ("/srv".into(), "app:web".into());
        let made = config(&record, &spec, &image);
        assert_eq!(
            made["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "true || false"], "Timeout": 1_500_000_000, "Retries": 5})
        );
        assert_eq!(
            (&made["StopSignal"], &made["WorkingDir"], &made["User"]),
            (&json!("SIGRTMIN"), &json!("/srv"), &json!("app:web"))
        );
        record.policy.health.as_mut().expect("set").argv = vec!["probe".into()];
        assert_eq!(config(&record, &spec, &image)["Healthcheck"]["Test"], json!(["CMD", "probe"]));
    }
}
