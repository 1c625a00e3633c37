//! `RUN --mount`.
//!
//! Rules: Docker's "Dockerfile reference", "RUN --mount", and buildkit's `instructions/commands_runmount.go`. As there, the
//! fields are told apart before variables in them are expanded: a comma that comes out of a variable separates nothing.

use crate::diag::nearest;

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that is kept between builds.
    Cache,
    /// Files in memory.
    Tmpfs,
    /// A file in memory with something secret.
    Secret,
    /// The socket of an ssh agent.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// `RUN --mount`, variables expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `id`, of a cache, a secret or an agent.
    pub id: Option<String>,
    /// `from`: a stage, an image, a named context.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`.
    pub target: Option<String>,
    /// `readonly`, or what is usual for the kind.
    pub read_only: bool,
    /// `sharing`, of a cache.
    pub sharing: Sharing,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `size` of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// `required`: the build fails without the secret or the agent.
    pub required: bool,
    /// `env`, of a secret: the variable that has it. An empty one stands for the secret's id.
    pub env: Option<String>,
}

const KEYS: [&str; 19] = [
    "destination",
    "dst",
    "env",
    "from",
    "gid",
    "id",
    "mode",
    "readonly",
    "readwrite",
    "required",
    "ro",
    "rw",
    "sharing",
    "size",
    "source",
    "src",
    "target",
    "type",
    "uid",
];

impl Mount {
    /// Reads a mount whose variables are expanded.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &|value| Ok(value.to_owned()))
    }

    /// Reads a mount as written; `expand` is what becomes of a value.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse_with(text: &str, expand: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        let mut mount = Self::default();
        let (mut read_only, mut sharing) = (None, None);
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(expand(value)?)),
                None => (field.as_str(), None),
            };
            let key = key.to_ascii_lowercase();
            let value = match (key.as_str(), value) {
                (_, Some(value)) => value,
                ("readonly" | "ro" | "readwrite" | "rw" | "required", None) => "true".to_owned(),
                (key, None) if KEYS.contains(&key) => return Err(format!("`{key}` needs a value: `{key}=…`")),
                (key, None) => return Err(unknown("key of a mount", key, &KEYS)),
            };
            match key.as_str() {
                "type" => mount.kind = kind(&value)?,
                "id" => mount.id = Some(value),
                // As in BuildKit, an empty one is none.
                "from" => mount.from = Some(value).filter(|from| !from.is_empty()),
                "source" | "src" => mount.source = Some(value),
                "target" | "dst" | "destination" => mount.target = Some(value),
                "readonly" | "ro" => read_only = Some(boolean(&key, &value)?),
                "readwrite" | "rw" => read_only = Some(!boolean(&key, &value)?),
                "sharing" => sharing = Some(sharing_of(&value)?),
                "mode" => mount.mode = Some(number(&key, &value, 8)?),
                "uid" => mount.uid = Some(number(&key, &value, 10)?),
                "gid" => mount.gid = Some(number(&key, &value, 10)?),
                "size" => mount.size = Some(bytes(&value)?),
                "required" => mount.required = boolean(&key, &value)?,
                "env" => mount.env = Some(value),
                key => return Err(unknown("key of a mount", key, &KEYS)),
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.sharing = sharing.unwrap_or_default();
        mount.check(sharing.is_some())?;
        Ok(mount)
    }

    /// Checks what can be told of a mount before its variables are known.
    pub(super) fn check_from(text: &str) -> Result<(), String> {
        let from = fields(text)?.into_iter().find(|field| {
            field.split_once('=').is_some_and(|(key, value)| key.eq_ignore_ascii_case("from") && value.contains('$'))
        });
        match from {
            Some(_) => Err("variables are not expanded in `from`: give the image a name with `FROM … AS name`".into()),
            None => Ok(()),
        }
    }

    /// Refuses what the kind does not have.
    fn check(&self, sharing: bool) -> Result<(), String> {
        use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
        let rules = [
            ("mode", self.mode.is_some(), &[Cache, Secret, Ssh][..]),
            ("uid", self.uid.is_some(), &[Cache, Secret, Ssh]),
            ("gid", self.gid.is_some(), &[Cache, Secret, Ssh]),
            ("size", self.size.is_some(), &[Tmpfs]),
            ("required", self.required, &[Secret, Ssh]),
            ("sharing", sharing, &[Cache]),
            ("from", self.from.is_some(), &[Bind, Cache, Tmpfs, Ssh]),
        ];
        let name = match self.kind {
            Bind => "bind",
            Cache => "cache",
            Tmpfs => "tmpfs",
            Secret => "secret",
            Ssh => "ssh",
        };
        if let Some((key, ..)) = rules.iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind)) {
            return Err(format!("a mount of type `{name}` has no `{key}`"));
        }
        if self.kind == Secret {
            match (&self.id, &self.source, &self.target) {
                (None, None, None) => return Err("a secret needs an `id` or a `target`".into()),
                (Some(_), Some(_), _) => return Err("a secret has an `id` or a `source`, not both".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn unknown(what: &str, word: &str, all: &[&'static str]) -> String {
    match nearest(word, all.iter().copied()) {
        Some(near) => format!("`{word}` is no {what}; did you mean `{near}`?"),
        None => format!("`{word}` is no {what}"),
    }
}

fn kind(text: &str) -> Result<MountKind, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        other => return Err(unknown("type of a mount", other, &["bind", "cache", "tmpfs", "secret", "ssh"])),
    })
}

fn sharing_of(text: &str) -> Result<Sharing, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        other => return Err(unknown("way to share a cache", other, &["shared", "private", "locked"])),
    })
}

