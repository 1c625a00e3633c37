//! Replacing by `deploy.update_config`: no request is lost, and what is broken never gets one.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connectivity::can;
use super::faults::{faults, run, struck, tell};
use super::support::host;
use super::support::net::{self, Kind};
use super::support::project::TestProject;
use super::support::{Secs as _, is_soak, require_root};

/// Where the load goes.
const ADDRESS: &str = "127.0.0.1:8080";
/// Requests of one client in a second: twenty of them make a thousand.
const EACH: u32 = 50;
const CLIENTS: usize = 20;

/// What became of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// With a new connection, and with one that was kept.
    asked: [usize; 2],
    /// A kept connection that had ended before any of its answer was asked anew, as RFC 9112, 9.3.1 allows.
    again: usize,
    resets: usize,
    failed: Vec<String>,
    /// Answers by their pages.
    pages: BTreeMap<String, usize>,
}

/// How a request failed.
enum Failure {
    /// The server has closed a connection before it has said anything.
    Closed,
    Reset,
    Other(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Other(format!("{kind}: {error}")),
        }
    }
}

/// Asks for a page; returns it, and whether the connection may be used again.
fn ask(stream: &mut TcpStream, keep: bool) -> Result<(String, bool), Failure> {
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: {connection}\r\n\r\n");
    match stream.write_all(request.as_bytes()) {
        // It was closed before, which it also says when it is read.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        other => other?,
    }
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|l| l.strip_prefix(name).map(|v| v.trim().to_owned()));
            let length = field("content-length:").and_then(|v| v.parse::<usize>().ok());
            let length = length.ok_or_else(|| Failure::Other(format!("no length: {head}")))?;
            if !head.starts_with("http/1.1 200") {
                return Err(Failure::Other(head));
            }
            if received.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&received[end + 4..]).trim().to_owned();
                return Ok((body, keep && field("connection:").as_deref() != Some("close")));
            }
        }
        match stream.read(&mut buffer)? {
            0 if received.is_empty() => return Err(Failure::Closed),
            0 => return Err(Failure::Other("an answer that breaks off".to_owned())),
            n => received.extend_from_slice(&buffer[..n]),
        }
    }
}

