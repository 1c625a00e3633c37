//! A layer that is written on one thread and unpacked on another: nothing of it lies anywhere as a tar.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::thread::Builder;

use crate::image::digest::Digest;
use crate::image::unpack::Unpacked;
use crate::image::{Error, load, store_error};

/// Stack of the thread that writes, in bytes: it may call itself for each level of directories, of which there may be many.
const STACK: usize = 16 << 20;

/// Bytes on their way.
pub(crate) type Out = BufWriter<File>;

fn is_broken_pipe(error: &Error) -> bool {
    match error {
        Error::Layer { source, .. } | Error::Store { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

/// Unpacks into `fs` the tar that `write` makes of `from`; returns what that returned, what is known of the layer, and its
/// digest.
///
/// # Errors
/// When it cannot be read, or not be unpacked.
pub(crate) fn unpack_written<W: Send>(
    name: &str,
    from: &Path,
    fs: &Path,
    write: impl FnOnce(&mut Out) -> Result<W, Error> + Send,
) -> Result<(W, Unpacked, Digest), Error> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| store_error("read", from)(e.into()))?;
    let write = || -> Result<W, Error> {
        let mut out = BufWriter::with_capacity(256 << 10, File::from(writer));
        let written = write(&mut out)?;
        out.flush().map_err(store_error("read", from))?;
        Ok(written)
    };
    std::thread::scope(|scope| {
        let writer = Builder::new().stack_size(STACK).spawn_scoped(scope, write);
        let writer = writer.map_err(store_error("read", from))?;
        let unpacked = load::unpack_stream(File::from(reader), name, u64::MAX, fs);
        let died = |_| store_error("read", from)(io::Error::other("the thread that reads it has panicked"));
        match (writer.join().map_err(died)?, unpacked) {
            // When the store is at fault, the writer has only seen a broken pipe.
            (Err(error), Err(of_store)) if is_broken_pipe(&error) => Err(of_store),
            (written, unpacked) => {
                let (written, (unpacked, digest)) = (written?, unpacked?);
                Ok((written, unpacked, digest))
            }
        }
    })
}
