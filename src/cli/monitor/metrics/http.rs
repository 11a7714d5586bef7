//! An HTTP server for `GET /metrics`: handles one request at a time, with a timeout and a bounded header. Only
//! loopback addresses and Unix sockets are served, for a scraper or a proxy on this machine.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::term::{eprint, escape_line};

/// Longest request header in bytes. Those of scrapers have some hundred.
const HEAD_MAX: usize = 8 * 1024;
/// Timeout of a whole request and its reply. Slower clients are disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listen {
    Loopback(SocketAddr),
    Socket(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Listen::Socket(text.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Listen::Loopback(address)),
            Ok(_) => Err(
                "not a loopback address; to serve other addresses, use a reverse proxy with access control"
                    .into(),
            ),
            Err(_) => Err(
                "neither a loopback address with a port, such as 127.0.0.1:9719, nor the path of a socket"
                    .into(),
            ),
        }
    }
}

/// Serves until interrupted.
pub(super) fn serve(listen: &Listen, page: impl Fn() -> anyhow::Result<String>) -> anyhow::Result<()> {
    match listen {
        Listen::Loopback(address) => {
            let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
            for stream in listener.incoming() {
                log_error(stream.and_then(|stream| handle(stream, REQUEST_TIMEOUT, &page)));
            }
        }
        Listen::Socket(path) => {
            // A socket left by a killed process is removed; other files are not.
            if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
                std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
            }
            let listener =
                UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
            for stream in listener.incoming() {
                log_error(stream.and_then(|stream| handle(stream, REQUEST_TIMEOUT, &page)));
            }
        }
    }
    Ok(())
}

fn log_error(result: io::Result<()>) {
    if let Err(error) = result {
        eprint(&format!("memcg-bpf: Failed to serve metrics: {}\n", escape_line(&error.to_string())));
    }
}

/// A stream whose reads and writes can be bounded in time.
trait Bounded: Read + Write {
    /// Bounds the next read or write.
    fn set_timeout(&self, left: Duration) -> io::Result<()>;
}

impl Bounded for TcpStream {
    fn set_timeout(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))?;
        self.set_write_timeout(Some(left))
    }
}

impl Bounded for UnixStream {
    fn set_timeout(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))?;
        self.set_write_timeout(Some(left))
    }
}

/// A stream with one deadline for all reads and writes, however small each is.
struct Deadline<S> {
    stream: S,
    until: Instant,
}

impl<S: Bounded> Deadline<S> {
    fn new(stream: S, time: Duration) -> Self {
        let now = Instant::now();
        Deadline { stream, until: now.checked_add(time).unwrap_or(now) }
    }

    fn set_timeout(&self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"));
        }
        self.stream.set_timeout(left)
    }
}

impl<S: Bounded> Read for Deadline<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.set_timeout()?;
        self.stream.read(buffer)
    }
}

impl<S: Bounded> Write for Deadline<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.set_timeout()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn handle(stream: impl Bounded, time: Duration, page: impl Fn() -> anyhow::Result<String>) -> io::Result<()> {
    let mut stream = Deadline::new(stream, time);
    let mut head = Vec::new();
    let mut part = [0_u8; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let n = stream.read(&mut part)?;
        head.extend(part.get(..n).unwrap_or_default());
        if n == 0 || head.len() > HEAD_MAX {
            return Err(io::Error::other("not an HTTP request"));
        }
    }
    let first = String::from_utf8_lossy(&head);
    let mut words = first.split_whitespace();
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => match page() {
            Ok(text) => ("200 OK", text),
            Err(error) => ("503 Service Unavailable", format!("{error:#}\n")),
        },
        (Some("GET"), _) => ("404 Not Found", "The metrics are at /metrics.\n".to_owned()),
        _ => ("405 Method Not Allowed", "Only GET is supported.\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handles one request on a pair of connected sockets.
    fn ask(request: &str) -> (io::Result<()>, String) {
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        here.write_all(request.as_bytes()).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        let result = handle(there, REQUEST_TIMEOUT, || Ok("x 1\n".to_owned()));
        let mut response = String::new();
        // The server may close the connection before the client has read the reply.
        let _ = here.read_to_string(&mut response);
        (result, response)
    }

    #[test]
    fn metrics_are_answered_and_nothing_else_is() {
        let (_, response) = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nx 1\n"),
            "{response}"
        );
        assert!(ask("GET / HTTP/1.1\r\n\r\n").1.starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").1.starts_with("HTTP/1.1 405 "));
        assert!(ask("nonsense").0.is_err());
        assert!(ask(&"x".repeat(HEAD_MAX + 4096)).0.is_err());
    }

    #[test]
    fn client_that_sends_byte_by_byte_is_disconnected_in_time() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let client = std::thread::spawn(move || {
            for _ in 0..60 {
                std::thread::sleep(Duration::from_millis(50));
                if here.write_all(b"G").is_err() {
                    return true;
                }
            }
            false
        });
        let began = Instant::now();
        assert!(handle(there, Duration::from_millis(200), || Ok(String::new())).is_err());
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(client.join().unwrap());
    }

    #[test]
    fn only_this_machine_is_served() {
        assert!("127.0.0.1:9719".parse::<Listen>().is_ok() && "[::1]:9719".parse::<Listen>().is_ok());
        assert_eq!("/run/x.sock".parse(), Ok(Listen::Socket("/run/x.sock".into())));
        assert!("0.0.0.0:9719".parse::<Listen>().unwrap_err().starts_with("not a loopback address"));
        assert!("9719".parse::<Listen>().unwrap_err().starts_with("neither"));
    }
}