fn connect() -> Result<TcpStream, Failure> {
    let address: SocketAddr = ADDRESS.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, 10.secs())?;
    stream.set_read_timeout(Some(10.secs()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One client: a request now and then until it is told to stop.
fn client(keep: bool, stop: &AtomicBool, tally: &Mutex<Tally>) {
    let mut kept: Option<TcpStream> = None;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        next += Duration::from_secs(1) / EACH;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let reused = kept.is_some();
        let mut answer = match kept.take() {
            Some(mut stream) => ask(&mut stream, keep).map(|answer| (answer, stream)),
            None => connect().and_then(|mut stream| ask(&mut stream, keep).map(|answer| (answer, stream))),
        };
        let mut again = 0;
        if reused && matches!(answer, Err(Failure::Closed)) {
            again = 1;
            answer = connect().and_then(|mut stream| ask(&mut stream, keep).map(|answer| (answer, stream)));
        }
        let mut tally = tally.lock().expect("nobody panics with it");
        tally.asked[usize::from(keep)] += 1;
        tally.again += again;
        match answer {
            Ok(((page, goes_on), stream)) => {
                *tally.pages.entry(page).or_default() += 1;
                kept = goes_on.then_some(stream);
            }
            Err(Failure::Reset) => tally.resets += 1,
            Err(Failure::Closed) => tally.failed.push("closed without an answer".to_owned()),
            Err(Failure::Other(why)) => tally.failed.push(why),
        }
    }
}

/// Has clients ask all the time while `work` is done, half of them on connections that they keep.
fn under_load(work: impl FnOnce()) -> Tally {
    let (stop, tally) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (stop, tally) = (&stop, &tally);
            scope.spawn(move || client(number % 2 == 1, stop, tally));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    let tally = tally.into_inner().expect("nobody panicked with it");
    let all: usize = tally.asked.iter().sum();
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    if is_soak() {
        // Past the test runner's capture.
        let (failed, Tally { resets, again, pages, .. }) = (tally.failed.len(), &tally);
        let text =
            format!("{all} requests at {rate:.0}/s, {failed} failed, {resets} resets, {again} asked again: {pages:?}");
        drop(writeln!(std::io::stderr(), "{text}"));
    }
    tally
}

#[track_caller]
fn nothing_failed(tally: &Tally) {
    assert_eq!((tally.failed.as_slice(), tally.resets), (&[][..], 0), "{tally:?}");
    assert!(tally.asked.iter().all(|n| *n > 100), "hardly anybody asked: {:?}", tally.asked);
}

const SITE: &str = "
services:
  web:
    image: ${IMAGE:-nginx}
    command: ${COMMAND:-sh -c 'echo $$TURN > /usr/share/nginx/html/index.html; exec nginx -g \"daemon off;\"'}
    environment: {TURN: '${TURN}'}
    ports: ['8080:80']
    healthcheck:
      test: ${TEST:-bash -c '</dev/tcp/127.0.0.1/80'}
      interval: 200ms
      retries: 20
    deploy:
      update_config:
        order: start-first
        failure_action: rollback
  asker:
    image: busybox
    command: sleep 1000
";

fn site() -> TestProject {
    let site = TestProject::with_images("site", &["busybox", "nginx"], SITE);
    site.write(".env", "TURN=t0\n");
    site
}

fn web_ids(site: &TestProject) -> Vec<(String, String)> {
    let of_web = site.records().into_iter().filter(|r| r.service.as_str() == "web");
    let mut ids: Vec<_> = of_web.map(|r| (r.name.to_string(), r.id.to_string())).collect();
    ids.sort();
    ids
}

#[test]
fn no_request_is_lost_through_replaces_under_load() {
    require_root!("nginx");
    replaced_under_load(&site(), if is_soak() { 10 } else { 3 });
}

#[test]
fn nor_is_one_where_iptables_has_the_ports() {
    require_root!("nginx");
    let site = site();
    if let Err(why) = can("iptables-nft") {
        host::leave_out(module_path!(), &format!("iptables-nft: {why}"));
        return;
    }
    site.host().set_firewall("iptables-nft");
    replaced_under_load(&site, 2);
}

/// Replaces the site so many times under load, while a neighbour looks its name up.
fn replaced_under_load(site: &TestProject, replaces: usize) {
    site.hoist(&["version"]).ok();
    let before = site.host().objects();
    site.up();
    assert_eq!(net::page(ADDRESS, "/").trim(), "t0");
    let first = web_ids(site);
    let asker = site.pid("asker");
    let stop = AtomicBool::new(false);
    let tally = thread::scope(|scope| {
        // A neighbour that looks the name up all the time: it always has one address, and that one answers.
        let neighbour = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            net::in_netns(net::netns_of(asker), || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = net::dns(asker, "web", Kind::A);
                    let addresses: Vec<Ipv4Addr> = answer.records.iter().filter_map(|r| r.parse().ok()).collect();
                    assert_eq!((answer.code, addresses.len()), (0, 1), "{answer:?}");
                    let page =
                        net::http_get((addresses[0], 80).into(), "/").unwrap_or_else(|e| panic!("{answer:?}: {e}"));
                    seen.insert((addresses[0], page));
                    thread::sleep(Duration::from_millis(10));
                }
            });
            seen
        });
        let tally = under_load(|| {
            for number in 1..=replaces {
                site.write(".env", &format!("TURN=t{number}\n"));
                let told = site.up();
                assert!(told.contains("Taken over") || told.contains("Replaced"), "{told}");
                assert_eq!(net::page(ADDRESS, "/").trim(), format!("t{number}"));
                assert_eq!(web_ids(site).len(), 1, "{:?}", web_ids(site));
            }
        });
        stop.store(true, Ordering::Relaxed);
        let seen = neighbour.join().expect("the neighbour always had an answer");
        assert!(seen.len() > replaces, "{seen:?}");
        tally
    });
    nothing_failed(&tally);
    assert_eq!(tally.pages.len(), replaces + 1, "each had its turn: {:?}", tally.pages);
    assert_ne!(web_ids(site), first);
    site.hoist(&["down", "-v"]).ok();
    site.host().is_again(&before);
}

/// The site as it was after its first `up`, with the same containers, at work all the time.
#[track_caller]
fn serves(site: &TestProject, ids: &[(String, String)], page: &str, after: &str) {
    assert_eq!(web_ids(site), ids, "after {after}");
    assert_eq!(net::page(ADDRESS, "/").trim(), page, "after {after}");
}

