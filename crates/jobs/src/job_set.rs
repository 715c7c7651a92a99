use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::context::JobContext;
use crate::job::Job;
use crate::job_error::JobError;
use crate::policy::Policy;
use crate::schedule::{NewSchedule, Schedule};

type Outcome = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// What a worker can do: a handler for each kind of job.
#[derive(Clone, Default)]
pub struct JobSet {
    handlers: BTreeMap<&'static str, Arc<Handler>>,
    schedules: Vec<NewSchedule>,
}

pub(crate) struct Handler {
    pub(crate) policy: Policy,
    call: Box<dyn Fn(JobContext, String) -> Outcome + Send + Sync>,
}

impl Handler {
    pub(crate) fn call(&self, context: JobContext, payload: String) -> Outcome {
        (self.call)(context, payload)
    }
}

impl JobSet {
    /// Can do nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handler of one kind: `set.on(async move |cx, job: ExtractPdf| { …; Ok(()) })`.
    ///
    /// The closure is cloned for every run, so let it own handles, not data. Its future is dropped when the attempt
    /// takes longer than the policy's timeout, when the lease is lost, and when the worker has to stop: it must be safe
    /// to cancel at any await point.
    ///
    /// # Panics
    ///
    /// If the set already has a handler of this kind.
    pub fn on<J, F, Fut>(mut self, handler: F) -> Self
    where
        J: Job,
        F: FnOnce(JobContext, J) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let call = move |context: JobContext, payload: String| -> Outcome {
            let handler = handler.clone();
            Box::pin(async move {
                // Not fatal: in a rolling deploy a newer or older program may be able to read it.
                let job: J = serde_json::from_str(&payload).map_err(|error| {
                    JobError::retry(format!("the job's data does not fit {}: {error}", J::KIND))
                })?;
                drop(payload);
                handler(context, job).await
            })
        };
        let entry = Arc::new(Handler {
            policy: J::policy(),
            call: Box::new(call),
        });
        let former = self.handlers.insert(J::KIND, entry);
        assert!(former.is_none(), "two handlers for jobs of kind {:?}", J::KIND);
        self
    }

    /// Adds an entry to the timetable of the worker's queue. When a worker starts, the entries of its set are put
    /// into the store; whoever started last decides about one that two versions have. An entry fires as long as there is
    /// an instance whose program has it, and is dropped a quarter of an hour later.
    ///
    /// # Panics
    ///
    /// If the set has no handler for the schedule's job, or already a schedule of this name.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        let Schedule { new } = schedule;
        assert!(
            self.handlers.contains_key(new.kind.as_str()),
            "no handler for the jobs of schedule {:?}: add it first",
            new.name
        );
        let former = self.schedules.iter().any(|other| other.name == new.name);
        assert!(!former, "two schedules of the name {:?}", new.name);
        self.schedules.push(new);
        self
    }

    /// The kinds it can do.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handlers.keys().copied()
    }

    /// Whether it can do nothing.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    pub(crate) fn schedules(&self) -> &[NewSchedule] {
        &self.schedules
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = (&'static str, &Policy)> + '_ {
        self.handlers
            .iter()
            .map(|(kind, handler)| (*kind, &handler.policy))
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<Handler>> {
        self.handlers.get(kind)
    }
}

impl fmt::Debug for JobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}
