//! What the tests share: a host and projects of their own, waiting with a deadline, and questions over the network.

pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod net;
pub(crate) mod project;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod tmux;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Returns the hoist that is tested: the one that `HOIST_TEST_BINARY` names, such as the release, else cargo's.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let named = std::env::var_os("HOIST_TEST_BINARY").filter(|path| !path.is_empty());
        named.map_or_else(|| env!("CARGO_BIN_EXE_hoist").into(), PathBuf::from)
    })
}

/// Seconds as a word.
pub(crate) trait Secs {
    /// Returns so many seconds.
    fn secs(self) -> Duration;
}

impl Secs for u64 {
    fn secs(self) -> Duration {
        Duration::from_secs(self)
    }
}

/// Asks again and again until there is an answer; fails the test with `what` after `at_most`.
#[track_caller]
pub(crate) fn eventually<T>(at_most: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < at_most, "not within {at_most:?}: {what}");
        pause();
    }
}

/// Rests a moment between two looks at the host.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Returns `Some(())` when true, for [`eventually`].
pub(crate) fn holds(fact: bool) -> Option<()> {
    fact.then_some(())
}

/// Returns whether the full counts are asked for (`./dev soak`).
pub(crate) fn is_soak() -> bool {
    std::env::var_os("HOIST_SOAK").is_some_and(|v| v == "1")
}

/// Leaves the test, visibly, when this is not root or an image is missing; fails it instead when `HOIST_REQUIRE_ROOT`
/// is set. busybox is always needed; name what is needed besides.
macro_rules! require_root {
    ($($image:literal),*) => {
        if let Err(why) = $crate::support::host::requirements(&["busybox", $($image),*]) {
            $crate::support::host::skip(module_path!(), line!(), &why);
            return;
        }
    };
}
pub(crate) use require_root;
