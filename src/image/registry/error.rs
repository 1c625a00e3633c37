//! What goes wrong with a registry, in one sentence each, with the next step.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::diag::Explain;

/// What goes wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable cannot be understood.
    #[error("{name} is `{value}`: {form}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value, without secrets.
        value: String,
        /// What is expected.
        form: &'static str,
    },
    /// Docker's configuration cannot be read.
    #[error("Docker's configuration `{path}` cannot be read: {reason}")]
    DockerConfig {
        /// The file, or the variable.
        path: String,
        /// Why not.
        reason: String,
    },
    /// There is no such repository or tag.
    #[error("{registry} has no image `{image}`")]
    NotFound {
        /// Which registry.
        registry: String,
        /// The familiar reference.
        image: String,
        /// It is Docker Hub, which says so of private repositories as well.
        hub: bool,
    },
    /// Something that a manifest names is not there.
    #[error("{registry} does not have {what}, which its own manifest names")]
    Missing {
        /// Which registry.
        registry: String,
        /// Which part of which image.
        what: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("{registry} refuses access to `{image}`{}", detail(.message))]
    Unauthorised {
        /// Which registry.
        registry: String,
        /// The familiar reference, or what else was asked for.
        image: String,
        /// What it said.
        message: String,
        /// Credentials were sent.
        logged_in: bool,
    },
    /// Too many pulls.
    #[error("{registry} allows no further pull for now{}{}", detail(.message), rate(.limit.as_deref(), *.wait))]
    RateLimited {
        /// Which registry.
        registry: String,
        /// What it said.
        message: String,
        /// In words: how many are allowed in which time.
        limit: Option<String>,
        /// After which it may be tried again.
        wait: Option<Duration>,
        /// Credentials were sent.
        logged_in: bool,
    },
    /// No connection.
    #[error("cannot reach {registry}")]
    Unreachable {
        /// Which registry, or which other host.
        registry: String,
        /// Why not.
        source: ConnectError,
    },
    /// The connection broke.
    #[error("the connection to {host} broke while {what} was {verb}")]
    Broken {
        /// Which host.
        host: String,
        /// What was fetched or sent.
        what: String,
        /// Which of the two.
        verb: &'static str,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for too long.
    #[error("{host} {} nothing for {} s while {what} was {verb}", if *.verb == "sent" { "took" } else { "sent" }, .after.as_secs())]
    Stalled {
        /// Which host.
        host: String,
        /// What was fetched or sent.
        what: String,
        /// Which of the two.
        verb: &'static str,
        /// For how long.
        after: Duration,
    },
    /// An answer that nobody expects.
    #[error("{host} answers {status} to the request for {what}{}", detail(.message))]
    Status {
        /// Which host.
        host: String,
        /// What was asked for.
        what: String,
        /// The code.
        status: u16,
        /// What it said.
        message: String,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// What answers is no registry.
    #[error("{host} is no image registry: it answers with {got}")]
    NotARegistry {
        /// Which host.
        host: String,
        /// With what.
        got: String,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects the request for {what} {how}")]
    Redirect {
        /// Which host.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        how: &'static str,
    },
    /// Content is not what its digest promises.
    #[error("{what} from {registry} has the digest {found}, not {expected} as promised")]
    Digest {
        /// Which registry.
        registry: String,
        /// What was hashed.
        what: String,
        /// The promise.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Content has another size than promised.
    #[error("{what} from {registry} {found}, not {expected} as promised")]
    Size {
        /// Which registry.
        registry: String,
        /// What was measured.
        what: String,
        /// The promise.
        expected: u64,
        /// In words: `has 12 bytes`.
        found: String,
    },
    /// A document is larger than it may be.
    #[error("{what} from {host} is larger than {limit} bytes")]
    TooLarge {
        /// Which host.
        host: String,
        /// What.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A document is not what it should be.
    #[error("{what} from {registry} is not valid: {reason}")]
    Document {
        /// Which registry.
        registry: String,
        /// Which document.
        what: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// A form of manifest that Docker gave up.
    #[error("`{image}` is stored on {registry} in the old manifest form, schema 1, which is not supported")]
    Schema1 {
        /// Which registry.
        registry: String,
        /// The familiar reference.
        image: String,
    },
    /// It is something else than an image.
    #[error("`{image}` on {registry} is not a container image but {kind}")]
    NotAnImage {
        /// Which registry.
        registry: String,
        /// The familiar reference.
        image: String,
        /// Its media type.
        kind: String,
    },
    /// No manifest for the platform.
    #[error("`{image}` is not available for {wanted}; {registry} offers {offered}")]
    Platform {
        /// Which registry.
        registry: String,
        /// The familiar reference.
        image: String,
        /// The platform.
        wanted: String,
        /// All there are.
        offered: String,
    },
    /// Credentials would go over an open wire.
    #[error("{registry} asks for credentials to be sent to {realm}, which is not encrypted")]
    InsecureRealm {
        /// Which registry.
        registry: String,
        /// Where to.
        realm: String,
    },
    /// A challenge that we do not know.
    #[error("{registry} asks for a way to log in that is not supported: {schemes}")]
    Challenge {
        /// Which registry.
        registry: String,
        /// Their names.
        schemes: String,
    },
    /// Docker Hub failed after its mirrors had.
    #[error("{last}")]
    AfterMirrors {
        /// What went wrong with each mirror, in a line.
        mirrors: String,
        /// What went wrong in the end, with its causes.
        last: String,
        /// What to do about it.
        help: Option<String>,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("there is no host `{0}`")]
    NoName(String),
    /// Nobody knows the name's address.
    #[error("the address of `{host}` is not known: {reason}")]
    Dns {
        /// The name.
        host: String,
        /// Why not.
        reason: String,
    },
    /// It was refused, or there is no way.
    #[error("no connection to {address}")]
    Io {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It took too long.
    #[error("{host} does not answer within {} s", .after.as_secs())]
    Timeout {
        /// Which host and port.
        host: String,
        /// For how long.
        after: Duration,
    },
    /// The proxy refuses.
    #[error("the proxy {proxy} {reason}")]
    Proxy {
        /// Which proxy.
        proxy: String,
        /// What it says.
        reason: String,
    },
    /// The other end speaks no TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The certificate is not trusted, or TLS fails otherwise.
    #[error("its certificate is not accepted: {reason}")]
    Certificate {
        /// Why not.
        reason: String,
        /// Nobody whom we trust has signed it.
        unknown_issuer: bool,
    },
    /// TLS fails.
    #[error("TLS fails: {0}")]
    Tls(String),
    /// We trust nobody.
    #[error("there are no certificates of authorities on this host to check its own against")]
    NoRoots,
}

/// Writes what a registry said behind a colon.
fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn rate(limit: Option<&str>, wait: Option<Duration>) -> String {
    let mut text = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
    if let Some(wait) = wait {
        text.push_str(&format!("; it says to try again in {} s", wait.as_secs()));
    }
    text
}

/// Longest pause that a registry may ask for before we give up instead.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Error {
    /// Returns whether it is worth trying again, and after what pause if the registry has said so.
    pub(crate) fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } => Some(None),
            Self::Status { status: 408 | 500 | 502 | 503 | 504, retry_after, .. } => match retry_after {
                Some(wait) if *wait > WAIT_MAX => None,
                wait => Some(*wait),
            },
            // Without a time, the window is hours long.
            Self::RateLimited { wait: Some(wait), .. } if *wait <= WAIT_MAX => Some(Some(*wait)),
            _ => None,
        }
    }

    /// Returns whether another place may have it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Missing { .. }
                | Self::Unauthorised { .. }
                | Self::RateLimited { .. }
                | Self::Unreachable { .. }
                | Self::Broken { .. }
                | Self::Stalled { .. }
                | Self::Status { .. }
                | Self::NotARegistry { .. }
                | Self::Challenge { .. }
        )
    }
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::NotFound { hub: true, .. } => {
                "check the name and the tag; a private repository may need `docker login` (hoist reads the credentials from ~/.docker/config.json)".into()
            }
            Self::NotFound { registry, .. } => {
                format!("check the name and the tag; a private repository may need `docker login {registry}`")
            }
            Self::Unauthorised { registry, logged_in: false, .. } => {
                format!("log in with `docker login{}`; hoist reads the credentials from ~/.docker/config.json", login(registry))
            }
            Self::Unauthorised { registry, logged_in: true, .. } => {
                format!("the credentials in Docker's config.json are wrong, have expired, or lack the right; log in again with `docker login{}`", login(registry))
            }
            Self::RateLimited { logged_in: false, registry, .. } => {
                format!("log in with `docker login{}` for a higher limit, wait, or set HOIST_REGISTRY_MIRROR to a mirror", login(registry))
            }
            Self::RateLimited { .. } => "wait, or set HOIST_REGISTRY_MIRROR to a mirror".into(),
            Self::Unreachable { source, registry } => return source.help(registry),
            Self::Broken { .. } | Self::Stalled { .. } => {
                "it was tried several times; check the network, then try again".into()
            }
            Self::Status { status: 500..=599, .. } => "the registry has a problem of its own; try again later".into(),
            Self::Status { status: 407, .. } => "put the proxy's user and password into HTTPS_PROXY".into(),
            Self::NotARegistry { .. } => {
                "check the host in the image's name, and that no login page of a network stands in between".into()
            }
            Self::Digest { .. } | Self::Size { .. } => {
                "the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so".into()
            }
            Self::Schema1 { .. } => "push the image again with a current Docker".into(),
            Self::Platform { .. } => "choose another tag, or one of these with `platform:` or --platform".into(),
            Self::InsecureRealm { .. } => "nothing was sent; the registry must name an https address".into(),
            Self::AfterMirrors { mirrors, help, .. } => {
                let own = help.as_ref().map_or_else(String::new, |help| format!("{help}; "));
                format!("{own}before that, {mirrors}")
            }
            Self::Setting { .. }
            | Self::DockerConfig { .. }
            | Self::Missing { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. }
            | Self::NotAnImage { .. }
            | Self::Challenge { .. } => return None,
        };
        Some(text)
    }
}