/// Reads what Go's `strconv.ParseBool` does.
fn boolean(key: &str, text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("`{key}` is `true` or `false`, not `{text}`")),
    }
}

fn number(key: &str, text: &str, radix: u32) -> Result<u32, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let read = u32::from_str_radix(text, radix).ok().filter(|_| digits);
    let example = if radix == 8 { "an octal number such as 0755" } else { "a number" };
    read.ok_or_else(|| format!("`{key}` is {example}, not `{text}`"))
}

/// Reads `64m`, `1.5GiB`, `4096`: units are powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`size` is a number of bytes such as 4096 or 64m, not `{text}`");
    let end = text.rfind(|c: char| c.is_ascii_digit()).ok_or_else(wrong)? + 1;
    let unit = text[end..].trim_start_matches(' ').to_ascii_lowercase();
    let power = match unit.strip_suffix('b').map_or(unit.as_str(), |unit| unit.strip_suffix('i').unwrap_or(unit)) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1_u128 << (10 * power);
    let (whole, part) = text[..end].split_once('.').unwrap_or((&text[..end], "0"));
    let digits = |text: &str| text.len() <= 20 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let number = |text: &str| text.parse::<u128>().map_err(|_| wrong());
    let parts = part.bytes().fold(1, |parts, _| parts * 10);
    let sum = number(whole)? * factor + number(part)? * factor / parts;
    u64::try_from(sum).map_err(|_| wrong())
}

/// Splits a line of CSV.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err("a quote in the mount is never closed".into()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '"')) {
                field.push(c);
            }
        }
        fields.push(field);
        match chars.next() {
            Some(',') => {}
            None => return Ok(fields),
            Some(_) => return Err("a quote in the mount stands inside a field".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_what_is_usual_for_their_kind() {
        let mount = Mount::parse("target=/a,src=b,from=build").expect("valid");
        let expected = Mount {
            from: Some("build".into()),
            source: Some("b".into()),
            target: Some("/a".into()),
            read_only: true,
            ..Mount::default()
        };
        assert_eq!(mount, expected);
        assert_eq!(Mount::parse("target=/a,src=b,from=").expect("valid"), Mount { from: None, ..expected });
        let mount = Mount::parse("type=cache,dst=/c,id=x,sharing=Locked,mode=0700,uid=1,gid=2,ro").expect("valid");
        let expected = Mount {
            kind: MountKind::Cache,
            id: Some("x".into()),
            target: Some("/c".into()),
            read_only: true,
            sharing: Sharing::Locked,
            mode: Some(0o700),
            uid: Some(1),
            gid: Some(2),
            ..Mount::default()
        };
        assert_eq!(mount, expected);
        let mount = Mount::parse("required,type=secret,id=k,env=KEY").expect("valid");
        assert_eq!((mount.required, mount.read_only, mount.env.as_deref()), (true, true, Some("KEY")));
        assert!(!Mount::parse("type=tmpfs,target=/t").expect("valid").read_only);
        assert!(!Mount::parse("rw,target=/t").expect("valid").read_only);
        let mount = Mount::parse("\"target=/a,\"\"b\"\"\",source=c").expect("valid");
        assert_eq!((mount.target.as_deref(), mount.source.as_deref()), (Some("/a,\"b\""), Some("c")));
        let value = |text: &str| Ok(text.replace("$X", "a,ro=false"));
        let mount = Mount::parse_with("target=$X", &value).expect("valid");
        assert_eq!((mount.target.as_deref(), mount.read_only), (Some("a,ro=false"), true));
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("4096", 4096), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("1 kb", 1024), ("0.25k", 256), ("1t", 1 << 40)]
        {
            let mount = Mount::parse(&format!("type=tmpfs,target=/t,size={text}")).expect(text);
            assert_eq!(mount.size, Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.m", "99999999999999999999", "20000000p"] {
            assert!(Mount::parse(&format!("type=tmpfs,target=/t,size={text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("type=cahce", "did you mean `cache`?"),
            ("tipe=cache", "did you mean `type`?"),
            ("target", "needs a value"),
            ("type=bind,mode=1", "has no `mode`"),
            ("type=bind,size=1", "has no `size`"),
            ("type=bind,sharing=shared", "has no `sharing`"),
            ("type=cache,required", "has no `required`"),
            ("type=cache,sharing=all", "no way to share"),
            ("type=cache,mode=9", "octal"),
            ("type=cache,uid=x", "`uid` is a number"),
            ("type=secret", "needs an `id`"),
            ("type=secret,id=a,src=b", "not both"),
            ("type=secret,id=a,from=b", "has no `from`"),
            ("ro=maybe", "`true` or `false`"),
            ("\"target=/a", "never closed"),
            ("target=/\"a\"", "inside a field"),
        ] {
            let error = Mount::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
