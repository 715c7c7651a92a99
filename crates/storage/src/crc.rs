//! CRC-64/XZ, the checksum that OSS reports as `x-oss-hash-crc64ecma`.

use crc_fast::{CrcAlgorithm, Digest};

/// A running CRC-64 over bytes that pass by.
#[derive(Clone)]
pub(crate) struct Crc64(Digest);

impl Crc64 {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Xz))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.value())
    }
}

/// The CRC-64 of two pieces one after the other, from that of each and the length of the second.
pub(crate) fn combine(first: u64, second: u64, second_length: u64) -> u64 {
    // The library takes nothing of length zero.
    if second_length == 0 {
        return first;
    }
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Xz, first, second, second_length)
}

/// The CRC-64 of `bytes`.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_published_check_value() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn pieces_combine_to_the_whole_wherever_they_are_cut() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for cut in [0, 1, 2, 255, 256, 257, 4096, 4999, 5000] {
            let (one, two) = bytes.split_at(cut);
            let joined = combine(crc64(one), crc64(two), two.len() as u64);
            assert_eq!(joined, crc64(&bytes), "cut at {cut}");
        }
        // Three, the way the parts of an upload are folded, starting from nothing.
        let folded = bytes.chunks(1777).fold(Crc64::new().value(), |crc, piece| {
            combine(crc, crc64(piece), piece.len() as u64)
        });
        assert_eq!(folded, crc64(&bytes));
        // Lengths that no buffer has: combining is linear, so twice five GiB equals once ten.
        let (zeros, five) = (crc64(&[0; 1024]), 5 << 30);
        let once = combine(zeros, 0x1234, 2 * five);
        assert_eq!(combine(combine(zeros, 0, five), 0x1234, five), once);
    }
}
