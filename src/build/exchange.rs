//! `cache_from` and `cache_to`: steps that are known elsewhere, and where this build's are written to.
//!
//! What is known elsewhere is asked for when a step is not known here, the first time: until then no cache is read. A layer is
//! fetched when a step gives it. What cannot be read is told once and counts as not known.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::build::configure::Failure;
use crate::build::execute::BuildSpec;
use crate::diag::{Diagnostic, harmless};
use crate::event::{Event, Progress, Sink, Subject};
use crate::image::cache::layout::{self, Layout};
use crate::image::cache::remote::{self, Remote};
use crate::image::cache::{Found, Records};
use crate::image::digest::Digest;
use crate::image::push;
use crate::image::reference::Reference;
use crate::image::registry::Client;
use crate::image::registry::settings::Settings;
use crate::image::steps::StepRecord;
use crate::image::store::Store;

/// A cache that steps are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// An OCI layout in this directory.
    Local(PathBuf),
    /// What a registry has under this name.
    Registry(Reference),
    /// The image of that name here, else what its registry has.
    Image(Reference),
}

/// Where a cache is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// An OCI layout in this directory.
    Local(PathBuf),
    /// A registry, under this name.
    Registry(Reference),
    /// The configuration of the image.
    Inline,
}

/// A cache that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where to.
    pub place: CachePlace,
    /// Steps of all stages (`mode=max`), and not only of those that the image is built upon.
    pub all_stages: bool,
    /// That it cannot be written is only a warning.
    pub ignore_error: bool,
}

/// Attributes as `type=local,dest=DIR`, in docker's form; a field in quotes may have commas.
struct Attributes<'a> {
    /// What the user wrote it as.
    key: &'static str,
    text: &'a str,
    all: Vec<(String, String)>,
}

impl<'a> Attributes<'a> {
    /// `None` is the short form, a name alone.
    fn parse(key: &'static str, text: &'a str) -> Result<Option<Self>, Diagnostic> {
        let (mut fields, mut quoted) = (vec![String::new()], false);
        for c in text.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
            }
        }
        if fields.iter().all(|field| !field.contains('=')) {
            return Ok(None);
        }
        let mut attributes = Self { key, text, all: Vec::new() };
        for field in fields {
            let pair = field.split_once('=').map(|(name, value)| (name.trim().to_lowercase(), value.to_owned()));
            match pair {
                Some(pair) => attributes.all.push(pair),
                None => return Err(attributes.wrong(&format!("`{field}` has no value"), "write NAME=VALUE")),
            }
        }
        Ok(Some(attributes))
    }

    fn wrong(&self, what: &str, help: &str) -> Diagnostic {
        Diagnostic::error(None, format!("{} `{}`: {what}", self.key, self.text)).help(help)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.all.iter().position(|(key, value)| key == name && !value.is_empty())?;
        Some(self.all.remove(at).1)
    }

    fn need(&mut self, name: &str, example: &str) -> Result<String, Diagnostic> {
        self.take(name).ok_or_else(|| self.wrong(&format!("`{name}` is missing"), &format!("write {example}")))
    }

    /// Takes a truth.
    fn is_on(&mut self, name: &str) -> Result<bool, Diagnostic> {
        match self.take(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(self.wrong(&format!("`{name}` is neither true nor false"), "leave it out")),
        }
    }

    /// Refuses what is left.
    fn end(&self, known: &str) -> Result<(), Diagnostic> {
        match self.all.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(self.wrong(&format!("`{name}` is not supported"), &format!("what can be said is: {known}")))
            }
        }
    }

    /// Refuses a kind of cache.
    fn other(&self, kind: &str, known: &str) -> Diagnostic {
        self.wrong(&format!("a cache of type `{kind}` is not supported"), &format!("the types are {known}"))
    }

    fn reference(&self, name: &str) -> Result<Reference, Diagnostic> {
        Reference::parse(name).map_err(|e| self.wrong(&e.to_string(), "write it as registry.example/app:cache"))
    }
}

impl CacheFrom {
    /// Reads `type=local,src=DIR`, `type=registry,ref=NAME`, or the name of an image. A relative directory is one below `base`.
    ///
    /// # Errors
    /// What cannot be understood, without a place.
    pub fn parse(key: &'static str, text: &str, base: &Path) -> Result<Self, Diagnostic> {
        let Some(mut all) = Attributes::parse(key, text)? else {
            let all = Attributes { key, text, all: Vec::new() };
            return all.reference(text).map(Self::Image);
        };
        let kind = all.need("type", "type=local,src=DIR or type=registry,ref=NAME")?;
        let (from, known) = match kind.as_str() {
            "local" => (Self::Local(base.join(all.need("src", "type=local,src=DIR")?)), "src"),
            "registry" => {
                let name = all.need("ref", "type=registry,ref=NAME")?;
                (Self::Registry(all.reference(&name)?), "ref")
            }
            other => return Err(all.other(other, "local and registry")),
        };
        all.end(known)?;
        Ok(from)
    }

    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Registry(reference) | Self::Image(reference) => reference.familiar(),
        }
    }
}

