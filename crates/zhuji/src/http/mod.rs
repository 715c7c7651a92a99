//! What a handler answers with, and how it takes files in.

mod failure;
mod file_part;
mod form_budget;
mod problem;

pub use file_part::{FilePart, FileStream};
pub(crate) use problem::ErrorChain;
pub use problem::{HttpResult, Problem};
