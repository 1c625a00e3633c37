//! One file by its URL, from any server: what `ADD` and a remote build context need. It comes over the client that registries are
//! asked with, so proxies, certificates and patience are the same; it is no registry's business, so credentials are those of the
//! URL alone, or given for its host.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};

use super::credentials::encode;
use super::error::{ConnectError, Error};
use super::http::{Answer, Question};
use super::payload::Payload;
use super::settings::percent_decoded;
use super::url::Url;
use super::{ATTEMPTS, Client, ERROR_MAX, REDIRECTS, pause};
use crate::diag::{Diagnostic, Explain as _};
use crate::image::digest::{Digest, HashingWriter};

/// Longest URL, in bytes: more than servers take.
const URL_MAX: usize = 8 << 10;

/// What came, besides the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Downloaded {
    pub(crate) digest: Digest,
    /// The name that the server gives it, else the last part of the URL's path; `None` where that is empty.
    pub(crate) name: Option<String>,
    /// When it was changed last, in seconds since the epoch, if the server says so.
    pub(crate) modified: Option<i64>,
}

/// Why a file could not be had, in a sentence, and what to do.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

fn failed(message: String, help: impl Into<Option<&'static str>>) -> Failed {
    Failed { message, help: help.into().map(str::to_owned) }
}

/// What went wrong with one attempt.
enum Trouble {
    /// Between us and the server.
    Wire(Error),
    /// It is what it is.
    Final(Failed),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Wire(error)
    }
}

/// Returns a URL as it may be shown: without credentials, and without what follows its path, which may be a signature.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Takes the credentials out of a URL, as a header; the rest is made fit for a request (RFC 3986, section 2.1).
fn read_url(text: &str) -> Option<(Url, Option<String>)> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0..=0x20 | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    let url = Url::parse(&format!("{scheme}://{host}{encoded}")).filter(|url| url.path.len() <= URL_MAX)?;
    Some((url, user.map(|user| format!("Basic {}", encode(&percent_decoded(user))))))
}

impl Client {
    /// Fetches a file into `file`, which is written from its beginning. What passes by itself is tried again.
    ///
    /// # Errors
    /// What is no URL of http or https; a server that cannot be reached, says no, sends less than it promises, or nothing for
    /// too long; a file that cannot be written.
    pub(crate) async fn download(
        &self,
        url: &str,
        authorization: Option<&str>,
        file: &mut File,
    ) -> Result<Downloaded, Failed> {
        let what = format!("`{}`", shown(url));
        let Some((first, own)) = read_url(url) else {
            return Err(failed(
                format!("{what} is no URL of a file"),
                "write it as http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH",
            ));
        };
        let authorization = authorization.map(str::to_owned).or(own);
        let mut failures = 0;
        loop {
            let trouble = match self.once(&first, authorization.as_deref(), &what, file).await {
                Ok(downloaded) => return Ok(downloaded),
                Err(trouble) => trouble,
            };
            let error = match trouble {
                Trouble::Final(failed) => return Err(failed),
                Trouble::Wire(error) => error,
            };
            failures += 1;
            match error.transient() {
                Some(wait) if failures < ATTEMPTS => pause(failures, wait).await,
                _ => return Err(in_words(&error, &what)),
            }
        }
    }

    async fn once(
        &self,
        first: &Url,
        authorization: Option<&str>,
        what: &str,
        file: &mut File,
    ) -> Result<Downloaded, Trouble> {
        let mut answer = self.get(first, authorization, what).await?;
        if let Some(encoding) = answer.header("content-encoding").filter(|e| !e.eq_ignore_ascii_case("identity")) {
            let message = format!("{what} comes with a `Content-Encoding` of {encoding}, which was not asked for");
            return Err(Trouble::Final(failed(message, "fetch it with a RUN, and a program that takes that")));
        }
        let name = answer.header("content-disposition").and_then(name_of).or_else(|| name_in(&first.path));
        let modified = answer.header("last-modified").and_then(http_date);
        let unwritten = |e: io::Error| Trouble::Final(failed(format!("cannot write {what}: {e}"), None));
        file.rewind().and_then(|()| file.set_len(0)).map_err(unwritten)?;
        let mut out = HashingWriter::new(&mut *file);
        while let Some(piece) = answer.next().await? {
            out.write_all(&piece).map_err(unwritten)?;
        }
        let (digest, _) = out.finish();
        Ok(Downloaded { digest, name, modified })
    }

    /// Asks, follows redirects, and turns an answer that is no success into its error.
    async fn get(&self, first: &Url, authorization: Option<&str>, what: &str) -> Result<Answer<'_>, Trouble> {
        let mut at = first.clone();
        for _ in 0..=REDIRECTS {
            let home = at.origin == first.origin;
            let headers = authorization.filter(|_| home).map(|a| ("authorization", a.to_owned())).into_iter().collect();
            let question = Question { method: "GET", url: &at, headers, payload: Payload::Nothing, what };
            let mut answer = self.http.ask(&question).await?;
            let host = at.origin.authority();
            match answer.status {
                200 => return Ok(answer),
                301..=303 | 307 | 308 => {}
                status => {
                    let retry_after = answer.header("retry-after").and_then(|v| v.trim().parse().ok());
                    let retry_after = retry_after.map(std::time::Duration::from_secs);
                    answer.read_some(ERROR_MAX).await;
                    let (what, message) = (what.to_owned(), String::new());
                    return Err(Error::Status { host, what, status, message, retry_after }.into());
                }
            }
            let refuse = |how| Error::Redirect { host: host.clone(), what: what.to_owned(), how };
            let target = answer.header("location").and_then(|location| at.join(location));
            let target = target.ok_or_else(|| refuse("to no place that can be read"))?;
            if at.origin.https && !target.origin.https {
                return Err(refuse("from https to http, where anybody could change it").into());
            }
            answer.read_some(ERROR_MAX).await;
            at = target;
        }
        Err(Error::Redirect { host: at.origin.authority(), what: what.to_owned(), how: "again and again" }.into())
    }
}