impl CacheTo {
    /// Reads `type=local,dest=DIR`, `type=registry,ref=NAME` or `type=inline`, with `mode=min|max` and `ignore-error=true`, or a
    /// name at a registry. A relative directory is one below `base`.
    ///
    /// # Errors
    /// What cannot be understood, without a place.
    pub fn parse(key: &'static str, text: &str, base: &Path) -> Result<Self, Diagnostic> {
        let Some(mut all) = Attributes::parse(key, text)? else {
            let all = Attributes { key, text, all: Vec::new() };
            let place = CachePlace::Registry(all.reference(text)?);
            return Ok(Self { place, all_stages: false, ignore_error: false });
        };
        let kind = all.need("type", "type=local,dest=DIR, type=registry,ref=NAME or type=inline")?;
        let (place, known) = match kind.as_str() {
            "local" => {
                let place = CachePlace::Local(base.join(all.need("dest", "type=local,dest=DIR")?));
                (place, "dest, mode and ignore-error")
            }
            "registry" => {
                let name = all.need("ref", "type=registry,ref=NAME")?;
                (CachePlace::Registry(all.reference(&name)?), "ref, mode and ignore-error")
            }
            "inline" => (CachePlace::Inline, "nothing besides"),
            other => return Err(all.other(other, "local, registry and inline")),
        };
        let (mut all_stages, mut ignore_error) = (false, false);
        if place != CachePlace::Inline {
            all_stages = match all.take("mode").as_deref() {
                None | Some("min") => false,
                Some("max") => true,
                Some(other) => return Err(all.wrong(&format!("`{other}` is no mode"), "write mode=min or mode=max")),
            };
            ignore_error = all.is_on("ignore-error")?;
            // This is how it is done anyway.
            for (name, ours) in [("oci-mediatypes", "true"), ("image-manifest", "true"), ("compression", "gzip")] {
                all.all.retain(|(key, value)| !(key == name && value == ours));
            }
        }
        all.end(known)?;
        Ok(Self { place, all_stages, ignore_error })
    }
}

/// Where the layers of a cache are.
enum Layers {
    /// In the store, all of them.
    Here,
    Local(Arc<Layout>),
    Remote(Remote),
}

/// A cache that was read.
struct Source {
    shown: String,
    records: Records,
    layers: Layers,
}

