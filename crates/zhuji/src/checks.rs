//! A module's own health checks.

use std::fmt;
use std::sync::Arc;

use zhuji_health::Check;

/// Collects a module's checks, see [`Module::checks`](crate::Module::checks).
#[derive(Default)]
#[must_use = "return it from `Module::checks`"]
pub struct CheckSet {
    pub(crate) checks: Vec<Arc<dyn Check>>,
}

impl CheckSet {
    /// Adds a check. It appears as `<module>.<name>`.
    pub fn check(mut self, check: impl Check) -> Self {
        self.checks.push(Arc::new(check));
        self
    }
}

impl fmt::Debug for CheckSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|check| check.name()))
            .finish()
    }
}
