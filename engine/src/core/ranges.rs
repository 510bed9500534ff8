//! Which bytes of a file one description has locked.

use crate::{ByteRange, Mode};

/// Bytes that are locked in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: ByteRange,
    pub(crate) mode: Mode,
}

/// What a description holds of a file, as the kernel keeps it: a request replaces what was
/// held of its bytes, and neighbours in the same mode are one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeldRanges(Vec<Piece>);

impl HeldRanges {
    /// In the order of their bytes.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// What is held after a request: `None` as the mode releases the bytes.
    pub(crate) fn with(&self, range: ByteRange, mode: Option<Mode>) -> HeldRanges {
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.0.len() + 2);
        let mut add = |range: ByteRange, mode: Mode| match pieces.last_mut() {
            Some(Piece {
                range: last,
                mode: same,
            }) if *same == mode && last.end() == range.start() => {
                *last = ByteRange::between(last.start(), range.end()).unwrap_or(*last);
            }
            _ => pieces.push(Piece { range, mode }),
        };
        let mut asked = mode;
        for piece in &self.0 {
            let (start, end) = (piece.range.start(), piece.range.end());
            if let Some(before) = ByteRange::between(start, end.min(range.start())) {
                add(before, piece.mode);
            }
            if end > range.start()
                && let Some(mode) = asked.take()
            {
                add(range, mode);
            }
            if let Some(after) = ByteRange::between(start.max(range.end()), end) {
                add(after, piece.mode);
            }
        }
        if let Some(mode) = asked {
            add(range, mode);
        }
        HeldRanges(pieces)
    }

    /// The bytes of a range, with how each is held.
    pub(crate) fn within(&self, range: ByteRange) -> Vec<(ByteRange, Option<Mode>)> {
        let mut parts = Vec::new();
        let mut at = range.start();
        for piece in &self.0 {
            let Some(common) = piece.range.common(range) else {
                continue;
            };
            parts.extend(ByteRange::between(at, common.start()).map(|gap| (gap, None)));
            parts.push((common, Some(piece.mode)));
            at = common.end();
        }
        parts.extend(ByteRange::between(at, range.end()).map(|gap| (gap, None)));
        parts
    }

    /// The first piece that excludes a request of somebody else.
    pub(crate) fn conflict(&self, range: ByteRange, mode: Mode) -> Option<Piece> {
        let stands =
            |piece: &&Piece| piece.mode.conflicts(mode) && piece.range.common(range).is_some();
        self.0.iter().find(stands).copied()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small files: the last byte stands for all that follow.
    const BYTES: u64 = 12;

    fn range() -> impl Strategy<Value = ByteRange> {
        let made = |(start, len)| ByteRange::new(start, len).unwrap();
        (0..BYTES, 0..BYTES).prop_map(made)
    }

    fn mode() -> impl Strategy<Value = Option<Mode>> {
        prop_oneof![
            Just(None),
            Just(Some(Mode::Shared)),
            Just(Some(Mode::Exclusive)),
        ]
    }

    fn holds(range: ByteRange, byte: u64) -> bool {
        range.start() <= byte && byte < range.end()
    }

    proptest! {
        /// The pieces say of each byte what a plain array says.
        #[test]
        fn each_byte_has_the_mode_of_the_last_request(
            requests in prop::collection::vec((range(), mode()), 0..40),
            (asked, as_mode) in (range(), prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]),
        ) {
            let mut held = HeldRanges::default();
            let mut bytes = [None; 2 * BYTES as usize];
            for (range, mode) in requests {
                held = held.with(range, mode);
                for (byte, of) in bytes.iter_mut().enumerate() {
                    if holds(range, byte as u64) {
                        *of = mode;
                    }
                }
                let pieces = held.pieces();
                for pair in pieces.windows(2) {
                    let (one, next) = (pair[0], pair[1]);
                    prop_assert!(one.range.end() <= next.range.start());
                    let touch = one.range.end() == next.range.start();
                    prop_assert!(!touch || one.mode != next.mode, "{pieces:?}");
                }
                for (byte, of) in bytes.iter().enumerate() {
                    let piece = pieces.iter().find(|piece| holds(piece.range, byte as u64));
                    prop_assert_eq!(piece.map(|piece| piece.mode), *of);
                }
            }
            for (part, mode) in held.within(asked) {
                for (byte, of) in bytes.iter().enumerate() {
                    prop_assert!(!holds(part, byte as u64) || *of == mode);
                }
            }
            let covered: u128 = held.within(asked).iter().map(|(part, _)| u128::from(part.end() - part.start())).sum();
            prop_assert_eq!(covered, u128::from(asked.end() - asked.start()));
            let stands = bytes.iter().enumerate().position(|(byte, of)| {
                holds(asked, byte as u64) && of.is_some_and(|mode| mode.conflicts(as_mode))
            });
            let found = held.conflict(asked, as_mode);
            prop_assert_eq!(found.is_some(), stands.is_some());
            if let (Some(piece), Some(byte)) = (found, stands) {
                prop_assert!(holds(piece.range, byte as u64));
            }
        }
    }
}
