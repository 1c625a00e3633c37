//! Builds that read from servers on this machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::build::execute::Secret;
use crate::build::tests::{Setup, content, setup};
use crate::image::store::Image;
use crate::image::tarball::tests::TarBuilder;
use crate::image::tests::gzip;

/// What the server sends: all of an answer, and whether it stays silent then instead of closing the connection.
type Answer = (Vec<u8>, bool);

/// A server of HTTP that answers as it is told.
pub(super) struct Server {
    address: SocketAddr,
    /// First lines of the requests, each with its `Authorization`.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let (address, asked) = (listener.local_addr().expect("bound"), Arc::<Mutex<Vec<String>>>::default());
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("nobody panics"))
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> Answer) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let rest: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let authorization =
        rest.iter().find_map(|l| l.to_ascii_lowercase().strip_prefix("authorization: ").map(|_| &l[15..]));
    log.lock().expect("nobody panics").push(format!("{path} {}", authorization.unwrap_or("-")));
    let (bytes, stays) = answer(&path);
    let _ = stream.write_all(&bytes); // who does not want more has gone
    if stays {
        std::thread::sleep(Duration::from_secs(60));
    }
}

pub(super) fn ok(headers: &str, body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    ([head.as_bytes(), body].concat(), false)
}

fn status(line: &str) -> Answer {
    (format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(), false)
}

const MODIFIED: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
/// Of `hello`.
const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn server() -> Server {
    Server::new(|path| match path.split('?').next().unwrap_or_default() {
        "/dir/hello.txt" => ok(MODIFIED, b"hello"),
        "/named" => ok("Content-Disposition: attachment; filename=\"../given.txt\"\r\n", b"hello"),
        "/" => ok("", b"hello"),
        "/tar" => ok("", &gzip(&TarBuilder::default().dir("sub/").file("sub/f", b"F").end())),
        "/moved" => status("302 Found\r\nLocation: /dir/hello.txt"),
        "/round" => status("307 Temporary Redirect\r\nLocation: round"),
        "/nowhere" => status("302 Found\r\nLocation: ftp://h/x"),
        "/cut" => (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec(), false),
        "/silent" => (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec(), true),
        "/dumb" => (Vec::new(), true),
        "/other" => (b"220 mail\r\n".to_vec(), false),
        _ => status("404 Not Found"),
    })
}

/// Writes a Dockerfile, in which `@` is the server.
fn write(setup: &Setup, server: &Server, text: &str) {
    fs::write(&setup.file, text.replace('@', &server.url(""))).expect("writable");
}

fn stat(image: &Image, path: &str) -> rustix::fs::Stat {
    image.view().expect("opens").lookup(path.as_bytes()).expect("readable").expect(path).stat
}

#[test]
fn add_fetches_urls_and_knows_the_same_answer() {
    if !crate::testing::is_root() {
        return;
    }
    let server = server();
    let mut setup = setup("", &[]);
    write(
        &setup,
        &server,
        "FROM test:1\n\
         ADD @/dir/hello.txt @/named @/moved?x=1 /data/\n\
         ADD --chmod=0755 --chown=app:web @/ /data/last\n\
         ADD @/tar /data/tar.gz\n\
         ADD --unpack=true @/tar /data/\n\
         ADD --checksum=SUM @/dir/hello.txt /data/summed\n"
            .replace("SUM", HELLO)
            .as_str(),
    );
    let image = setup.build();
    for path in ["data/hello.txt", "data/given.txt", "data/moved", "data/last", "data/summed"] {
        assert_eq!(content(&image, path).as_deref(), Some("hello"), "{path}");
    }
    let file = stat(&image, "data/hello.txt");
    assert_eq!((file.st_mode & 0o7777, file.st_uid, file.st_mtime), (0o600, 0, 784_111_777));
    let file = stat(&image, "data/last");
    assert_eq!((file.st_mode & 0o7777, file.st_uid, file.st_gid, file.st_mtime), (0o755, 1001, 33, 0));
    assert_eq!(content(&image, "data/sub/f").as_deref(), Some("F"));
    let packed = image.view().expect("opens").read(b"data/tar.gz", 1000).expect("readable").expect("as it is");
    assert_eq!(packed[..2], [0x1f, 0x8b]);
    let mut asked = server.asked();
    asked.sort();
    let once = ["/ -", "/dir/hello.txt -", "/dir/hello.txt -", "/moved?x=1 -", "/named -", "/tar -"];
    assert_eq!(asked, once, "each is asked for once");
    // Another command asks again, and the same answer is the same image.
    setup.again(&[]);
    assert_eq!(setup.build().id, image.id);
    assert_eq!(server.asked().len(), once.len());
    setup.again(&[]);
    let left = setup.fixture.files();
    assert!(!left.iter().any(|path| path.to_string_lossy().contains("fetched-")), "{left:?}");
}

