//! How layers and archives are compressed, told by their first bytes, and their decoders.
//!
//! No helper program is ever run for one: whose it is would depend on who runs us (CVE-2026-41567). The decoders have bounds on
//! their memory; how much comes out of them is for whoever reads to bound.

use std::io::{self, BufRead, Read};

/// Most memory for an xz stream, in KiB: twice the dictionary of `xz -9`, and some for the decoder.
const XZ_MEMORY_KIB: u32 = (128 << 10) + 256;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Tells how something is compressed by its first bytes, whatever its media type claims.
pub(crate) fn sniff(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A zstd frame, or a skippable one (RFC 8878, section 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        // A block, or the end of a stream that has none.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
            Compression::Bzip2
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// Names a compression that we do not read by its magic number.
pub(crate) fn unread(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    }
}

/// Returns what a stream holds.
pub(crate) fn decompress<'a>(source: impl BufRead + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(ZstdReader::new(source)),
        Compression::Bzip2 => Box::new(Fused { reader: Some(bzip2::bufread::MultiBzDecoder::new(source)) }),
        Compression::Xz => {
            Box::new(Fused { reader: Some(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)) })
        }
    }
}

/// What has failed stays so: the decoder of bzip2 panics when it is asked again.
struct Fused<R> {
    reader: Option<R>,
}

impl<R: Read> Read for Fused<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let reader = self.reader.as_mut().ok_or_else(|| invalid("the stream has failed before".into()))?;
        let read = reader.read(buf).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => invalid(
                "its xz stream wants a dictionary of more than 128 MiB: compress it with `xz -9` or less".into(),
            ),
            io::ErrorKind::Unsupported => invalid(format!("its stream is of an unknown kind: {error}")),
            _ => error,
        });
        if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.reader = None;
        }
        read
    }
}

/// Decodes all frames of a zstd stream, one after another, and skips the skippable ones.
struct ZstdReader<R: BufRead> {
    source: Option<R>,
    frame: Option<ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(source: R) -> Self {
        Self { source: Some(source), frame: None }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let n = frame.read(buf).map_err(zstd_error)?;
                if n > 0 {
                    return Ok(n);
                }
                self.source = self.frame.take().map(ruzstd::decoding::StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            let head = source.fill_buf()?;
            if head.is_empty() {
                return Ok(0);
            }
            if matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
                let mut header = [0; 8];
                source.read_exact(&mut header)?;
                let length = u64::from(u32::from_le_bytes([header[4], header[5], header[6], header[7]]));
                if io::copy(&mut (&mut source).take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.source = Some(source);
                continue;
            }
            let frame = ruzstd::decoding::StreamingDecoder::new(source)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            self.frame = Some(frame);
        }
    }
}

fn zstd_error(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(crate) fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(data).expect("in memory");
        encoder.finish().expect("in memory")
    }

    pub(crate) fn xz(data: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(3);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("options");
        encoder.write_all(data).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(stream, sniff(stream)).read_to_end(&mut out).map(|_| out)
    }

    fn data() -> Vec<u8> {
        let numbers = (0..30_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes());
        [b"text text text ".repeat(3000), numbers.collect()].concat()
    }

    #[test]
    fn streams_follow_each_other_and_are_whole_or_refused() {
        let data = data();
        for (form, pack) in [(Compression::Bzip2, bzip2 as fn(&[u8]) -> Vec<u8>), (Compression::Xz, xz)] {
            let padding = if form == Compression::Xz { &[0; 8][..] } else { &[] };
            let two = [&pack(&data[..70_000])[..], padding, &pack(&data[70_000..])].concat();
            assert_eq!(sniff(&two), form);
            assert!(read(&two).expect("whole") == data, "{form:?}");
            let one = pack(&data);
            assert_eq!(read(&pack(b"")).expect("whole"), b"", "{form:?}");
            for cut in (14..one.len()).step_by(501).chain([one.len() - 1]) {
                assert!(read(&one[..cut]).is_err(), "{form:?} cut at {cut}");
            }
            // A changed byte is noticed by a checksum, wherever it is.
            for at in (0..one.len()).step_by(97) {
                let mut changed = one.clone();
                changed[at] ^= 0x10;
                let is_other = sniff(&changed) != form;
                assert!(is_other || read(&changed).map_or(true, |out| out == data), "{form:?} changed at {at}");
            }
        }
    }

    #[test]
    fn garbage_ends_in_an_error() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for pack in [bzip2, xz] {
            let whole = pack(&b"a few words, a few words".repeat(40));
            for _ in 0..3000 {
                let mut stream = whole.clone();
                for _ in 0..=random() % 8 {
                    let at = random() as usize % stream.len();
                    stream[at] = random().to_le_bytes()[0];
                }
                // No panic, and an error stays one.
                let mut decoder = decompress(&stream[..], sniff(&stream));
                let mut out = Vec::new();
                if (&mut decoder).take(1 << 20).read_to_end(&mut out).is_err() {
                    assert!(decoder.read(&mut [0; 10]).is_err());
                }
            }
        }
    }

    #[test]
    fn a_dictionary_of_xz_has_a_limit() {
        // Stream header; block header of 12 bytes: one filter, LZMA2, its dictionary as a code (xz-file-format, 5.3.1).
        let stream = |code: u8| {
            let mut block = vec![2, 0, 0x21, 1, code, 0, 0, 0];
            let mut crc = flate2::Crc::new();
            crc.update(&block);
            block.extend(crc.sum().to_le_bytes());
            let mut flags = vec![0, 1];
            let mut crc = flate2::Crc::new();
            crc.update(&flags);
            flags.extend(crc.sum().to_le_bytes());
            [b"\xfd7zXZ\0", &flags[..], &block, &[0; 64]].concat()
        };
        for (code, is_refused) in [(28, false), (30, false), (31, true), (40, true)] {
            let error = read(&stream(code)).expect_err("it ends early").to_string();
            assert_eq!(error.contains("dictionary of more than 128 MiB"), is_refused, "{code}: {error}");
        }
    }
}
