//! Reports from all running jobs go to the store through one task, which takes whatever has come together while the
//! last batch was on its way: the more there is to do, the fewer commits per job.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::adapter::{JobsAdapter, Report};
use crate::meters;

pub(super) const INBOX: usize = 1024;
const BATCH: usize = 500;
const PATIENCE: u32 = 5;
/// After a batch of this many the next one waits a moment for more; after a smaller one reports go at once.
const WORTH_LINGERING: usize = 32;
const LINGER: Duration = Duration::from_millis(2);

pub(super) struct Parcel {
    report: Report,
    /// `None`: given up.
    receipt: oneshot::Sender<Option<bool>>,
}

/// Whether the report took effect; `None` if it could not be brought into the store.
pub(super) async fn deliver(reports: &mpsc::Sender<Parcel>, report: Report) -> Option<bool> {
    let (receipt, answer) = oneshot::channel();
    reports.send(Parcel { report, receipt }).await.ok()?;
    answer.await.ok().flatten()
}

pub(super) async fn run(adapter: Arc<dyn JobsAdapter>, mut inbox: mpsc::Receiver<Parcel>) {
    let mut parcels = Vec::with_capacity(BATCH);
    let mut last = 0;
    while inbox.recv_many(&mut parcels, BATCH).await > 0 {
        if last >= WORTH_LINGERING && parcels.len() < BATCH / 2 {
            tokio::time::sleep(LINGER).await;
            while parcels.len() < BATCH
                && let Ok(parcel) = inbox.try_recv()
            {
                parcels.push(parcel);
            }
        }
        last = parcels.len();
        let (reports, receipts): (Vec<_>, Vec<_>) = parcels
            .drain(..)
            .map(|parcel| (parcel.report, parcel.receipt))
            .unzip();
        let answers = store(adapter.as_ref(), &reports).await;
        for (receipt, answer) in receipts.into_iter().zip(answers) {
            // Nobody waits for it any more if the lease was lost meanwhile.
            let _ = receipt.send(answer);
        }
    }
}

/// Tries until the store has answered. Nothing is lost meanwhile: the leases are renewed on their own.
async fn store(adapter: &dyn JobsAdapter, reports: &[Report]) -> Vec<Option<bool>> {
    let mut failures = 0;
    loop {
        let error = match adapter.finish(reports).await {
            Ok(answers) if failures == 0 => return answers.into_iter().map(Some).collect(),
            Ok(answers) => return told_again(adapter, reports, answers).await,
            Err(error) => error,
        };
        meters::store_error("finish");
        failures += 1;
        if !error.is_retryable() {
            if reports.len() > 1 {
                // One report that the store can't take must not hold up the others.
                let mut answers = Vec::with_capacity(reports.len());
                for report in reports {
                    answers.push(
                        Box::pin(store(adapter, std::slice::from_ref(report)))
                            .await
                            .pop()
                            .flatten(),
                    );
                }
                return answers;
            }
            if failures >= PATIENCE {
                tracing::error!(%error, "the end of a job can't be stored: it will run again after its lease");
                return vec![None; reports.len()];
            }
        }
        if failures == 1 {
            tracing::warn!(%error, jobs = reports.len(), "the end of jobs can't be stored yet");
        }
        let pause = Duration::from_millis(50)
            .saturating_mul(1 << failures.min(6))
            .min(Duration::from_secs(2));
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}

/// A report that now takes no effect may have taken it before, when its answer was lost on the way: then it is not
/// somebody else's job.
async fn told_again(
    adapter: &dyn JobsAdapter,
    reports: &[Report],
    mut answers: Vec<bool>,
) -> Vec<Option<bool>> {
    let refused: Vec<usize> = (0..reports.len()).filter(|at| !answers[*at]).collect();
    if !refused.is_empty() {
        let asked: Vec<Report> = refused.iter().map(|at| reports[*at].clone()).collect();
        match adapter.has_ended(&asked).await {
            Ok(ended) => refused
                .iter()
                .zip(ended)
                .for_each(|(at, ended)| answers[*at] = ended),
            Err(error) => tracing::debug!(%error, "whether the first report took effect can't be found out"),
        }
    }
    answers.into_iter().map(Some).collect()
}
