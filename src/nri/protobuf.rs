//! The wire format of protocol buffers: fields in, fields out. Knows no message.

use super::error::ProtocolError;

/// The value of a field. Fixed-size values, which NRI's messages do not have, are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A variable-length integer: numbers, booleans and enumerators.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0, the default of every field, if the value is none.
    pub fn number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Bytes(_) => 0,
        }
    }

    /// The bytes; empty if the value is a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Number(_) => &[],
            Value::Bytes(bytes) => bytes,
        }
    }

    /// The bytes as text. Text that is not UTF-8 is an error.
    pub fn text(self) -> Result<&'a str, ProtocolError> {
        std::str::from_utf8(self.bytes()).map_err(|_| ProtocolError::Text)
    }
}

/// The fields of a message in their order on the wire.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of an encoded message.
    pub fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], ProtocolError> {
        let count = usize::try_from(count).map_err(|_| ProtocolError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ProtocolError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ProtocolError> {
        let mut value = 0_u64;
        for shift in (0_u32..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtocolError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtocolError::Varint)
    }

    fn field(&mut self) -> Result<(u64, Option<Value<'a>>), ProtocolError> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Some(Value::Number(self.varint()?)),
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = self.varint()?;
                Some(Value::Bytes(self.take(length)?))
            }
            5 => self.take(4).map(|_| None)?,
            kind => return Err(ProtocolError::WireType(kind)),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.field() {
                Ok((number, Some(value))) => return Some(Ok((number, value))),
                Ok((_, None)) => {}
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty message.
    pub fn new() -> Self {
        Message::default()
    }

    /// Appends a number. 0 is the default of every field and is not written.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    /// Appends bytes, also if they are empty.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint((u64::from(field) << 3) | 2);
        self.varint(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(value);
        self
    }

    /// Appends a string.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Appends a message.
    #[must_use]
    pub fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// The encoded message.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, ProtocolError> {
        Fields::new(bytes).collect()
    }

    #[test]
    fn fields_are_read_in_order() {
        // 1: 150, 2: "testing", as the documentation of protocol buffers encodes them.
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g'];
        assert_eq!(fields(&bytes).unwrap(), [(1, Value::Number(150)), (2, Value::Bytes(b"testing"))]);
        assert_eq!(Message::new().number(1, 150).text(2, "testing").encoded(), bytes);
        assert_eq!(fields(&[]).unwrap(), []);
    }

    #[test]
    fn fixed_values_are_skipped() {
        let bytes = [0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x18, 7];
        assert_eq!(fields(&bytes).unwrap(), [(3, Value::Number(7))]);
    }

    #[test]
    fn invalid_encodings_are_errors() {
        for (bytes, error) in [
            (&[0x08][..], ProtocolError::Truncated),
            (&[0x80], ProtocolError::Truncated),
            (&[0x12, 5, b'a'], ProtocolError::Truncated),
            (&[0x09, 1, 2], ProtocolError::Truncated),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], ProtocolError::Truncated),
            (&[0xff; 11], ProtocolError::Varint),
            (&[0x0b], ProtocolError::WireType(3)),
            (&[0x0f], ProtocolError::WireType(7)),
        ] {
            assert_eq!(fields(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(Value::Bytes(&[0xff]).text(), Err(ProtocolError::Text));
    }

    #[test]
    fn numbers_of_every_size_round_trip() {
        for number in [1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            let message = Message::new().number(15, number).number(16, number);
            assert_eq!(
                fields(message.encoded()).unwrap(),
                [(15, Value::Number(number)), (16, Value::Number(number))]
            );
        }
        assert!(Message::new().number(1, 0).encoded().is_empty());
    }
}
