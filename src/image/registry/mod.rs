//! Talks to registries: OCI distribution specification 1.1 and what Docker Hub and others do besides.
//!
//! No probing: the real request is sent, and a 401 says what it takes (`challenge`, `tokens`). A reference leads to
//! places, tried in order: for Docker Hub its mirrors come first. Everything is asked again after what passes by itself;
//! a blob goes on where it broke off. Bodies have limits, and credentials go nowhere but to the host they are for.
//!
//! Async, on one thread. Knows nothing of the store; `pull` does.

mod challenge;
pub(crate) mod credentials;
pub(crate) mod download;
pub mod error;
mod http;
mod names;
mod payload;
pub mod settings;
mod tokens;
pub(crate) mod upload;
mod url;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use self::credentials::{DockerConfig, Found};
use self::error::{ConnectError, Error, clean};
use self::http::{Answer, Http, Question};
use self::payload::Payload;
use self::settings::{Settings, is_loopback};
use self::url::{Origin, Url, split_port};
use crate::image::config::{Descriptor, INDEX_TYPES, MANIFEST_TYPES};
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// Largest documents that are read (CVE-2020-1702), and most of an error's text.
const MANIFEST_MAX: u64 = 4 << 20;
pub(crate) const CONFIG_MAX: u64 = 4 << 20;
const TOKEN_MAX: u64 = 1 << 20;
const ERROR_MAX: usize = 64 << 10;
/// How often in a row something may fail without a byte having come, and the first and longest pause between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Most redirects on the way to one answer.
const REDIRECTS: usize = 8;
/// Docker Hub's name in references, and where its API is.
const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";

/// Returns random bytes; where the kernel has none yet, zeros.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK) {
        tracing::debug!(%error, "no random bytes"); // ids and pauses are no secrets: zeros are good enough
    }
    bytes
}

/// A client for all registries of one command.
pub struct Client {
    http: Http,
    settings: Settings,
    config: OnceCell<DockerConfig>,
    /// What was accepted last, by place and repository.
    authorizations: RefCell<HashMap<(String, String), String>>,
    /// Registries on this machine that speak no TLS.
    plain: RefCell<BTreeSet<String>>,
    /// Sentences for the user; each is said once.
    warnings: RefCell<BTreeSet<String>>,
}

/// How a place is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
    /// On this machine: https, and http where that is not spoken.
    Either,
}

/// One place that may have a reference's repository.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    /// Path below which the API is, without a slash at its end.
    prefix: String,
    /// Name for people.
    pub(crate) name: String,
    /// Name that credentials are kept under.
    domain: String,
}

/// A manifest or index, with the exact bytes that its digest is of.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// Which place had it.
    pub(crate) place: usize,
}

/// What is asked for, in words and for errors.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    image: &'a str,
    what: &'a str,
    /// A manifest, whose absence means that there is no such image.
    manifest: bool,
    /// It is for a push, which may take blobs from these other repositories.
    push: Option<&'a [String]>,
}

