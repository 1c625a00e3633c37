//! The build context: a directory, what `.dockerignore` hides of it, and its files by paths that cannot leave it.
//!
//! Rules of `.dockerignore`: Docker's "Build context", moby's `patternmatcher`. The last pattern that matches a path or
//! one of its parents decides.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tokio::sync::OnceCell;

use crate::image::mount::portable_xattrs;

/// Largest list of a tree that was fetched, in bytes.
const IGNORE_MAX: u64 = 16 << 20;

/// One line of a `.dockerignore`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    glob: Vec<u8>,
    line: usize,
}

impl Pattern {
    /// Parses a line that is no comment; `None` when it says nothing.
    fn parse(line: &[u8], number: usize) -> Option<Self> {
        let line = line.trim_ascii();
        let (negated, glob) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest.trim_ascii()));
        let glob = clean(glob);
        (!glob.is_empty()).then_some(Self { negated, glob, line: number })
    }
}

/// All of a `.dockerignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

impl Ignore {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.starts_with(b"#"));
        Self { patterns: lines.filter_map(|(i, line)| Pattern::parse(line, i + 1)).collect() }
    }

    /// Returns what a list of patterns hides; none of them is a comment.
    pub(crate) fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns.into_iter().enumerate();
        Self { patterns: patterns.filter_map(|(i, pattern)| Pattern::parse(pattern.as_bytes(), i + 1)).collect() }
    }

    /// Reads what hides files of the context `dir`: the Dockerfile's own list beside it, else that of the context.
    ///
    /// # Errors
    /// When one is there and cannot be read, or has a pattern that is none.
    pub(crate) fn load(dir: &Path, dockerfile: Option<&Path>) -> io::Result<Self> {
        Self::first_of(own_list(dockerfile).into_iter().chain([dir.join(".dockerignore")]), |path| std::fs::read(path))
    }

    fn first_of(
        lists: impl IntoIterator<Item = PathBuf>,
        read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> io::Result<Self> {
        for path in lists {
            match read(&path) {
                Ok(text) => {
                    return match mistake(&text) {
                        Some(what) => {
                            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display())))
                        }
                        None => Ok(Self::parse(&text)),
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self::default())
    }

    /// Takes the pattern `*` away, which hides everything.
    pub(crate) fn without_star(mut self) -> Self {
        self.patterns.retain(|pattern| pattern.negated || pattern.glob != b"*");
        self
    }

    /// Returns whether there is no pattern.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns the number of the line that hides `path`, if one does.
    pub(crate) fn hides(&self, path: &[u8]) -> Option<usize> {
        let mut hidden = None;
        for pattern in &self.patterns {
            if pattern.negated == hidden.is_none() {
                continue; // it could change nothing
            }
            let mut candidate = path;
            loop {
                if glob_matches(&pattern.glob, candidate) {
                    hidden = (!pattern.negated).then_some(pattern.line);
                    break;
                }
                let Some(slash) = candidate.iter().rposition(|b| *b == b'/') else { break };
                candidate = &candidate[..slash];
            }
        }
        hidden
    }

    /// Returns whether a pattern may show something again below a hidden directory.
    pub(crate) fn may_show_below(&self, directory: &[u8]) -> bool {
        self.patterns.iter().filter(|pattern| pattern.negated).any(|pattern| {
            let globs = pattern.glob.split(|b| *b == b'/');
            let mut pairs = globs.zip(directory.split(|b| *b == b'/'));
            pairs.find_map(|(glob, name)| match glob {
                glob if glob.windows(2).any(|two| two == b"**") => Some(true),
                glob if !glob_matches(glob, name) => Some(false),
                _ => None,
            }) != Some(false)
        })
    }

    /// Whether something in a hidden directory may be shown again.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|p| p.negated)
    }
}

/// Returns where a Dockerfile's own list is.
fn own_list(dockerfile: Option<&Path>) -> Option<PathBuf> {
    let mut own = dockerfile?.as_os_str().to_owned();
    own.push(".dockerignore");
    Some(own.into())
}

