//! The parent's side: feed the child, read its answer, kill it at the deadline.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, oneshot};

use super::{CHILD_COMMAND, EXIT_TASK_FAILED, EXIT_UNKNOWN_TASK};
use crate::BoxError;

/// What a task may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time from the end of the input to the end of the output; also how long the task may leave input untaken. How
    /// long the input itself takes to arrive is not the task's doing and does not count. Default: 60 s.
    pub time: Duration,
    /// Address space in bytes. Default: 1 GiB.
    pub memory: u64,
    /// Bytes of output. Default: 64 MiB.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory: 1 << 30,
            output: 64 << 20,
        }
    }
}

/// Runs a module's [`IsolatedTask`](super::IsolatedTask)s. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Isolated {
    module: &'static str,
    executable: PathBuf,
    // Children are whole processes with memory of their own: more at once than this would defeat the limits.
    slots: Arc<Semaphore>,
}

impl Isolated {
    pub(crate) fn new(module: &'static str, slots: Arc<Semaphore>) -> Self {
        // The kernel's link stays right when the binary is replaced during an upgrade.
        let link = PathBuf::from("/proc/self/exe");
        let executable = if link.exists() {
            link
        } else {
            std::env::current_exe().unwrap_or_else(|_| PathBuf::from("zhuji"))
        };
        Self {
            module,
            executable,
            slots,
        }
    }

    /// Runs the task on `input` in a child process and returns its output.
    ///
    /// # Errors
    /// [`IsolatedError`]; [`IsolatedErrorKind::Failed`] carries the task's own message, which is made for users.
    ///
    /// # Cancellation
    /// Dropping the future kills the child.
    pub async fn run<S, E>(
        &self,
        task: &'static str,
        input: S,
        limits: Limits,
    ) -> Result<Vec<u8>, IsolatedError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<BoxError>,
    {
        let fail = |kind| IsolatedError {
            module: self.module,
            task,
            kind,
            source: None,
        };
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|_| fail(IsolatedErrorKind::Spawn))?;
        let mut child = self.spawn(task, limits).map_err(|error| IsolatedError {
            source: Some(error.into()),
            ..fail(IsolatedErrorKind::Spawn)
        })?;
        let stopped = match exchange(&mut child, input, limits).await {
            Ok(answer) => return self.judge(task, answer, limits),
            Err(stop) => stop,
        };
        let _ = child.kill().await;
        let (kind, source) = match stopped {
            Stop::Time => (IsolatedErrorKind::TimedOut(limits.time), None),
            Stop::Input(error) => (IsolatedErrorKind::Input, Some(error)),
            Stop::Output => (IsolatedErrorKind::OutputTooLarge(limits.output), None),
            Stop::Io(error) => (IsolatedErrorKind::Spawn, Some(error.into())),
        };
        Err(IsolatedError { source, ..fail(kind) })
    }

    fn spawn(&self, task: &str, limits: Limits) -> std::io::Result<Child> {
        Command::new(&self.executable)
            .arg(CHILD_COMMAND)
            .arg(format!("{}.{task}", self.module))
            .arg(limits.memory.to_string())
            .arg(limits.time.as_secs().saturating_add(1).to_string())
            // No environment: the child has no use for the secrets in it.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Of its own: Ctrl-C in the terminal is for the service, which ends its children when it is done.
            .process_group(0)
            .spawn()
    }

    fn judge(&self, task: &'static str, answer: Answer, limits: Limits) -> Result<Vec<u8>, IsolatedError> {
        let fail = |kind| {
            Err(IsolatedError {
                module: self.module,
                task,
                kind,
                source: None,
            })
        };
        if let Some(signal) = answer.status.signal() {
            match Signal::from_named_raw(signal) {
                Some(Signal::XCPU) => return fail(IsolatedErrorKind::TimedOut(limits.time)),
                // Not ours: an operator, a service manager that ends the whole group, the kernel short of memory.
                Some(Signal::TERM | Signal::INT | Signal::HUP | Signal::KILL) => {
                    return fail(IsolatedErrorKind::Interrupted);
                }
                _ => {}
            }
        }
        match answer.status.code() {
            Some(0) => Ok(answer.output),
            Some(EXIT_TASK_FAILED) => fail(IsolatedErrorKind::Failed(
                String::from_utf8_lossy(&answer.output).into_owned(),
            )),
            Some(EXIT_UNKNOWN_TASK) => fail(IsolatedErrorKind::UnknownTask),
            _ => {
                tracing::warn!(
                    task,
                    status = %answer.status,
                    stderr = %String::from_utf8_lossy(&answer.errors),
                    "an isolated task crashed"
                );
                fail(IsolatedErrorKind::Crashed)
            }
        }
    }
}