/// Says of a file what its error says of a registry.
fn in_words(error: &Error, what: &str) -> Failed {
    let message = match error {
        Error::NotARegistry { host, got } => format!("{host} answers with {got} to the request for {what}"),
        _ => Diagnostic::from_error(error).message,
    };
    let help = match error {
        Error::NotARegistry { .. } => Some("check host and port"),
        Error::Status { status: 401 | 403, .. } => Some("it wants credentials, or is for nobody"),
        Error::Status { status: 404 | 410, .. } => Some("check the URL: the server has nothing there"),
        Error::Status { status: 500..=599, .. } => Some("the server has a problem of its own; try again later"),
        Error::Redirect { .. } => Some("write the URL that it leads to, if you trust it"),
        Error::Unreachable { source, .. } => match source {
            ConnectError::NoName(_) => Some("check the host in the URL, and /etc/resolv.conf"),
            ConnectError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Some("nothing listens there: check host and port")
            }
            ConnectError::NotTls => Some("write http:// if that is meant"),
            ConnectError::Certificate { unknown_issuer: false, .. } => {
                Some("check the host in the URL and this machine's clock")
            }
            _ => None,
        },
        _ => None,
    };
    Failed { message, help: help.map(str::to_owned).or_else(|| error.help()) }
}

/// Returns the last part of a name, if one can bear it.
fn base(name: &str) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_name = !matches!(last, "" | "." | "..") && last.len() <= 255 && !last.contains('\0');
    is_name.then(|| last.to_owned())
}

/// Returns the last part of a URL's path, decoded.
fn name_in(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or(path).trim_end_matches('/');
    base(&String::from_utf8(percent_decoded(path)).ok()?)
}

/// Returns the file name of a `Content-Disposition` (RFC 6266, section 4.1): what is written plainly, else what is encoded.
fn name_of(header: &str) -> Option<String> {
    let (mut plain, mut encoded, mut rest) = (None, None, header);
    while let Some(at) = rest.find(';') {
        let (name, value) = rest[at + 1..].trim_start().split_once('=')?;
        let (value, after) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let (mut text, mut chars) = (String::new(), quoted.char_indices());
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at + 1,
                        (_, '\\') => text.push(chars.next()?.1),
                        (_, c) => text.push(c),
                    }
                };
                (text, &quoted[end..])
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            "filename*" => {
                let text = value.to_ascii_lowercase().starts_with("utf-8''").then(|| percent_decoded(&value[7..]));
                encoded = text.and_then(|text| String::from_utf8(text).ok());
            }
            _ => {}
        }
        rest = after;
    }
    base(&plain.or(encoded)?)
}

/// Reads a time as `Last-Modified` has it (RFC 9110, section 5.6.7): the one form that is sent, in seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let [day, month, year, time, "GMT"] = text.split_once(", ")?.1.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = i8::try_from(MONTHS.iter().position(|name| *name == month)? + 1).ok()?;
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let date = jiff::civil::Date::new(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    // A leap second is the one before.
    let time = jiff::civil::Time::new(hour.parse().ok()?, minute.parse().ok()?, second.parse::<i8>().ok()?.min(59), 0);
    let moment = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(time.ok()?)).ok()?;
    Some(moment.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_server_or_the_url() {
        for (header, wanted) in [
            ("attachment; filename=a.tar", Some("a.tar")),
            ("attachment; filename=\"a b;c.tar\"; size=3", Some("a b;c.tar")),
            ("attachment; x=\"y\\\"\"; filename=\"../../etc/p\"", Some("p")),
            ("attachment; filename*=UTF-8''na%C3%AFve.txt", Some("naïve.txt")),
            ("inline; filename=\"..\"", None),
            ("inline; filename=\"d/\"", None),
            ("inline; filename=\"open", None),
            ("inline", None),
        ] {
            assert_eq!(name_of(header).as_deref(), wanted, "{header}");
        }
        for (path, wanted) in [
            ("/a/b.tar.gz?x=/y", Some("b.tar.gz")),
            ("/a/b%20c", Some("b c")),
            ("/a/b%2Fc", Some("c")),
            ("/a/", Some("a")),
            ("/%2e%2e", None),
            ("/", None),
        ] {
            assert_eq!(name_in(path).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn times_are_read_in_the_one_form() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for other in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "x", ""] {
            assert_eq!(http_date(other), None, "{other}");
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let (url, authorization) = read_url("https://me:p%40ss@h.example:8443/a b/ü?q=\"x\"#f").expect("a URL");
        assert_eq!(url.origin.authority(), "h.example:8443");
        assert_eq!(url.path, "/a%20b/%C3%BC?q=%22x%22");
        assert_eq!(authorization.as_deref(), Some(&*format!("Basic {}", encode(b"me:p@ss"))));
        assert_eq!(shown("https://me:p@h.example/a?sig=1#f"), "https://h.example/a");
        assert_eq!(shown("git@h.example:a"), "h.example:a");
        for wrong in ["ftp://h/x", "http://", "http://h:x/", "/a"] {
            assert!(read_url(wrong).is_none(), "{wrong}");
        }
    }
}
