use std::fmt;
use std::sync::Arc;

/// What caused a job: the request that is being answered while it is enqueued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The W3C `traceparent`.
    pub traceparent: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

/// Asked at every enqueue that does not name its origin itself.
#[derive(Clone)]
pub(crate) struct OriginSource(Arc<dyn Fn() -> Origin + Send + Sync>);

impl OriginSource {
    pub(crate) fn new(source: impl Fn() -> Origin + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    pub(crate) fn ask(&self) -> Origin {
        (self.0)()
    }
}

impl fmt::Debug for OriginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginSource")
    }
}
