//! `zhuji restore`: what `zhuji backup` kept, back into a database and a store.
//!
//! Files first, then the rows, all in one transaction: at no time is there a row whose file is missing. What the backup does
//! not have is removed last, when everything else is safe.

mod args;
mod objects;
mod rows;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;
use zhuji_storage::Entry;

pub(crate) use args::Restore;

use crate::backup::database::Database;
use crate::backup::manifest::{Manifest, Object};
use crate::backup::{Opened, files, told};
use crate::failure::Failure;
use crate::location::{Place, nothing_waits};
use crate::storage::say;

pub(crate) async fn run(args: &Restore) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let opened = Opened::open(&args.from).await?;
    let manifest = opened.home.read()?;
    if let Some(damage) = opened.home.damages(&manifest).first() {
        return Err(Failure::failed(format!(
            "{damage}; nothing was changed, take another backup"
        )));
    }
    let kept_rows = manifest.database.as_ref().filter(|_| !args.no_database);
    let kept_files = manifest.files.as_ref().filter(|_| !args.no_files);
    if kept_rows.is_none() && kept_files.is_none() {
        return Err(Failure::usage("the backup holds nothing of what is asked for"));
    }
    // Everything that could go wrong is asked before anything is changed.
    let database = match kept_rows {
        Some(_) => Some(Target::database().await?),
        None => None,
    };
    let store = match kept_files {
        Some(_) => {
            nothing_waits("they would be carried out over what is restored").await?;
            Some(Files::open(&opened).await?)
        }
        None => None,
    };
    if !args.force {
        refuse_to_replace(database.as_ref(), store.as_ref())?;
    }
    let mut differences = Vec::new();
    if let Some(store) = &store {
        objects::put(
            &store.from,
            &store.to,
            &store.objects,
            &store.present,
            args.how.parallel,
        )
        .await?;
    }
    if let (Some(target), Some(kept)) = (&database, kept_rows) {
        rows::restore(&target.database, &opened.home, &target.schemas).await?;
        differences.extend(rows::differences(&kept.tables, &target.database.tables().await?));
    }
    if let Some(store) = &store {
        objects::remove(&store.to, &objects::extra(&store.objects, &store.present)).await?;
        differences.extend(objects::differences(&store.objects, &listed(&store.to).await?));
        if args.verify {
            differences.extend(files::damages(&store.to, &store.objects, args.how.parallel).await);
        }
    }
    report(args, &manifest, &differences, started.elapsed().as_secs_f64())
}

fn report(
    args: &Restore,
    manifest: &Manifest,
    differences: &[String],
    seconds: f64,
) -> Result<ExitCode, Failure> {
    if args.how.json {
        let equal = differences.is_empty();
        say(
            &json!({ "equal": equal, "differences": differences, "seconds": seconds, "manifest": manifest })
                .to_string(),
        );
    } else {
        told(manifest).iter().for_each(|line| say(line));
        differences.iter().for_each(|line| eprintln!("{line}"));
    }
    match differences.len() {
        0 => {
            if !args.how.json {
                say(&format!(
                    "restored and compared after {seconds:.1} s; the service may start"
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        count => Err(Failure::failed(format!(
            "{count} differences from what the backup wrote down: do not start the service"
        ))),
    }
}

struct Target {
    database: Database,
    /// What would be replaced.
    schemas: Vec<String>,
}

impl Target {
    async fn database() -> Result<Self, Failure> {
        let database = Database::open().await?;
        rows::nobody_else(&database).await?;
        let schemas = rows::schemas(&database).await?;
        Ok(Self { database, schemas })
    }
}

struct Files {
    from: Place,
    to: Place,
    objects: Vec<Object>,
    present: HashMap<String, Entry>,
}

impl Files {
    async fn open(opened: &Opened) -> Result<Self, Failure> {
        let to = Place::configured().await?;
        if let Some(root) = &to.root {
            owned(root)?;
        }
        Ok(Self {
            from: files::store(&opened.home.files(), true).await?,
            objects: opened.home.read_list()?,
            present: listed(&to).await?,
            to,
        })
    }
}

async fn listed(place: &Place) -> Result<HashMap<String, Entry>, Failure> {
    let entries = files::entries(place).await?;
    Ok(entries
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect())
}

/// Files that belong to somebody else than the directory are files that the service can't read.
fn owned(root: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(root)
        .map_err(|error| Failure::failed(format!("{}: {error}", root.display())))?
        .uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} belongs to user {owner}: run this as that user, or the service can't read what is brought back",
        root.display()
    )))
}

fn refuse_to_replace(database: Option<&Target>, store: Option<&Files>) -> Result<(), Failure> {
    let mut there = Vec::new();
    if let Some(target) = database.filter(|target| !target.schemas.is_empty()) {
        there.push(format!(
            "the database has the schemas {}",
            target.schemas.join(", ")
        ));
    }
    if let Some(store) = store.filter(|store| !store.present.is_empty()) {
        there.push(format!("the store has {} files", store.present.len()));
    }
    if there.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{}: nothing was changed; --force replaces all of it by the backup",
        there.join(", and ")
    )))
}
