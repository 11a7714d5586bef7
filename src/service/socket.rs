//! A connection to the bus that reads only admitted messages into memory, whatever their size.

use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::address::Address;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::{Builder, socket};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;

use super::admission::{Admission, Verdict};
use super::frame::{FIXED_BYTES, Frame};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes of a header that are read before the decision. The bus sets the sender in a longer one as well, but no caller of
/// this interface needs it.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Limit of the length of a line of the authentication, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Connects to the system bus.
pub async fn connect(admission: Admission) -> zbus::Result<zbus::Connection> {
    let address = Address::system()?;
    let path: PathBuf = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => path.clone(),
            // Socket addresses of other kinds name no system bus.
            _ => return Err(zbus::Error::Unsupported),
        },
        _ => return Err(zbus::Error::Unsupported),
    };
    let stream = UnixStream::connect(path).await?;
    Builder::socket(BoundedSocket::new(stream, admission)).build().await
}

/// A socket of the bus with admission.
#[derive(Debug)]
pub struct BoundedSocket {
    stream: UnixStream,
    admission: Admission,
}

impl BoundedSocket {
    /// Admits what the stream receives.
    pub fn new(stream: UnixStream, admission: Admission) -> Self {
        BoundedSocket { stream, admission }
    }
}

impl socket::Socket for BoundedSocket {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> socket::Split<Reader, Writer> {
        let (read, write) = self.stream.into_split();
        let reader = Reader {
            stream: read,
            admission: Arc::new(self.admission),
            received: Vec::new(),
            admitted: 0,
            discard: 0,
        };
        socket::Split::new(reader, Writer(write))
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Reader {
    stream: OwnedReadHalf,
    admission: Arc<Admission>,
    /// Bytes that are not passed on yet.
    received: Vec<u8>,
    /// Number of bytes to pass on next, received or not.
    admitted: usize,
    /// Number of bytes to discard next.
    discard: usize,
}

impl Reader {
    /// Passes on admitted bytes. Returns 0 if there are none.
    fn take_admitted(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.admitted.min(buffer.len()).min(self.received.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), self.received.get(..count)) {
            to.copy_from_slice(from);
        }
        self.received.drain(..count);
        self.admitted = self.admitted.saturating_sub(count);
        count
    }

    /// Decides on the message or line at the beginning of `received`. Returns false if more bytes are required.
    async fn decide(&mut self) -> io::Result<bool> {
        if self.admitted > 0 {
            return Ok(false);
        }
        let dropped = self.discard.min(self.received.len());
        self.received.drain(..dropped);
        self.discard = self.discard.saturating_sub(dropped);
        let Some([endian, kind]) = self.received.first_chunk::<2>().copied() else { return Ok(false) };
        // The type of a message is a small number; lines of the authentication are text.
        if !matches!(endian, b'l' | b'B') || kind.is_ascii_graphic() {
            let end = self.received.iter().position(|byte| *byte == b'\n');
            if end.is_none() && self.received.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.admitted = end.map_or(0, |end| end.saturating_add(1));
            return Ok(end.is_some());
        }
        if self.received.len() < FIXED_BYTES {
            return Ok(false);
        }
        let frame =
            Frame::parse(&self.received).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        // The sender is in the header; a rejected caller gets a reply.
        if self.received.len() < frame.header.min(HEADER_BYTES_MAX) {
            return Ok(false);
        }
        let header = self.received.get(..frame.header).unwrap_or(&self.received);
        match self.admission.admit(&frame, &frame.fields(header)).await {
            Verdict::Admit => self.admitted = frame.total,
            Verdict::Discard => self.discard = frame.total,
        }
        Ok(true)
    }
}

#[async_trait]
impl socket::ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            let count = self.take_admitted(buffer);
            if count > 0 {
                return Ok((count, Vec::new()));
            }
            if self.decide().await? {
                continue;
            }
            self.stream.readable().await?;
            let mut bytes = [0; READ_BYTES];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Ok((0, Vec::new())),
                Ok(count) => self.received.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        credentials(self.stream.as_ref())
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Writer(OwnedWriteHalf);

#[async_trait]
impl socket::WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.0).poll_shutdown(context)).await
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        credentials(self.0.as_ref())
    }
}

fn credentials(stream: &UnixStream) -> io::Result<ConnectionCredentials> {
    Ok(ConnectionCredentials::default().set_unix_user_id(stream.peer_cred()?.uid()))
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