/// Cleans a path lexically, as Go's `filepath.Clean` does on one below `/`; no slash at its ends.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Matches a whole path: `*` and `?` stay within a component, `**` crosses them, `[a-z]` and `\` as in Go. It takes as long as
/// pattern times path, whatever stars there are.
pub(crate) fn glob_matches(glob: &[u8], path: &[u8]) -> bool {
    // Where in the path what was read of the pattern can end.
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    let mut rest = glob;
    while !rest.is_empty() && ends.contains(&true) {
        let mut next = vec![false; path.len() + 1];
        let places = (0..=path.len()).filter(|i| ends[*i]);
        rest = match rest {
            // `**/` is any number of directories, none too; `**` at the end is anything.
            [b'*', b'*', after @ ..] => {
                let after = after.strip_prefix(b"/").map_or((after, false), |after| (after, true));
                let from = places.min().unwrap_or_default();
                for i in from..=path.len() {
                    next[i] = ends[i] || !after.1 || i > from && path[i - 1] == b'/';
                }
                after.0
            }
            [b'*', after @ ..] => {
                for i in places {
                    let end = path[i..].iter().position(|b| *b == b'/').map_or(path.len(), |n| i + n);
                    // Those behind one that was here already are there already.
                    for place in next[i..=end].iter_mut().take_while(|place| !**place) {
                        *place = true;
                    }
                }
                after
            }
            [b'?', after @ ..] => {
                for i in places {
                    if let Some((_, tail)) = first(&path[i..]).filter(|(c, _)| *c != '/') {
                        next[path.len() - tail.len()] = true;
                    }
                }
                after
            }
            [b'[', class_and_rest @ ..] => {
                let Some((_, after)) = class(class_and_rest, 'x') else { return false };
                for i in places {
                    let Some((c, tail)) = first(&path[i..]).filter(|(c, _)| *c != '/') else { continue };
                    if class(class_and_rest, c).is_some_and(|(fits, _)| fits) {
                        next[path.len() - tail.len()] = true;
                    }
                }
                after
            }
            [b'\\', literal, after @ ..] | [literal, after @ ..] => {
                for i in places {
                    if path.get(i) == Some(literal) {
                        next[i + 1] = true;
                    }
                }
                after
            }
            [] => break,
        };
        ends = next;
    }
    ends[path.len()]
}

/// Takes the first character off; a byte that is no UTF-8 is one by itself, as in Go.
fn first(text: &[u8]) -> Option<(char, &[u8])> {
    let chunk = text[..text.len().min(4)].utf8_chunks().next()?;
    let c = chunk.valid().chars().next();
    Some((c.unwrap_or(char::REPLACEMENT_CHARACTER), &text[c.map_or(1, char::len_utf8)..]))
}

/// Reads a class after its `[`: whether `c` is in it, and what follows; `None` if it is none.
fn class(glob: &[u8], c: char) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match glob {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, glob),
    };
    let mut found = false;
    loop {
        let (low, after) = member(rest)?;
        let (high, after) = match after {
            [b'-', after @ ..] => member(after)?,
            _ => (low, after),
        };
        found |= (low..=high).contains(&c);
        rest = after;
        if let [b']', after @ ..] = rest {
            return Some((found != negated, after));
        }
    }
}

/// Reads a character of a class; what has a meaning there is escaped.
fn member(glob: &[u8]) -> Option<(char, &[u8])> {
    match glob {
        [b'-' | b']', ..] => None,
        [b'\\', rest @ ..] => first(rest),
        _ => first(glob),
    }
}

/// Returns whether Go's `filepath.Match` would take a pattern.
fn is_glob(mut glob: &[u8]) -> bool {
    loop {
        let rest = match glob {
            [] => return true,
            [b'\\', rest @ ..] => first(rest).map(|(_, rest)| rest),
            [b'[', rest @ ..] => class(rest, 'x').map(|(_, rest)| rest),
            [_, rest @ ..] => Some(rest),
        };
        let Some(rest) = rest else { return false };
        glob = rest;
    }
}

