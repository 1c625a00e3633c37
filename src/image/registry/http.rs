//! One HTTP request over a connection of our own: plain or TLS, straight or through a proxy, kept for the next one.
//!
//! The only file that names the TLS crates, and beside `payload` the HTTP crates. Knows nothing of registries, redirects and credentials.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::error::{ConnectError, Error, clean};
use super::names;
use super::payload::{Outgoing, Payload};
use super::settings::{Proxy, Settings};
use super::url::{Origin, Url, bracketed};

/// How long a connection may take to come about, with each address.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest head of a proxy's answer.
const PROXY_HEAD_MAX: usize = 8 << 10;
/// Docker's folder of certificates, by registry.
const CERTS_D: &str = "/etc/docker/certs.d";

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

type Sender = SendRequest<Outgoing>;

/// What is asked.
pub(super) struct Question<'a> {
    /// `GET`, `HEAD`, `POST` or `PUT`.
    pub(super) method: &'static str,
    pub(super) url: &'a Url,
    pub(super) headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub(super) payload: Payload,
    /// What it is for, in words, for errors.
    pub(super) what: &'a str,
}

/// The client: its idle connections and whom it trusts.
pub(super) struct Http {
    stall: Duration,
    settings: Settings,
    idle: RefCell<HashMap<Origin, Vec<Sender>>>,
    tls: OnceCell<Arc<ClientConfig>>,
}

/// An answer whose body is still to be read.
pub(super) struct Answer<'h> {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Incoming,
    host: String,
    what: String,
    verb: &'static str,
    /// Goes back when the body has been read.
    connection: Option<(Origin, Sender)>,
    http: &'h Http,
}

