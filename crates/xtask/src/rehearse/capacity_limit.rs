//! Half a core and a gigabyte: by control groups where they can be made, otherwise by the nearest thing there is.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Result, on_path};

const ROOT: &str = "/sys/fs/cgroup";
/// As container engines do: half of each tenth of a second.
const PERIOD_US: u64 = 100_000;
const QUOTA_US: u64 = PERIOD_US / 2;
const MEMORY: u64 = 1 << 30;

/// How the service is held to its size.
pub(super) enum Limit {
    /// Version 2: one group.
    Unified(PathBuf),
    /// Version 1: a group for time, one for memory.
    Split { cpu: PathBuf, memory: PathBuf },
    /// No groups: one core of two, and an address space. Twice the time that was asked for.
    OneCore,
}

impl Limit {
    pub(super) fn new() -> Self {
        let name = format!("zhuji-capacity-{}", std::process::id());
        let unified = Path::new(ROOT).join(&name);
        let (cpu, memory) = (
            Path::new(ROOT).join("cpu").join(&name),
            Path::new(ROOT).join("memory").join(&name),
        );
        if Self::make_unified(&unified).is_ok() {
            return Self::Unified(unified);
        }
        // What was made of it is of no use.
        let _ = fs::remove_dir(&unified);
        match Self::make_split(&cpu, &memory) {
            Ok(()) => Self::Split { cpu, memory },
            Err(_) => {
                let _ = (fs::remove_dir(&cpu), fs::remove_dir(&memory));
                Self::OneCore
            }
        }
    }

    fn make_unified(group: &Path) -> Result<()> {
        // Elsewhere than in a cgroup2 file system this would make an empty directory.
        let known = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?;
        if !["cpu", "memory"]
            .iter()
            .all(|name| known.split_whitespace().any(|known| known == *name))
        {
            return Err("no such controllers".into());
        }
        // May be on already.
        let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory");
        fs::create_dir(group)?;
        write(&group.join("cpu.max"), format!("{QUOTA_US} {PERIOD_US}"))?;
        write(&group.join("memory.max"), MEMORY.to_string())
    }

    fn make_split(cpu: &Path, memory: &Path) -> Result<()> {
        fs::create_dir(cpu)?;
        write(&cpu.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
        write(&cpu.join("cpu.cfs_quota_us"), QUOTA_US.to_string())?;
        fs::create_dir(memory)?;
        write(&memory.join("memory.limit_in_bytes"), MEMORY.to_string())
    }

    /// How it was done, for the page.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Unified(_) => "control group: cpu.max 50000 100000, memory.max 1 GiB",
            Self::Split { .. } => {
                "control groups: cpu.cfs_quota_us 50000 of 100000, memory.limit_in_bytes 1 GiB"
            }
            Self::OneCore => {
                "taskset and prlimit, for want of control groups: one whole core, which is twice what was asked for, \
                 and 1 GiB of data"
            }
        }
    }

    /// A command that runs the program, and whatever it starts, within the limit.
    pub(super) fn command(&self, program: &Path) -> Command {
        let join = |groups: &[&Path]| {
            let mut command = Command::new("sh");
            let script = groups
                .iter()
                .map(|group| format!("echo $$ > {}/cgroup.procs && ", group.display()))
                .collect::<String>();
            command.args([
                OsStr::new("-c"),
                OsStr::new(&format!("{script}exec \"$0\" \"$@\"")),
                program.as_os_str(),
            ]);
            command
        };
        match self {
            Self::Unified(group) => join(&[group]),
            Self::Split { cpu, memory } => join(&[cpu, memory]),
            Self::OneCore => {
                let mut command = Command::new("taskset");
                command
                    .args(["--cpu-list", "0", "prlimit"])
                    .arg(format!("--data={MEMORY}"));
                command.arg(program);
                command
            }
        }
    }

    /// How often it was told to wait, and the most memory it has had, in bytes; as far as the machine counts them.
    pub(super) fn used(&self) -> Used {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
        match self {
            Self::Unified(group) => Used {
                throttled: field(&group.join("cpu.stat"), "nr_throttled"),
                memory: number(group.join("memory.peak")),
            },
            Self::Split { cpu, memory } => Used {
                throttled: field(&cpu.join("cpu.stat"), "nr_throttled"),
                memory: number(memory.join("memory.max_usage_in_bytes")),
            },
            Self::OneCore => Used::default(),
        }
    }
}

/// What the service took of its share.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Used {
    pub(super) throttled: Option<u64>,
    pub(super) memory: Option<u64>,
}

impl Drop for Limit {
    fn drop(&mut self) {
        // They are empty by then; if not, the machine's owner sees their name.
        match self {
            Self::Unified(group) => drop(fs::remove_dir(group)),
            Self::Split { cpu, memory } => drop((fs::remove_dir(cpu), fs::remove_dir(memory))),
            Self::OneCore => {}
        }
    }
}

fn write(file: &Path, value: String) -> Result<()> {
    fs::write(file, value).map_err(on_path(file))
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_within_its_limit_and_the_groups_go_away() {
        let limit = Limit::new();
        let output = limit
            .command(Path::new("sh"))
            .args(["-c", "cat /proc/self/cgroup"])
            .output()
            .expect("it runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let groups = String::from_utf8_lossy(&output.stdout);
        let name = format!("zhuji-capacity-{}", std::process::id());
        match &limit {
            Limit::Unified(group) | Limit::Split { cpu: group, .. } => {
                assert!(groups.contains(&name), "{groups}");
                let group = group.clone();
                assert!(limit.used().memory.is_some_and(|bytes| bytes > 0));
                drop(limit);
                assert!(!group.exists());
            }
            Limit::OneCore => eprintln!("SKIPPED: no control groups can be made here"),
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "nr_throttled 7\nthrottled_usec 9\n").expect("written");
        assert_eq!(field(file.path(), "nr_throttled"), Some(7));
        assert_eq!(field(file.path(), "nr_throttle"), None);
    }
}
