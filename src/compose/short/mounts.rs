//! `[SOURCE:]TARGET[:OPTIONS]` of a service's `volumes`.
//!
//! As in docker compose a single letter before a colon is the drive of Windows, and a source is a path exactly when it
//! begins with `.`, `/`, `~`, `\\` or a drive.

/// A short entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShortMount {
    /// Volume or path; `None` is an anonymous volume.
    pub(crate) source: Option<String>,
    /// Path in the container.
    pub(crate) target: String,
    /// Whether the source is a path of the host.
    pub(crate) bind: bool,
    /// `ro`.
    pub(crate) read_only: bool,
    /// `nocopy`.
    pub(crate) nocopy: bool,
    /// `z` or `Z`.
    pub(crate) selinux: Option<String>,
    /// Propagation.
    pub(crate) propagation: Option<String>,
    /// Options that mean nothing.
    pub(crate) unknown: Vec<String>,
    /// It has at most two bytes, which are a target whatever they are.
    pub(crate) tiny: bool,
}

/// Reads a short entry.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn parse(text: &str) -> Result<ShortMount, String> {
    if text.is_empty() {
        return Err("an entry of `volumes` cannot be empty".into());
    }
    let mut mount = ShortMount { tiny: text.len() <= 2, ..ShortMount::default() };
    let sections = if mount.tiny { vec![text] } else { sections(text) };
    if sections.iter().any(|s| s.is_empty()) {
        return Err(format!("`{text}` has nothing between its colons"));
    }
    let options = match sections[..] {
        [target] => {
            mount.target = target.to_owned();
            ""
        }
        [source, target] => {
            mount.source = Some(source.to_owned());
            mount.target = target.to_owned();
            ""
        }
        [source, target, options] => {
            mount.source = Some(source.to_owned());
            mount.target = target.to_owned();
            options
        }
        _ => return Err(format!("`{text}` has too many colons; the form is `SOURCE:TARGET:OPTIONS`")),
    };
    mount.bind = mount.source.as_deref().is_some_and(is_path);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" => mount.nocopy = true,
            "z" | "Z" => mount.selinux = Some(option.to_owned()),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                mount.propagation = Some(option.to_owned());
            }
            other => mount.unknown.push(other.to_owned()),
        }
    }
    Ok(mount)
}

/// Splits at colons, but neither after a drive letter nor within `${…}`.
fn sections(text: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut start = 0;
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '$' if text[at + 1..].starts_with('{') => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == ':' && depth == 0 && !is_drive(&text[start..at]) {
            sections.push(&text[start..at]);
            start = at + 1;
        }
    }
    sections.push(&text[start..]);
    sections
}

fn is_drive(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
}

/// Whether a source is a path of the host.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
        || source.starts_with("\\\\")
        || source.split_once(':').is_some_and(|(drive, _)| is_drive(drive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let show = |text: &str| match parse(text) {
            Ok(m) => format!(
                "{} {} -> {}{}{}",
                if m.bind { "bind" } else { "volume" },
                m.source.as_deref().unwrap_or("-"),
                m.target,
                if m.read_only { " ro" } else { "" },
                if m.nocopy { " nocopy" } else { "" },
            ),
            Err(error) => error,
        };
        for (text, mount) in [
            ("/anon", "volume - -> /anon"),
            ("data:/data", "volume data -> /data"),
            ("data:/data:ro", "volume data -> /data ro"),
            ("./rel:/rel", "bind ./rel -> /rel"),
            ("~/home:/home", "bind ~/home -> /home"),
            (".:/here:rw", "bind . -> /here"),
            ("data:/nc:nocopy,ro", "volume data -> /nc ro nocopy"),
            ("data/x:/y", "volume data/x -> /y"),
            ("v:/v", "volume - -> v:/v"),
            ("C:/win:/win", "bind C:/win -> /win"),
            ("/a", "volume - -> /a"),
        ] {
            assert_eq!(show(text), mount, "{text}");
        }
        for text in ["", ":/x", "aa::/x", "aa:/b:", "aa:/b:ro:x:y"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("aa:/b:z,rslave,odd").map(|m| (m.selinux, m.propagation, m.unknown)),
            Ok((Some("z".into()), Some("rslave".into()), vec!["odd".into()]))
        );
    }
}
