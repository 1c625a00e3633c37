//! All of a layer's tar but the content of its files: with the unpacked layer it gives the same tar again, byte for byte.
//!
//! Many tars unpack to the same files, and a layer's digest is of one of them. What is given away again needs that one, so
//! it is written down while a layer is unpacked: headers, padding and what follows the end, some hundredths of the whole, in a
//! gzip stream beside the files. Each record is a letter and a length of four bytes, little-endian: `r` and so many bytes as
//! they are, or `f`, a path of that length and the size of its content in eight bytes.
//!
//! Whoever makes a tar again checks its digest: a file that a later entry of the same tar has replaced is not there any more.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};

use crate::image::{Error, store_error};
use crate::sys::tree;

/// Its name, beside the directory of the files.
pub(crate) const FRAME: &str = "frame";
/// Largest frame, unpacked: more than this is no layer that anybody has made in earnest, and it is not kept.
const LARGEST: u64 = 1 << 30;
/// Longest path of a record.
const PATH_MAX: u32 = 4096;

/// Passes a tar on and writes its frame down.
pub(crate) struct Tap<R> {
    inner: R,
    frame: Option<GzEncoder<File>>,
    /// Bytes of the frame so far.
    written: u64,
    /// Bytes of content that passed; `None` while what passes belongs to the frame.
    content: Option<u64>,
    failure: Option<io::Error>,
}

impl<R: Read> Tap<R> {
    /// Without a path nothing is written down.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn new(inner: R, path: Option<&Path>) -> Result<Self, Error> {
        let file = path.map(|path| File::create(path).map_err(store_error("create", path))).transpose()?;
        let frame = file.map(|file| GzEncoder::new(file, Compression::fast()));
        Ok(Self { inner, frame, written: 0, content: None, failure: None })
    }

    /// What passes from now on is the content of a file.
    pub(crate) fn begin_content(&mut self) {
        self.content = Some(0);
    }

    /// That was all that is at `path` now.
    pub(crate) fn end_content(&mut self, path: Option<&[u8]>) {
        let size = self.content.take().unwrap_or(0);
        match path {
            Some(path) if size > 0 => self.record(b'f', path, &size.to_le_bytes()),
            None if size > 0 => self.frame = None, // nobody could tell it again
            _ => {}
        }
    }

    fn record(&mut self, letter: u8, bytes: &[u8], rest: &[u8]) {
        let Some(frame) = &mut self.frame else { return };
        self.written = self.written.saturating_add(bytes.len() as u64);
        let length = u32::try_from(bytes.len()).ok().filter(|_| self.written <= LARGEST);
        let Some(length) = length else {
            self.frame = None;
            return;
        };
        let mut write = || {
            frame.write_all(&[letter])?;
            frame.write_all(&length.to_le_bytes())?;
            frame.write_all(bytes)?;
            frame.write_all(rest)
        };
        if let Err(error) = write() {
            self.frame = None;
            self.failure = Some(error);
        }
    }

    /// Ends the frame; returns whether it is whole.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) fn finish(self) -> io::Result<bool> {
        match (self.failure, self.frame) {
            (Some(error), _) => Err(error),
            (None, Some(frame)) => frame.finish().map(|_| true),
            (None, None) => Ok(false),
        }
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match &mut self.content {
            Some(size) => *size += read as u64,
            None if read > 0 => self.record(b'r', &buffer[..read], &[]),
            None => {}
        }
        Ok(read)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was written down of it is damaged")
}

/// Writes the tar of an unpacked layer. The digest is the caller's to check.
///
/// # Errors
/// When there is no frame, a file is not what it was, or the tar cannot be written.
pub(crate) fn write(layer: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut frame = GzDecoder::new(BufReader::new(File::open(layer.join(FRAME))?));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut files = Files { root: rustix::fs::open(layer.join("fs"), flags, Mode::empty())?, last: None };
    loop {
        let mut letter = [0];
        if frame.read(&mut letter)? == 0 {
            return Ok(());
        }
        let mut length = [0; 4];
        frame.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        match letter[0] {
            b'r' => {
                let copied = io::copy(&mut (&mut frame).take(length.into()), out)?;
                if copied != u64::from(length) {
                    return Err(damaged());
                }
            }
            b'f' if length <= PATH_MAX => {
                let mut path = vec![0; usize::try_from(length).map_err(|_| damaged())?];
                let mut size = [0; 8];
                frame.read_exact(&mut path)?;
                frame.read_exact(&mut size)?;
                let size = u64::from_le_bytes(size);
                let shown = || String::from_utf8_lossy(&path).into_owned();
                let file = files.open(&path).map_err(|e| io::Error::new(e.kind(), format!("`{}`: {e}", shown())))?;
                if io::copy(&mut file.take(size), out)? != size {
                    return Err(io::Error::other(format!("`{}` is shorter than it was", shown())));
                }
            }
            _ => return Err(damaged()),
        }
    }
}

/// The files of a layer. No link is followed: none was when it was written.
struct Files {
    root: OwnedFd,
    /// The directory of the last file.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Files {
    fn open(&mut self, path: &[u8]) -> io::Result<File> {
        let (above, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if self.last.as_ref().is_none_or(|(known, _)| known != above) {
            let mut at = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
            for part in above.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
                at = tree::open_dir_at(&at, part)?;
            }
            self.last = Some((above.to_vec(), at));
        }
        let directory = self.last.as_ref().map_or(&self.root, |(_, fd)| fd);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = CString::new(name).map_err(|_| damaged())?;
        let file = File::from(rustix::fs::openat(directory, &name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tarball::tests::TarBuilder;
    use crate::image::unpack::{Limits, unpack_framed};

    /// Unpacks a tar and returns the one that is made again, or why none is.
    fn again(tar: &[u8]) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("fs")).expect("a directory");
        let frame = dir.path().join(FRAME);
        unpack_framed(tar, "l.tar", &dir.path().join("fs"), Limits::default(), Some(&frame)).expect("valid");
        let mut out = Vec::new();
        write(dir.path(), &mut out).map_err(|e| e.to_string())?;
        assert!(frame.metadata().expect("it is there").len() < 1000, "it is small");
        Ok(out)
    }

    fn tar() -> TarBuilder {
        TarBuilder::default()
    }

    #[test]
    fn a_tar_is_the_same_again() {
        if !crate::testing::is_root() {
            return;
        }
        let large: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for tar in [
            tar().end(),
            tar().dir("./").dir("b/").file("b/x", b"hello").file("a", &large).file("empty", b"").end(),
            tar().file("implied/x", b"1").file("b/.wh.gone", b"").file(".wh..wh.plnk/x", b"aufs").end(),
            [tar().file("a", b"1").end(), b"trailing bytes count".to_vec(), vec![0; 10_240]].concat(),
        ] {
            assert!(again(&tar) == Ok(tar));
        }
    }

    #[test]
    fn what_was_replaced_is_not_told_wrongly() {
        if !crate::testing::is_root() {
            return;
        }
        let twice = tar().file("a", b"one").file("a", b"two").end();
        assert_ne!(again(&twice), Ok(twice), "its digest tells");
        let shorter = tar().file("a", b"longer").file("a", b"s").end();
        assert_eq!(again(&shorter), Err("`a` is shorter than it was".into()));
    }
}