/// One request.
#[derive(Debug, Clone)]
struct Ask<'a> {
    method: &'static str,
    /// Below the repository API's root, if no URL was given.
    path: &'a str,
    /// Where the registry has said.
    url: Option<Url>,
    range: Option<String>,
    payload: Payload,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Client {
    /// Returns a client; nothing is read or connected to before it is used.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            http: Http::new(&settings),
            settings,
            config: OnceCell::new(),
            authorizations: RefCell::default(),
            plain: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Returns the platform that the user has set for all images.
    pub(crate) fn default_platform(&self) -> Option<&str> {
        self.settings.platform.as_deref()
    }

    /// Returns sentences for the user that have not been told yet.
    pub(crate) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.borrow_mut()).into_iter().collect()
    }

    /// Returns where a reference's repository may be, in the order to ask.
    pub(crate) fn places(&self, reference: &Reference) -> Vec<Place> {
        let domain = reference.domain();
        if domain == HUB {
            let mirrors = self.settings.mirrors.iter().map(|url| {
                let origin = &url.origin;
                Place {
                    scheme: match origin.https {
                        true if is_loopback(&origin.host) => Scheme::Either,
                        true => Scheme::Https,
                        false => Scheme::Http,
                    },
                    host: origin.host.clone(),
                    port: Some(origin.port),
                    prefix: url.path.trim_end_matches('/').to_owned(),
                    name: format!("the mirror {}", url.to_string().trim_end_matches('/')),
                    domain: origin.authority(),
                }
            });
            let hub = Place {
                scheme: Scheme::Https,
                host: HUB_API.into(),
                port: None,
                prefix: String::new(),
                name: "Docker Hub".into(),
                domain: HUB.into(),
            };
            return mirrors.chain([hub]).collect();
        }
        let (host, port) = split_port(domain).unwrap_or_else(|| (domain.to_owned(), None));
        let scheme = if is_loopback(&host) { Scheme::Either } else { Scheme::Https };
        vec![Place { scheme, host, port, prefix: String::new(), name: domain.into(), domain: domain.into() }]
    }

    /// Fetches a manifest or an index by tag or digest, from the place of that number or one after it.
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
        target: &str,
        from: usize,
        expected: Option<&Digest>,
    ) -> Result<Fetched, Error> {
        let image = reference.familiar();
        let what = format!("the manifest of `{image}`");
        let subject = Subject { image: &image, what: &what, manifest: true, push: None };
        let places = self.places(reference);
        self.first_of(&places, from, async |number, place| {
            self.retrying(async || {
                let path = format!("{}/manifests/{target}", reference.path());
                let mut answer = self.ok("GET", place, reference, &path, &subject, None).await?;
                let media_type = media_type(answer.header("content-type"));
                let promised = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
                let bytes = answer.read(MANIFEST_MAX).await?;
                let digest = Digest::of(&bytes);
                let mut promises = expected.into_iter().chain(&promised);
                if let Some(promise) = promises.find(|promise| **promise != digest) {
                    return Err(Error::Digest {
                        registry: place.name.clone(),
                        what: what.clone(),
                        expected: promise.to_string(),
                        found: digest.to_string(),
                    });
                }
                Ok(Fetched { bytes, digest, media_type, place: number })
            })
            .await
        })
        .await
    }

    /// Returns the digest that a tag leads to now, if the registry tells without being asked for the whole; that does
    /// not count as a pull.
    pub(crate) async fn head(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let image = reference.familiar();
        let what = format!("the manifest of `{image}`");
        let subject = Subject { image: &image, what: &what, manifest: true, push: None };
        let target = reference.tag().unwrap_or("latest");
        let places = self.places(reference);
        let found = self.first_of(&places, 0, async |_, place| {
            let path = format!("{}/manifests/{target}", reference.path());
            let mut answer = self.ok("HEAD", place, reference, &path, &subject, None).await?;
            let digest = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
            answer.next().await?;
            Ok(digest)
        });
        match found.await {
            Ok(digest) => Ok(digest),
            Err(error @ Error::Unreachable { .. }) => Err(error),
            // The whole request that follows says it better.
            Err(_) => Ok(None),
        }
    }

    /// Fetches a small blob, such as a configuration.
    pub(crate) async fn document(
        &self,
        reference: &Reference,
        from: usize,
        descriptor: &Descriptor,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if descriptor.size > limit {
            return Err(Error::TooLarge {
                host: self.places(reference)[from].name.clone(),
                what: what.to_owned(),
                limit,
            });
        }
        self.blob(reference, from, descriptor, what, async |piece: Bytes| {
            bytes.extend_from_slice(&piece);
            true
        })
        .await?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(Error::Digest {
                registry: self.places(reference)[from].name.clone(),
                what: what.to_owned(),
                expected: descriptor.digest.to_string(),
                found: found.to_string(),
            });
        }
        Ok(bytes)
    }

    /// Fetches a blob piece by piece, in order, each byte once; goes on where it broke off. Ends early, well, when
    /// `take` wants no more. The digest is the taker's to check.
    pub(crate) async fn blob(
        &self,
        reference: &Reference,
        from: usize,
        descriptor: &Descriptor,
        what: &str,
        mut take: impl AsyncFnMut(Bytes) -> bool,
    ) -> Result<(), Error> {
        let image = reference.familiar();
        let subject = Subject { image: &image, what, manifest: false, push: None };
        let places = self.places(reference);
        let (mut number, mut done, mut failures) = (from, 0, 0);
        loop {
            let before = done;
            let place = &places[number];
            match self.blob_from(place, reference, descriptor, &subject, &mut done, &mut take).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    failures = if done > before { 0 } else { failures + 1 };
                    match error.transient() {
                        Some(wait) if failures < ATTEMPTS => pause(failures, wait).await,
                        _ if error.is_elsewhere() && number + 1 < places.len() => (number, failures) = (number + 1, 0),
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    async fn blob_from(
        &self,
        place: &Place,
        reference: &Reference,
        descriptor: &Descriptor,
        subject: &Subject<'_>,
        done: &mut u64,
        take: &mut impl AsyncFnMut(Bytes) -> bool,
    ) -> Result<(), Error> {
        let size = descriptor.size;
        let wrong = |found: String| Error::Size {
            registry: place.name.clone(),
            what: subject.what.to_owned(),
            expected: size,
            found,
        };
        if *done == size && size > 0 {
            return Ok(());
        }
        let path = format!("{}/blobs/{}", reference.path(), descriptor.digest);
        let range = (*done > 0).then(|| format!("bytes={done}-"));
        let mut answer = self.ok("GET", place, reference, &path, subject, range).await?;
        let mut skip = 0;
        if answer.status == 206 {
            let begins =
                answer.header("content-range").and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
            if begins != Some(*done) {
                return Err(Error::Status {
                    host: place.name.clone(),
                    what: subject.what.to_owned(),
                    status: 206,
                    message: "another part than was asked for".into(),
                    retry_after: None,
                });
            }
        } else {
            // It has begun anew.
            skip = *done;
            if let Some(length) = answer.header("content-length").and_then(|l| l.parse::<u64>().ok())
                && length != size
            {
                return Err(wrong(format!("has {length} bytes")));
            }
        }
        while let Some(mut piece) = answer.next().await? {
            let passed = skip.min(piece.len() as u64);
            skip -= passed;
            // It is no more than the piece is long.
            let piece = piece.split_off(usize::try_from(passed).unwrap_or(usize::MAX));
            if *done + piece.len() as u64 > size {
                return Err(wrong(format!("has more than {size} bytes")));
            }
            *done += piece.len() as u64;
            if !piece.is_empty() && !take(piece).await {
                return Ok(());
            }
        }
        if *done < size { Err(wrong(format!("has {done} bytes"))) } else { Ok(()) }
    }

    /// Tries places until one has it. What the last says is reported, with what the others said before.
    async fn first_of<T>(
        &self,
        places: &[Place],
        from: usize,
        mut ask: impl AsyncFnMut(usize, &Place) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut before = Vec::new();
        for (number, place) in places.iter().enumerate().skip(from) {
            match ask(number, place).await {
                Err(error) if error.is_elsewhere() && number + 1 < places.len() => {
                    tracing::debug!(%error, "{} is asked next", places[number + 1].name);
                    before.push(error);
                }
                Err(error) if !before.is_empty() => return Err(after_mirrors(&before, &error)),
                other => return other,
            }
        }
        Err(before.pop().unwrap_or_else(|| unreachable!("a reference has a place")))
    }

    async fn retrying<T>(&self, mut work: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut failures = 0;
        loop {
            match work().await {
                Err(error) if failures + 1 < ATTEMPTS => match error.transient() {
                    Some(wait) => {
                        failures += 1;
                        tracing::debug!(%error, "it is tried again");
                        pause(failures, wait).await;
                    }
                    None => return Err(error),
                },
                other => return other,
            }
        }
    }

    /// Asks, and turns an answer that is no success into its error.
    async fn ok(
        &self,
        method: &'static str,
        place: &Place,
        reference: &Reference,
        path: &str,
        subject: &Subject<'_>,
        range: Option<String>,
    ) -> Result<Answer<'_>, Error> {
        let ask = Ask { method, path, url: None, range, payload: Payload::Nothing };
        self.request(&ask, place, reference, subject).await.map(|(answer, _)| answer)
    }

    /// Sends a request, with what the place wants to see of us; returns the answer, if it is a success, and what gave it.
    async fn request(
        &self,
        ask: &Ask<'_>,
        place: &Place,
        reference: &Reference,
        subject: &Subject<'_>,
    ) -> Result<(Answer<'_>, Url), Error> {
        let key = (place.name.clone(), reference.path().to_owned());
        let mut authorization = self.authorizations.borrow().get(&key).cloned();
        let mut renewed = false;
        loop {
            let own = || Url { origin: self.origin(place), path: format!("{}/v2/{}", place.prefix, ask.path) };
            let url = ask.url.clone().unwrap_or_else(own);
            let result = self.follow(ask, &url, place, subject, authorization.as_deref()).await;
            let (mut answer, at) = match result {
                Err(Error::Unreachable { source: ConnectError::NotTls, .. })
                    if place.scheme == Scheme::Either && url.origin.https =>
                {
                    self.plain.borrow_mut().insert(place.name.clone());
                    continue;
                }
                other => other?,
            };
            match answer.status {
                401 if at.origin == self.origin(place) && !renewed => {
                    renewed = true;
                    let asked: Vec<_> = answer.headers("www-authenticate").flat_map(challenge::parse).collect();
                    answer.read_some(ERROR_MAX).await;
                    if asked.is_empty() {
                        return Err(self.failure(place, answer, subject).await);
                    }
                    let granted = self.authorize(place, reference, subject, &asked).await?;
                    self.authorizations.borrow_mut().insert(key.clone(), granted.clone());
                    authorization = Some(granted);
                }
                200 | 206 if !is_html(&answer) => return Ok((answer, at)),
                201..=204 if !ask.reads() => return Ok((answer, at)),
                _ => return Err(self.failure(place, answer, subject).await),
            }
        }
    }

    /// Sends a request and follows redirects; returns what has answered, too.
    async fn follow(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        place: &Place,
        subject: &Subject<'_>,
        authorization: Option<&str>,
    ) -> Result<(Answer<'_>, Url), Error> {
        let mut at = url.clone();
        let refuse = |how| Error::Redirect { host: place.name.clone(), what: subject.what.to_owned(), how };
        for _ in 0..REDIRECTS {
            let mut headers = Vec::new();
            // What is for the registry is not for where it sends us.
            let home = at.origin == self.origin(place);
            if let Some(authorization) = authorization.filter(|_| home) {
                headers.push(("authorization", authorization.to_owned()));
            }
            if subject.manifest {
                headers.push(("accept", [INDEX_TYPES, MANIFEST_TYPES].concat().join(", ")));
            }
            if let Some(range) = &ask.range {
                headers.push(("range", range.clone()));
            }
            let (method, payload) = (ask.method, ask.payload.clone());
            let question = Question { method, url: &at, headers, payload, what: subject.what };
            let mut answer = self.http.ask(&question).await.map_err(|e| named(e, place, home))?;
            // What is sent goes elsewhere only when that is said to be meant (RFC 9110, section 15.4).
            let moved = matches!(answer.status, 307 | 308) || (ask.reads() && matches!(answer.status, 301..=303));
            if !moved {
                return Ok((answer, at));
            }
            let target = answer.header("location").and_then(|location| at.join(location));
            let target = target.ok_or_else(|| refuse("to no place that can be read"))?;
            if at.origin.https && !target.origin.https {
                return Err(refuse("from https to http, where anybody could change it"));
            }
            answer.read_some(ERROR_MAX).await;
            at = target;
        }
        Err(refuse("again and again"))
    }

    fn origin(&self, place: &Place) -> Origin {
        let https = match place.scheme {
            Scheme::Https => true,
            Scheme::Http => false,
            Scheme::Either => !self.plain.borrow().contains(&place.name),
        };
        let port = place.port.unwrap_or(if https { 443 } else { 80 });
        Origin { https, host: place.host.clone(), port }
    }

    /// Returns the credentials for a place.
    fn found(&self, place: &Place) -> Result<Found, Error> {
        if self.config.get().is_none() {
            let wrong = |path: String, reason: String| Error::DockerConfig { path, reason };
            let read = match (&self.settings.docker_auth, &self.settings.docker_config) {
                (Some(text), _) => DockerConfig::parse(text).map_err(|e| wrong("DOCKER_AUTH_CONFIG".into(), e))?,
                (None, None) => DockerConfig::default(),
                (None, Some(path)) => match std::fs::read_to_string(path) {
                    Ok(text) => DockerConfig::parse(&text).map_err(|e| wrong(path.display().to_string(), e))?,
                    Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                        DockerConfig::default()
                    }
                    Err(e) => return Err(wrong(path.display().to_string(), e.to_string())),
                },
            };
            drop(self.config.set(read)); // nobody else can have set it in between
        }
        let found = self.config.get().map(|config| config.find(&place.domain)).unwrap_or_default();
        if let Some(helper) = &found.helper {
            self.warnings.borrow_mut().insert(format!(
                "the credentials for {} are kept by docker-credential-{}, which hoist cannot ask yet: it goes on without them",
                place.name,
                clean(helper)
            ));
        }
        Ok(found)
    }

    /// Turns an answer that is no success into its error.
    async fn failure(&self, place: &Place, mut answer: Answer<'_>, subject: &Subject<'_>) -> Error {
        let html = is_html(&answer);
        let retry_after = answer.header("retry-after").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let limit = limit_in_words(answer.header("ratelimit-limit"), answer.header("ratelimit-remaining"));
        let status = answer.status;
        let body = answer.read_some(ERROR_MAX).await;
        let message = if html { String::new() } else { said(&body) };
        let (registry, image) = (place.name.clone(), subject.image.to_owned());
        let logged_in = self.found(place).is_ok_and(|found| found.credentials.is_some());
        match status {
            401 | 403 if !html => Error::Unauthorised { registry, image, message, logged_in },
            429 => Error::RateLimited { registry, message, limit, wait: retry_after, logged_in },
            408 | 500..=599 => {
                Error::Status { host: registry, what: subject.what.to_owned(), status, message, retry_after }
            }
            _ if html => Error::NotARegistry { host: registry, got: format!("a web page (status {status})") },
            404 if subject.push.is_some() => {
                Error::Status { host: registry, what: subject.what.to_owned(), status, message, retry_after }
            }
            404 if subject.manifest => Error::NotFound { hub: place.domain == HUB, registry, image },
            404 => Error::Missing { registry, what: subject.what.to_owned() },
            _ => Error::Status { host: registry, what: subject.what.to_owned(), status, message, retry_after },
        }
    }
}

