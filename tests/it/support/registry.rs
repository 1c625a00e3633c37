//! Registries for tests: Debian's `docker-registry`, and one of our own that misbehaves on demand.
//!
//! Both listen on the loopback device of the test's own host. The second one serves blobs from memory behind a token
//! server, counts what it is asked, and breaks off, lies or refuses as a [`Fault`] says.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{Secs as _, eventually, images};

/// Media type of the manifests that are made here.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Returns `sha256:` and the digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Compresses as most layers are.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Makes a layer that holds one file.
pub(crate) fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, name, content).expect("memory");
    builder.into_inner().expect("memory")
}

/// Returns bytes that no compression makes smaller.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image as a registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    /// Compressed or not.
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) media_type: &'static str,
}

impl Image {
    /// Makes an image of these layer tars, for one architecture, compressed.
    pub(crate) fn new(architecture: &str, layers: &[Vec<u8>]) -> Self {
        Self::of(architecture, layers, layers.iter().map(|tar| gzip(tar)).collect())
    }

    /// Makes an image whose layers were compressed by the test.
    pub(crate) fn of(architecture: &str, layers: &[Vec<u8>], blobs: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|tar| digest(tar)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self::with(config.to_string().into_bytes(), blobs)
    }

    /// Makes an image of a configuration and blobs.
    pub(crate) fn with(config: Vec<u8>, blobs: Vec<Vec<u8>>) -> Self {
        let descriptors: Vec<_> = blobs
            .iter()
            .map(|blob| {
                serde_json::json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": blob.len(), "digest": digest(blob),
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": digest(&config)},
        });
        Self { config, blobs, manifest: manifest.to_string().into_bytes(), media_type: MANIFEST }
    }

    /// Reads an image out of the archive that `./dev images` made, its layers compressed.
    pub(crate) fn of_archive(name: &str) -> Self {
        let mut archive = tar::Archive::new(fs::File::open(images::archive(name)).expect("an archive"));
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("read");
            files.insert(name, bytes);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
        let text = |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
        let config = files[&text(&manifest[0]["Config"])].clone();
        let layers = manifest[0]["Layers"].as_array().expect("a list");
        Self::with(config, layers.iter().map(|name| gzip(&files[&text(name)])).collect())
    }
}

/// Debian's registry, plain, on a loopback port of the test's host. It ends with this value.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) address: SocketAddr,
    _storage: TempDir,
}

impl DockerRegistry {
    /// Starts it with an empty storage.
    pub(crate) fn start() -> Self {
        let storage = tempfile::Builder::new().prefix("hoist-registry-").tempdir().expect("a directory");
        let address = free_address();
        let config = storage.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {address}\n",
            storage.path().join("data").display()
        );
        fs::write(&config, text).expect("written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).env_clear().env("PATH", "/usr/bin:/bin").current_dir(storage.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry starts: ./dev installs it");
        let registry = Self { child, address, _storage: storage };
        eventually(20.secs(), "docker-registry listens", || TcpStream::connect(address).ok());
        registry
    }

    /// Puts an image into it under a name such as `library/nginx` and a tag.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) {
        for blob in image.blobs.iter().chain([&image.config]) {
            let (status, headers, _) =
                request(self.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
            assert_eq!(status, 202, "{headers:?}");
            let location = headers.get("location").expect("where to").clone();
            let path =
                location.split_once("://").map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
            let mark = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{mark}digest={}", digest(blob));
            let put = request(self.address, "PUT", &path, &[("Content-Type", "application/octet-stream")], blob);
            assert_eq!(put.0, 201, "{:?}", String::from_utf8_lossy(&put.2));
        }
        self.push_document(repository, tag, image.media_type, &image.manifest);
    }

    /// Puts a manifest or an index into it.
    pub(crate) fn push_document(&self, repository: &str, tag: &str, media_type: &str, document: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = request(self.address, "PUT", &path, &[("Content-Type", media_type)], document);
        assert_eq!(put.0, 201, "{:?}", String::from_utf8_lossy(&put.2));
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port")
}

type Reply = (u16, BTreeMap<String, String>, Vec<u8>);

fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(60.secs())).expect("set");
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader).expect("an answer");
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let mut body = Vec::new();
    reader.read_to_end(&mut body).expect("read");
    (status, headers, body)
}

