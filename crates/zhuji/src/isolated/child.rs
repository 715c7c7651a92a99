//! The child's side: limits first, then the task, then its answer on standard output.

use std::io::Write;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{EXIT_TASK_FAILED, EXIT_UNKNOWN_TASK, IsolatedTask};

/// Parsers of nested formats recurse; the default 2 MiB of a thread is too little for honest deep files.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs `task` on standard input and returns the exit code. `memory_bytes` bounds the address space, so that an
/// allocation beyond it aborts this process and no other.
pub(crate) fn run_child(task: Option<IsolatedTask>, memory_bytes: u64, cpu_seconds: u64) -> i32 {
    let Some(task) = task else {
        return EXIT_UNKNOWN_TASK;
    };
    limit(Resource::As, memory_bytes, memory_bytes);
    // The soft limit ends the process by a signal that the parent can tell from one sent by somebody else.
    limit(Resource::Cpu, cpu_seconds, cpu_seconds + 1);
    // Neither a core file with a patient's data in it nor any other file is ever written.
    limit(Resource::Core, 0, 0);
    limit(Resource::Fsize, 0, 0);

    let worker = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || (task.run)(&mut std::io::stdin().lock()));
    let Ok(worker) = worker else {
        return EXIT_UNKNOWN_TASK;
    };
    let (output, code) = match worker.join() {
        Ok(Ok(output)) => (output, 0),
        Ok(Err(message)) => (message.into_bytes(), EXIT_TASK_FAILED),
        // The panic text is on standard error, where the parent logs it.
        Err(_) => return 101,
    };
    let mut stdout = std::io::stdout().lock();
    // A parent that closed the pipe has given up; there is nobody left to tell.
    let _ = stdout.write_all(&output).and_then(|()| stdout.flush());
    code
}

fn limit(resource: Resource, soft: u64, hard: u64) {
    // Lowering a limit is always allowed; where the kernel refuses all the same, the parent's deadline remains.
    let _ = setrlimit(
        resource,
        Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
    );
}
