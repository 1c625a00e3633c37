//! What a request sends: nothing, a text, or a file piece by piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// How much of a file is read at once. It has just been written, so that reading it waits for no disk.
const PIECE: u64 = 64 << 10;

/// What is sent; it can be sent again.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    Nothing,
    Text {
        bytes: Bytes,
        /// Its media type.
        kind: String,
    },
    File(Upload),
}

/// A file that is sent.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
    /// How many bytes have gone.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Payload {
    /// A form, as token servers take it.
    pub(super) fn form(text: Option<String>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text {
            bytes: text.into(),
            kind: "application/x-www-form-urlencoded".into(),
        })
    }

    /// Returns the media type.
    pub(super) fn kind(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Text { kind, .. } => Some(kind),
            Self::File(_) => Some("application/octet-stream"),
        }
    }

    /// Returns how many bytes of a file have gone.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Self::File(upload) => upload.sent.load(Ordering::Relaxed),
            Self::Nothing | Self::Text { .. } => 0,
        }
    }

    /// Returns what is done with what it is for.
    pub(super) fn verb(&self) -> &'static str {
        if matches!(self, Self::File(_)) { "sent" } else { "fetched" }
    }

    /// Returns a body that begins at the first byte.
    pub(super) fn body(&self) -> Outgoing {
        match self {
            Self::Nothing => Outgoing::Text(Bytes::new()),
            Self::Text { bytes, .. } => Outgoing::Text(bytes.clone()),
            Self::File(upload) => {
                upload.sent.store(0, Ordering::Relaxed);
                Outgoing::File(upload.clone(), 0)
            }
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Bytes),
    /// A file, and how far it has come.
    File(Upload, u64),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.get_mut() {
            Self::Text(bytes) if bytes.is_empty() => None,
            Self::Text(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::File(upload, at) if *at >= upload.size => None,
            Self::File(upload, at) => Some(piece(upload, at).map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::File(upload, at) => upload.size.saturating_sub(*at),
        })
    }
}

fn piece(upload: &Upload, at: &mut u64) -> io::Result<Bytes> {
    let most = PIECE.min(upload.size - *at);
    let mut piece = vec![0; usize::try_from(most).unwrap_or_default()];
    upload.file.read_exact_at(&mut piece, *at)?;
    *at += most;
    upload.sent.store(*at, Ordering::Relaxed);
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_file_goes_in_pieces_and_again_from_its_beginning() {
        let file = tempfile::tempfile().expect("a file");
        let size = 3 * PIECE + 5;
        let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).expect("small")).collect();
        file.write_all_at(&bytes, 0).expect("written");
        let payload = Payload::File(Upload { file: Arc::new(file), size, sent: Arc::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for _ in 0..2 {
            let body = payload.body();
            assert_eq!((payload.sent(), body.size_hint().exact()), (0, Some(size)));
            let gone = runtime.block_on(body.collect()).expect("read").to_bytes();
            assert!(gone == bytes);
            assert_eq!(payload.sent(), size);
        }
        assert!(Payload::Nothing.body().is_end_stream());
    }
}
