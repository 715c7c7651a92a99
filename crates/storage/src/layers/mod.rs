//! Adapters around adapters. The factory stacks them in this order, outermost first:
//!
//! prefix (of scoped handles) → metrics → limit → timeout → retry → adapter
//!
//! Metrics see what the caller sees; an operation waits for its slot before its deadline starts; the deadline covers all
//! attempts.

mod limit;
mod metrics;
mod prefix;
mod retry;
mod timeout;

use std::sync::Arc;

pub use limit::LimitLayer;
pub use metrics::MetricsLayer;
pub use prefix::PrefixLayer;
pub use retry::RetryLayer;
pub use timeout::{TimeoutLayer, Timeouts};

use crate::{RetryPolicy, StorageAdapter};

/// Operations at once, and streaming uploads at once, that the factory allows one adapter.
const AT_ONCE: usize = 256;

/// The standard stack. A local disk gets no retry: what it refuses once it refuses again.
pub(crate) fn standard(adapter: Arc<dyn StorageAdapter>) -> Arc<dyn StorageAdapter> {
    let adapter: Arc<dyn StorageAdapter> = match adapter.name() {
        "local" | "memory" => adapter,
        _ => Arc::new(RetryLayer::new(adapter, RetryPolicy::default())),
    };
    let adapter = Arc::new(TimeoutLayer::new(adapter, Timeouts::default()));
    let adapter = Arc::new(LimitLayer::new(adapter, AT_ONCE));
    Arc::new(MetricsLayer::new(adapter))
}
