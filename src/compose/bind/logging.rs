//! `logging`: what is kept of a service's output, in the words of Docker's drivers.
//!
//! What a driver of Docker's does that is not here is said in a warning, and the lines are kept as with `local`, which is
//! what Docker has beside such a driver too.

use super::Binder;
use crate::compose::model::Logging;
use crate::compose::short::units;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::diag::{Diagnostic, Span, nearest};

/// The drivers that are here.
const DRIVERS: [&str; 3] = ["json-file", "local", "none"];
/// Docker's other ones.
const ELSEWHERE: [&str; 8] = ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog"];
/// Options of the two drivers that keep files.
const OPTIONS: [&str; 10] = [
    "max-size",
    "max-file",
    "compress",
    "mode",
    "max-buffer-size",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
];

impl Binder<'_> {
    pub(super) fn logging(&mut self, map: &Map, owner: &str) -> Logging {
        let empty = Map::default();
        let Some(logging) = map.value("logging").and_then(Node::as_map) else { return Logging::default() };
        let options = logging.value("options").and_then(Node::as_map).unwrap_or(&empty);
        let driver = logging.written("driver").and_then(|entry| Some((entry.value.as_text()?, entry.place())));
        match driver.filter(|(word, _)| !word.is_empty()) {
            None | Some(("json-file", _)) => self.files(options, owner, Logging::default(), units::decimal_bytes),
            Some(("local", _)) => self.files(options, owner, Logging::LOCAL, units::bytes),
            Some(("none", _)) => {
                for (name, entry) in options {
                    self.warn(entry.key, format!("option `{name}` has no effect: logging driver `none` keeps nothing"));
                }
                Logging::NONE
            }
            Some((word, at)) => {
                match nearest(word, DRIVERS.into_iter().chain(ELSEWHERE)) {
                    Some(near) if near != word => {
                        self.unmet(at, format!("`{word}` is no logging driver")).help =
                            Some(format!("did you mean `{near}`?"));
                    }
                    _ => self.warn(
                        at,
                        format!(
                            "logging driver `{word}` of {owner} is not available in this version: lines are kept as with \
                             `local`, and its options have no effect"
                        ),
                    ),
                }
                Logging::LOCAL
            }
        }
    }

    /// Reads the options of a driver that keeps files.
    fn files(
        &mut self,
        options: &Map,
        owner: &str,
        default: Logging,
        size: fn(&str) -> Result<u64, String>,
    ) -> Logging {
        let mut logging = default;
        let text = |entry: &Entry| entry.value.as_text().unwrap_or_default().to_owned();
        for (name, entry) in options {
            let (value, at) = (text(entry), entry.place());
            let wrong = |why: String| format!("`{name}` in `logging` of {owner} is wrong: {why}");
            match name.as_str() {
                "max-size" => match size(&value) {
                    Ok(0) => drop(self.unmet(at, wrong("a file of no bytes has room for no line".into()))),
                    Ok(bytes) => logging.max_size = Some(bytes),
                    Err(why) => drop(self.unmet(at, wrong(why))),
                },
                "max-file" => match value.parse() {
                    Ok(count @ 1..) => logging.max_files = count,
                    _ => {
                        let why = format!("`{value}` is not a number of files; write one that is at least 1");
                        self.unmet(at, wrong(why));
                    }
                },
                "compress" => match value.as_str() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => {
                        self.warn(
                            entry.key,
                            "`compress` has no effect in this version: files of logs are not compressed",
                        );
                    }
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => {}
                    _ => drop(self.unmet(at, wrong(format!("`{value}` is neither `true` nor `false`")))),
                },
                "mode" => match value.as_str() {
                    "" | "blocking" => {}
                    "non-blocking" => self.warn(
                        entry.key,
                        "`mode: non-blocking` has no effect in this version: output waits until it is in the log",
                    ),
                    _ => {
                        self.unmet(at, wrong(format!("`{value}` is neither `blocking` nor `non-blocking`")));
                    }
                },
                "max-buffer-size" if super::text(options, "mode").as_deref() != Some("non-blocking") => {
                    self.unmet(entry.key, wrong("it goes with `mode: non-blocking` only".into()));
                }
                "max-buffer-size" => match units::bytes(&value) {
                    Ok(_) => {} // what is said of the mode is said of this
                    Err(why) => drop(self.unmet(at, wrong(why))),
                },
                name if OPTIONS.contains(&name) => {
                    self.warn(entry.key, format!("option `{name}` of `logging` has no effect in this version"));
                }
                name => {
                    let help = nearest(name, OPTIONS).map(|near| format!("did you mean `{near}`?"));
                    self.unmet(entry.key, format!("`{name}` is no option of the logging driver of {owner}")).help =
                        help;
                }
            }
        }
        if logging.max_size.is_none()
            && let Some(entry) = options.written("max-file")
        {
            self.warn(entry.key, "`max-file` has no effect without `max-size`: there is one file without limit");
        }
        logging
    }

    fn warn(&mut self, at: Span, message: impl Into<String>) {
        self.unmet.push(Diagnostic::warning(Some(at), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Request, load};

    /// Returns what is kept of the output of a service, and what is said, without the places.
    fn logging(text: &str) -> (Option<Logging>, Vec<String>) {
        let request = Request {
            files: vec!["-".into()],
            project_name: Some("p".into()),
            cwd: "/nonexistent/p".into(),
            stdin: Some(format!("services:\n  web:\n    image: x\n    logging: {text}\n")),
            ..Request::default()
        };
        let said = |all: &[Diagnostic]| all.iter().map(|d| d.message.clone()).collect();
        match load(&request) {
            Ok(loaded) => {
                assert!(loaded.warnings.iter().all(|warning| warning.span.is_some()));
                let logging = loaded.project.services.values().next().map(|service| service.logging);
                (logging, said(&loaded.warnings))
            }
            Err(report) => {
                assert!(report.diagnostics.iter().all(|error| error.span.is_some()), "{text}");
                (None, said(&report.diagnostics))
            }
        }
    }

    #[test]
    fn drivers_and_their_options_are_dockers() {
        let files = |max_size, max_files| Logging { kept: true, max_size, max_files };
        for (text, expected) in [
            ("{}", Logging::default()),
            ("{driver: json-file}", files(None, 1)),
            ("{driver: json-file, options: {max-size: 10m, max-file: '3'}}", files(Some(10_000_000), 3)),
            ("{options: {max-size: 1k, max-file: 2, compress: 'false', mode: blocking}}", files(Some(1000), 2)),
            ("{driver: local}", files(Some(20 << 20), 5)),
            ("{driver: local, options: {max-size: 10m}}", files(Some(10 << 20), 5)),
            ("{driver: none}", Logging::NONE),
        ] {
            assert_eq!(logging(text), (Some(expected), vec![]), "{text}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said_once() {
        for (text, expected, words) in [
            ("{driver: local, options: {compress: 'true'}}", Logging::LOCAL, "`compress` has no effect"),
            ("{options: {max-file: 3}}", Logging { max_files: 3, ..Logging::default() }, "without `max-size`"),
            ("{options: {tag: x}}", Logging::default(), "option `tag` of `logging` has no effect"),
            ("{options: {mode: non-blocking, max-buffer-size: 1m}}", Logging::default(), "`mode: non-blocking` has no"),
            ("{driver: none, options: {max-size: 1m}}", Logging::NONE, "`none` keeps nothing"),
            ("{driver: journald, options: {tag: x, a: b}}", Logging::LOCAL, "`journald` of service `web` is not avail"),
            ("{driver: grafana/loki-docker-driver}", Logging::LOCAL, "is not available in this version"),
        ] {
            let (logging, said) = logging(text);
            assert_eq!((logging, said.len()), (Some(expected), 1), "{text}: {said:?}");
            assert!(said[0].contains(words), "{text}: {said:?}");
        }
    }

    #[test]
    fn wrong_drivers_and_options_are_refused() {
        for (text, words) in [
            ("{driver: json-fil}", "`json-fil` is no logging driver"),
            ("{driver: syslg}", "`syslg` is no logging driver"),
            ("{options: {max-size: 10x}}", "`max-size` in `logging` of service `web` is wrong: `10x` is not a size"),
            ("{options: {max-size: }}", "`` is not a size"),
            ("{driver: local, options: {max-size: 0}}", "has room for no line"),
            ("{options: {max-size: 1m, max-file: 0}}", "`0` is not a number of files"),
            ("{options: {max-size: 1m, max-file: two}}", "`two` is not a number of files"),
            ("{driver: local, options: {compress: 'yes'}}", "`yes` is neither `true` nor `false`"),
            ("{options: {mode: fast}}", "`fast` is neither `blocking` nor `non-blocking`"),
            ("{options: {max-buffer-size: 1m}}", "it goes with `mode: non-blocking` only"),
            ("{options: {max-sise: 1m}}", "`max-sise` is no option of the logging driver of service `web`"),
        ] {
            let (logging, said) = logging(text);
            assert_eq!((logging, said.len()), (None, 1), "{text}: {said:?}");
            assert!(said[0].contains(words), "{text}: {said:?}");
        }
    }
}
