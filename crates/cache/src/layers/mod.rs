mod guard;

pub use guard::{Guard, GuardSettings};
