//! Fields of the records that BPF programs write: numbers in the byte order of the machine, and zero-terminated text.
//! `None` if the record is too short.

/// The 64-bit number at an offset.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The 32-bit number at an offset.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The text at an offset, in a field of this size.
pub(super) fn text(bytes: &[u8], at: usize, size: usize) -> Option<String> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    let text = field.split(|b| *b == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}
