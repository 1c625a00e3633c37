//! `restart` and `deploy.restart_policy`: when a container that has ended is started again.

use super::{Binder, duration, int, spanned};
use crate::compose::model::{Attempts, Restart};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::diag::nearest;

impl Binder<'_> {
    /// Binds when a service's containers are started again, how often and after how long: what `deploy` says counts.
    ///
    /// docker compose takes a policy without a condition for `none`, against the specification, and refuses a number of
    /// attempts for `any`; its words of `restart` it takes here too.
    pub(super) fn restarts(&mut self, service: &Map) -> (Restart, Attempts) {
        let own = service.written("restart").map_or(Restart::No, |entry| self.restart(entry));
        let deploy = service.value("deploy").and_then(Node::as_map);
        let Some(policy) = deploy.and_then(|deploy| deploy.value("restart_policy")).and_then(Node::as_map) else {
            return (own, Attempts::default());
        };
        // Docker reads 0 as no limit, and a delay or window of 0 says nothing.
        let max = int(policy, "max_attempts").filter(|max| max.value > 0);
        let max = max.map(|max| u32::try_from(max.value).unwrap_or(u32::MAX));
        let time = |key| duration(policy, key).filter(|time| !time.is_zero());
        let restart = match spanned(policy, "condition") {
            None => Restart::Always,
            Some(condition) => match condition.value.as_str() {
                "none" | "no" => Restart::No,
                "on-failure" => Restart::OnFailure { max: None },
                "any" | "always" => Restart::Always,
                "unless-stopped" => Restart::UnlessStopped,
                other => {
                    let help = match nearest(other, ["none", "on-failure", "any"]) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "it can be `none`, `on-failure` or `any`".into(),
                    };
                    let message = format!("`{other}` is no `condition` of a restart policy");
                    self.unmet(condition.span, message).help = Some(help);
                    Restart::No
                }
            },
        };
        (restart, Attempts { max, delay: time("delay"), window: time("window") })
    }

    fn restart(&mut self, entry: &Entry) -> Restart {
        const WORDS: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];
        let Some(text) = entry.value.as_text() else { return Restart::No };
        let (word, max) = match text.split_once(':') {
            Some((word, max)) => (word, Some(max)),
            None => (text, None),
        };
        match (word, max) {
            ("no" | "", None) => return Restart::No,
            ("always", None) => return Restart::Always,
            ("unless-stopped", None) => return Restart::UnlessStopped,
            ("on-failure", None) => return Restart::OnFailure { max: None },
            ("on-failure", Some(max)) => {
                if let Ok(max) = max.parse() {
                    // Docker reads 0 as no limit.
                    return Restart::OnFailure { max: Some(max).filter(|max| *max > 0) };
                }
            }
            _ => {}
        }
        let help = match nearest(word, WORDS) {
            Some(near) if near != word => format!("did you mean `{near}`?"),
            _ => "it can be `no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`".into(),
        };
        self.unmet(entry.place(), format!("`{text}` is no restart policy")).help = Some(help);
        Restart::No
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compose::{Request, load};

    /// Returns what a service says of its restarts, or the first mistake with its help.
    fn restarts(text: &str) -> Result<(Restart, Attempts), String> {
        let request = Request {
            files: vec!["-".into()],
            project_name: Some("p".into()),
            cwd: "/nonexistent/p".into(),
            stdin: Some(format!("services:\n  web:\n    image: x\n    {text}\n")),
            ..Request::default()
        };
        match load(&request) {
            Ok(loaded) => {
                assert!(loaded.warnings.is_empty(), "{text}: {:?}", loaded.warnings);
                let service = loaded.project.services.values().next().expect("there is one");
                Ok((service.restart, service.attempts))
            }
            Err(report) => {
                let first = &report.diagnostics[0];
                assert!(first.span.is_some(), "{text}");
                Err(format!("{} ({})", first.message, first.help.clone().unwrap_or_default()))
            }
        }
    }

    #[test]
    fn deploy_says_more_than_restart() {
        let attempts = |max, delay, window| Attempts {
            max,
            delay: Some(delay).filter(|ms| *ms > 0).map(Duration::from_millis),
            window: Some(window).filter(|ms| *ms > 0).map(Duration::from_millis),
        };
        let none = Attempts::default();
        for (text, wished) in [
            ("restart: on-failure:3", (Restart::OnFailure { max: Some(3) }, none)),
            ("deploy: {replicas: 1}\n    restart: always", (Restart::Always, none)),
            ("deploy: {restart_policy: {condition: none}}\n    restart: always", (Restart::No, none)),
            ("deploy: {restart_policy: {condition: any}}\n    restart: 'no'", (Restart::Always, none)),
            ("deploy: {restart_policy: {delay: 0s, max_attempts: 0, window: 0s}}", (Restart::Always, none)),
            ("deploy: {restart_policy: {condition: unless-stopped}}", (Restart::UnlessStopped, none)),
            (
                "deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}}",
                (Restart::OnFailure { max: None }, attempts(Some(3), 5000, 120_000)),
            ),
            ("deploy: {restart_policy: {max_attempts: 3}}", (Restart::Always, attempts(Some(3), 0, 0))),
            (
                "restart: on-failure:9\n    deploy: {restart_policy: {condition: on-failure}}",
                (Restart::OnFailure { max: None }, none),
            ),
        ] {
            assert_eq!(restarts(text), Ok(wished), "{text}");
        }
    }

    #[test]
    fn another_condition_is_refused() {
        let mistake = |word: &str| restarts(&format!("deploy: {{restart_policy: {{condition: {word}}}}}"));
        insta::assert_snapshot!(mistake("on-failur").expect_err("no word"), @"`on-failur` is no `condition` of a restart policy (did you mean `on-failure`?)");
        insta::assert_snapshot!(mistake("sometimes").expect_err("no word"), @"`sometimes` is no `condition` of a restart policy (it can be `none`, `on-failure` or `any`)");
        insta::assert_snapshot!(mistake("on-failure:3").expect_err("no word"), @"`on-failure:3` is no `condition` of a restart policy (did you mean `on-failure`?)");
    }
}