fn login(registry: &str) -> String {
    if registry == "Docker Hub" { String::new() } else { format!(" {registry}") }
}

impl ConnectError {
    fn help(&self, host: &str) -> Option<String> {
        let text = match self {
            Self::NoName(_) => "check the host in the image's name, and /etc/resolv.conf".into(),
            Self::Dns { .. } => "check the network and /etc/resolv.conf; behind a proxy, set HTTPS_PROXY".into(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens there: start the registry, or check host and port".into()
            }
            Self::Io { .. } | Self::Timeout { .. } => {
                "check the network and the firewall; behind a proxy, set HTTPS_PROXY".into()
            }
            Self::Proxy { .. } => "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY".into(),
            Self::NotTls => {
                "plain http is used with registries on this machine alone (127.0.0.0/8, ::1, localhost)".into()
            }
            Self::Certificate { unknown_issuer: true, .. } => format!(
                "if you trust its authority, put the authority's certificate into /etc/docker/certs.d/{host}/ca.crt or into the system's store (update-ca-certificates), or point SSL_CERT_FILE at it"
            ),
            Self::Certificate { .. } => "check the host in the image's name and this machine's clock".into(),
            Self::Tls(_) => return None,
            Self::NoRoots => {
                "install them (Debian: apt-get install ca-certificates), or point SSL_CERT_FILE at a file of them"
                    .into()
            }
        };
        Some(text)
    }
}

/// Makes text of others fit for a line: no control characters, not too long.
pub(crate) fn clean(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
