//! Instructions that `commit --change` takes: read first, and applied to a configuration afterwards.
//!
//! Variables, a relative WORKDIR and an ENTRYPOINT without a CMD mean what they would in a Dockerfile that goes on from the
//! container's configuration, as in Docker.
//!
//! Invariant: pure.

use crate::build::configure;
use crate::build::dockerfile::{self, Instruction};
use crate::build::stages::Args;
use crate::diag::{Report, Sources};
use crate::image::config::ContainerConfig;

/// Instructions that were read.
#[derive(Debug)]
pub struct Changes {
    instructions: Vec<Instruction>,
    escape: char,
    sources: Sources,
}

impl Changes {
    /// Reads instructions, each a line of its own.
    ///
    /// # Errors
    /// All mistakes, each shown in its line.
    pub fn parse(lines: &[String]) -> Result<Self, Report> {
        let text = lines.join("\n");
        let mut sources = Sources::default();
        let file = sources.add("--change", text.as_str());
        match dockerfile::parse_changes(&text, file) {
            Ok((instructions, escape)) => Ok(Self { instructions, escape, sources }),
            Err(diagnostics) => Err(Report { diagnostics, sources, ..Report::default() }),
        }
    }

    /// Applies them in their order.
    ///
    /// # Errors
    /// The first that does not make sense; what came before is applied.
    pub fn apply(&self, config: &mut ContainerConfig) -> Result<(), Report> {
        let mut cmd_is_ours = false;
        for instruction in &self.instructions {
            configure::apply(config, &Args::new(), self.escape, &mut cmd_is_ours, &instruction.op).map_err(
                |failure| Report { diagnostics: vec![*failure], sources: self.sources.clone(), ..Report::default() },
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(lines: &[&str]) -> Result<Changes, Report> {
        Changes::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_act_as_if_they_went_on_from_the_container_s_configuration() {
        let mut config = ContainerConfig {
            env: vec!["PATH=/bin".into(), "MODE=a".into()],
            entrypoint: Some(vec!["run".into()]),
            cmd: Some(vec!["x".into()]),
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let changes = parse(&[
            "ENV PATH=/opt/bin:$PATH MODE=b",
            "env LATE=$MODE",
            "WORKDIR app",
            "USER www-data",
            "ENV PORTS=\"80 53/udp\"",
            "EXPOSE $PORTS",
            "VOLUME /data",
            "LABEL a=b \"c d\"=e",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=5s CMD true",
            "ENTRYPOINT [\"serve\"]",
            "onbuild copy . /srv",
            "ONBUILD RUN make",
        ]);
        changes.expect("all are valid").apply(&mut config).expect("all can be applied");
        assert_eq!(
            serde_json::to_value(&config).expect("serialises"),
            json!({
                "User": "www-data",
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Env": ["PATH=/opt/bin:/bin", "MODE=b", "LATE=b", "PORTS=80 53/udp"],
                "Entrypoint": ["serve"],
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64},
                "Volumes": {"/data": {}},
                "WorkingDir": "/srv/app",
                "Labels": {"a": "b", "c d": "e"},
                "StopSignal": "SIGQUIT",
                "OnBuild": ["copy . /srv", "RUN make"],
            })
        );
        // A command is kept with its entrypoint, and one that was given stays whatever comes after it.
        let mut config = ContainerConfig { entrypoint: Some(vec!["run".into()]), ..ContainerConfig::default() };
        parse(&["CMD [\"y\"]"]).expect("valid").apply(&mut config).expect("applied");
        assert_eq!((config.entrypoint.clone(), config.cmd.clone()), (Some(vec!["run".into()]), Some(vec!["y".into()])));
        parse(&["CMD z", "ENTRYPOINT []"]).expect("valid").apply(&mut config).expect("applied");
        let shell = ["/bin/sh", "-c", "z"].map(str::to_owned).to_vec();
        assert_eq!((config.entrypoint, config.cmd), (Some(Vec::new()), Some(shell)));
        assert!(parse(&[]).is_ok());
    }

    #[test]
    fn what_cannot_be_a_change_is_told_at_once_with_its_line() {
        let refused = parse(&["CMD x", "RUN make", "EXPSE 80", "ONBUILD ONBUILD CMD x"]);
        insta::assert_snapshot!(refused.expect_err("refused").render(false), @r"
        error: RUN is not a valid change command
         --> --change:2:1
          |
        2 | RUN make
          | ^^^
          |
          = help: a change is one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR

        error: unknown instruction `EXPSE`
         --> --change:3:1
          |
        3 | EXPSE 80
          | ^^^^^
          |
          = help: did you mean `EXPOSE`?

        error: ONBUILD cannot follow ONBUILD
         --> --change:4:9
          |
        4 | ONBUILD ONBUILD CMD x
          |         ^^^^^^^
          |
          = help: write an instruction that the image built upon this one is to begin with
        ");
        for keyword in ["COPY a b", "FROM x", "SHELL [\"sh\"]", "ADD a b", "ARG x"] {
            let refused = parse(&[keyword]).expect_err("refused").render(false);
            assert!(refused.contains("is not a valid change command"), "{keyword}: {refused}");
        }
        let mut config = ContainerConfig::default();
        let late = parse(&["ENV A=${B?gone}"]).expect("it can be read").apply(&mut config).expect_err("refused");
        assert!(late.render(false).contains("--change:1:5"), "{}", late.render(false));
        assert!(parse(&["EXPOSE 80000"]).expect("it can be read").apply(&mut config).is_err());
    }
}
