//! Adapters around adapters. The factory stacks them in this order, outermost first:
//!
//! prefix (of scoped handles) → metrics → limit → timeout → retry → fault (on order only) → adapter
//!
//! Metrics see what the caller sees; an operation waits for its slot before its deadline starts; the deadline covers all
//! attempts; an injected fault looks like one of the adapter's own.

mod fault;
mod limit;
mod metrics;
mod prefix;
mod retry;
mod timeout;

use std::sync::Arc;

pub use fault::{Fault, FaultLayer};
pub use limit::LimitLayer;
pub use metrics::MetricsLayer;
pub use prefix::PrefixLayer;
pub use retry::RetryLayer;
pub use timeout::{TimeoutLayer, Timeouts};

use crate::{RetryPolicy, StorageAdapter};

/// Operations at once, and streaming uploads at once, that the factory allows one adapter.
pub(crate) const AT_ONCE: usize = 256;

/// The standard stack. A local disk gets no retry, because what it refuses once it refuses again; unless faults are
/// ordered, which pass.
pub(crate) fn standard(
    adapter: Arc<dyn StorageAdapter>,
    faults: Option<(u64, Vec<Fault>)>,
) -> Arc<dyn StorageAdapter> {
    let adapter: Arc<dyn StorageAdapter> = match (faults, adapter.name()) {
        (Some((seed, faults)), _) => {
            let adapter = Arc::new(FaultLayer::new(adapter, seed, faults));
            Arc::new(RetryLayer::new(adapter, RetryPolicy::default()))
        }
        (None, "local" | "memory") => adapter,
        (None, _) => Arc::new(RetryLayer::new(adapter, RetryPolicy::default())),
    };
    let adapter = Arc::new(TimeoutLayer::new(adapter, Timeouts::default()));
    let adapter = Arc::new(LimitLayer::new(adapter, AT_ONCE));
    Arc::new(MetricsLayer::new(adapter))
}