#[test]
fn what_cannot_be_added_is_told_with_its_place() {
    if !crate::testing::is_root() {
        return;
    }
    let server = server();
    let mut setup = setup("", &[("file", "x")]);
    let mut said = Vec::new();
    for line in [
        "ADD @/gone.txt /data/",
        "ADD @/round /data/",
        "ADD @/nowhere /data/",
        "ADD @/other /data/",
        "ADD @/cut /data/",
        "ADD @/ /data/",
        "ADD --checksum=sha256:00 @/named /data/",
        "ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 @/named /data/",
        "ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 file /data/",
        "ADD http://me:secret@127.0.0.1:1/x?signature=y /data/",
        "ADD --unpack=true @/dir/hello.txt @/named /data",
    ] {
        let text = if line.contains("secret") { line.to_owned() } else { line.replace('@', &server.url("")) };
        fs::write(&setup.file, format!("FROM test:1\n{text}\n")).expect("writable");
        let error = setup.error().replace(&server.address.to_string(), "SERVER");
        assert!(error.contains("/context/Dockerfile:2:"), "{error}");
        assert!(!error.contains("secret@") || error.contains("ADD http://me:secret@"), "{error}");
        let mut lines = error.lines();
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let help = lines
            .find_map(|l| l.trim_start().strip_prefix("help: ").or_else(|| l.trim_start().strip_prefix("= help: ")));
        said.push(format!("{first}\n    {}", help.unwrap_or("-")));
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    SERVER answers 404 to the request for `http://SERVER/gone.txt`
        check the URL: the server has nothing there
    SERVER redirects the request for `http://SERVER/round` again and again
        write the URL that it leads to, if you trust it
    SERVER redirects the request for `http://SERVER/nowhere` to no place that can be read
        write the URL that it leads to, if you trust it
    SERVER answers with something that is not HTTP to the request for `http://SERVER/other`
        check host and port
    the connection to SERVER broke while `http://SERVER/cut` was fetched: end of file before message length reached
        it was tried several times; check the network, then try again
    neither `http://SERVER/` nor its server says how the file in `/data/` is to be called
        write the name, as `/data/NAME`
    `sha256:00` is no checksum of a file
        write it as sha256: and 64 hexadecimal digits
    `http://SERVER/named` has the checksum sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, not sha256:0000000000000000000000000000000000000000000000000000000000000000
        if that is what it should be now, write it here
    --checksum needs a source that is elsewhere
        leave it out: a file of the context is what it is
    cannot reach 127.0.0.1:1: no connection to 127.0.0.1:1: Connection refused
        nothing listens there: check host and port
    several files are copied, so `/data` must be a directory
        write `/data/`
    ");
    setup.again(&[("HOIST_REGISTRY_TIMEOUT", "1")]);
    for path in ["silent", "dumb"] {
        fs::write(&setup.file, format!("FROM test:1\nADD {} /data/\n", server.url(&format!("/{path}"))))
            .expect("writable");
        assert!(setup.error().contains("sent nothing for 1 s while"), "{}", setup.error());
    }
}

#[test]
fn credentials_go_to_the_host_they_are_for() {
    if !crate::testing::is_root() {
        return;
    }
    let server = server();
    let elsewhere = server.url("/dir/hello.txt");
    let first = Server::new(move |_| status(&format!("302 Found\r\nLocation: {elsewhere}")));
    let mut setup = setup("", &[]);
    let url = first.url("/x").replace("http://", "http://me:word@");
    fs::write(&setup.file, format!("FROM test:1\nADD {url} /x\n")).expect("writable");
    setup.build();
    assert_eq!(
        (first.asked(), server.asked()),
        (vec!["/x Basic bWU6d29yZA==".into()], vec!["/dir/hello.txt -".into()])
    );
    setup.spec.secrets.insert("HTTP_AUTH_TOKEN_127.0.0.1".into(), Secret::Value(b"token\n".to_vec()));
    setup.again(&[]);
    fs::write(&setup.file, format!("FROM test:1\nADD {} /x\n", first.url("/y"))).expect("writable");
    setup.build();
    assert_eq!((first.asked(), server.asked()), (vec!["/y Bearer token".into()], vec!["/dir/hello.txt -".into()]));
}
