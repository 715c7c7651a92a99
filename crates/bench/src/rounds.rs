//! Interleaved rounds: what disturbs the machine for a while disturbs both sides.

/// One figure of both sides, taken once a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

/// Which side is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

/// Both sides, in the order of this round: each is first in every other one.
pub(crate) fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) {
        [Side::Ours, Side::Theirs]
    } else {
        [Side::Theirs, Side::Ours]
    }
}

impl Samples {
    pub(crate) fn add(&mut self, side: Side, value: f64) {
        match side {
            Side::Ours => self.ours.push(value),
            Side::Theirs => self.theirs.push(value),
        }
    }
}

/// The middle value; the mean of the two middle ones of an even number. Not a number for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_value_is_not_moved_by_one_bad_round() {
        assert_eq!(median(&[3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn both_sides_are_first_equally_often() {
        let first = (0..10).filter(|round| order(*round)[0] == Side::Ours).count();
        assert_eq!(first, 5);
    }
}
