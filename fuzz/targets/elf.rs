//! Changes to an ELF file that keep its length: most of them in its types, which is where our own reading begins.

/// Bytes that say one change: where, how wide, and what.
const CHANGE: usize = 8;

/// The object with the changes made; half a change at the end is none.
pub fn changed(object: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = object.to_vec();
    let (start, length) = types(object).unwrap_or((0, object.len()));
    for change in changes.chunks_exact(CHANGE).take(64) {
        let offset = usize::from(change[1]) | usize::from(change[2]) << 8 | usize::from(change[3]) << 16;
        // One in four is anywhere: headers, programs, relocations.
        let (start, length) = if change[0] & 3 == 3 { (0, object.len()) } else { (start, length) };
        let at = start + offset % length.max(1);
        let width = 1 << (change[0] >> 2 & 1) << (change[0] >> 3 & 1);
        for (place, value) in bytes.iter_mut().skip(at).zip(&change[4..4 + width]) {
            *place = *value;
        }
    }
    bytes
}

/// Start and length of the section .BTF.
fn types(object: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize, width: usize| {
        let bytes = object.get(at..at + width)?;
        bytes
            .iter()
            .rev()
            .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    let (headers, size, count, names) =
        (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let section = |index: usize| {
        let at = headers + index * size;
        Some((number(at, 4)?, number(at + 0x18, 8)?, number(at + 0x20, 8)?))
    };
    let (_, names, _) = section(names)?;
    let all = (0..count).filter_map(section);
    let mut types =
        all.filter(|(name, _, _)| object.get(names + name..).is_some_and(|n| n.starts_with(b".BTF\0")));
    types.next().map(|(_, start, length)| (start, length))
}
