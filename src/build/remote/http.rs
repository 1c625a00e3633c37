//! A file by its URL.

use std::fs::{File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use super::{Access, Failed, Fetched, FetchedFile, Fetcher, of_store, shown};
use crate::image;
use crate::image::registry::Client;
use crate::image::registry::settings::Settings;
use crate::image::store::Store;

/// What a file is called that nobody gave a name.
const UNNAMED: &str = "unnamed";

impl Fetcher {
    /// Fetches a file; its mode is 0600, and its time what the server says, else the epoch, as with BuildKit.
    pub(super) async fn file(&self, url: &str, access: Access<'_>, store: &Store) -> Result<Fetched, Failed> {
        let settings = Settings::new(&self.environment).map_err(|e| of_store(&image::Error::from(e)))?;
        let dir = self.directory(store)?;
        let unwritten = |e: io::Error| Failed { message: format!("cannot write `{}`: {e}", shown(url)), help: None };
        let path = dir.join(UNNAMED);
        let mut file = File::create_new(&path).map_err(unwritten)?;
        let authorization = authorization(url, access)?;
        let came = Client::new(settings).download(url, authorization.as_deref(), &mut file).await?;
        let seconds = Duration::from_secs(came.modified.unwrap_or_default().unsigned_abs());
        let since = SystemTime::UNIX_EPOCH;
        let modified = if came.modified.is_some_and(|at| at < 0) { since - seconds } else { since + seconds };
        file.set_permissions(Permissions::from_mode(0o600)).map_err(unwritten)?;
        file.set_times(FileTimes::new().set_modified(modified)).map_err(unwritten)?;
        let is_named = came.name.is_some();
        let name = came.name.unwrap_or_else(|| UNNAMED.to_owned());
        std::fs::rename(&path, dir.join(&name)).map_err(unwritten)?;
        Ok(Fetched { dir, file: Some(FetchedFile { name, is_named, digest: came.digest }) })
    }
}

/// Returns what a secret of the build says for the host of a URL: `HTTP_AUTH_HEADER_<host>` or `HTTP_AUTH_TOKEN_<host>`, as
/// with BuildKit.
fn authorization(url: &str, access: Access<'_>) -> Result<Option<String>, Failed> {
    let url = shown(url);
    let host = url.split('/').nth(2).unwrap_or_default();
    // Without the port.
    let host =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(h, _)| h);
    if let Some(header) = access.secret(&format!("HTTP_AUTH_HEADER_{host}"))? {
        return Ok(Some(header));
    }
    Ok(access.secret(&format!("HTTP_AUTH_TOKEN_{host}"))?.map(|token| format!("Bearer {token}")))
}
