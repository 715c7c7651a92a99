//! What a suite found, as a table for people and as JSON for machines.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::rounds::{Samples, median};

/// Whether more or less of a unit is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    case: String,
    unit: &'static str,
    ours: f64,
    peer: String,
    theirs: f64,
    /// Ours is this many times better: above 1 is ahead, whatever the unit.
    ratio: f64,
    /// The smallest and the largest ratio of a single round.
    #[serde(skip)]
    range: Option<(f64, f64)>,
    /// The ratio that is wanted.
    #[serde(skip)]
    goal: Option<f64>,
}

impl Row {
    /// The medians of both sides.
    pub(crate) fn against_peer(
        case: impl Into<String>,
        unit: &'static str,
        better: Better,
        peer: &str,
        samples: &Samples,
    ) -> Self {
        let pairs = samples.ours.iter().zip(&samples.theirs);
        let ratios: Vec<f64> = pairs
            .map(|(ours, theirs)| times_better(better, *ours, *theirs))
            .collect();
        let range = (ratios.len() > 1).then(|| {
            let smallest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (smallest, largest)
        });
        let row = Self::new(
            case,
            unit,
            better,
            median(&samples.ours),
            peer,
            median(&samples.theirs),
        );
        Self { range, ..row }
    }

    /// The median of ours against a figure that is wanted.
    pub(crate) fn against_target(
        case: impl Into<String>,
        unit: &'static str,
        better: Better,
        target: f64,
        ours: &[f64],
    ) -> Self {
        let row = Self::new(case, unit, better, median(ours), "target", target);
        Self {
            goal: Some(1.0),
            ..row
        }
    }

    /// The ratio that is wanted.
    pub(crate) fn goal(self, ratio: f64) -> Self {
        Self {
            goal: Some(ratio),
            ..self
        }
    }

    fn new(
        case: impl Into<String>,
        unit: &'static str,
        better: Better,
        ours: f64,
        peer: &str,
        theirs: f64,
    ) -> Self {
        Self {
            case: case.into(),
            unit,
            ours: rounded(ours),
            peer: peer.to_owned(),
            theirs: rounded(theirs),
            ratio: (times_better(better, ours, theirs) * 1000.0).round() / 1000.0,
            range: None,
            goal: None,
        }
    }

    fn met(&self) -> Option<bool> {
        self.goal.map(|goal| self.ratio >= goal)
    }

    fn cells(&self) -> [String; 9] {
        [
            self.case.clone(),
            self.unit.to_owned(),
            figure(self.ours),
            self.peer.clone(),
            figure(self.theirs),
            format!("{:.2}", self.ratio),
            self.range
                .map_or(String::new(), |(from, to)| format!("{from:.2}–{to:.2}")),
            self.goal.map_or(String::new(), |goal| format!("≥ {goal:.2}")),
            self.met()
                .map_or("", |met| if met { "yes" } else { "NO" })
                .to_owned(),
        ]
    }
}

fn times_better(better: Better, ours: f64, theirs: f64) -> f64 {
    match better {
        Better::More => ours / theirs,
        Better::Less => theirs / ours,
    }
}

/// Four significant digits: more would pretend.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn figure(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

/// The rows with a head, in columns.
pub(crate) fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 9] = [
        "case", "unit", "ours", "peer", "theirs", "ratio", "rounds", "goal", "met?",
    ];
    const NUMBERS: [bool; 9] = [false, false, true, false, true, true, false, false, false];
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            lines
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (index, cells) in lines.iter().enumerate() {
        let mut line = String::new();
        for ((cell, width), number) in cells.iter().zip(&widths).zip(NUMBERS) {
            let cell = if number {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if index == 0 {
            text.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * (HEAD.len() - 1)));
            text.push('\n');
        }
    }
    text
}

/// Writes `SUITE.json` into `folder`, and answers its path.
pub(crate) fn write(folder: &Path, suite: &str, rows: &[Row]) -> anyhow::Result<PathBuf> {
    #[derive(Serialize)]
    struct Written<'a> {
        suite: &'a str,
        rows: &'a [Row],
    }
    let file = folder.join(format!("{suite}.json"));
    let json = serde_json::to_string_pretty(&Written { suite, rows })?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&file, json + "\n"))
        .with_context(|| file.display().to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ours: &[f64], theirs: &[f64]) -> Samples {
        Samples {
            ours: ours.to_vec(),
            theirs: theirs.to_vec(),
        }
    }

    #[test]
    fn a_ratio_above_one_is_ahead_whatever_the_unit() {
        let faster = Row::against_peer("a", "ops/s", Better::More, "p", &samples(&[200.0], &[100.0]));
        let smaller = Row::against_peer("b", "MB", Better::Less, "p", &samples(&[10.0], &[20.0]));
        assert_eq!((faster.ratio, smaller.ratio), (2.0, 2.0));
    }

    #[test]
    fn a_goal_is_met_or_it_is_not() {
        let row = Row::against_peer("a", "ops/s", Better::More, "p", &samples(&[89.0], &[100.0]));
        assert_eq!(row.met(), None);
        assert_eq!(row.goal(0.9).met(), Some(false));
        assert_eq!(
            Row::against_target("b", "ms", Better::Less, 150.0, &[120.0]).met(),
            Some(true)
        );
    }

    #[test]
    fn the_json_has_the_agreed_keys_in_their_order() {
        let row = Row::against_peer(
            "a",
            "ops/s",
            Better::More,
            "p 1.0",
            &samples(&[48_213.4], &[24_786.2]),
        );
        let json = serde_json::to_string(&row).expect("plain values");
        assert_eq!(
            json,
            r#"{"case":"a","unit":"ops/s","ours":48213.0,"peer":"p 1.0","theirs":24786.0,"ratio":1.945}"#
        );
    }

    #[test]
    fn figures_keep_four_digits() {
        for (value, kept) in [
            (48_213.4, 48_213.0),
            (12.3456, 12.35),
            (0.123_456, 0.1235),
            (0.0, 0.0),
        ] {
            assert_eq!(rounded(value), kept);
        }
    }
}
