//! The frames of the D-Bus byte stream: where a message ends, and the header fields that admission needs. Reads no
//! body. Pure.

use thiserror::Error;
use zbus::Signature;

/// The fixed part of a header: endianness, type, flags, version, length of the body, serial, length of the fields.
pub const FIXED_BYTES: usize = 16;
/// The type of a method call.
const METHOD_CALL: u8 = 1;
/// The type of a signal.
const SIGNAL: u8 = 4;
/// Flag of calls whose caller expects no reply.
const NO_REPLY_EXPECTED: u8 = 1;

/// The types of the header fields, by their codes: none for 0, path, interface, member, error name, reply serial,
/// destination, sender, signature, number of descriptors.
const TYPES: [u8; 10] = *b"\0osssussgu";

/// The stream is not D-Bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the bus sent a malformed message header")]
pub struct Malformed;

/// The type of a message, as far as admission distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// A signal.
    Signal,
    /// A reply or an error.
    Reply,
}

/// The lengths and the type of a message, from [`FIXED_BYTES`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub kind: Kind,
    /// Length of the header with its padding, in bytes.
    pub header: usize,
    /// Length of the message, in bytes.
    pub total: usize,
    /// The serial.
    pub serial: u32,
    /// True if the caller waits for a reply.
    pub wants_reply: bool,
    /// Where the fields end, in bytes from the beginning of the message.
    fields_end: usize,
    big_endian: bool,
}

/// Header fields of a method call or signal. A missing field is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The unique name of the sender, which the bus sets.
    pub sender: String,
    /// The method or signal.
    pub member: String,
    /// True if the header is complete and zbus can parse it. zbus closes the connection at a header that it cannot
    /// parse, also one that the bus forwards: it limits the nesting of signatures differently, and rejects unknown
    /// fields.
    pub is_valid: bool,
}

impl Frame {
    /// Parses the fixed part of a header.
    pub fn parse(bytes: &[u8]) -> Result<Frame, Malformed> {
        let fixed: [u8; FIXED_BYTES] =
            bytes.get(..FIXED_BYTES).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
        let [endian, kind, flags, ..] = fixed;
        let big_endian = match endian {
            b'l' => false,
            b'B' => true,
            _ => return Err(Malformed),
        };
        let word = |at: usize| number(&fixed, at, big_endian).ok_or(Malformed);
        let length = |at: usize| word(at).and_then(|n| usize::try_from(n).map_err(|_| Malformed));
        let fields_end = length(12)?.checked_add(FIXED_BYTES).ok_or(Malformed)?;
        let header = fields_end.checked_next_multiple_of(8).ok_or(Malformed)?;
        Ok(Frame {
            kind: match kind {
                METHOD_CALL => Kind::Call,
                SIGNAL => Kind::Signal,
                _ => Kind::Reply,
            },
            header,
            total: length(4)?.checked_add(header).ok_or(Malformed)?,
            serial: word(8)?,
            wants_reply: flags & NO_REPLY_EXPECTED == 0,
            fields_end,
            big_endian,
        })
    }

    /// Parses the fields of the header, which has [`Frame::header`] bytes. Only types that the specification defines
    /// for header fields are read; a field of another type ends the search.
    pub fn fields(&self, header: &[u8]) -> Fields {
        let mut fields = Fields { is_valid: true, ..Fields::default() };
        let mut seen = 0_u16;
        let mut at = FIXED_BYTES;
        while let Some((code, kind, value, end)) = self.field(header, at) {
            let type_of_code = TYPES.get(usize::from(code)).copied().unwrap_or(0);
            let bit = 1_u16.checked_shl(code.into()).unwrap_or(0);
            fields.is_valid &= kind == type_of_code && seen & bit == 0;
            seen |= bit;
            match code {
                3 => fields.member = value,
                7 => fields.sender = value,
                8 => fields.is_valid &= Signature::from_bytes(value.as_bytes()).is_ok(),
                _ => {}
            }
            at = end;
        }
        fields.is_valid &= at == self.fields_end && header.len() >= self.fields_end;
        fields
    }

