//! How large the parts of an upload are. OSS takes 10,000 of at most 5 GiB: 48.8 TiB.

use crate::{Error, ErrorKind, Result};

pub(super) const MOST: u32 = 10_000;
pub(super) const LARGEST: u64 = 5 << 30;
/// A stream up to this size is stored in one request; a longer one in parts of at least this size.
pub(super) const SMALLEST: u64 = 4 * MIB;
const MIB: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartSizes {
    /// The length is known: equal parts.
    Fixed(u64),
    /// It is not: a part is a thousandth of what has been sent. Memory stays small for small objects (4 MiB parts up to
    /// 4 GiB), and 10,000 parts still hold 13 TiB.
    Growing,
}

impl PartSizes {
    /// Equal parts for an object of this length, of the size that is wanted if 10,000 are enough.
    pub(super) fn of_length(length: u64, wanted: u64, key: &str) -> Result<Self> {
        let most = u64::from(MOST);
        if length > LARGEST * most {
            let why = "the object is larger than 10,000 parts of 5 GiB";
            return Err(Error::new(ErrorKind::InvalidInput, "upload", key, why));
        }
        let size = match length.div_ceil(wanted) {
            count if count <= most => wanted,
            _ => length.div_ceil(most).next_multiple_of(MIB),
        };
        Ok(Self::Fixed(size.min(LARGEST)))
    }

    /// The size of the next part, when so many bytes have been sent.
    pub(super) fn next(self, sent: u64) -> u64 {
        match self {
            Self::Fixed(size) => size,
            Self::Growing => (sent / 1000 / MIB * MIB).clamp(SMALLEST, LARGEST),
        }
    }
}

/// How many parts of this size may be in memory on their way at once: three small ones, one large one.
pub(super) fn at_once(size: u64) -> usize {
    match size {
        0..=16_777_216 => 3,
        16_777_217..=67_108_864 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIB: u64 = 1 << 40;

    fn parts(sizes: PartSizes, length: u64) -> u64 {
        let (mut count, mut sent) = (0, 0);
        while sent < length {
            sent += sizes.next(sent);
            count += 1;
        }
        count
    }

    #[test]
    fn every_length_that_oss_takes_fits_into_ten_thousand_parts() {
        let largest = LARGEST * u64::from(MOST);
        assert_eq!(largest / (TIB / 10), 488, "48.8 TiB");
        for length in [
            1,
            SMALLEST,
            SMALLEST + 1,
            SMALLEST * 10_000,
            SMALLEST * 10_000 + 1,
            TIB,
            48_800_000_000_000,
            largest - 1,
            largest,
        ] {
            for wanted in [100 * 1024, SMALLEST, 8 * MIB, 1 << 30] {
                let sizes = PartSizes::of_length(length, wanted, "k").unwrap();
                assert!(parts(sizes, length) <= 10_000, "{length} {wanted}");
                assert!(sizes.next(0) <= LARGEST && sizes.next(0) >= wanted);
            }
        }
        assert_eq!(
            PartSizes::of_length(largest + 1, MIB, "k").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }

    #[test]
    fn a_stream_of_unknown_length_starts_small_and_reaches_thirteen_tebibytes() {
        let sizes = PartSizes::Growing;
        assert_eq!(sizes.next(4_000 * MIB), SMALLEST);
        assert_eq!(parts(sizes, 4_000 * MIB), 1000);
        assert!(parts(sizes, 100 << 30) < 5_000);
        assert!(parts(sizes, 13 * TIB) <= 10_000, "{}", parts(sizes, 13 * TIB));
        assert_eq!(sizes.next(10 * TIB), LARGEST);
        // Parts on their way and the one that is being filled, as a share of what was sent.
        for sent in (0..200).map(|step| step * 100 * MIB) {
            let size = sizes.next(sent);
            let memory = size * (at_once(size) as u64 + 1);
            assert!(memory <= 16 * MIB || memory <= sent / 250, "{sent}: {memory}");
        }
    }
}
