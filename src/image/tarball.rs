//! Reads tar archives that others wrote: ustar, GNU long names and base-256 numbers, pax records with any bytes.
//!
//! Rules: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Extended Header"), GNU tar's manual "Basic Tar Format",
//! and Go's `archive/tar` where these differ, since Docker's images were read with it. We read records by their length
//! and not by lines, since values (capabilities) may hold newlines, and refuse what cannot be read for certain: a
//! reader that guesses sees other entries than its neighbour does (CVE-2025-62518).
//!
//! Sparse files are refused: no image builder writes them.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Longest set of pax records of one entry.
const PAX_MAX: u64 = 1 << 20;
/// Longest GNU long name; paths above 4096 bytes are refused later, with their name.
const LONG_MAX: u64 = 64 << 10;

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The source failed, or a digest did not match.
    #[error("cannot read it")]
    Io(#[source] io::Error),
    /// It is no tar, or one that we do not read.
    #[error("{0}")]
    Bad(String),
}

fn bad(reason: impl Into<String>) -> TarError {
    TarError::Bad(reason.into())
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return bad("it is cut short");
        }
        Self::Io(error)
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
}

/// One entry's metadata. Names are bytes as they stand in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Goes through a tar's entries. Between two entries it reads headers only, and those are bounded.
pub(crate) struct Reader<R> {
    inner: R,
    /// Bytes of the current entry's data that were not read yet.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// Returns the source; what follows the end of the archive is still in it.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    pub(crate) fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Returns the next entry. Data of the one before that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if extensions.long_name.is_some() || extensions.long_link.is_some() || extensions.pax.is_some() {
                    return Err(bad("it ends with a header that describes nothing"));
                }
                return Ok(None);
            };
            let size = unsigned(&header[124..136], "size")?;
            let (slot, cap) = match header[156] {
                b'L' => (&mut extensions.long_name, LONG_MAX),
                b'K' => (&mut extensions.long_link, LONG_MAX),
                b'x' => (&mut extensions.pax, PAX_MAX),
                b'g' => {
                    // Global records carry comments such as a commit; Docker's reader ignores them too.
                    if size > PAX_MAX {
                        return Err(bad("a pax header is larger than 1 MiB"));
                    }
                    self.expect_data(size)?;
                    continue;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            };
            if slot.is_some() {
                return Err(bad("two extension headers of one kind describe the same entry"));
            }
            if size > cap {
                return Err(bad(format!("an extension header has {size} bytes, more than the {cap} allowed")));
            }
            let mut data = vec![0; usize::try_from(size).map_err(|_| bad("an extension header is too large"))?];
            self.inner.read_exact(&mut data)?;
            *slot = Some(data);
            self.left = 0;
            self.padding = pad(size);
        }
    }

    fn expect_data(&mut self, size: u64) -> Result<(), TarError> {
        if size > u64::MAX / 2 {
            return Err(bad("an entry's size is out of range"));
        }
        self.left = size;
        self.padding = pad(size);
        Ok(())
    }

    /// Skips what is left of the current entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let want = self.left + self.padding;
        let got = io::copy(&mut (&mut self.inner).take(want), &mut io::sink())?;
        if got < self.left {
            return Err(bad("it is cut short"));
        }
        // Some writers leave out the padding of the last entry.
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads a block; `None` at the end of the source.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            match self.inner.read(&mut block[at..]) {
                Ok(0) if at == 0 => return Ok(None),
                Ok(0) => return Err(bad("it is cut short")),
                Ok(n) => at += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|b| *b == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|b| *b != 0) => {
                    Err(bad("a block of zeros stands between its entries"))
                }
                _ => Ok(None),
            };
        }
        let said = unsigned(&block[148..156], "checksum")?;
        let with_blanks = || block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
        let sum: u64 = with_blanks().map(u64::from).sum();
        // Old writers summed signed bytes.
        let signed: i64 = with_blanks().map(|b| i64::from(b.cast_signed())).sum();
        if said != sum && i64::try_from(said) != Ok(signed) {
            return Err(bad("a header's checksum does not match, or it is no tar at all"));
        }
        Ok(Some(block))
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extensions: Extensions) -> Result<Entry, TarError> {
        let ustar = &header[257..263] == b"ustar\0";
        let mut name = text(&header[..100]).to_vec();
        let prefix = text(&header[345..500]);
        if ustar && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let mut entry = Entry {
            name,
            kind: Kind::File,
            link: text(&header[157..257]).to_vec(),
            mode: number(&header[100..108], "mode")? & 0o7777,
            uid: number(&header[108..116], "user id")?,
            gid: number(&header[116..124], "group id")?,
            mtime: (numeric(&header[136..148], "time")?, 0),
            size,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        if let Some(long) = extensions.long_name {
            entry.name = text(&long).to_vec();
        }
        if let Some(long) = extensions.long_link {
            entry.link = text(&long).to_vec();
        }
        if let Some(pax) = &extensions.pax {
            apply_pax(&mut entry, pax)?;
        }
        entry.kind = match header[156] {
            b'0' | 0 | b'7' if entry.name.ends_with(b"/") && header[156] == 0 => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(bad(format!("`{}` is a sparse file, which is not supported", show(&entry.name)))),
            other => {
                return Err(bad(format!("`{}` has the unknown type `{}`", show(&entry.name), other.escape_ascii())));
            }
        };
        if matches!(entry.kind, Kind::Char | Kind::Block) {
            entry.device = (number(&header[329..337], "device")?, number(&header[337..345], "device")?);
        }
        if entry.kind == Kind::File {
            self.expect_data(entry.size)?;
        } else {
            // Such entries have no data, whatever their size says (Go `archive/tar`, isHeaderOnly).
            entry.size = 0;
        }
        Ok(entry)
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads the current entry's data.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn pad(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Returns the bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

/// Returns a name for messages.
pub(crate) fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(300)]).escape_debug().to_string()
}

