//! Writes entries as a tar: ustar, with pax records for what does not fit (POSIX.1-2017 `pax`). The other side of `tarball`.
//!
//! A writer can also tell the digest of all that is in the entries but their times: two layers with the same one differ in
//! nothing that matters to who builds upon them.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::image::digest::Digest;
use crate::image::tarball::{Entry, Kind};

const BLOCK: usize = 512;
/// How much of a file is read at once, in bytes.
const CHUNK: usize = 128 << 10;

/// A tar that is being written.
pub(crate) struct Writer<W> {
    out: W,
    /// What the digest is made of, if somebody wants it.
    content: Option<Sha256>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, content: None }
    }

    /// Returns a writer that tells the digest of what it wrote.
    pub(crate) fn hashing(out: W) -> Self {
        Self { out, content: Some(Sha256::new()) }
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.finish_hashed().map(drop)
    }

    /// Ends the archive; returns the digest of all but times. A writer that was not told to hash has that of nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish_hashed(mut self) -> io::Result<Digest> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(Digest::from_hash(self.content.unwrap_or_default()))
    }

    /// Takes note of what is in an entry, but for its time and its data.
    fn note(&mut self, entry: &Entry) {
        let Some(hash) = &mut self.content else { return };
        let text = |hash: &mut Sha256, bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let Entry { name, kind, link, mode, uid, gid, mtime: _, size, device, xattrs } = entry;
        text(hash, name);
        text(hash, link);
        let numbers = [u64::from(letter(*kind)), (*mode).into(), (*uid).into(), (*gid).into(), *size];
        let devices = [u64::from(device.0), device.1.into(), xattrs.len() as u64];
        for number in numbers.into_iter().chain(devices) {
            hash.update(number.to_le_bytes());
        }
        for (key, value) in xattrs {
            text(hash, key);
            text(hash, value);
        }
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        self.out.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }

    /// Writes one entry; a file's data has exactly the size that the entry says. Returns the digest of a file's data, if the
    /// writer hashes.
    ///
    /// # Errors
    /// When it cannot be written, or the data not be read.
    pub(crate) fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<Option<[u8; 32]>> {
        let mut name = if entry.name.is_empty() { b".".to_vec() } else { entry.name.clone() };
        if entry.kind == Kind::Directory {
            name.push(b'/');
        }
        self.note(entry);
        let mut records = Vec::new();
        if name.len() > 100 {
            record(&mut records, b"path", &name);
        }
        if entry.link.len() > 100 {
            record(&mut records, b"linkpath", &entry.link);
        }
        if octal(entry.size, 12).is_none() {
            record(&mut records, b"size", entry.size.to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if octal(u64::from(id), 8).is_none() {
                record(&mut records, key, id.to_string().as_bytes());
            }
        }
        if u64::try_from(entry.mtime.0).ok().and_then(|at| octal(at, 12)).is_none() {
            record(&mut records, b"mtime", entry.mtime.0.to_string().as_bytes());
        }
        for (key, value) in &entry.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &key[..]].concat(), value);
        }
        if !records.is_empty() {
            let about = Entry { name: b"pax".to_vec(), link: Vec::new(), size: records.len() as u64, ..entry.clone() };
            self.out.write_all(&header(b'x', b"pax", &about))?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(&header(letter(entry.kind), &name, entry))?;
        if entry.kind != Kind::File {
            return Ok(None);
        }
        let mut hash = self.content.is_some().then(Sha256::new);
        let mut buffer = vec![0; CHUNK.min(usize::try_from(entry.size).unwrap_or(CHUNK).max(1))];
        loop {
            match data.read(&mut buffer)? {
                0 => break,
                n => {
                    if let Some(hash) = &mut hash {
                        hash.update(&buffer[..n]);
                    }
                    self.out.write_all(&buffer[..n])?;
                }
            }
        }
        self.pad(entry.size)?;
        let digest = hash.map(|hash| <[u8; 32]>::from(hash.finalize()));
        if let (Some(content), Some(digest)) = (&mut self.content, &digest) {
            content.update(digest);
        }
        Ok(digest)
    }
}

/// A file's bytes, exactly as many as it had: one that grows is cut off, one that shrinks ends in zeros, since its size is
/// told before.
pub(crate) struct Exactly {
    pub(crate) file: File,
    /// How many are left.
    pub(crate) left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        let mut read = self.file.read(buffer)?;
        if read == 0 {
            buffer.fill(0);
            read = most;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// Appends a pax record; its length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(&[key, b"=", value, b"\n"].concat());
}

/// Returns a number in octal for a field of that width, if it fits.
fn octal(number: u64, width: usize) -> Option<String> {
    let digits = format!("{number:0>width$o}\0", width = width - 1);
    (digits.len() == width).then_some(digits)
}

fn header(letter: u8, name: &[u8], entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8], most: usize| {
        let bytes = &bytes[..bytes.len().min(most)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let number = |n: u64, width| octal(n, width).unwrap_or_else(|| octal(0, width).unwrap_or_default());
    put(0, name, 100);
    put(100, number(u64::from(entry.mode), 8).as_bytes(), 8);
    put(108, number(u64::from(entry.uid), 8).as_bytes(), 8);
    put(116, number(u64::from(entry.gid), 8).as_bytes(), 8);
    put(124, number(entry.size, 12).as_bytes(), 12);
    put(136, number(u64::try_from(entry.mtime.0).unwrap_or_default(), 12).as_bytes(), 12);
    put(148, b"        ", 8);
    put(156, &[letter], 1);
    put(157, &entry.link, 100);
    put(257, b"ustar\x0000", 8);
    put(329, number(u64::from(entry.device.0), 8).as_bytes(), 8);
    put(337, number(u64::from(entry.device.1), 8).as_bytes(), 8);
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..155].copy_from_slice(number(sum, 7).as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tarball::Reader;

    #[test]
    fn what_is_written_is_what_our_reader_reads() {
        let plain = Entry {
            name: b"dir/f".to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o4755,
            uid: 1000,
            gid: 7,
            mtime: (1_700_000_000, 0),
            size: 5,
            device: (0, 0),
            xattrs: vec![(b"security.capability".to_vec(), b"\x01\0\n3 a=b\n".to_vec())],
        };
        let long = vec![b'n'; 300];
        let link = Entry {
            name: long.clone(),
            link: long,
            kind: Kind::Symlink,
            size: 0,
            uid: u32::MAX,
            mtime: (-5, 0),
            xattrs: vec![],
            ..plain.clone()
        };
        let device = Entry {
            name: b"null".to_vec(),
            kind: Kind::Char,
            device: (1, 3),
            size: 0,
            xattrs: vec![],
            ..plain.clone()
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        for entry in [&plain, &link, &device] {
            writer.entry(entry, &mut &b"hello"[..]).expect("memory");
        }
        writer.finish().expect("memory");
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(&bytes[..]);
        assert_eq!(reader.next().expect("read"), Some(plain));
        assert_eq!(io::read_to_string(&mut reader).expect("text"), "hello");
        assert_eq!(reader.next().expect("read"), Some(link));
        assert_eq!(reader.next().expect("read"), Some(device));
        assert_eq!(reader.next().expect("read"), None);
    }
}
