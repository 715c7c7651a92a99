//! The image, run as an engine would with the settings of the composition for a site: as nobody, on a root that is
//! read-only, with nothing to write to but its volume and `/tmp`, and without any capability.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zhuji_testkit::{DevCluster, DevRedis, free_port};

use super::compose::Composition;
use super::container::Image;
use super::running::{self, PATIENCE};
use crate::failure::{Failure, Result, on_path};
use crate::machine::{self, POSTGRES, REDIS};
use crate::process;
use crate::workspace::Workspace;

/// Prepares the root in a mount namespace of its own, which goes away with the process, and becomes the program.
/// Arguments: root, data, secrets, uid:gid, then the program's own.
const ENTER: &str = r#"
root=$1 data=$2 secrets=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/secrets"
mount --bind "$secrets" "$root/run/secrets"
mount -o remount,bind,ro "$root/run/secrets"
mount --bind "$data" "$root/var/lib/literature"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups="" "$root" "$@"
"#;

pub(super) fn rehearse(workspace: &Workspace, root: &Path, image: &Image) -> Result<String> {
    machine::ensure(&POSTGRES)?;
    machine::ensure(&REDIS)?;
    let temporary = tempfile::tempdir()?;
    // PostgreSQL runs as another user, and so does the program.
    std::fs::set_permissions(
        temporary.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let away = |error: zhuji_testkit::ServerError| Failure::new(error.to_string());
    let cluster = DevCluster::start(temporary.path().join("postgres"), false).map_err(away)?;
    let redis = DevRedis::start(temporary.path().join("redis")).map_err(away)?;
    let place = Place::new(temporary.path(), image, cluster.url(), redis.url())?;
    let settings = settings(workspace)?;
    let outcome = live(&place, root, image, &settings);
    drop(redis);
    cluster.stop();
    outcome
}

/// The directories that are mounted into the container.
struct Place {
    data: std::path::PathBuf,
    secrets: std::path::PathBuf,
}

impl Place {
    fn new(home: &Path, image: &Image, database: &str, redis: &str) -> Result<Self> {
        let place = Self {
            data: home.join("files"),
            secrets: home.join("secrets"),
        };
        let (user, group) = image.user()?;
        std::fs::create_dir(&place.data)?;
        chown(&place.data, Some(user), Some(group))?;
        std::fs::create_dir(&place.secrets)?;
        let secrets = [
            ("database_url", database.to_owned()),
            ("redis_url", redis.to_owned()),
            ("signing_key", "a key for the rehearsal alone".to_owned()),
            ("admin_token", "a token for the rehearsal alone".to_owned()),
        ];
        for (name, value) in secrets {
            let file = place.secrets.join(name);
            std::fs::write(&file, value + "\n").map_err(on_path(&file))?;
        }
        Ok(place)
    }
}

/// The settings of the composition, on this machine's loopback instead of the composition's network.
fn settings(workspace: &Workspace) -> Result<Settings> {
    let port = free_port();
    let mut environment = Composition::read(workspace)?.environment(Path::new("/run/secrets"))?;
    let ours = [
        ("HOST", "127.0.0.1".to_owned()),
        ("PORT", port.to_string()),
        ("METRICS_LISTEN", format!("127.0.0.1:{}", free_port())),
        // An engine's default.
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
    ];
    environment.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    Ok(Settings { port, environment })
}

struct Settings {
    port: u16,
    environment: BTreeMap<String, String>,
}

impl Settings {
    /// A command that sees what the image and the composition set, and nothing of this process.
    fn command(&self, program: &str, image: &Image) -> Command {
        let mut command = Command::new(program);
        let of_image = image.env.iter().filter_map(|variable| variable.split_once('='));
        command
            .env_clear()
            .envs(of_image)
            .envs(&self.environment)
            .stdin(Stdio::null());
        command
    }
}

fn live(place: &Place, root: &Path, image: &Image, settings: &Settings) -> Result<String> {
    let (user, group) = image.user()?;
    let log = tempfile::NamedTempFile::new()?;
    let mut enter = settings.command("unshare", image);
    enter.args(["--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh"]);
    enter.args([root, &place.data, &place.secrets]);
    enter
        .arg(format!("{user}:{group}"))
        .args(&image.entrypoint)
        .args(&image.cmd);
    enter.stdout(log.reopen()?).stderr(log.reopen()?);
    let started = Instant::now();
    let mut child = Guarded(enter.spawn()?);
    let tried = (|| {
        let healthy = child.until_healthy(settings.port)?;
        let start = healthy - started;
        let confined = child.confined(user)?;
        let mut ask = Command::new("nsenter");
        ask.args(["--target", &child.0.id().to_string(), "--mount", "--root"]);
        ask.args(["--setuid", &user.to_string(), "--setgid", &group.to_string()]);
        ask.args(image.healthcheck()?)
            .env_clear()
            .envs(&settings.environment);
        process::run_quietly(&mut ask)?;
        let imported = import(settings.port)?;
        let stopped = child.stop()?;
        Ok(format!(
            "/health 200 after {} ms, {confined}, healthcheck 0, {imported}, SIGTERM and exit 0 in {} ms",
            start.as_millis(),
            stopped.as_millis()
        ))
    })();
    tried.map_err(|failure: Failure| {
        let said = std::fs::read_to_string(log.path()).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n    ");
        Failure::new(format!("{failure}; the container said:\n    {tail}"))
    })
}

/// A process that is not left behind.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guarded {
    fn until_healthy(&mut self, port: u16) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("the container ended by itself ({status})").into());
            }
            match running::get(port, "/health") {
                Ok(answer) if answer.status == 200 => return Ok(Instant::now()),
                Ok(answer) if Instant::now() > deadline => {
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(format!("/health answers {} {body}", answer.status).into());
                }
                Err(error) if Instant::now() > deadline => return Err(format!("/health: {error}").into()),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Reads from the kernel what the process may do.
    fn confined(&self, user: u32) -> Result<String> {
        let about = |file: &str| {
            let path = Path::new("/proc").join(self.0.id().to_string()).join(file);
            std::fs::read_to_string(&path).map_err(on_path(&path))
        };
        let status = about("status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default()
                .split_whitespace()
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
        };
        let user = user.to_string();
        if field("Uid:").iter().any(|id| *id != user) {
            return Err(format!("it runs as {:?}", field("Uid:")).into());
        }
        if field("CapEff:") != ["0000000000000000"] || field("NoNewPrivs:") != ["1"] {
            return Err("it has rights that it does not need".into());
        }
        let mounts = about("mountinfo")?;
        if !root_is_read_only(&mounts) {
            return Err("its root can be written to".into());
        }
        Ok(format!("uid {user} without capabilities on a read-only root"))
    }

    fn stop(&mut self) -> Result<Duration> {
        let pid = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let started = Instant::now();
        rustix::process::kill_process(pid.ok_or("it has no process id")?, rustix::process::Signal::TERM)
            .map_err(std::io::Error::from)?;
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait()? {
                let took = started.elapsed();
                return if status.success() {
                    Ok(took)
                } else {
                    Err(format!("SIGTERM ended it with {status}").into())
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("it did not end within {} s of SIGTERM", PATIENCE.as_secs()).into())
    }
}

/// Field 5 is where, field 6 how.
fn root_is_read_only(mountinfo: &str) -> bool {
    let mut of_root = mountinfo.lines().rev().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(4) == Some(&"/")).then(|| fields.get(5).copied().unwrap_or_default())
    });
    of_root
        .next()
        .is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

/// Imports a real file where one is at hand: it is read by a child process, which has to start on the read-only root.
fn import(port: u16) -> Result<String> {
    let Some(file) = running::fixture("menon_2022.xlsx") else {
        println!("SKIPPED: no real Excel file is beside this checkout, so none is imported");
        return Ok("nothing imported".to_owned());
    };
    let answer = running::send_file(port, "/api/v1/asl/literatures/import", "a.xlsx", &file)?.json()?;
    let count = answer["count"].as_u64().ok_or("the import tells no count")?;
    Ok(format!("{count} records imported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mount_of_the_root_decides() {
        let below = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
        let above = "2 1 8:1 /x / ro,relatime - ext4 /dev/vda rw\n3 2 0:5 / /proc rw - proc proc rw\n";
        assert!(root_is_read_only(&format!("{below}{above}")));
        assert!(!root_is_read_only(&format!("{above}{below}")));
        assert!(!root_is_read_only(""));
    }
}
