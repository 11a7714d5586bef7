//! ttrpc, the remote procedure calls of containerd. A message is its length, a stream (4 bytes each in network byte
//! order), a type, flags, and that many bytes of a protobuf message.

use super::error::{MESSAGE_MAX, ProtocolError};
use super::protobuf::{Fields, Message};

const HEADER: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// The status code of a method that does not exist.
pub const UNIMPLEMENTED: u32 = 12;

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A call of the peer.
    Request {
        /// The stream, which the response repeats.
        stream: u32,
        /// The service.
        service: String,
        /// The method.
        method: String,
        /// The encoded argument.
        payload: Vec<u8>,
    },
    /// The response to a call.
    Response {
        /// The stream of the call.
        stream: u32,
        /// The error, if the call failed.
        error: Option<String>,
    },
}

/// Takes the bytes of one logical connection apart into messages.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    /// Appends the payload of a frame.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message. Skips those that are neither a request nor a response.
    pub fn next_message(&mut self) -> Result<Option<Received>, ProtocolError> {
        loop {
            let Some((&length, rest)) = self.pending.split_first_chunk::<4>() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MESSAGE_MAX {
                return Err(ProtocolError::MessageTooLong(length));
            }
            let Some((&stream, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            let Some((&[kind, _flags], body)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let Some(body) = body.get(..length) else { return Ok(None) };
            let stream = u32::from_be_bytes(stream);
            let received = match kind {
                REQUEST => Some(request(stream, body)?),
                RESPONSE => Some(Received::Response { stream, error: response_error(body)? }),
                _ => None,
            };
            self.pending.drain(..HEADER.saturating_add(length));
            if received.is_some() {
                return Ok(received);
            }
        }
    }
}

fn request(stream: u32, body: &[u8]) -> Result<Received, ProtocolError> {
    let (mut service, mut method, mut payload) = ("", "", &[][..]);
    for field in Fields::new(body) {
        match field? {
            (1, value) => service = value.text()?,
            (2, value) => method = value.text()?,
            (3, value) => payload = value.bytes(),
            _ => {}
        }
    }
    Ok(Received::Request {
        stream,
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_vec(),
    })
}

fn response_error(body: &[u8]) -> Result<Option<String>, ProtocolError> {
    let (mut code, mut message) = (0, String::new());
    for field in Fields::new(body) {
        let (1, status) = field? else { continue };
        for field in Fields::new(status.bytes()) {
            match field? {
                (1, value) => code = value.number(),
                (2, value) => message = String::from_utf8_lossy(value.bytes()).into_owned(),
                _ => {}
            }
        }
    }
    Ok((code != 0).then(|| if message.is_empty() { format!("status code {code}") } else { message }))
}

/// A call of ours.
pub fn encode_request(stream: u32, service: &str, method: &str, payload: &Message) -> Vec<u8> {
    let body = Message::new().text(1, service).text(2, method).message(3, payload);
    encode(stream, REQUEST, body.encoded())
}

/// A successful response.
pub fn encode_response(stream: u32, payload: &Message) -> Vec<u8> {
    encode(stream, RESPONSE, Message::new().message(2, payload).encoded())
}

/// An error response.
pub fn encode_error(stream: u32, code: u32, message: &str) -> Vec<u8> {
    let status = Message::new().number(1, u64::from(code)).text(2, message);
    encode(stream, RESPONSE, Message::new().message(1, &status).encoded())
}

fn encode(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().saturating_add(HEADER));
    out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(stream.to_be_bytes());
    out.extend([kind, 0]);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Received>, ProtocolError> {
        let mut reader = Reader::default();
        reader.push(bytes);
        std::iter::from_fn(|| reader.next_message().transpose()).collect()
    }

    #[test]
    fn requests_and_responses_round_trip() {
        let mut bytes = encode_request(3, "s", "M", &Message::new().text(1, "x"));
        assert_eq!(bytes, [0, 0, 0, 11, 0, 0, 0, 3, 1, 0, 10, 1, b's', 18, 1, b'M', 26, 3, 10, 1, b'x']);
        bytes.extend(encode_response(5, &Message::new()));
        bytes.extend(encode_error(7, UNIMPLEMENTED, "no"));
        bytes.extend(encode_error(9, 2, ""));
        let request = Received::Request {
            stream: 3,
            service: "s".into(),
            method: "M".into(),
            payload: vec![10, 1, b'x'],
        };
        let response =
            |stream, error: Option<&str>| Received::Response { stream, error: error.map(str::to_owned) };
        assert_eq!(
            read(&bytes).unwrap(),
            [request, response(5, None), response(7, Some("no")), response(9, Some("status code 2"))]
        );
    }

    #[test]
    fn data_of_streams_is_skipped() {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 1, 3, 0, b'x'];
        bytes.extend(encode_response(1, &Message::new()));
        assert_eq!(read(&bytes).unwrap(), [Received::Response { stream: 1, error: None }]);
    }

    #[test]
    fn message_that_is_too_long_or_damaged_is_an_error() {
        let long = [0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0];
        assert_eq!(read(&long), Err(ProtocolError::MessageTooLong(MESSAGE_MAX + 1)));
        assert_eq!(read(&[0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0x0f]), Err(ProtocolError::WireType(7)));
        assert_eq!(read(&[0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 10, 1, 0xff]), Err(ProtocolError::Text));
        assert_eq!(read(&[0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 10]), Ok(vec![]));
    }
}