#[test]
fn what_is_broken_never_serves_and_the_old_one_goes_on() {
    require_root!("nginx");
    let site = site();
    site.hoist(&["version"]).ok();
    let before = site.host().objects();
    site.up();
    assert_eq!(net::page(ADDRESS, "/").trim(), "t0");
    let old = web_ids(&site);
    let pid = site.pid("web");
    let broken = [
        ("a command that is not there", "COMMAND=/no/such/program\n", "exited (127)"),
        ("a command that ends", "COMMAND=sh -c 'echo broken; exit 3'\n", "exited (3)"),
        ("another image", "IMAGE=busybox\nCOMMAND=sleep 1000\n", "container site-web-1 is unhealthy"),
        ("a check that says no", "TEST=\"false\"\n", "container site-web-1 is unhealthy"),
    ];
    let tally = under_load(|| {
        for (what, text, wanted) in broken {
            site.write(".env", &format!("TURN=t1\n{text}"));
            let told = site.hoist(&["up", "-d"]).code(1).stderr;
            assert!(told.contains(wanted) && told.contains("are back"), "{what}: {told}");
            serves(&site, &old, "t0", what);
            assert_eq!(site.pid("web"), pid, "it was never stopped: {what}");
        }
    });
    nothing_failed(&tally);
    assert_eq!(tally.pages.keys().collect::<Vec<_>>(), ["t0"], "nobody met a broken one");

    // One that starts again and again is no better than one that stays down.
    let compose = SITE.replace("    ports:", "    restart: always\n    ports:");
    site.write("compose.yaml", &compose);
    site.write(".env", "TURN=t1\nCOMMAND=sh -c 'exit 3'\n");
    let told = site.hoist(&["up", "-d"]).code(1).stderr;
    assert!(told.contains("exited (3)"), "{told}");
    serves(&site, &old, "t0", "a loop");

    // Left for a look, it does not serve either; the next one goes on.
    let compose = SITE.replace("failure_action: rollback", "failure_action: pause");
    site.write("compose.yaml", &compose);
    site.write(".env", "TURN=t1\nTEST=\"false\"\n");
    let told = site.hoist(&["up", "-d"]).code(1).stderr;
    assert!(told.contains("All is left as it is, for a look"), "{told}");
    assert_eq!(net::page(ADDRESS, "/").trim(), "t0");
    let table = site.hoist(&["ps"]).ok();
    let rows: Vec<&str> = table.lines().filter(|line| line.contains("site-web-1")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows.iter().filter(|row| row.contains("8080->80")).count(), 1, "one has the port:\n{table}");
    site.write(".env", "TURN=t2\n");
    let told = site.up();
    assert!(told.contains("those are back"), "{told}");
    assert_eq!(net::page(ADDRESS, "/").trim(), "t2");
    site.hoist(&["down", "-v"]).ok();
    site.host().is_again(&before);
}

#[test]
fn a_dry_run_says_how() {
    require_root!("nginx");
    let site = site();
    site.up();
    site.write(".env", "TURN=t1\n");
    let told = site.hoist(&["plan"]).ok();
    let row = told.lines().find(|line| line.contains("site-web-1")).unwrap_or_else(|| panic!("{told}"));
    assert_eq!(row, "~ replace  container  site-web-1 (configuration changed; the new one first)");
    site.down();
}