impl Ask<'_> {
    /// Changes nothing.
    fn reads(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }
}

/// Names the registry in an error of its connection.
fn named(error: Error, place: &Place, home: bool) -> Error {
    match error {
        Error::Unreachable { source, .. } if home => Error::Unreachable { registry: place.name.clone(), source },
        other => other,
    }
}

async fn pause(failures: u32, wanted: Option<Duration>) {
    let longest = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    // Half of it at random, so that many clients do not come back at once.
    let jitter = longest / 2 * u32::from(random::<1>()[0]) / 255;
    tokio::time::sleep(wanted.unwrap_or(longest / 2 + jitter)).await;
}

fn after_mirrors(before: &[Error], last: &Error) -> Error {
    use crate::diag::{Diagnostic, Explain as _};
    let said: Vec<String> = before.iter().map(|e| Diagnostic::from_error(e).message).collect();
    let last_message = Diagnostic::from_error(last).message;
    Error::AfterMirrors { mirrors: said.join("; "), last: last_message, help: last.help() }
}

fn is_html(answer: &Answer<'_>) -> bool {
    media_type(answer.header("content-type")) == "text/html"
}

/// Returns a content type without its parameters.
fn media_type(header: Option<&str>) -> String {
    header.and_then(|h| h.split(';').next()).map(|h| h.trim().to_ascii_lowercase()).unwrap_or_default()
}

