//! The frame of a suite: what is said around its table.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use zhuji_metrics::MetricsExporter;

use crate::machine;
use crate::report::{self, Row};
use crate::workspace::Workspace;

/// How a suite is run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Only the cases whose name contains this.
    pub(crate) only: String,
}

impl Options {
    /// Whether the case is wanted.
    pub(crate) fn wants(&self, case: &str) -> bool {
        case.contains(&self.only)
    }

    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// For what is measured in a moment: the shorter the cells, the more alike is what disturbs both sides.
    pub(crate) fn short_rounds(&self) -> usize {
        3 * self.rounds()
    }
}

/// A suite under way.
pub(crate) struct Suite {
    name: &'static str,
    options: Options,
    begin: Instant,
    load_before: Option<f64>,
    pub(crate) workspace: Workspace,
    pub(crate) rows: Vec<Row>,
    notes: Vec<String>,
}

impl Suite {
    pub(crate) fn begin(name: &'static str, options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            options: options.clone(),
            begin: Instant::now(),
            load_before: machine::load_average(),
            workspace: Workspace::find()?,
            rows: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Whether a quick run has taken so long already.
    pub(crate) fn is_late(&self, limit: Duration) -> bool {
        self.options.quick && self.begin.elapsed() > limit
    }

    /// Said at once, and again below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("{}: {note}", self.name);
        self.notes.push(note);
    }

    /// Prints the table and what belongs to it, and writes the JSON.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Options { only, .. } = &self.options;
        ensure!(!self.rows.is_empty(), "no case's name contains `{only}`");
        println!("\n{}", report::table(&self.rows));
        let load = |load: Option<f64>| load.map_or("?".to_owned(), |load| format!("{load:.2}"));
        println!(
            "Machine: {}; load average {} before, {} after. Medians of at least {} interleaved rounds, {:.0} s in all.",
            machine::description(),
            load(self.load_before),
            load(machine::load_average()),
            self.options.rounds(),
            self.begin.elapsed().as_secs_f64(),
        );
        for note in &self.notes {
            println!("{note}");
        }
        if only.is_empty() {
            let results = self.workspace.results();
            println!(
                "Written to {}.",
                report::write(&results, self.name, &self.rows)?.display()
            );
        }
        Ok(())
    }
}

/// Metrics as the platform sets them up, so that ours are measured with what they cost. Once per process.
pub(crate) fn record_metrics() -> anyhow::Result<()> {
    static RECORDER: std::sync::OnceLock<MetricsExporter> = std::sync::OnceLock::new();
    if RECORDER.get().is_none() {
        let exporter = MetricsExporter::install("bench", env!("CARGO_PKG_VERSION"))
            .context("the metrics recorder could not be installed")?;
        RECORDER.get_or_init(|| exporter);
    }
    Ok(())
}