/// What is replaced without a wait that costs time: what counts is where something is killed.
const QUICK: &str = "
services:
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo $$TURN > /www/index.html; exec httpd -f -p 80 -h /www'
    stop_signal: SIGKILL
    environment: {TURN: '${TURN}'}
    ports: ['8080:80']
    healthcheck: {test: wget -q -O /dev/null http://127.0.0.1/, interval: 100ms}
    deploy: {update_config: {order: start-first}}
  other:
    image: busybox
    command: sleep 1000
";

#[test]
fn wherever_it_is_killed_one_serves_and_nothing_is_left() {
    require_root!();
    let site = TestProject::new("site", QUICK);
    site.write(".env", "TURN=t0\n");
    site.hoist(&["version"]).ok();
    let before = site.host().objects();
    site.up();
    site.write(".env", "TURN=t1\n");
    let (clean, met) = run(&site, None, &["up", "-d"]);
    let _ = clean.code(0);
    let mut turn = "t1".to_owned();
    let (mut tried, mut back) = (0, 0);
    let nexts: [&[&str]; 5] = [&["ps"], &["exec", "-T", "other", "true"], &["start"], &["top"], &["up", "-d", "other"]];
    for (number, fault) in faults("command", &met).into_iter().enumerate() {
        let old = web_ids(&site);
        let next = format!("n{number}");
        site.write(".env", &format!("TURN={next}\n"));
        let (up, met) = run(&site, Some(&fault), &["up", "-d"]);
        let killed = struck(&fault, &met, &up);
        tried += usize::from(killed);
        // Somebody serves at once, whoever it is.
        let page = net::page(ADDRESS, "/").trim().to_owned();
        let command = nexts[number % nexts.len()];
        let after = format!("{fault} (then {page}), then {command:?}");
        assert!([&turn, &next].contains(&&page), "after {after}");
        site.hoist(command).ok();
        let now = web_ids(&site);
        assert_eq!(now.len(), 1, "one is left after {after}: {now:?}");
        assert_eq!(now[0].0, "site-web-1", "after {after}");
        let wanted = if now == old { turn } else { next };
        assert_eq!(net::page(ADDRESS, "/").trim(), wanted, "after {after}");
        let answer = net::dns(site.pid("other"), "web", Kind::A);
        let address = site.address("web");
        assert_eq!(answer.records, [address.to_string()], "after {after}");
        back += usize::from(now == old);
        turn = wanted;
    }
    assert!(back > 3 && back < tried, "{back} of {tried} were taken back");
    site.hoist(&["down", "-v"]).ok();
    site.host().is_again(&before);
    tell("up that rolls", tried, met.len());
}

#[test]
fn a_worker_that_dies_while_ports_change_hands_is_replaced() {
    require_root!("nginx");
    for fault in ["worker:lead.ports@1", "worker:lead.names@1"] {
        let site = site();
        let (up, _) = run(&site, Some(fault), &["up", "-d"]);
        let _ = up.code(0);
        let worker = site.supervisor().worker_pid;
        assert_eq!(net::page(ADDRESS, "/").trim(), "t0"); // nginx may need a moment
        let tally = under_load(|| {
            site.write(".env", "TURN=t1\n");
            site.up();
        });
        assert_ne!(site.supervisor().worker_pid, worker, "{fault} struck");
        nothing_failed(&tally);
        assert_eq!(net::page(ADDRESS, "/").trim(), "t1");
        let answer = net::dns(site.pid("asker"), "web", Kind::A);
        assert_eq!(answer.records, [site.address("web").to_string()]);
        site.down();
    }
}

#[test]
fn replicas_are_replaced_in_lots_and_one_always_answers() {
    require_root!();
    let site = TestProject::new(
        "site",
        "
services:
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo $$TURN > /www/index.html; exec httpd -f -p 80 -h /www'
    stop_signal: SIGKILL
    environment: {TURN: '${TURN}'}
    healthcheck: {test: wget -q -O /dev/null http://127.0.0.1/, interval: 100ms}
    deploy:
      replicas: 4
      update_config: {order: '${ORDER}', parallelism: 2, delay: 500ms, monitor: 200ms}
  asker:
    image: busybox
    command: sleep 1000
",
    );
    site.write(".env", "TURN=t0\nORDER=start-first\n");
    site.up();
    let asker = site.pid("asker");
    for (turn, order) in [("t1", "start-first"), ("t2", "stop-first"), ("t3", "start-first")] {
        site.write(".env", &format!("TURN={turn}\nORDER={order}\n"));
        let up = site.spawn(&["up", "-d"]);
        let mut least = usize::MAX;
        let begun = Instant::now();
        loop {
            let answer = net::dns(asker, "web", Kind::A);
            least = least.min(answer.records.len());
            let records = site.records();
            let web = records.iter().filter(|r| r.service.as_str() == "web");
            if web.filter(|r| r.aside.is_none() && r.spec.to_string().contains(&format!("TURN={turn}"))).count() == 4 {
                break;
            }
            assert!(begun.elapsed() < 60.secs(), "never: {turn}");
            thread::sleep(Duration::from_millis(5));
        }
        let _ = up.finish(60.secs()).code(0);
        assert!(least >= if order == "start-first" { 4 } else { 2 }, "{least} with {order}");
        assert!(begun.elapsed() > Duration::from_millis(500), "there is a delay between the lots");
        assert_eq!(web_ids(&site).len(), 4);
        for record in site.records().iter().filter(|r| r.service.as_str() == "web") {
            let address = SocketAddr::from((record.endpoints[0].address, 80));
            assert_eq!(net::page(&address.to_string(), "/").trim(), turn);
        }
    }
    site.down();
}
