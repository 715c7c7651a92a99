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

/// The CRC-64 of `bytes`.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn equals_the_published_check_value() {
        assert_eq!(super::crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
    }
}