impl Http {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { stall: settings.stall, settings: settings.clone(), idle: RefCell::default(), tls: OnceCell::new() }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer<'_>, Error> {
        let origin = &question.url.origin;
        loop {
            let idle = self.idle.borrow_mut().get_mut(origin).and_then(Vec::pop);
            let reused = idle.is_some();
            let mut sender = match idle {
                Some(sender) => sender,
                None => self
                    .connect(origin)
                    .await
                    .map_err(|source| Error::Unreachable { registry: origin.authority(), source })?,
            };
            let ended = {
                let mut sent = std::pin::pin!(async {
                    sender.ready().await?;
                    sender.send_request(self.request(question)).await
                });
                let mut gone = question.payload.sent();
                loop {
                    let ended = timeout(self.stall, &mut sent).await;
                    // As long as something is taken, nothing stalls.
                    let before = std::mem::replace(&mut gone, question.payload.sent());
                    if ended.is_ok() || gone == before {
                        break ended;
                    }
                }
            };
            let broken = match ended {
                Ok(Ok(response)) => {
                    let (head, body) = response.into_parts();
                    return Ok(Answer {
                        status: head.status.as_u16(),
                        headers: head.headers,
                        body,
                        host: origin.authority(),
                        what: question.what.to_owned(),
                        verb: question.payload.verb(),
                        connection: Some((origin.clone(), sender)),
                        http: self,
                    });
                }
                // The other end had closed it while it was idle; nothing we ask does harm the second time, so ask again. Of a
                // file it may have got a part, which is then no upload to go on with.
                Ok(Err(_)) if reused && question.payload.sent() == 0 => continue,
                Ok(Err(error)) => error,
                Err(_) => return Err(self.stalled(origin, question)),
            };
            return Err(if broken.is_parse() {
                Error::NotARegistry { host: origin.authority(), got: "something that is not HTTP".into() }
            } else {
                let (what, verb) = (question.what.to_owned(), question.payload.verb());
                Error::Broken { host: origin.authority(), what, verb, source: cause(broken) }
            });
        }
    }

    fn stalled(&self, origin: &Origin, question: &Question<'_>) -> Error {
        let (what, verb) = (question.what.to_owned(), question.payload.verb());
        Error::Stalled { host: origin.authority(), what, verb, after: self.stall }
    }

    fn proxy(&self, origin: &Origin) -> Option<&Proxy> {
        self.settings.proxies.of(origin.https, &origin.host, origin.port)
    }

    fn request(&self, question: &Question<'_>) -> hyper::Request<Outgoing> {
        let Url { origin, path } = question.url;
        let mut request = hyper::Request::new(question.payload.body());
        *request.method_mut() = match question.method {
            "HEAD" => hyper::Method::HEAD,
            "POST" => hyper::Method::POST,
            "PUT" => hyper::Method::PUT,
            _ => hyper::Method::GET,
        };
        // A proxy for plain http is told the whole URL (RFC 9112, section 3.2.2).
        let proxy = self.proxy(origin).filter(|_| !origin.https);
        let target = if proxy.is_some() { format!("http://{}{path}", origin.authority()) } else { path.clone() };
        *request.uri_mut() = target.parse().unwrap_or_else(|_| hyper::Uri::from_static("/"));
        let headers = request.headers_mut();
        let mut set = |name: header::HeaderName, value: &str| {
            // A header that cannot be written is one that its maker did not check; it is left out.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(name, value);
            }
        };
        set(header::HOST, &origin.authority());
        set(header::USER_AGENT, concat!("hoist/", env!("CARGO_PKG_VERSION")));
        set(header::ACCEPT_ENCODING, "identity");
        if let Some(kind) = question.payload.kind() {
            set(header::CONTENT_TYPE, kind);
        }
        if let Some(authorization) = proxy.and_then(|p| p.authorization.as_ref()) {
            set(header::PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in &question.headers {
            set(header::HeaderName::from_static(name), value);
        }
        request
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, ConnectError> {
        let proxy = self.proxy(origin);
        let tcp = match proxy {
            Some(proxy) => tcp(&proxy.host, proxy.port).await.map_err(|e| ConnectError::Proxy {
                proxy: format!("{}:{}", bracketed(&proxy.host), proxy.port),
                reason: format!("cannot be reached: {e}"),
            })?,
            None => tcp(&origin.host, origin.port).await?,
        };
        let wire: Box<dyn Wire> = if origin.https {
            let tcp = match proxy {
                Some(proxy) => self.tunnel(tcp, proxy, origin).await?,
                None => tcp,
            };
            Box::new(self.secure(tcp, origin).await?)
        } else {
            Box::new(tcp)
        };
        let (sender, connection) =
            handshake(TokioIo::new(wire)).await.map_err(|e| ConnectError::Tls(cause(e).to_string()))?;
        // It ends with the sender; what breaks it is told to whoever waits for the answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a registry ends");
            }
        });
        Ok(sender)
    }

    /// Asks a proxy for a way to the other end (RFC 9110, section 9.3.6).
    async fn tunnel(&self, mut tcp: TcpStream, proxy: &Proxy, origin: &Origin) -> Result<TcpStream, ConnectError> {
        let target = format!("{}:{}", bracketed(&origin.host), origin.port);
        let authorization =
            proxy.authorization.as_ref().map_or_else(String::new, |a| format!("Proxy-Authorization: {a}\r\n"));
        let refuse = |reason: String| ConnectError::Proxy {
            proxy: format!("{}:{}", bracketed(&proxy.host), proxy.port),
            reason,
        };
        let talk = async {
            tcp.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").as_bytes())
                .await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.len() < PROXY_HEAD_MAX {
                head.push(tcp.read_u8().await?);
            }
            io::Result::Ok(head)
        };
        let head = match timeout(self.stall, talk).await {
            Ok(Ok(head)) => head,
            Ok(Err(e)) => return Err(refuse(format!("breaks the connection: {e}"))),
            Err(_) => return Err(refuse(format!("sends nothing for {} s", self.stall.as_secs()))),
        };
        let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        match first.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(tcp),
            _ => Err(refuse(format!("refuses to connect to {target}: {}", clean(&first)))),
        }
    }

    async fn secure(
        &self,
        tcp: TcpStream,
        origin: &Origin,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
        let config = self.trust(origin)?;
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| ConnectError::Tls(format!("`{}` is no name that a certificate can be for", origin.host)))?;
        match timeout(CONNECT, TlsConnector::from(config).connect(name, tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(tls_error(&error)),
            Err(_) => Err(ConnectError::Timeout { host: origin.authority(), after: CONNECT }),
        }
    }

    /// Returns whom we trust: this host's authorities, and for one registry those that Docker would trust too.
    fn trust(&self, origin: &Origin) -> Result<Arc<ClientConfig>, ConnectError> {
        let folder = Path::new(CERTS_D);
        let named = [folder.join(origin.authority()), folder.join(format!("{}:{}", origin.host, origin.port))];
        let own: Vec<CertificateDer<'static>> = named.iter().flat_map(|dir| certificates(dir)).collect();
        if own.is_empty()
            && let Some(config) = self.tls.get()
        {
            return Ok(Arc::clone(config));
        }
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "certificates of this host"); // those that can be read may suffice
        }
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(native.certs.into_iter().chain(own.iter().cloned()));
        if added == 0 {
            return Err(ConnectError::NoRoots);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| ConnectError::Tls(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        Ok(if own.is_empty() { Arc::clone(self.tls.get_or_init(|| config)) } else { config })
    }
}