/// The caches of a build.
pub(super) struct Exchange<'a> {
    spec: &'a BuildSpec,
    store: &'a Store,
    events: &'a dyn Sink,
    client: OnceCell<Client>,
    sources: OnceCell<Vec<Source>>,
    /// Layers that could not be had.
    spoilt: RefCell<BTreeSet<Digest>>,
    /// Steps of this build: their stages, keys and what they gave.
    used: RefCell<Vec<(usize, Digest, StepRecord)>>,
    /// What is written or unpacked is not wanted any more.
    over: Arc<AtomicBool>,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(spec: &'a BuildSpec, store: &'a Store, events: &'a dyn Sink) -> Self {
        Self {
            spec,
            store,
            events,
            client: OnceCell::new(),
            sources: OnceCell::new(),
            spoilt: RefCell::default(),
            used: RefCell::default(),
            over: Arc::default(),
        }
    }

    /// Takes note of what a step gave.
    pub(super) fn note(&self, stage: usize, key: &Digest, record: &StepRecord) {
        self.used.borrow_mut().push((stage, key.clone(), record.clone()));
    }

    /// Returns what a step gave elsewhere, and what that is called; its layer is in the store then.
    pub(super) async fn find(&self, key: &Digest) -> Option<(StepRecord, String)> {
        if self.spec.cache_from.is_empty() {
            return None;
        }
        for source in self.sources.get_or_init(|| self.read()).await {
            let Some(record) = source.records.steps.get(key) else { continue };
            match &record.layer {
                Some(layer) if !self.has(source, layer).await => {}
                _ => return Some((record.clone(), source.shown.clone())),
            }
        }
        None
    }

    async fn client(&self) -> Result<&Client, String> {
        let make = async || {
            let settings = Settings::new(|name| std::env::var(name).ok()).map_err(|e| e.to_string())?;
            Ok(Client::new(settings))
        };
        self.client.get_or_try_init(make).await
    }

    /// Reads the records of all caches.
    async fn read(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for from in &self.spec.cache_from {
            let (shown, begun) = (from.shown(), Instant::now());
            let progress = |word, detail: Option<&str>| self.tell(&shown, Progress::Done(word), begun, detail);
            let found = match from {
                CacheFrom::Local(path) => layout::read(path).map(|found| found.map(|l| Layers::Local(Arc::new(l)))),
                CacheFrom::Registry(reference) => self.remote(reference).await,
                CacheFrom::Image(reference) => match remote::of_store(self.store, reference) {
                    Ok(Some(records)) => Ok(Found::Cache(records, Layers::Here)),
                    Ok(None) => self.remote(reference).await,
                    Err(why) => Err(why),
                },
            };
            match found {
                Ok(Found::Cache(records, layers)) => {
                    progress("Read", None);
                    sources.push(Source { shown, records, layers });
                }
                Ok(Found::Absent) => progress("Not found", None),
                Ok(Found::Other(what)) => progress("Skipped", Some(what)),
                Err(why) => {
                    self.events.send(Event::Warning(format!("the cache `{shown}` is not used: {}", harmless(&why))));
                }
            }
        }
        sources
    }

    async fn remote(&self, reference: &Reference) -> Result<Found<Layers>, String> {
        Ok(remote::read(self.client().await?, reference).await?.map(Layers::Remote))
    }

    /// Sees to it that a layer is in the store.
    async fn has(&self, source: &Source, layer: &Digest) -> bool {
        if self.store.layer(layer).is_ok_and(|found| found.is_some()) {
            return true;
        }
        if self.spoilt.borrow().contains(layer) {
            return false;
        }
        match self.unpack(source, layer).await {
            Ok(()) => true,
            Err(why) => {
                self.spoilt.borrow_mut().insert(layer.clone());
                let (shown, why) = (&source.shown, harmless(&why));
                self.events.send(Event::Warning(format!("a layer of the cache `{shown}` is not used: {why}")));
                false
            }
        }
    }

    async fn unpack(&self, source: &Source, layer: &Digest) -> Result<(), String> {
        let missing = || format!("its records name {layer}, which it does not have");
        let blob = source.records.layers.get(layer).ok_or_else(missing)?;
        match &source.layers {
            Layers::Here => Err("it is not in the store any more".to_owned()),
            Layers::Local(layout) => {
                let (layout, store) = (Arc::clone(layout), self.store.clone());
                let (layer, blob, over) = (layer.clone(), blob.clone(), Arc::clone(&self.over));
                let unpacked = tokio::task::spawn_blocking(move || layout.unpack(&store, &layer, &blob, over));
                unpacked.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            }
            Layers::Remote(remote) => {
                let unpacked = remote.unpack(self.client().await?, self.store, layer, blob, self.events);
                unpacked.await.map_err(|error| error.to_string())
            }
        }
    }

    /// Returns whether the image's configuration is to have the records.
    fn is_inline(&self) -> bool {
        let argument = self.spec.args.get("BUILDKIT_INLINE_CACHE").and_then(Option::as_deref);
        let asked = matches!(argument, Some("1" | "true"));
        asked || self.spec.cache_to.iter().any(|to| to.place == CachePlace::Inline)
    }

    /// Returns what steps gave, of these stages or of all.
    fn records(&self, stages: Option<&BTreeSet<usize>>) -> Records {
        let mut records = Records::default();
        for (stage, key, record) in &*self.used.borrow() {
            if stages.is_none_or(|stages| stages.contains(stage)) {
                records.steps.insert(key.clone(), record.clone());
            }
        }
        records
    }

    /// Puts the records of an image's steps into its configuration, if that is wished.
    pub(super) fn inline(&self, config: &mut Map<String, Value>, diff_ids: &[Digest], stages: &BTreeSet<usize>) {
        if self.is_inline() {
            let mut records = self.records(Some(stages));
            records.steps.retain(|_, record| record.layer.as_ref().is_none_or(|layer| diff_ids.contains(layer)));
            records.inline(config);
        }
    }

    /// Writes the caches that are wished for; `stages` are those that the image is built upon.
    ///
    /// # Errors
    /// When one cannot be written, unless that is to be ignored.
    pub(super) async fn export(&self, stages: &BTreeSet<usize>) -> Result<(), Failure> {
        for to in &self.spec.cache_to {
            let records = self.records(Some(stages).filter(|_| !to.all_stages));
            let (shown, begun) = match &to.place {
                CachePlace::Inline => continue,
                CachePlace::Local(path) => (path.display().to_string(), Instant::now()),
                CachePlace::Registry(reference) => (reference.familiar(), Instant::now()),
            };
            self.tell(&shown, Progress::Working("Exporting"), begun, None);
            match self.write(&to.place, records).await {
                Ok(warnings) => {
                    warnings.into_iter().for_each(|warning| self.events.send(Event::Warning(warning)));
                    self.tell(&shown, Progress::Done("Exported"), begun, None);
                }
                Err(failure) if to.ignore_error => {
                    self.tell(&shown, Progress::Done("Warning"), begun, None);
                    self.events.send(Event::Warning(format!("{shown} has no cache now: {}", failure.message)));
                }
                Err(failure) => {
                    self.tell(&shown, Progress::Failed, begun, None);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, place: &CachePlace, records: Records) -> Result<Vec<String>, Failure> {
        let written = match place {
            CachePlace::Inline => Ok(Vec::new()),
            CachePlace::Local(path) => {
                let (path, store, over) = (path.clone(), self.store.clone(), Arc::clone(&self.over));
                let written = tokio::task::spawn_blocking(move || layout::write(&store, &path, records, &over));
                written.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            }
            CachePlace::Registry(reference) => {
                let client = self.client().await.map_err(|why| Box::new(Diagnostic::error(None, why)))?;
                push::push_cache(client, self.store, reference, records, self.events).await
            }
        };
        written.map_err(|error| Box::new(Diagnostic::from_error(&error)))
    }

    fn tell(&self, shown: &str, progress: Progress, begun: Instant, detail: Option<&str>) {
        let subject = Subject::Step(format!("{} [cache] {shown}", self.spec.title));
        let detail = detail.map(str::to_owned);
        self.events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_docker_writes_them() {
        let from = |text: &str| CacheFrom::parse("cache_from", text, Path::new("/base"));
        let to = |text: &str| CacheTo::parse("cache_to", text, Path::new("/base"));
        let name = |text: &str| Reference::parse(text).expect("valid");
        let written = |place, all_stages, ignore_error| Ok(CacheTo { place, all_stages, ignore_error });
        assert_eq!(from("app:cache"), Ok(CacheFrom::Image(name("app:cache"))));
        assert_eq!(from("type=registry,ref=r.example/app:1"), Ok(CacheFrom::Registry(name("r.example/app:1"))));
        assert_eq!(from("type=local,src=c"), Ok(CacheFrom::Local("/base/c".into())));
        assert_eq!(from("type=local,\"src=/a,b\""), Ok(CacheFrom::Local("/a,b".into())));
        assert_eq!(to("type=local,dest=/c,mode=max"), written(CachePlace::Local("/c".into()), true, false));
        let at = CachePlace::Registry(name("r.example/a"));
        assert_eq!(to("r.example/a"), written(at.clone(), false, false));
        let text = "type=registry,ref=r.example/a,ignore-error=true,mode=min,oci-mediatypes=true,compression=gzip";
        assert_eq!(to(text), written(at, false, true));
        assert_eq!(to("type=inline"), written(CachePlace::Inline, false, false));
        let mut told = String::new();
        for error in [
            from("type=gha,scope=x").expect_err("refused"),
            from("src=x").expect_err("refused"),
            from("type=local,dest=x").expect_err("refused"),
            from("UPPER CASE").expect_err("refused"),
            from("type=local,src=x,tag=1").expect_err("refused"),
            from("type=local,src").expect_err("refused"),
            to("type=s3,region=eu,bucket=b").expect_err("refused"),
            to("type=local,dest=x,mode=most").expect_err("refused"),
            to("type=registry,ref=a,compression=zstd").expect_err("refused"),
            to("type=local,dest=x,ignore-error=perhaps").expect_err("refused"),
            to("type=inline,mode=max").expect_err("refused"),
        ] {
            told.push_str(&format!("{}\n  {}\n", error.message, error.help.unwrap_or_default()));
        }
        insta::assert_snapshot!(told, @r"
        cache_from `type=gha,scope=x`: a cache of type `gha` is not supported
          the types are local and registry
        cache_from `src=x`: `type` is missing
          write type=local,src=DIR or type=registry,ref=NAME
        cache_from `type=local,dest=x`: `src` is missing
          write type=local,src=DIR
        cache_from `UPPER CASE`: `UPPER CASE` is not a valid image reference: the repository name must be lowercase
          write it as registry.example/app:cache
        cache_from `type=local,src=x,tag=1`: `tag` is not supported
          what can be said is: src
        cache_from `type=local,src`: `src` has no value
          write NAME=VALUE
        cache_to `type=s3,region=eu,bucket=b`: a cache of type `s3` is not supported
          the types are local, registry and inline
        cache_to `type=local,dest=x,mode=most`: `most` is no mode
          write mode=min or mode=max
        cache_to `type=registry,ref=a,compression=zstd`: `compression` is not supported
          what can be said is: ref, mode and ignore-error
        cache_to `type=local,dest=x,ignore-error=perhaps`: `ignore-error` is neither true nor false
          leave it out
        cache_to `type=inline,mode=max`: `mode` is not supported
          what can be said is: nothing besides
        ");
    }
}
