//! Work on hostile input in a child process: what it breaks, it breaks alone.
//!
//! A parser that meets a crafted file can loop, exhaust memory or overflow the stack, and none of that can be
//! caught in the process that serves requests. An [`IsolatedTask`] therefore runs in a child of the same binary,
//! with no environment, a process group of its own, a memory limit set by the kernel, and a deadline after which it is
//! killed.

mod child;
mod parent;

pub(crate) use child::run_child;
pub use parent::{Isolated, IsolatedError, IsolatedErrorKind, Limits};

use std::fmt;
use std::io::Read;

/// A function that may be run in a child process. Declared in the module's [`Manifest`](crate::Manifest).
#[derive(Clone, Copy)]
pub struct IsolatedTask {
    /// The task's name, unique in the module.
    pub name: &'static str,
    /// Reads the input to its end, answers with the output or with a message for the user.
    pub run: fn(&mut dyn Read) -> Result<Vec<u8>, String>,
}

impl fmt::Debug for IsolatedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedTask")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The hidden subcommand that a child is started with.
pub(crate) const CHILD_COMMAND: &str = "__isolated";

/// The child's exit code for an `Err` of the task; its message is on standard output.
const EXIT_TASK_FAILED: i32 = 3;
/// The child's exit code when it was asked for a task that it does not know.
const EXIT_UNKNOWN_TASK: i32 = 4;