struct Answer {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

enum Stop {
    Time,
    Input(BoxError),
    Output,
    Io(std::io::Error),
}

/// Standard error is kept for the log only, and only its beginning.
const ERRORS_KEPT: u64 = 4096;

async fn exchange<S, E>(child: &mut Child, input: S, limits: Limits) -> Result<Answer, Stop>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: Into<BoxError>,
{
    // All three were asked for with `Stdio::piped()` and are taken only here.
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Stop::Io(std::io::Error::other("the child has no pipes")));
    };
    let (fed, input_ended) = oneshot::channel();
    let feed = async move {
        let mut input = std::pin::pin!(input);
        while let Some(chunk) = input.next().await {
            let chunk = chunk.map_err(|error| Stop::Input(error.into()))?;
            match tokio::time::timeout(limits.time, stdin.write_all(&chunk)).await {
                Ok(Ok(())) => {}
                // A child that has seen enough closes its end; its answer says why.
                Ok(Err(_)) => break,
                Err(_) => return Err(Stop::Time),
            }
        }
        drop(stdin);
        let _ = fed.send(());
        Ok(())
    };
    let read = async {
        let output = read_at_most(stdout, limits.output.saturating_add(1)).await?;
        if output.len() as u64 > limits.output {
            Err(Stop::Output)
        } else {
            Ok(output)
        }
    };
    let work = async {
        let ((), output, errors) = tokio::try_join!(feed, read, read_all(stderr, ERRORS_KEPT))?;
        let status = child.wait().await.map_err(Stop::Io)?;
        Ok(Answer {
            status,
            output,
            errors,
        })
    };
    let too_long = async {
        // Dropped unsent when the input fails; then `work` has the answer.
        if input_ended.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(limits.time).await;
    };
    tokio::select! {
        biased;
        answer = work => answer,
        () = too_long => Err(Stop::Time),
    }
}

async fn read_at_most(from: impl AsyncRead + Unpin, limit: u64) -> Result<Vec<u8>, Stop> {
    let mut into = Vec::new();
    from.take(limit).read_to_end(&mut into).await.map_err(Stop::Io)?;
    Ok(into)
}

/// Keeps the first `kept` bytes and reads on to the end, so that a talkative child does not block.
async fn read_all(mut from: impl AsyncRead + Unpin, kept: u64) -> Result<Vec<u8>, Stop> {
    let mut head = read_at_most(&mut from, kept).await?;
    let mut rest = [0; 1024];
    while from.read(&mut rest).await.map_err(Stop::Io)? > 0 {}
    head.shrink_to_fit();
    Ok(head)
}

/// An isolated task gave no output.
#[derive(Debug, thiserror::Error)]
#[error("the task {module}.{task} gave no result: {kind}")]
pub struct IsolatedError {
    module: &'static str,
    task: &'static str,
    kind: IsolatedErrorKind,
    #[source]
    source: Option<BoxError>,
}

impl IsolatedError {
    /// What went wrong.
    pub fn kind(&self) -> &IsolatedErrorKind {
        &self.kind
    }

    /// Whether the input is to blame: the same input would fail again.
    pub fn is_about_the_input(&self) -> bool {
        use IsolatedErrorKind::{Crashed, Failed, OutputTooLarge, TimedOut};
        matches!(self.kind, TimedOut(_) | Crashed | Failed(_) | OutputTooLarge(_))
    }
}

/// Why an isolated task gave no output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolatedErrorKind {
    /// The task itself refused its input, with this message for the user.
    Failed(String),
    /// It was killed at its deadline.
    TimedOut(Duration),
    /// It ended without an answer: out of memory, a stack overflow, a panic.
    Crashed,
    /// Somebody else ended it: an operator, a service manager, the kernel short of memory. The same input may work
    /// the next time.
    Interrupted,
    /// It answered with more bytes than allowed.
    OutputTooLarge(u64),
    /// The input stream failed on its way to the child.
    Input,
    /// The child could not be started or talked to.
    Spawn,
    /// The child does not know the task: it is not in the module's manifest.
    UnknownTask,
}

impl fmt::Display for IsolatedErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::TimedOut(limit) => write!(f, "it took longer than {} s", limit.as_secs_f32()),
            Self::Crashed => f.write_str("it crashed or needed more memory than allowed"),
            Self::Interrupted => f.write_str("its process was ended from outside"),
            Self::OutputTooLarge(limit) => write!(f, "its output is larger than {limit} bytes"),
            Self::Input => f.write_str("its input could not be read to the end"),
            Self::Spawn => f.write_str("its process could not be started"),
            Self::UnknownTask => f.write_str("it is not declared in the module's manifest"),
        }
    }
}
