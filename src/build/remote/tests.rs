//! Builds that read from servers on this machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::build::execute::{NamedContext, Recipe, Secret, images_needed};
use crate::build::tests::{Setup, content, setup};
use crate::build::trees::{Incoming, Input, Tree};
use crate::event::Silent;
use crate::image::compression::tests::{bzip2, xz};
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

/// A build of an archive that comes in.
fn incoming(setup: &mut Setup, archive: Vec<u8>) {
    setup.again(&[]);
    setup.spec.context = Tree::Archive(Input::new(std::io::Cursor::new(archive)));
    setup.spec.dockerfile = Recipe::InContext("sub/../Dockerfile".into());
}

#[test]
fn a_context_comes_in_as_an_archive() {
    if !crate::testing::is_root() {
        return;
    }
    let mut setup = setup("FROM scratch\n", &[]);
    let tar = TarBuilder::default()
        .file("Dockerfile", b"FROM test:1\nCOPY . /data/\nCOPY --from=sub f /g\n")
        .file(".dockerignore", b"hidden\n**/.wh.*\n")
        .file("hidden", b"x")
        .file("sub/f", b"F")
        .file("sub/.wh.f", b"")
        .file(".wh..wh..opq", b"")
        .end();
    setup.spec.contexts.insert("sub".into(), NamedContext::Files(setup.context.clone().into()));
    fs::write(setup.context.join("f"), "G").expect("writable");
    let mut ids = Vec::new();
    for pack in [|tar: &[u8]| tar.to_vec(), gzip, bzip2, xz] {
        incoming(&mut setup, pack(&tar));
        let image = setup.build();
        assert_eq!(content(&image, "data/sub/f").as_deref(), Some("F"), "what would hide it in a layer does not");
        assert_eq!(content(&image, "data/hidden"), None);
        assert_eq!(content(&image, "g").as_deref(), Some("G"));
        ids.push(image.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "it is the same however it is packed");
    // The Dockerfile may be elsewhere, and there may be no file but it.
    incoming(&mut setup, tar);
    setup.spec.dockerfile = Recipe::Input("FROM test:1\nCOPY sub/f /x\n".into());
    assert_eq!(content(&setup.build(), "x").as_deref(), Some("F"));
    setup.spec.context = Tree::Empty;
    assert!(setup.error().contains("`sub/f` is not in the build context"), "{}", setup.error());
}

#[test]
fn a_hostile_context_reads_nothing_of_the_host() {
    if !crate::testing::is_root() {
        return;
    }
    let mut setup = setup("", &[]);
    let secret = setup.context.join("secret");
    fs::write(&secret, "[secret\n").expect("writable");
    let secret = secret.to_str().expect("text");
    let dockerfile = b"FROM test:1\nCOPY l /data/\n";
    let good = || TarBuilder::default().file("Dockerfile", dockerfile);
    for (what, tar, wanted) in [
        (
            "a list that leads out",
            good().file("l", b"").symlink(".dockerignore", secret).end(),
            "cannot read the build context",
        ),
        (
            "a Dockerfile that leads out",
            TarBuilder::default().symlink("Dockerfile", secret).end(),
            "cannot read the Dockerfile",
        ),
        ("a Dockerfile that is a directory", TarBuilder::default().dir("Dockerfile/").end(), "it is no longer a file"),
        (
            "no Dockerfile",
            TarBuilder::default().file("l", b"").end(),
            "cannot read the Dockerfile `sub/../Dockerfile`: No such file",
        ),
        ("a file that leads out", good().symlink("l", secret).end(), "leads out of the build context"),
        (
            "a directory that leads out",
            good().symlink("l", "/").file("l/x", b"").end(),
            "`l` leads out of the build context",
        ),
        ("a path upwards", good().file("../../x", b"").end(), "cannot unpack the archive on standard input"),
        ("an absolute path", good().file("/x", b"").end(), "its path is absolute"),
        ("a link to nothing", good().hardlink("l", "other").end(), "`l` is a hard link to `other`, which is not in it"),
        ("half of it", gzip(&good().file("l", &[7; 9000]).end())[..60].to_vec(), "it is compressed, and no archive"),
    ] {
        incoming(&mut setup, tar);
        let error = setup.error();
        assert!(error.contains(wanted), "{what}: {error}");
        assert!(!error.contains("[secret"), "{what}: {error}");
        assert!(!setup.context.join("x").exists() && !setup.fixture.dir.path().join("x").exists(), "{what}");
    }
}

#[test]
fn what_comes_in_is_an_archive_or_a_dockerfile() {
    let read = |bytes: &[u8]| Incoming::read(std::io::Cursor::new(bytes.to_vec()));
    let tar = TarBuilder::default().file("Dockerfile", b"FROM x\n").end();
    for archive in [gzip(&tar), bzip2(&tar), xz(&tar), tar] {
        assert!(matches!(read(&archive), Ok(Incoming::Archive(_))));
    }
    for text in ["FROM scratch\n", "x"] {
        assert!(matches!(read(text.as_bytes()), Ok(Incoming::Text(found)) if found == text));
    }
    let long = format!("FROM x\n#{}\n", "x".repeat(5000));
    assert!(matches!(read(long.as_bytes()), Ok(Incoming::Text(found)) if found == long));
    for (wrong, wanted) in [(&b""[..], "nothing comes in"), (b"FROM \xff", "not UTF-8")] {
        let error = read(wrong).expect_err("refused").render(false);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_context_is_a_url() {
    if !crate::testing::is_root() {
        return;
    }
    let tar = TarBuilder::default()
        .file("other/Dockerfile", b"FROM test:1\nCOPY f /\nCOPY --from=more f /more\n")
        .file("other/Dockerfile.dockerignore", b"g\n")
        .file("f", b"F")
        .end();
    let packed = gzip(&tar);
    let server = Server::new(move |path| match path {
        "/x.tar.gz" => ok("Content-Type: text/html\r\n", &packed),
        "/wrong" => ok("", b"FORM test:1\n"),
        "/Dockerfile" => ok("", b"FROM test:1\nENV A=b\nCOPY context /\n"),
        _ => status("404 Not Found"),
    });
    let mut setup = setup("", &[]);
    let tree = |path: &str| Tree::elsewhere(&server.url(path)).expect("a URL").expect("a URL");
    setup.spec.context = tree("/x.tar.gz");
    setup.spec.dockerfile = Recipe::InContext("other/Dockerfile".into());
    setup.spec.contexts.insert("more".into(), NamedContext::Files(tree("/x.tar.gz")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let needed = images_needed(&setup.spec, &setup.fixture.store, setup.fetcher(), &Silent);
    let needed = runtime.block_on(needed).expect("fetched");
    assert_eq!(needed, [("test:1".to_owned(), "other/Dockerfile:1:6".to_owned())]);
    let image = setup.build();
    assert_eq!((content(&image, "f").as_deref(), content(&image, "more").as_deref()), (Some("F"), Some("F")));
    assert_eq!(server.asked().len(), 1, "it is fetched once");
    // A text is a Dockerfile.
    setup.again(&[]);
    setup.spec.context = tree("/Dockerfile");
    setup.spec.contexts.clear();
    assert_eq!(content(&setup.build(), "context").as_deref(), Some("FROM test:1\nENV A=b\nCOPY context /\n"));
    setup.spec.target = Some("none".into());
    setup.spec.context = tree("/wrong");
    let error = setup.error().replace(&server.address.to_string(), "SERVER");
    assert!(error.contains("--> http://SERVER/wrong:1:1"), "{error}");
    setup.spec.target = None;
    setup.spec.context = tree("/gone");
    assert!(setup.error().contains("answers 404"), "{}", setup.error());
    for (text, is_elsewhere) in [
        ("./x", Some(false)),
        ("dir", Some(false)),
        ("HTTPS://h/x", Some(true)),
        ("ftp://h/x", None),
        ("file:///x", None),
    ] {
        let found = Tree::elsewhere(text).ok().map(|tree| tree.is_some());
        assert_eq!(found, is_elsewhere, "{text}");
    }
}
