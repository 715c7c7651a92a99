//! Adapters around adapters. The factory stacks them in this order, outermost first:
//! prefix (of scoped handles) → metrics → limit → timeout → retry → adapter.

mod prefix;

pub use prefix::PrefixLayer;