/// Reads a numeric field: octal digits, or base 256 when the first bit is set (GNU).
fn numeric(field: &[u8], what: &str) -> Result<i64, TarError> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad(format!("a header's {what} is out of range")));
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(digits)
        .ok()
        .filter(|d| !d.starts_with(['+', '-']))
        .and_then(|d| i64::from_str_radix(d, 8).ok())
        .ok_or_else(|| bad(format!("a header's {what} is not a number")))
}

fn unsigned(field: &[u8], what: &str) -> Result<u64, TarError> {
    u64::try_from(numeric(field, what)?).map_err(|_| bad(format!("a header's {what} is negative")))
}

fn number(field: &[u8], what: &str) -> Result<u32, TarError> {
    u32::try_from(numeric(field, what)?).map_err(|_| bad(format!("a header's {what} is out of range")))
}

/// Applies pax records: `<length> <key>=<value>\n`, the length counting the whole record.
fn apply_pax(entry: &mut Entry, mut data: &[u8]) -> Result<(), TarError> {
    let malformed = || bad("a pax record is malformed");
    while !data.is_empty() {
        let blank = data.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
        let length: usize = std::str::from_utf8(&data[..blank])
            .ok()
            .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|d| d.parse().ok())
            .ok_or_else(malformed)?;
        if length <= blank + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &data[blank + 1..length - 1];
        data = &data[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let decimal = || std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok());
        let id = || decimal().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| bad("a pax owner is out of range"));
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(bad("a pax name holds a zero byte")),
            // An empty value takes the record back (POSIX pax).
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"path" => entry.name = value.to_vec(),
            b"linkpath" => entry.link = value.to_vec(),
            b"size" => entry.size = decimal().ok_or_else(|| bad("a pax size is not a number"))?,
            b"uid" => entry.uid = id()?,
            b"gid" => entry.gid = id()?,
            b"mtime" => entry.mtime = pax_time(value).ok_or_else(|| bad("a pax time is not a number"))?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(bad(format!("`{}` is a sparse file, which is not supported", show(&entry.name))));
            }
            // LIBARCHIVE.xattr.* repeats what its writer gives as SCHILY.xattr.* too.
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    entry.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// Reads seconds with an optional fraction; before 1970 the nanoseconds still count upwards.
fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |d| (true, d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    Some(match (negative, nanos) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes tars with whatever headers a test wants, honest or not.
    #[derive(Default)]
    pub(crate) struct TarBuilder(pub(crate) Vec<u8>);

    impl TarBuilder {
        /// Appends a raw header and data; `edit` may change any byte before the checksum is made.
        pub(crate) fn raw(
            mut self,
            kind: u8,
            name: &[u8],
            link: &[u8],
            data: &[u8],
            edit: impl Fn(&mut [u8; 512]),
        ) -> Self {
            let mut h = [0_u8; 512];
            h[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
            h[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
            let mode: &[u8] = if kind == b'5' { b"0000755\0" } else { b"0000644\0" };
            h[100..108].copy_from_slice(mode);
            h[108..116].copy_from_slice(b"0000000\0");
            h[116..124].copy_from_slice(b"0000000\0");
            h[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
            h[136..148].copy_from_slice(format!("{:011o}\0", 1_700_000_000).as_bytes());
            h[156] = kind;
            h[257..265].copy_from_slice(b"ustar\x0000");
            edit(&mut h);
            h[148..156].copy_from_slice(b"        ");
            let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
            h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            self.0.extend_from_slice(&h);
            self.0.extend_from_slice(data);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
            self
        }

        pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
            self.raw(b'0', name.as_bytes(), b"", data, |_| {})
        }

        pub(crate) fn dir(self, name: &str) -> Self {
            self.raw(b'5', name.as_bytes(), b"", b"", |_| {})
        }

        pub(crate) fn dir_mode(self, name: &str, mode: u32) -> Self {
            self.raw(b'5', name.as_bytes(), b"", b"", |h| {
                h[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
            })
        }

        pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
            self.raw(b'2', name.as_bytes(), target.as_bytes(), b"", |_| {})
        }

        pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
            self.raw(b'1', name.as_bytes(), target.as_bytes(), b"", |_| {})
        }

        /// Appends a pax header with the given records.
        pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
            let mut data = Vec::new();
            for (key, value) in records {
                let body = key.len() + value.len() + 3;
                let mut length = body;
                while length != body + length.to_string().len() {
                    length = body + length.to_string().len();
                }
                data.extend_from_slice(format!("{length} {key}=").as_bytes());
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            self.raw(b'x', b"pax", b"", &data, |_| {})
        }

        /// Ends the archive.
        pub(crate) fn end(mut self) -> Vec<u8> {
            self.0.resize(self.0.len() + 1024, 0);
            self.0
        }
    }

    fn names(tar: &[u8]) -> Result<Vec<(String, u64)>, String> {
        let mut reader = Reader::new(tar);
        let mut all = Vec::new();
        while let Some(entry) = reader.next().map_err(|e| e.to_string())? {
            all.push((show(&entry.name), entry.size));
        }
        Ok(all)
    }

    #[test]
    fn long_names_come_from_gnu_and_pax_headers() {
        let long = "d/".repeat(80) + "f";
        let gnu = TarBuilder::default().raw(b'L', b"././@LongLink", b"", long.as_bytes(), |_| {}).file("d", b"x").end();
        assert_eq!(names(&gnu), Ok(vec![(long.clone(), 1)]));
        let pax = TarBuilder::default().pax(&[("path", long.as_bytes())]).file("d", b"x").end();
        assert_eq!(names(&pax), Ok(vec![(long, 1)]));
        let prefix = TarBuilder::default().raw(b'0', b"f", b"", b"", |h| h[345..348].copy_from_slice(b"a/b")).end();
        assert_eq!(names(&prefix), Ok(vec![("a/b/f".into(), 0)]));
    }

    #[test]
    fn a_pax_size_overrides_the_header_and_hides_no_entry() {
        // TARmageddon: the header says 0 bytes, pax says 1024; the inner header must stay data.
        let inner = TarBuilder::default().file("evil", b"x").0;
        let tar = TarBuilder::default()
            .pax(&[("size", inner.len().to_string().as_bytes())])
            .raw(b'0', b"outer", b"", &inner, |h| h[124..136].copy_from_slice(b"00000000000\0"))
            .file("after", b"")
            .end();
        assert_eq!(names(&tar), Ok(vec![("outer".into(), 1024), ("after".into(), 0)]));
    }

    #[test]
    fn a_pax_header_describes_the_file_and_not_the_next_header() {
        let tar = TarBuilder::default()
            .pax(&[("size", b"3")])
            .raw(b'L', b"././@LongLink", b"", b"long-name\0", |_| {})
            .raw(b'0', b"f", b"", b"abc", |h| h[124..136].copy_from_slice(b"00000000000\0"))
            .file("after", b"")
            .end();
        assert_eq!(names(&tar), Ok(vec![("long-name".into(), 3), ("after".into(), 0)]));
    }

    #[test]
    fn pax_values_may_hold_newlines() {
        let value = b"\x01\0\0\x02\n12 a=b\n\0";
        let tar = TarBuilder::default().pax(&[("SCHILY.xattr.security.capability", value)]).file("f", b"").end();
        let entry = Reader::new(&tar[..]).next().expect("readable").expect("one entry");
        assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(numeric(b"0000644\0", "x").ok(), Some(0o644));
        assert_eq!(numeric(b"   644 \0", "x").ok(), Some(0o644));
        assert_eq!(numeric(&[0x80, 0, 0, 0, 0, 0, 1, 0], "x").ok(), Some(256));
        assert_eq!(numeric(&[0xff; 12], "x").ok(), Some(-1));
        assert!(numeric(b"12x4567\0", "x").is_err());
        assert!(numeric(b"-000001\0", "x").is_err());
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"1350244992.023960108"), Some((1_350_244_992, 23_960_108)));
        assert_eq!(pax_time(b"1."), Some((1, 0)));
        assert_eq!(pax_time(b"x"), None);
    }

    #[test]
    fn what_cannot_be_read_for_certain_is_refused() {
        let refused = |tar: Vec<u8>| names(&tar).expect_err("must be refused");
        let good = TarBuilder::default().file("f", b"hello").0;
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        assert!(refused(flipped).contains("checksum"));
        assert!(refused(good[..700].to_vec()[..515].to_vec()).contains("cut short"));
        assert!(refused(TarBuilder::default().pax(&[("path", b"a")]).end()).contains("describes nothing"));
        assert!(refused(TarBuilder::default().pax(&[]).pax(&[]).file("f", b"").end()).contains("two extension"));
        assert!(refused(TarBuilder::default().pax(&[("path", b"a\0b")]).file("f", b"").end()).contains("zero byte"));
        assert!(
            refused(TarBuilder::default().pax(&[("GNU.sparse.major", b"1")]).file("f", b"").end()).contains("sparse")
        );
        assert!(
            refused(TarBuilder::default().raw(b'x', b"", b"", b"9999 a=b\n", |_| {}).file("f", b"").end())
                .contains("malformed")
        );
        assert!(refused(TarBuilder::default().raw(b'S', b"s", b"", b"", |_| {}).end()).contains("sparse"));
        let bomb = TarBuilder::default().raw(b'x', b"", b"", b"", |h| h[124..136].copy_from_slice(b"77777777777\0"));
        assert!(refused(bomb.end()).contains("more than"));
        let negative = TarBuilder::default().raw(b'0', b"f", b"", b"", |h| h[124..136].fill(0xff));
        assert!(refused(negative.end()).contains("negative"));
        let zeros = [good.clone(), vec![0; 512], good].concat();
        assert!(refused(zeros).contains("zeros"));
    }
}