/// Returns what is wrong with a `.dockerignore`, if something is.
fn mistake(text: &[u8]) -> Option<String> {
    let lines = text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.starts_with(b"#"));
    for (i, line) in lines {
        let shown = String::from_utf8_lossy(line.trim_ascii());
        if line.trim_ascii() == b"!" {
            return Some(format!("line {} excepts nothing: write a pattern behind the `!`", i + 1));
        }
        if !is_glob(line.trim_ascii()) {
            return Some(format!(
                "line {}, `{shown}`, is no pattern: write `\\` before a `[` that begins no class",
                i + 1
            ));
        }
    }
    None
}

/// A tree of files that is copied from: a build context, or the files of an image.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    pub(crate) ignore: Ignore,
    /// What messages call it.
    pub(crate) title: String,
    /// It is an image's: links in it lead to its own root, and its files keep their owner.
    pub(crate) is_image: bool,
    /// Where a build context is on the host.
    pub(crate) dir: Option<PathBuf>,
    /// The time of the commit that it is a checkout of, once somebody has asked.
    pub(crate) commit_time: OnceCell<Option<i64>>,
}

/// Something in the context.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path in the context, clean.
    pub(crate) path: Vec<u8>,
    pub(crate) stat: Stat,
    /// Target of a symbolic link.
    pub(crate) link: Vec<u8>,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl Context {
    /// Opens a build context; `dockerfile` may have an ignore file of its own beside it, which wins.
    pub(crate) fn open(dir: &Path, dockerfile: Option<&Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        let ignore = Ignore::load(dir, dockerfile)?;
        Ok(Self {
            root,
            ignore,
            title: "the build context".into(),
            is_image: false,
            dir: Some(dir.to_owned()),
            commit_time: OnceCell::new(),
        })
    }

    /// Opens a directory whose files come from elsewhere.
    pub(crate) fn fetched(dir: &Path, title: String) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        Ok(Self { root, ignore: Ignore::default(), title, is_image: false, dir: None, commit_time: OnceCell::new() })
    }

    /// As [`Self::open`], of a directory whose files come from elsewhere: the lists are read as all of it, and `dockerfile` is
    /// a path in it, unless it is absolute.
    pub(crate) fn of_tree(dir: &Path, dockerfile: Option<&Path>, title: String) -> io::Result<Self> {
        let mut context = Self::fetched(dir, title)?;
        let lists = own_list(dockerfile).into_iter().chain([PathBuf::from(".dockerignore")]);
        context.ignore = Ignore::first_of(lists, |path| match path.is_absolute() {
            true => std::fs::read(path),
            false => context.read_some(&clean(path.as_os_str().as_encoded_bytes()), IGNORE_MAX),
        })?;
        Ok(context)
    }

    /// Reads a whole file of at most so many bytes.
    pub(crate) fn read_some(&self, path: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let (file, mut bytes) = (self.read(path)?, Vec::new());
        if file.take(limit + 1).read_to_end(&mut bytes)? as u64 > limit {
            return Err(io::Error::other(format!("it has more than {} MiB", limit >> 20)));
        }
        Ok(bytes)
    }

    /// Returns a context that is the files of an image or a stage, from the root of a mount of them.
    pub(crate) fn of_image(root: OwnedFd, title: String) -> Self {
        Self { root, ignore: Ignore::default(), title, is_image: true, dir: None, commit_time: OnceCell::new() }
    }

    /// Opens a path below the root. A link that leaves a build context fails with `EXDEV` (openat2(2), `RESOLVE_BENEATH`).
    fn at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let within = if self.is_image { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let resolve = within | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Returns the extended attributes of a file that are part of it: what it may do, and what users wrote.
    pub(crate) fn xattrs(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        portable_xattrs(self.at(path, OFlags::RDONLY | OFlags::NONBLOCK)?)
    }

    /// Returns what a path leads to, links followed.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Found, Errno> {
        let stat = rustix::fs::fstat(self.at(path, OFlags::PATH)?)?;
        Ok(Found { path: path.to_vec(), stat, link: Vec::new() })
    }

    /// Opens a file that [`Self::find`] or [`Self::children`] found; it must still be one.
    pub(crate) fn read(&self, path: &[u8]) -> io::Result<File> {
        let file = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no longer a file"));
        }
        Ok(file.into())
    }

    /// Returns what is in a directory, sorted, links not followed.
    pub(crate) fn children(&self, path: &[u8]) -> io::Result<Vec<Found>> {
        let dir = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut all = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let link = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => rustix::fs::readlinkat(&dir, name, Vec::new())?.into_bytes(),
                _ => Vec::new(),
            };
            let path = if path.is_empty() { name.to_bytes().to_vec() } else { [path, b"/", name.to_bytes()].concat() };
            all.push(Found { path, stat, link });
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Returns whether a source has wildcards that fit nothing, in a directory that is there: then it copies nothing
    /// (moby/buildkit#1266), and is no mistake.
    pub(crate) fn fits_nothing(&self, source: &[u8]) -> io::Result<bool> {
        let source = clean(source);
        let parts: Vec<&[u8]> = source.split(|b| *b == b'/').collect();
        let is_wild = |part: &&[u8]| part.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
        let Some(first) = parts.iter().position(is_wild) else { return Ok(false) };
        let before = parts.get(..first).unwrap_or_default().join(&b'/');
        let is_hidden = !before.is_empty() && self.ignore.hides(&before).is_some() && !self.ignore.has_exceptions();
        let is_there = !is_hidden && self.find(&before).is_ok_and(|found| found.kind() == FileType::Directory);
        Ok(is_there && self.glob(&source)?.is_empty())
    }

    /// Returns the paths that a source names: itself, or all that fit its wildcards and are not hidden.
    pub(crate) fn glob(&self, source: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let source = clean(source);
        if !source.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
            return Ok(vec![source]);
        }
        let mut found = vec![Vec::new()];
        for part in source.split(|b| *b == b'/') {
            let mut next = Vec::new();
            for dir in found {
                match self.find(&dir) {
                    Ok(dir) if dir.kind() == FileType::Directory => {}
                    _ => continue,
                }
                for child in self.children(&dir)? {
                    let name = child.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
                    // In a source, `**` is just `*`.
                    if component_matches(part, name) {
                        next.push(child.path);
                    }
                }
            }
            found = next;
        }
        found.retain(|path| self.ignore.hides(path).is_none());
        Ok(found)
    }
}

