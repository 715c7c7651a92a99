//! `zhuji backup`: the rows and the files of a service, together.
//!
//! The order is what makes them fit: the snapshot of the database first, then the files. A file that was stored before its
//! row was written is therefore copied after that row was, and every file that a kept row names is there. What is stored
//! while the copy runs is extra, and the service's own sweep removes what no row names. The other way round, rows would
//! name files that were not copied.

pub(crate) mod archive;
mod args;
pub(crate) mod database;
pub(crate) mod files;
pub(crate) mod manifest;
pub(crate) mod programs;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use serde_json::json;
use zhuji_config::ByteSize;

pub(crate) use args::{Backup, How};

use self::args::BackupCommand;
use self::database::Database;
use self::manifest::{Home, Manifest, Objects, at};
use self::programs::Programs;
use crate::failure::Failure;
use crate::location::{Place, nothing_waits};
use crate::storage::say;

pub(crate) async fn run(args: &Backup) -> Result<ExitCode, Failure> {
    match (&args.command, &args.to) {
        (Some(BackupCommand::Verify(verify)), _) => self::verify(&verify.backup, &verify.how).await,
        (None, Some(to)) => backup(args, to).await,
        // The command line sees to it.
        (None, None) => Err(Failure::usage("say where to: --to DIR")),
    }
}

async fn backup(args: &Backup, to: &Path) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    // What can't work is said before anything is written.
    let database = match args.no_database {
        true => None,
        false => Some(Database::open().await?),
    };
    let store = match args.no_files {
        true => None,
        false => {
            nothing_waits("the backup would lack their files").await?;
            Some(Place::configured_to_read().await?)
        }
    };
    let target = Target::new(to)?;
    let taken = take(
        target.directory(),
        database.as_ref(),
        store.as_ref(),
        args.how.parallel,
    )
    .await;
    let manifest = match taken {
        Ok(manifest) => manifest,
        Err(failure) => {
            target.discard();
            return Err(failure);
        }
    };
    target.finish().await?;
    let seconds = started.elapsed().as_secs_f64();
    if args.how.json {
        say(&json!({ "backup": to, "seconds": seconds, "manifest": manifest }).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    for line in told(&manifest) {
        say(&line);
    }
    say(&format!("kept in {} after {seconds:.1} s", to.display()));
    Ok(ExitCode::SUCCESS)
}

async fn take(
    directory: &Path,
    database: Option<&Database>,
    store: Option<&Place>,
    parallel: u16,
) -> Result<Manifest, Failure> {
    let home = Home::new(directory);
    let rows = match database {
        Some(database) => Some(database.save(&home.dump()).await?),
        None => None,
    };
    let objects = match store {
        Some(store) => {
            let to = files::store(&home.files(), false).await?;
            let saved = files::save(store, &to, parallel).await?;
            Some(Objects {
                count: saved.objects.len() as u64,
                bytes: saved.objects.iter().map(|object| object.size).sum(),
                sha256: home.write_list(&saved.objects)?,
                gone: saved.gone,
            })
        }
        None => None,
    };
    home.write(rows, objects)
}

/// What a backup holds, for people.
pub(crate) fn told(manifest: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rows) = &manifest.database {
        let versions: Vec<String> = rows
            .migrations
            .iter()
            .map(|(schema, version)| format!("{schema} {version}"))
            .collect();
        lines.push(format!(
            "database: {} rows in {} tables, {} (PostgreSQL {}; migrations: {})",
            rows.count(),
            rows.tables.len(),
            ByteSize::new(rows.bytes),
            rows.server,
            versions.join(", ")
        ));
    }
    if let Some(objects) = &manifest.files {
        let gone = match objects.gone {
            0 => String::new(),
            gone => format!("; {gone} were deleted meanwhile"),
        };
        lines.push(format!(
            "files: {}, {}{gone}",
            objects.count,
            ByteSize::new(objects.bytes)
        ));
    }
    lines
}

async fn verify(path: &Path, how: &How) -> Result<ExitCode, Failure> {
    let opened = Opened::open(path).await?;
    let manifest = opened.home.read()?;
    let mut damages = opened.home.damages(&manifest);
    let sound = damages.is_empty();
    if sound && let Some(rows) = &manifest.database {
        damages.extend(unreadable(&opened.home, &rows.pg_dump).await);
    }
    if sound && manifest.files.is_some() {
        let store = files::store(&opened.home.files(), true).await?;
        damages.extend(files::damages(&store, &opened.home.read_list()?, how.parallel).await);
    }
    if how.json {
        say(&json!({ "intact": damages.is_empty(), "damages": damages, "manifest": manifest }).to_string());
    } else {
        for line in told(&manifest) {
            say(&line);
        }
        say(&format!("taken {} by {}", manifest.created_at, manifest.program));
        damages.iter().for_each(|damage| eprintln!("{damage}"));
    }
    match damages.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Failure::failed(format!(
            "{count} parts of the backup are damaged or missing: take another one"
        ))),
    }
}

/// Whether PostgreSQL's own program can read the dump; unknown where it is not installed.
async fn unreadable(home: &Home, version: &str) -> Option<String> {
    let major = version.split('.').next()?.parse().ok()?;
    let programs = match Programs::find(major).await {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("only the checksum of the dump was compared: {why}");
            return None;
        }
    };
    let mut list = programs.offline("pg_restore");
    list.arg("--list").arg(home.dump()).stdout(Stdio::null());
    let output = list.output().await.ok()?;
    (!output.status.success()).then(|| format!("pg_restore: {}", programs::complaint(&output.stderr)))
}

/// A backup that is there, unpacked if it is an archive.
pub(crate) struct Opened {
    pub(crate) home: Home,
    _unpacked: Option<tempfile::TempDir>,
}

impl Opened {
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_file() {
            let unpacked = archive::unpack(path).await?;
            return Ok(Self {
                home: Home::new(unpacked.path()),
                _unpacked: Some(unpacked),
            });
        }
        Ok(Self {
            home: Home::new(path),
            _unpacked: None,
        })
    }
}

/// Where a backup is put: other people's data, so nobody else may look.
enum Target {
    Directory { path: PathBuf, is_new: bool },
    Archive { path: PathBuf, parts: tempfile::TempDir },
}

impl Target {
    fn new(to: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        if archive::is_archive(to) {
            if to.symlink_metadata().is_ok() {
                return Err(Failure::usage(format!("{}: there is one already", to.display())));
            }
            return Ok(Self::Archive {
                path: to.to_owned(),
                parts: archive::beside(to)?,
            });
        }
        let is_new = to.symlink_metadata().is_err();
        if is_new {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(to).map_err(at(to))?;
        } else if std::fs::read_dir(to).map_err(at(to))?.next().is_some() {
            return Err(Failure::usage(format!(
                "{}: it is not empty; each backup has a directory of its own",
                to.display()
            )));
        }
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).map_err(at(to))?;
        Ok(Self::Directory {
            path: to.to_owned(),
            is_new,
        })
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Directory { path, .. } => path,
            Self::Archive { parts, .. } => parts.path(),
        }
    }

    async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Directory { .. } => Ok(()),
            Self::Archive { path, parts } => archive::pack(parts.path(), &path).await,
        }
    }

    /// Half a backup is none. What can't be removed has no manifest, so nobody takes it for one.
    fn discard(self) {
        if let Self::Directory { path, is_new: true } = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
