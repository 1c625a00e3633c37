//! Where a copy lands: docker's rules for files and directories, and what an argument of `cp` means.
//!
//! Invariant: pure.

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source<'a> {
    /// It is a directory.
    pub(super) directory: bool,
    /// Its path as it was given.
    pub(super) path: &'a [u8],
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    File,
    Directory,
}

/// Where it lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Landing {
    /// In the destination, a directory, under this name.
    Inside(Vec<u8>),
    /// The source's entries go into the destination, a directory.
    Content,
    /// The destination is the copy's own name.
    Itself,
}

/// Why it cannot be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A path with a slash at its end is a file.
    SourceIsNoDirectory,
    /// The destination, with a slash at its end, is a file.
    DestinationIsNoDirectory,
    /// A directory onto a file.
    OntoFile,
    /// A file into a directory that is not there.
    NoDirectory,
}

/// Returns whether a path says that it is a directory: by `/` or `/.` at its end, or as `.` or `..`.
pub(super) fn says_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || is_content(path)
}

/// Returns whether a path means what is in a directory and not the directory.
fn is_content(path: &[u8]) -> bool {
    matches!(base(path), b"" | b"." | b"..") && !path.is_empty()
}

/// Returns a path's last name, whatever slashes follow it; empty for the root.
pub(super) fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    let start = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    &path[start..end]
}

/// Returns what is before a path's last name: empty for a bare name.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    let cut = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    &path[..cut]
}

/// Returns where a copy lands.
pub(super) fn land(source: Source<'_>, destination: &[u8], there: There) -> Result<Landing, Refusal> {
    if !source.directory && says_directory(source.path) {
        return Err(Refusal::SourceIsNoDirectory);
    }
    match there {
        There::Directory if source.directory && is_content(source.path) => Ok(Landing::Content),
        There::Directory => Ok(Landing::Inside(base(source.path).to_vec())),
        There::File if source.directory => Err(Refusal::OntoFile),
        There::File if says_directory(destination) => Err(Refusal::DestinationIsNoDirectory),
        There::Nothing if !source.directory && says_directory(destination) => Err(Refusal::NoDirectory),
        There::File | There::Nothing => Ok(Landing::Itself),
    }
}

/// Splits an argument into a service, if it names one, and a path. As in docker compose, what is absolute or begins with
/// a dot is a path of the host, colons or not.
#[must_use]
pub fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((service, path)) if !argument.starts_with(['/', '.']) => (Some(service), path),
        _ => (None, argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lands_where_docker_puts_it() {
        let inside = |name: &str| Ok(Landing::Inside(name.as_bytes().to_vec()));
        let (file, dir) = (false, true);
        for (is_dir, source, destination, there, wanted) in [
            (file, "a/f", "d", There::Directory, inside("f")),
            (file, "a/f", "d/", There::Directory, inside("f")),
            (file, "a/f", "g", There::File, Ok(Landing::Itself)),
            (file, "a/f", "g", There::Nothing, Ok(Landing::Itself)),
            (file, "a/f", "g/", There::Nothing, Err(Refusal::NoDirectory)),
            (file, "a/f", "g/.", There::Nothing, Err(Refusal::NoDirectory)),
            (file, "a/f", "g/", There::File, Err(Refusal::DestinationIsNoDirectory)),
            (file, "a/f/", "d", There::Directory, Err(Refusal::SourceIsNoDirectory)),
            (file, "a/f/.", "d", There::Directory, Err(Refusal::SourceIsNoDirectory)),
            (dir, "a/s", "d", There::Directory, inside("s")),
            (dir, "a/s/", "d", There::Directory, inside("s")),
            (dir, "a/s/.", "d", There::Directory, Ok(Landing::Content)),
            (dir, ".", "d", There::Directory, Ok(Landing::Content)),
            (dir, "/", "d", There::Directory, Ok(Landing::Content)),
            (dir, "a/..", "d", There::Directory, Ok(Landing::Content)),
            (dir, "a/s", "n", There::Nothing, Ok(Landing::Itself)),
            (dir, "a/s/.", "n/", There::Nothing, Ok(Landing::Itself)),
            (dir, "a/s", "g", There::File, Err(Refusal::OntoFile)),
        ] {
            let source = Source { directory: is_dir, path: source.as_bytes() };
            assert_eq!(land(source, destination.as_bytes(), there), wanted, "{source:?} {destination} {there:?}");
        }
    }

    #[test]
    fn an_argument_names_a_service_before_its_first_colon() {
        assert_eq!(split("web:/etc/x:y"), (Some("web"), "/etc/x:y"));
        assert_eq!(split("/tmp/a:b"), (None, "/tmp/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("a"), (None, "a"));
        assert_eq!(split("-"), (None, "-"));
    }

    #[test]
    fn a_path_has_a_last_name_and_what_is_before() {
        for (path, before, last) in
            [("a", "", "a"), ("/a/", "/", "a"), ("a/b//", "a/", "b"), ("/", "", ""), ("", "", "")]
        {
            assert_eq!(
                (parent(path.as_bytes()), base(path.as_bytes())),
                (before.as_bytes(), last.as_bytes()),
                "{path}"
            );
        }
    }
}