/// Reads the `*.crt` files of a folder; one that cannot be read trusts nobody.
fn certificates(dir: &Path) -> Vec<CertificateDer<'static>> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.flatten().map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "crt"));
    files.filter_map(|path| CertificateDer::pem_file_iter(path).ok()).flatten().flatten().collect()
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut failure = None;
    for ip in names::addresses(host).await? {
        let address = (ip, port).into();
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection stays as it is"); // it is only slower
                }
                return Ok(stream);
            }
            // What the first address says is more to the point than what the last does.
            Ok(Err(source)) => {
                failure.get_or_insert(ConnectError::Io { address, source });
            }
            Err(_) => {
                let host = format!("{}:{port}", bracketed(host));
                failure.get_or_insert(ConnectError::Timeout { host, after: CONNECT });
            }
        }
    }
    Err(failure.unwrap_or_else(|| ConnectError::NoName(host.to_owned())))
}

fn tls_error(error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls,
        Some(rustls::Error::InvalidCertificate(why)) => ConnectError::Certificate {
            reason: match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "nobody whom this host trusts has signed it".into()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "it is for another host".into()
                }
                other => clean(&other.to_string()),
            },
            unknown_issuer: matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature),
        },
        // A server that expects plain http may close at what it cannot read.
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            ConnectError::NotTls
        }
        _ => ConnectError::Tls(clean(&error.to_string())),
    }
}

/// Returns the innermost cause, which says what happened.
fn cause(error: hyper::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut text = error.to_string();
    let mut inner = std::error::Error::source(&error);
    while let Some(next) = inner {
        text = next.to_string();
        inner = next.source();
    }
    text.into()
}

impl Answer<'_> {
    /// Returns a header's first value, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns all values of a header that are text.
    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the next piece of the body; `None` is its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = match timeout(self.http.stall, self.body.frame()).await {
                Ok(None) => {
                    if let Some((origin, sender)) = self.connection.take().filter(|(_, sender)| !sender.is_closed()) {
                        self.http.idle.borrow_mut().entry(origin).or_default().push(sender);
                    }
                    return Ok(None);
                }
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let (host, what, verb) = (self.host.clone(), self.what.clone(), self.verb);
                    return Err(Error::Broken { host, what, verb, source: cause(error) });
                }
                Err(_) => {
                    let (host, what, verb) = (self.host.clone(), self.what.clone(), self.verb);
                    return Err(Error::Stalled { host, what, verb, after: self.http.stall });
                }
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads the whole body, at most so many bytes.
    pub(super) async fn read(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if bytes.len() as u64 + piece.len() as u64 > limit {
                return Err(Error::TooLarge { host: self.host.clone(), what: self.what.clone(), limit });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Reads what a body that is only of interest to people says, at most so many bytes of it.
    pub(super) async fn read_some(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Some(piece)) = self.next().await {
            bytes.extend_from_slice(&piece);
            if bytes.len() >= limit {
                bytes.truncate(limit);
                break;
            }
        }
        bytes
    }
}
