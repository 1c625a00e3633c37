//! A build context that is an archive: unpacked as a layer is, safe from whatever names and links are in it. What would be
//! a whiteout in a layer is a file like any other.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Failed, Fetched, FetchedFile, Fetcher, of_store};
use crate::build::trees::{Input, Tree};
use crate::image::digest::HashingWriter;
use crate::image::load;
use crate::image::store::Store;
use crate::image::unpack::Limits;

/// What a file is called that has come in.
const NAME: &str = "input";
/// What a Dockerfile is called that is a context by itself.
const TEXT: &str = "context";

impl Fetcher {
    /// Writes what comes in to a file. Nobody waits for its reader when the build is given up.
    pub(super) async fn taken(&self, input: &Input, store: &Store) -> Result<Fetched, Failed> {
        let failed = |why: String| Failed { message: format!("cannot read the build context: {why}"), help: None };
        let mut source = input.take().ok_or_else(|| failed("it has been read before".into()))?;
        let dir = self.directory(store)?;
        let file = File::create_new(dir.join(NAME)).map_err(|e| failed(e.to_string()))?;
        let (tell, told) = oneshot::channel();
        let copy = move || {
            let mut out = HashingWriter::new(file);
            let copied = io::copy(&mut source, &mut out).map(|_| out.finish().0);
            drop(tell.send(copied)); // who has given up does not listen
        };
        std::thread::Builder::new().name("input".into()).spawn(copy).map_err(|e| failed(e.to_string()))?;
        let digest = told.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        Ok(Fetched { dir, file: Some(FetchedFile { name: NAME.into(), is_named: false, digest }) })
    }

    /// Unpacks what was fetched, if it is an archive.
    pub(super) fn unfolded(&self, fetched: Arc<Fetched>, tree: &Tree, store: &Store) -> Result<Arc<Fetched>, Failed> {
        let Some(file) = &fetched.file else { return Ok(fetched) };
        let failed = |why: String| Failed { message: format!("cannot unpack {tree}: {why}"), help: None };
        let unreadable = |e: io::Error| failed(e.to_string());
        let mut packed = File::open(fetched.dir.join(&file.name)).map_err(unreadable)?;
        let size = packed.metadata().map_err(unreadable)?.len();
        let mut head = Vec::new();
        (&mut packed).take(512).read_to_end(&mut head).map_err(unreadable)?;
        packed.rewind().map_err(unreadable)?;
        let Some(tar) = load::archive(packed, size).map_err(failed)? else {
            if load::is_archive(&head) {
                return Err(failed("it is compressed, and no archive, or is cut short".into()));
            }
            // The one file of its context has BuildKit's name.
            let dir = self.directory(store)?;
            std::fs::hard_link(fetched.dir.join(&file.name), dir.join(TEXT)).map_err(unreadable)?;
            let file = FetchedFile { name: TEXT.into(), is_named: true, digest: file.digest.clone() };
            return Ok(Arc::new(Fetched { dir, file: Some(file) }));
        };
        let dir = self.directory(store)?;
        let limits = Limits { has_whiteouts: false, ..Limits::default() };
        let unpacked = load::unpack_stream_within(tar, "context", size, &dir, limits, None).map_err(|e| {
            let Failed { message, help } = of_store(&e);
            Failed { help, ..failed(message) }
        })?;
        if let Some((name, target)) = unpacked.0.lower_links.first_key_value() {
            return Err(failed(format!("`{name}` is a hard link to `{target}`, which is not in it")));
        }
        Ok(Arc::new(Fetched { dir, file: None }))
    }
}