/// Returns what an error's body says to people.
fn said(body: &[u8]) -> String {
    let Ok(errors) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let text = match errors.errors.first() {
        Some(OneError { code, message }) if message.is_empty() => clean(code),
        Some(OneError { code, message })
            if code.is_empty() || message.to_ascii_lowercase().starts_with(&code.to_ascii_lowercase()) =>
        {
            clean(message)
        }
        Some(OneError { code, message }) => clean(&format!("{}: {message}", code.to_ascii_lowercase())),
        None if errors.message.is_empty() => clean(&errors.details),
        None => clean(&errors.message),
    };
    // What follows is not a new sentence.
    text.trim_end_matches('.').to_owned()
}

/// Says how many pulls are left, out of headers such as `100;w=21600`.
fn limit_in_words(limit: Option<&str>, remaining: Option<&str>) -> Option<String> {
    let number = |text: &str| text.split(';').next().and_then(|n| n.trim().parse::<u64>().ok());
    let total = number(limit?)?;
    let window = limit?.split(";w=").nth(1).and_then(|w| w.trim().parse::<u64>().ok());
    let window = match window {
        Some(seconds) if seconds % 3600 == 0 => format!(" in {} h", seconds / 3600),
        Some(seconds) => format!(" in {} min", seconds.div_ceil(60)),
        None => String::new(),
    };
    let left = remaining.and_then(number).map_or_else(String::new, |left| format!(", {left} left"));
    Some(format!("{total} pulls{window}{left}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_put_into_words() {
        for (limit, remaining, wanted) in [
            (Some("100;w=21600"), Some("0;w=21600"), Some("100 pulls in 6 h, 0 left")),
            (Some("10;w=90"), None, Some("10 pulls in 2 min")),
            (Some("7"), Some("x"), Some("7 pulls")),
            (Some("x"), None, None),
            (None, Some("3"), None),
        ] {
            assert_eq!(limit_in_words(limit, remaining).as_deref(), wanted, "{limit:?} {remaining:?}");
        }
    }

    #[test]
    fn what_a_registry_says_is_one_line() {
        for (body, wanted) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access\nis \u001b[31mdenied"}]}"#,
                "denied: requested access is [31mdenied",
            ),
            (
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"toomanyrequests: slow down"}]}"#,
                "toomanyrequests: slow down",
            ),
            (r#"{"errors":[{"code":"X"}]}"#, "X"),
            (r#"{"message":"m"}"#, "m"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("{}", ""),
            ("<html>", ""),
        ] {
            assert_eq!(said(body.as_bytes()), wanted);
        }
    }

    #[test]
    fn references_lead_to_places() {
        let mirrored = Settings::new(|name| {
            (name == "HOIST_REGISTRY_MIRROR").then(|| "http://127.0.0.1:5000,https://m.example/hub".to_owned())
        });
        let shown = |settings: Settings, text: &str| {
            let client = Client::new(settings);
            let places = client.places(&Reference::parse(text).expect("valid"));
            let one = |p: &Place| {
                let Origin { https, host, port } = client.origin(p);
                format!("{}://{host}:{port}{} ({:?})", if https { "https" } else { "http" }, p.prefix, p.scheme)
            };
            places.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(Settings::default(), "nginx"), "https://registry-1.docker.io:443 (Https)");
        assert_eq!(
            shown(mirrored.expect("valid"), "nginx"),
            "http://127.0.0.1:5000 (Http) https://m.example:443/hub (Https) https://registry-1.docker.io:443 (Https)"
        );
        assert_eq!(shown(Settings::default(), "localhost:5000/x"), "https://localhost:5000 (Either)");
        assert_eq!(shown(Settings::default(), "127.1.2.3/x"), "https://127.1.2.3:443 (Either)");
        assert_eq!(shown(Settings::default(), "[::1]:80/x"), "https://::1:80 (Either)");
        assert_eq!(shown(Settings::default(), "ghcr.io/a/b"), "https://ghcr.io:443 (Https)");
    }
}