    /// The code, type and text of the field at `at`, and where it ends. The text of a number is empty.
    fn field(&self, header: &[u8], at: usize) -> Option<(u8, u8, String, usize)> {
        let header = header.get(..self.fields_end.min(header.len()))?;
        let at = at.checked_next_multiple_of(8)?;
        let [code, 1, kind, 0] = *header.get(at..at.checked_add(4)?)? else { return None };
        let at = at.checked_add(4)?;
        let (start, length) = match kind {
            b's' | b'o' => (at.checked_add(4)?, usize::try_from(number(header, at, self.big_endian)?).ok()?),
            b'g' => (at.checked_add(1)?, usize::from(*header.get(at)?)),
            b'u' => return Some((code, kind, String::new(), at.checked_add(4)?)),
            _ => return None,
        };
        let end = start.checked_add(length)?;
        let text = std::str::from_utf8(header.get(start..end)?).ok()?;
        Some((code, kind, text.to_owned(), end.checked_add(1)?))
    }
}

fn number(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zbus::message::Flags;
    use zbus::wire::Endian;

    use super::*;

    #[test]
    fn frame_of_real_messages_is_read() {
        for endian in [Endian::Little, Endian::Big] {
            for body in ["", "a", "a longer argument"] {
                let message = zbus::Message::method_call("/org/memcg/Bpf1", "AttachContainer")
                    .sender(":1.42")
                    .destination("org.memcg.Bpf1")
                    .interface("org.memcg.Bpf1.Manager")
                    .endian(endian)
                    .build(&(body, 7u32));
                let message = message.unwrap();
                let frame = Frame::parse(message.data()).unwrap();
                assert_eq!(frame.total, message.data().len());
                assert_eq!(frame.total - frame.header, message.body().len());
                assert_eq!(frame.serial, message.primary_header().serial_num().get());
                assert_eq!((frame.kind, frame.wants_reply), (Kind::Call, true));
                let fields = frame.fields(&message.data()[..frame.header]);
                assert_eq!((fields.sender.as_str(), fields.member.as_str()), (":1.42", "AttachContainer"));
                assert!(fields.is_valid);
                assert!(!frame.fields(&message.data()[..frame.header - 8]).is_valid, "the end is missing");
            }
        }
        let signal = zbus::Message::signal("/a", "b.c", "D").build(&()).unwrap();
        assert_eq!(Frame::parse(signal.data()).unwrap().kind, Kind::Signal);
        let quiet = zbus::Message::method_call("/a", "B").with_flags(Flags::NO_REPLY_EXPECTED).build(&());
        assert!(!Frame::parse(quiet.unwrap().data()).unwrap().wants_reply);
    }

    #[test]
    fn header_that_zbus_cannot_parse_is_invalid() {
        let message = zbus::Message::method_call("/a", "B").sender(":1.42").build(&(7u32,)).unwrap();
        let header = &message.data()[..Frame::parse(message.data()).unwrap().header];
        let is_valid = |header: &[u8]| Frame::parse(header).unwrap().fields(header).is_valid;
        assert!(is_valid(header));
        // Each field begins with its code, and the one of the signature with 8, 1, 'g', 0.
        let at = header.windows(4).position(|bytes| bytes == b"\x08\x01g\0").unwrap();
        let with = |at: usize, byte: u8| {
            let mut header = header.to_vec();
            header[at] = byte;
            header
        };
        for code in [0, 10, 200, 3, 7] {
            assert!(!is_valid(&with(at, code)), "code {code}");
        }
        assert!(!is_valid(&with(at + 5, b'!')), "signature");
        // The bus counts the depth of arrays anew in a structure; zbus does not.
        let deep = format!("{}(ai)", "a".repeat(32));
        assert!(Signature::from_bytes(deep.as_bytes()).is_err());
        assert!(is_valid(&with(at + 5, b's')));
    }

    #[test]
    fn lengths_that_overflow_or_other_protocols_are_malformed() {
        assert_eq!(Frame::parse(b"l"), Err(Malformed));
        assert_eq!(Frame::parse(b"GET / HTTP/1.1\r\n"), Err(Malformed));
        let mut longest = *b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff";
        let frame = Frame::parse(&longest).unwrap();
        assert_eq!(frame.total, 0xffff_ffff + 0x1_0000_0010);
        longest[0] = b'B';
        assert_eq!(Frame::parse(&longest).unwrap().serial, 0x0100_0000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..256), big: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = if big { b'B' } else { b'l' };
            }
            if let Ok(frame) = Frame::parse(&bytes) {
                prop_assert!(frame.header >= FIXED_BYTES && frame.total >= frame.header);
                let fields = frame.fields(&bytes);
                prop_assert!(fields.sender.len().max(fields.member.len()) <= bytes.len());
            }
        }
    }
}