fn read_head(reader: &mut BufReader<impl io::Read>) -> io::Result<(String, BTreeMap<String, String>)> {
    let mut line = String::new();
    let mut next = || {
        line.clear();
        reader.read_line(&mut line)?;
        io::Result::Ok(line.trim_end().to_owned())
    };
    let first = next()?;
    let mut headers = BTreeMap::new();
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else { return Ok((first, headers)) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// How a registry misbehaves, once for each time that it is given.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The body ends after so many bytes, and the connection with it.
    Cut(usize),
    /// A byte of the body is another one.
    Flip,
    /// The body is complete, and shorter or longer than promised.
    Resize(i64),
    /// A status, with headers and a body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// It is somewhere else.
    Redirect(String),
    /// Nothing comes after so many bytes, until the client gives up.
    Stall(usize),
    /// A range is ignored.
    NoRange,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    /// Path below `/v2/` → content type and body.
    content: BTreeMap<String, (String, Vec<u8>)>,
    /// Part of a path → faults still to come.
    faults: Vec<(String, VecDeque<Fault>)>,
    asked: Vec<Asked>,
    /// Bytes of bodies of blobs that were sent.
    sent: u64,
    /// What a request must carry, and the challenge for who does not.
    guard: Option<Guard>,
}

/// Who may pull, and how it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The value of `Authorization` that opens.
    pub(crate) opens: String,
    /// The values of `WWW-Authenticate`.
    pub(crate) challenges: Vec<String>,
}

/// Answers of the token server, by method.
type Tokens = Box<dyn Fn(&Asked) -> (u16, String) + Send>;

/// A registry of our own. Its threads end with the test's process.
#[derive(Clone)]
pub(crate) struct FakeRegistry {
    state: Arc<Mutex<State>>,
    tokens: Arc<Mutex<Option<Tokens>>>,
    pub(crate) address: SocketAddr,
}

/// What a connection is wrapped in.
pub(crate) type Wrap = Arc<dyn Fn(TcpStream) -> io::Result<Box<dyn Wire>> + Send + Sync>;

/// Both ends of a connection.
pub(crate) trait Wire: io::Read + io::Write + Send {}
impl<T: io::Read + io::Write + Send> Wire for T {}

impl FakeRegistry {
    /// Starts one on 127.0.0.1, plain.
    pub(crate) fn start() -> Self {
        Self::listen("127.0.0.1:0", Arc::new(|stream| Ok(Box::new(stream))))
    }

