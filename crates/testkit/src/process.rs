//! Servers as child processes that never outlive the process that started them.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};

/// Why a throw-away server could not be started, in one line a person can act on.
#[derive(Debug)]
pub struct ServerError(pub(crate) String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// The account servers run under when we are root: PostgreSQL refuses to run as root.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The command line that runs `program` as an unprivileged user which gets `death_signal` when this process dies.
///
/// `home` is the directory it has to work in. When we are root and an ancestor of `home` is closed to others (a
/// checkout under `/root`), the one capability that passes such a directory is handed on; nothing else is.
pub(crate) fn unprivileged(
    program: &Path,
    death_signal: Option<&str>,
    home: &Path,
) -> Result<Command, ServerError> {
    let Some(setpriv) = find_in_path("setpriv") else {
        if is_root() {
            return Err(ServerError::new(
                "setpriv was not found, and servers cannot run as root: apt-get install -y util-linux",
            ));
        }
        return Ok(Command::new(program));
    };
    let mut command = Command::new(setpriv);
    if is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        if !others_may_pass(home) {
            command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
        }
    }
    if let Some(signal) = death_signal {
        command.args(["--pdeathsig", signal]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

fn others_may_pass(home: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    home.ancestors()
        .skip(1)
        .filter_map(|ancestor| ancestor.metadata().ok())
        .all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// Hands a file or directory to the account the servers run under.
pub(crate) fn give_away(path: &Path) -> Result<(), ServerError> {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
            .map_err(|error| ServerError::io(format_args!("chown {}", path.display()), &error))?;
    }
    Ok(())
}

pub(crate) fn find_in_path(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name.as_ref()))
        .find(|file| file.is_file())
}

/// Starts the command from a thread that lives as long as this process.
///
/// The kernel sends a parent-death signal when the *thread* that forked ends, and a test's thread ends long before
/// its process does.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        let body = move || {
            for (mut command, answer) in receiver {
                // The asker may have given up; its child then dies with this process.
                let _ = answer.send(command.spawn());
            }
        };
        std::thread::Builder::new()
            .name("testkit-servers".to_owned())
            .spawn(body)
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (answer, child) = mpsc::channel();
    keeper
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| io::Error::other("the server thread has ended"))?;
    child
        .recv()
        .map_err(|_| io::Error::other("the server thread has ended"))?
}

/// A running child; stopped with `goodbye` when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    goodbye: Signal,
    /// The processes that [`pause`](Self::pause) stopped.
    paused: Vec<u32>,
}

impl Server {
    pub(crate) fn new(child: Child, goodbye: Signal) -> Self {
        Self {
            child,
            goodbye,
            paused: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends `signal` and waits until the process is gone, at most 20 seconds; then it is killed.
    pub(crate) fn stop(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        self.resume();
        signal_to(self.child.id(), signal);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.exited().is_none() {
            if Instant::now() > deadline {
                // An immediate end leaves no child without a parent: both servers' helpers notice and follow.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops the process and its children where they are: the sockets stay open, and nobody answers.
    pub(crate) fn pause(&mut self) {
        if self.exited().is_some() {
            return;
        }
        let parent = self.child.id();
        signal_to(parent, Signal::STOP);
        // Only a process that stands still starts no further child.
        wait_for(|| matches!(process_state(parent), None | Some('T' | 'Z')));
        self.paused = children_of(parent);
        self.paused.push(parent);
        for pid in &self.paused {
            signal_to(*pid, Signal::STOP);
        }
        for pid in &self.paused {
            wait_for(|| matches!(process_state(*pid), None | Some('T' | 'Z')));
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&mut self) {
        for pid in std::mem::take(&mut self.paused) {
            signal_to(pid, Signal::CONT);
        }
    }

    /// Ends the process and its children at once, as the kernel does when memory runs out.
    pub(crate) fn kill(&mut self) {
        self.pause();
        let family = std::mem::take(&mut self.paused);
        for pid in &family {
            signal_to(*pid, Signal::KILL);
        }
        // It was killed; how it ended is known.
        let _ = self.child.wait();
        // Shared memory and sockets are free once all are gone.
        for pid in family {
            wait_for(|| matches!(process_state(pid), None | Some('Z')));
        }
    }
}

/// Waits for what the kernel does in a moment; at most 5 seconds.
fn wait_for(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state letter and the parent of a process, where there is a `/proc`.
fn process_stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "17 (a name) S 1 …": the name may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn process_state(pid: u32) -> Option<char> {
    process_stat(pid).map(|(state, _)| state)
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| process_stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(self.goodbye);
    }
}

pub(crate) fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    match test_kill_process(pid) {
        Ok(()) => true,
        // It runs, under another account.
        Err(error) => error == rustix::io::Errno::PERM,
    }
}

/// This user's own directory for throw-away servers, cleared of what killed processes left behind.
pub(crate) fn workspace() -> Result<PathBuf, ServerError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let uid = geteuid().as_raw();
        let root = std::env::temp_dir().join(format!("zhuji-testkit-{uid}"));
        let wrong = |error: io::Error| format!("{}: {error}", root.display());
        match std::fs::DirBuilder::new().mode(0o711).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(error)),
            _ => {}
        }
        let metadata = std::fs::symlink_metadata(&root).map_err(wrong)?;
        if !metadata.is_dir() || metadata.uid() != uid {
            return Err(format!(
                "{} belongs to somebody else: set TMPDIR to a directory of your own",
                root.display()
            ));
        }
        // A umask may have closed it to the servers' account.
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o711)).map_err(wrong)?;
        sweep(&root);
        Ok(root)
    });
    root.clone().map_err(ServerError)
}

/// Removes the directories of processes that are gone. Their names end in `-<pid>-<random>`.
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let mut parts = name.to_str().unwrap_or_default().rsplit('-');
        let (Some(_), Some(pid)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Ok(pid) = pid.parse::<u32>() else { continue };
        if !is_alive(pid) {
            // Somebody else may be sweeping the same directory.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A fresh directory below [`workspace`], owned by the account the servers run under and removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(kind: &str) -> Result<Self, ServerError> {
        let name = format!("{kind}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = workspace()?.join(name);
        std::fs::create_dir(&path).map_err(|error| ServerError::io(path.display(), &error))?;
        let scratch = Self(path);
        give_away(&scratch.0)?;
        Ok(scratch)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
