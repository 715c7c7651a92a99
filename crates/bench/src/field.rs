//! One figure of ours and of several peers, taken once a round.

use crate::report::{Better, Row};
use crate::rounds::Samples;

/// The figures of all contenders; ours is the first.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    names: Vec<String>,
    values: Vec<Vec<f64>>,
}

impl Field {
    /// For contenders of these names, ours first.
    pub(crate) fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let values = vec![Vec::new(); names.len()];
        Self { names, values }
    }

    pub(crate) fn add(&mut self, contender: usize, value: f64) {
        self.values[contender].push(value);
    }

    pub(crate) fn of(&self, contender: usize) -> &[f64] {
        &self.values[contender]
    }

    /// Ours against each peer that was measured; `goal` says the wanted ratio for a peer's name.
    pub(crate) fn rows(
        &self,
        case: &str,
        unit: &'static str,
        better: Better,
        goal: impl Fn(&str) -> Option<f64>,
    ) -> Vec<Row> {
        let peers = self.names.iter().zip(&self.values).skip(1);
        peers
            .filter(|(_, theirs)| !theirs.is_empty())
            .map(|(name, theirs)| {
                let samples = Samples {
                    ours: self.values[0].clone(),
                    theirs: theirs.clone(),
                };
                let row = Row::against_peer(case, unit, better, name, &samples);
                match goal(name) {
                    Some(ratio) => row.goal(ratio),
                    None => row,
                }
            })
            .collect()
    }
}

/// All contenders in the order of this round: each is at each place equally often.
pub(crate) fn turns(round: usize, contenders: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |place| (place + round) % contenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_first_in_turn() {
        let firsts: Vec<usize> = (0..4).filter_map(|round| turns(round, 4).next()).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
    }

    #[test]
    fn a_peer_that_was_not_there_has_no_row() {
        let mut field = Field::new(["ours", "a", "b"]);
        field.add(0, 2.0);
        field.add(2, 1.0);
        assert_eq!(field.rows("case", "ops/s", Better::More, |_| None).len(), 1);
    }
}