    /// Starts one on an address, with connections wrapped.
    pub(crate) fn listen(address: &str, wrap: Wrap) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let fake =
            Self { state: Arc::default(), tokens: Arc::default(), address: listener.local_addr().expect("an address") };
        let own = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, wrap) = (own.clone(), Arc::clone(&wrap));
                std::thread::spawn(move || {
                    if let Ok(wire) = wrap(stream) {
                        let _ = own.serve(wire); // the client may leave at any time
                    }
                });
            }
        });
        fake
    }

    /// Puts an image into it.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) {
        for blob in image.blobs.iter().chain([&image.config]) {
            self.put(&format!("{repository}/blobs/{}", digest(blob)), "application/octet-stream", blob);
        }
        self.push_document(repository, tag, image.media_type, &image.manifest);
    }

    /// Puts a manifest or an index into it.
    pub(crate) fn push_document(&self, repository: &str, tag: &str, media_type: &str, document: &[u8]) {
        for name in [tag.to_owned(), digest(document)] {
            self.put(&format!("{repository}/manifests/{name}"), media_type, document);
        }
    }

    /// Puts anything into it, at a path below `/v2/`.
    pub(crate) fn put(&self, path: &str, media_type: &str, content: &[u8]) {
        self.state().content.insert(path.to_owned(), (media_type.to_owned(), content.to_vec()));
    }

    /// Has the next requests whose path contains `part` go wrong, one after another.
    pub(crate) fn fail(&self, part: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.push((part.to_owned(), faults.into_iter().collect()));
    }

    /// Behaves again.
    pub(crate) fn forgive(&self) {
        self.state().faults.clear();
    }

    /// Lets in who carries a token that its own `/token` gives out; `tokens` says what that answers.
    pub(crate) fn guard(&self, guard: Guard, tokens: impl Fn(&Asked) -> (u16, String) + Send + 'static) {
        self.state().guard = Some(guard);
        *self.tokens.lock().expect("not poisoned") = Some(Box::new(tokens));
    }

    /// Returns all that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Returns how many bytes of blobs it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.state().sent
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn serve(&self, wire: Box<dyn Wire>) -> io::Result<()> {
        let mut reader = BufReader::new(wire);
        loop {
            let (first, headers) = read_head(&mut reader)?;
            let mut words = first.split(' ');
            let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
                // What is no request, such as the start of TLS, is answered in plain words.
                let wire = reader.get_mut();
                wire.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                return wire.flush();
            };
            if !version.starts_with("HTTP/1") {
                return reader.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            }
            let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let text = String::from_utf8_lossy(&body).into_owned();
            let asked = Asked { method: method.to_owned(), path: path.to_owned(), headers, body: text };
            self.state().asked.push(asked.clone());
            if !self.answer(reader.get_mut(), &asked, &body)? {
                return Ok(());
            }
        }
    }

    /// Answers; returns whether the connection stays.
    fn answer(&self, wire: &mut Box<dyn Wire>, asked: &Asked, given: &[u8]) -> io::Result<bool> {
        // A proxy is asked with the whole URL.
        let path =
            asked.path.split_once("://").map_or(asked.path.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        if path.starts_with("/token") {
            let tokens = self.tokens.lock().expect("not poisoned");
            let (status, body) = tokens.as_ref().map_or((404, String::new()), |tokens| tokens(asked));
            return whole(wire, status, &[("Content-Type", "application/json".into())], body.as_bytes());
        }
        let fault = {
            let mut state = self.state();
            state
                .faults
                .iter_mut()
                .find(|(part, faults)| path.contains(part.as_str()) && !faults.is_empty())
                .and_then(|(_, faults)| faults.pop_front())
        };
        match &fault {
            Some(Fault::Answer(status, headers, body)) => return whole(wire, *status, headers, body.as_bytes()),
            Some(Fault::Redirect(to)) => return whole(wire, 307, &[("Location", to.clone())], b""),
            _ => {}
        }
        let guard = self.state().guard.clone();
        if let Some(guard) = guard
            && asked.headers.get("authorization") != Some(&guard.opens)
        {
            let challenges: Vec<_> = guard.challenges.iter().map(|c| ("WWW-Authenticate", c.clone())).collect();
            let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
            return whole(wire, 401, &challenges, body.as_bytes());
        }
        if matches!(asked.method.as_str(), "POST" | "PUT") {
            match fault {
                Some(Fault::Cut(_)) => return Ok(false),
                Some(Fault::Stall(_)) => {
                    let _ = wire.read(&mut [0]); // until the client leaves
                    return Ok(false);
                }
                _ => {}
            }
            let (status, headers) = self.take(&asked.method, path, asked.headers.get("content-type"), given);
            return whole(wire, status, &headers, b"");
        }
        let found = self.state().content.get(path.strip_prefix("/v2/").unwrap_or(path)).cloned();
        let Some((media_type, mut body)) = found else {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return whole(wire, 404, &[("Content-Type", "application/json".into())], body.as_bytes());
        };
        let mut headers = vec![("Content-Type", media_type)];
        let is_blob = path.contains("/blobs/");
        if !is_blob {
            headers.push(("Docker-Content-Digest", digest(&body)));
        }
        let total = body.len();
        let range = asked.headers.get("range").filter(|_| !matches!(fault, Some(Fault::NoRange)));
        let from = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut status = 200;
        if let Some(from) = from {
            body.drain(..from);
            headers.push(("Content-Range", format!("bytes {from}-{}/{total}", total - 1)));
            status = 206;
        }
        if asked.method == "HEAD" {
            headers.push(("Content-Length", body.len().to_string()));
            head(wire, status, &headers)?;
            return Ok(true);
        }
        let (mut cut, mut stall) = (None, None);
        match fault {
            Some(Fault::Cut(at)) => cut = Some(at.min(body.len())),
            Some(Fault::Stall(at)) => stall = Some(at.min(body.len())),
            Some(Fault::Flip) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            Some(Fault::Resize(by)) => {
                let length = body.len().saturating_add_signed(isize::try_from(by).expect("small"));
                body.resize(length, b'x');
            }
            _ => {}
        }
        headers.push(("Content-Length", body.len().to_string()));
        head(wire, status, &headers)?;
        let end = cut.or(stall).unwrap_or(body.len());
        wire.write_all(&body[..end])?;
        wire.flush()?;
        if is_blob {
            self.state().sent += end as u64;
        }
        if stall.is_some() {
            // Until the client leaves; the thread ends with the process at the latest.
            let _ = wire.read(&mut [0]);
        }
        Ok(cut.is_none() && stall.is_none())
    }
}

