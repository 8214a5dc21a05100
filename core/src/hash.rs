//! Short hashes for names and labels.

use sha2::{Digest, Sha256};

/// 64 bits of SHA-256 over the parts, as 16 hexadecimal digits: fits a label and a name, and does not
/// collide among the objects of one cluster.
pub fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// The first eight bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    let digits = bytes
        .iter()
        .take(8)
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
    digits.collect()
}
