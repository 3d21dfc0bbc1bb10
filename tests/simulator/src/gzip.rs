//! A gzip file without compression, to test whether a client accepts an encoding that it did not request.

/// `bytes` as stored blocks with a gzip head and tail (RFC 1952, RFC 1951 §3.2.4).
#[must_use]
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(bytes).to_le_bytes());
    let size = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or_default();
    out.extend(size.to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn short_content_is_one_final_block() {
        let file = stored(b"hi");
        assert_eq!(file[10..17], [1, 2, 0, 0xfd, 0xff, b'h', b'i']);
        assert_eq!(file[file.len() - 4..], [2, 0, 0, 0]);
    }
}