impl FakeRegistry {
    /// Takes what is pushed, or takes it from another repository.
    fn take(
        &self,
        method: &str,
        path: &str,
        kind: Option<&String>,
        given: &[u8],
    ) -> (u16, Vec<(&'static str, String)>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let field = |name: &str| {
            let value = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.replace("%3A", ":"))
        };
        let path = path.strip_prefix("/v2/").unwrap_or(path);
        let repository = path.split("/blobs/").next().unwrap_or_default();
        match (method, path.rsplit_once("/manifests/")) {
            ("PUT", Some((repository, tag))) => {
                for name in [tag.to_owned(), digest(given)] {
                    self.put(&format!("{repository}/manifests/{name}"), kind.map_or("", String::as_str), given);
                }
                (201, vec![("Docker-Content-Digest", digest(given))])
            }
            ("PUT", None) if field("digest") == Some(digest(given)) => {
                self.put(&format!("{repository}/blobs/{}", digest(given)), "application/octet-stream", given);
                (201, Vec::new())
            }
            ("PUT", None) => (400, Vec::new()),
            _ => {
                let mounted = field("mount").zip(field("from"));
                let content = mounted.and_then(|(blob, from)| {
                    let found = self.state().content.get(&format!("{from}/blobs/{blob}")).cloned();
                    found.map(|(_, content)| (blob, content))
                });
                match content {
                    Some((blob, content)) => {
                        self.put(&format!("{repository}/blobs/{blob}"), "application/octet-stream", &content);
                        (201, Vec::new())
                    }
                    None => (202, vec![("Location", format!("/v2/{repository}/blobs/uploads/1?_state=x"))]),
                }
            }
        }
    }

    /// Returns what is at a path below `/v2/`.
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.state().content.get(path).map(|(_, content)| content.clone())
    }
}

fn head(wire: &mut dyn Write, status: u16, headers: &[(&str, String)]) -> io::Result<()> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    wire.write_all(format!("HTTP/1.1 {status} Status\r\n{lines}\r\n").as_bytes())?;
    wire.flush()
}

fn whole(wire: &mut dyn Write, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> io::Result<bool> {
    let length = [("Content-Length", body.len().to_string())];
    let headers: Vec<(&str, String)> = headers.iter().cloned().chain(length).collect();
    head(wire, status, &headers)?;
    wire.write_all(body)?;
    wire.flush()?;
    Ok(true)
}

/// Returns the file names below a store's place for unfinished things.
pub(crate) fn unfinished(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("images/layers/tmp")).into_iter().flatten();
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// An authority of the test's own, and a certificate that it has signed, as files in a folder.
pub(crate) fn certificates(folder: &Path, host: &str) {
    fs::create_dir_all(folder).expect("a directory");
    fs::write(folder.join("ext"), format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n")).expect("written");
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        command.args(line.split(' ')).current_dir(folder);
        super::run::Run::of(command, 60.secs()).ok();
    };
    let authority = folder.file_name().expect("a name").to_string_lossy();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN={authority} -keyout ca.key -out ca.crt"));
    openssl(&format!("req {key} -subj /CN={host} -keyout key.pem -out request.pem"));
    openssl("x509 -req -in request.pem -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem");
}

/// Has a server speak TLS with the certificate in a folder.
pub(crate) fn tls(folder: &Path) -> Wrap {
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let config = Arc::new(config);
    Arc::new(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    })
}

/// A proxy that makes tunnels: all lead to `target`, whatever is asked for. Returns its address and what it was asked.
pub(crate) fn tunnels(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = Arc::clone(&told);
            std::thread::spawn(move || -> io::Result<()> {
                let mut reader = BufReader::new(stream.try_clone()?);
                let (first, headers) = read_head(&mut reader)?;
                let who = headers.get("proxy-authorization").cloned().unwrap_or_default();
                told.lock().expect("not poisoned").push(format!("{first} {who}"));
                let (mut client, mut server) = (stream, TcpStream::connect(target)?);
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                let (mut back, mut there) = (client.try_clone()?, server.try_clone()?);
                std::thread::spawn(move || drop(io::copy(&mut server, &mut back)));
                io::copy(&mut reader, &mut there).map(drop)
            });
        }
    });
    (address, asked)
}