fn component_matches(part: &[u8], name: &[u8]) -> bool {
    let mut single = part.to_vec();
    single.dedup_by(|a, b| *a == b'*' && *b == b'*');
    glob_matches(&single, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{go_strings, say, skip};

    #[test]
    fn patterns_match_as_in_docker() {
        for (glob, path, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a*", "abc", true),
            ("**", "a/b/c", true),
            ("**/b", "b", true),
            ("**/b", "a/x/b", true),
            ("**/b", "ab", false),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("?.txt", "a.txt", true),
            ("?.txt", "/.txt", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a-c]x", "dx", false),
            ("[a", "a", false),
            ("[x-]", "x", false),
            ("a?b", "a☺b", true),
            ("[а-я]", "ж", true),
            ("?", "\u{1f600}", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*.md", "x/a.md", false),
            ("**/*.md", "x/a.md", true),
        ] {
            assert_eq!(glob_matches(glob.as_bytes(), path.as_bytes()), expected, "{glob} {path}");
        }
    }

    #[test]
    fn the_last_pattern_wins_and_parents_count() {
        let ignore = Ignore::parse(
            b"\xef\xbb\xbf# comment\n  node_modules/  \n*.log\n!keep.log\n/secret\ndocs\n!docs/README.md\n\n!\n",
        );
        for (path, line) in [
            ("node_modules/a/b", Some(2)),
            ("x/node_modules", None),
            ("a.log", Some(3)),
            ("keep.log", None),
            ("secret", Some(5)),
            ("docs/x", Some(6)),
            ("docs/README.md", None),
            ("src", None),
        ] {
            assert_eq!(ignore.hides(path.as_bytes()), line, "{path}");
        }
        assert!(ignore.has_exceptions());
        assert_eq!(Ignore::parse(b"**\n!a\n").hides(b"a"), None);
        assert_eq!(Ignore::parse(b"*\n!a\nb\n").without_star().hides(b"c"), None);
        let list = Ignore::of(["#*#", " b/ "]);
        assert_eq!((list.hides(b"#x#"), list.hides(b"b/c"), list.hides(b"c")), (Some(1), Some(2), None));
        assert!(Ignore::of(["", "!"]).is_empty());
        let shown = Ignore::parse(b"*\n!a/b*/c\n!README\n");
        for (directory, may) in [("a", true), ("a/b1", true), ("a/b1/c", true), ("a/x", false), ("b", false)] {
            assert_eq!(shown.may_show_below(directory.as_bytes()), may, "{directory}");
        }
        assert!(Ignore::parse(b"!x/**/y\n").may_show_below(b"x/z/z"));
        assert!(glob_matches(b"?[^a]", b"\xff\xfe"), "bytes that are no text");
        // What went through all ways to read the stars would not come back.
        assert!(!glob_matches(&b"*a".repeat(200), &b"a".repeat(199)));
        assert!(glob_matches(&b"**a".repeat(200), &b"/a".repeat(200)));
        assert!(is_glob(&b"a".repeat(1 << 20)));
        assert_eq!(clean(b"./a//b/../c/"), b"a/c");
        assert_eq!(clean(b"../../x"), b"x");
    }

    #[test]
    fn a_pattern_that_is_none_is_told_with_its_line() {
        for (text, expected) in [
            (&b"a\n[b\n"[..], Some("line 2, `[b`, is no pattern")),
            (b"# [\n!\n", Some("line 2 excepts nothing")),
            (b"a\\", Some("line 1")),
            (b"[a-z]*\n!\\[\n", None),
        ] {
            let told = mistake(text);
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        let dir = tempfile::tempdir().expect("writable");
        std::fs::write(dir.path().join(".dockerignore"), "[").expect("writable");
        assert!(Ignore::load(dir.path(), Some(Path::new("/nonexistent/Dockerfile"))).is_err());
    }

    /// Compares with moby's own tests (`docs/conformance.md`). `HOIST_CORPUS_PATTERNMATCHER` is the directory of a source
    /// tree of moby/patternmatcher.
    #[test]
    fn patterns_match_as_in_moby() {
        let Some(tree) = std::env::var_os("HOIST_CORPUS_PATTERNMATCHER") else {
            return skip("HOIST_CORPUS_PATTERNMATCHER is not set");
        };
        let text = std::fs::read_to_string(Path::new(&tree).join("patternmatcher_test.go")).expect("readable");
        let part = |from: &str, to: &str| {
            let start = text.find(from).expect("there");
            let end = start + text[start..].find(to).expect("there");
            text[start..end].lines().map(str::trim).filter(|line| line.starts_with('{')).collect::<Vec<_>>()
        };
        let mut differing = Vec::new();
        let mut total = 0;
        let mut check = |line: &str, patterns: &[String], path: &str, expected: bool| {
            total += 1;
            let ignore = Ignore::of(patterns.iter().map(String::as_str));
            let hidden = ignore.hides(&clean(path.as_bytes())).is_some();
            if hidden != expected {
                differing.push(line.to_owned());
            }
        };
        for line in part("func TestMatches(", "t.Run(") {
            let Some((mut patterns, path)) =
                go_strings(line).split_last().map(|(path, all)| (all.to_vec(), path.clone()))
            else {
                continue;
            };
            patterns.retain(|pattern| !pattern.is_empty());
            check(line, &patterns, &path, line.contains(", true}"));
        }
        for line in part("var matchTests = ", "\n}\n") {
            let [pattern, path] = &go_strings(line)[..] else { panic!("{line}") };
            check(line, std::slice::from_ref(pattern), path, line.contains(", true, nil}"));
        }
        say(&format!("patternmatcher_test.go: {} of {total}\n", total - differing.len()));
        assert!(total > 100);
        assert_eq!(differing, [""; 0]);
    }
}
