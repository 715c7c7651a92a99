//! A part of a stream in memory, as it came: putting its pieces side by side would cost as much as sending them.

use std::{convert::Infallible, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;

use crate::crc::Crc64;

/// A smaller piece is copied to its neighbours: one byte at a time must not cost more memory than its bytes.
const SMALL: usize = 16 * 1024;
/// How much is copied together at most.
const TOGETHER: usize = 64 * 1024;

/// Pieces that are still being collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pieces: Vec<Bytes>,
    small: BytesMut,
    length: u64,
}

impl Collected {
    pub(super) fn add(&mut self, piece: Bytes) {
        self.length += piece.len() as u64;
        if piece.len() >= SMALL {
            self.settle();
            self.pieces.push(piece);
            return;
        }
        self.small.extend_from_slice(&piece);
        if self.small.len() >= TOGETHER {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn finish(mut self) -> Pieces {
        self.settle();
        Pieces {
            pieces: self.pieces.into(),
            length: self.length,
        }
    }
}

/// Pieces that can be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pieces: Arc<[Bytes]>,
    length: u64,
}

impl Pieces {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn crc64(&self) -> u64 {
        let mut digest = Crc64::new();
        for piece in self.pieces.iter() {
            digest.update(piece);
        }
        digest.value()
    }

    pub(super) fn to_body(&self) -> reqwest::Body {
        match &self.pieces[..] {
            [] => reqwest::Body::default(),
            [whole] => whole.clone().into(),
            pieces => {
                let pieces: Vec<_> = pieces.iter().cloned().map(Ok::<_, Infallible>).collect();
                reqwest::Body::wrap_stream(stream::iter(pieces))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_stay_as_they_are_and_small_ones_share_room() {
        let large = Bytes::from(vec![1; SMALL]);
        let mut collected = Collected::default();
        collected.add(large.clone());
        for _ in 0..TOGETHER + 1 {
            collected.add(Bytes::from_static(b"a"));
        }
        collected.add(large.clone());
        assert_eq!(collected.len() as usize, 2 * SMALL + TOGETHER + 1);
        let pieces = collected.finish();
        let lengths: Vec<usize> = pieces.pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [SMALL, TOGETHER, 1, SMALL]);
        assert_eq!(pieces.pieces[0].as_ptr(), large.as_ptr(), "it was not copied");
        let whole: Vec<u8> = pieces.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(pieces.crc64(), crate::crc::crc64(&whole));
        assert_eq!(pieces.len() as usize, whole.len());
    }
}
