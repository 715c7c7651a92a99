//! Backup, loss, restore; an upgrade and the way back; from disk to OSS: with the real service, its data and its programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use zhuji_testkit::oss::OssServer;
use zhuji_testkit::{DevCluster, free_port};

use super::running::{self, Running, fixture};
use super::{sae, sae_policy};
use crate::failure::{Failure, Result};
use crate::machine::{self, POSTGRES};
use crate::workspace::Workspace;
use crate::{oss, process, service};

const RECORDS: &str = "/api/v1/asl/literatures";
const PDFS: &[&str] = &["geotopo.pdf", "multicolumn.pdf"];

/// Every schema that is not the server's own.
const LOSS: &str = "do $$ declare name text; begin \
                    for name in select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|public)' \
                    loop execute format('drop schema %I cascade', name); end loop; end $$";

/// What the release before left: without what the newest migration makes.
const RELEASE_BEFORE: &str =
    "drop table asl.store_owner; delete from asl._zhuji_migrations where version = 2";

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let Some(excel) = fixture("menon_2022.xlsx") else {
        return Ok("SKIPPED: no real files are beside this checkout".to_owned());
    };
    machine::ensure(&POSTGRES)?;
    let programs = Programs {
        service: service::build(false)?,
        operator: running::build(workspace, "zhuji-cli", "zhuji")?,
        psql: machine::find("psql").ok_or("psql was not found beside PostgreSQL")?,
    };
    let home = tempfile::tempdir()?;
    // PostgreSQL runs as another user.
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let away = |error: zhuji_testkit::ServerError| Failure::new(error.to_string());
    let cluster = DevCluster::start(home.path().join("postgres"), false).map_err(away)?;
    let site = Site::new(home.path(), &programs, cluster.url());
    let outcome = live(&site, &excel, &sae::json(workspace, "ram-policy.json")?);
    cluster.stop();
    outcome
}

fn live(site: &Site<'_>, excel: &[u8], policy: &Value) -> Result<String> {
    let running = site.start()?;
    let ids = fill(running.port(), excel)?;
    // People work while it is taken.
    site.zhuji(&["backup", "--to", "while-it-runs"])?;
    running.stop()?;
    let kept = site.state()?;
    let started = Instant::now();
    let said = site.zhuji(&["backup", "--to", "kept", "--json"])?;
    let backup = started.elapsed().as_secs_f64();
    let said: Value =
        serde_json::from_str(&said).map_err(|error| Failure::new(format!("backup: {error}")))?;
    let rows = said["manifest"]["database"]["tables"]
        .as_array()
        .into_iter()
        .flatten();
    let rows: u64 = rows.filter_map(|table| table["rows"].as_u64()).sum();
    let files = said["manifest"]["files"]["count"].as_u64().unwrap_or(0);
    for name in ["kept", "while-it-runs"] {
        site.zhuji(&["backup", "verify", name])?;
    }

    // The machine is lost.
    site.sql(LOSS)?;
    std::fs::remove_dir_all(site.files())?;
    let started = Instant::now();
    site.zhuji(&["restore", "--from", "kept", "--verify"])?;
    let restore = started.elapsed().as_secs_f64();
    site.is(&kept, "after the restore")?;
    works(site.start()?, &ids)?;

    let upgraded = upgrade(site, &ids)?;
    let moved = to_oss(site, &ids, policy)?;
    println!(
        "NOT PROVED here: backups of hundreds of gigabytes, and of RDS and OSS themselves (RDS restores to a minute)"
    );
    Ok(format!(
        "{rows} rows and {files} files, backup {backup:.1} s, restore {restore:.1} s, equal to the byte; {upgraded}; {moved}"
    ))
}

/// The release before, this one's migrations, and back again.
fn upgrade(site: &Site<'_>, ids: &[String]) -> Result<String> {
    site.sql(RELEASE_BEFORE)?;
    let before = site.state()?;
    site.zhuji(&["backup", "--to", "before-the-upgrade"])?;
    let said = site.service(&["migrate"])?;
    if !said.contains("asl: 1 migration applied") {
        return Err(format!("the new release's migrations: {said}").into());
    }
    let running = site.start()?;
    // The new release's users change this and that.
    let port = running.port();
    let pdf = fixture(PDFS[1]).unwrap_or_default();
    upload(port, &record_ids(port)?[5], PDFS[1], &pdf)?;
    works(running, ids)?;
    site.zhuji(&["restore", "--from", "before-the-upgrade"])
        .err()
        .ok_or("a restore replaced data without --force")?;
    site.zhuji(&["restore", "--from", "before-the-upgrade", "--force"])?;
    site.is(&before, "after the way back")?;
    site.service(&["migrate"])?;
    works(site.start()?, ids)?;
    Ok("upgraded by a migration and back by a restore, equal again".to_owned())
}

/// The same backup into another database and a bucket. What the service asks of it is no more than the policy of its role
/// allows.
fn to_oss(site: &Site<'_>, ids: &[String], policy: &Value) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(oss::start(0, "aiclinical-prod", None))?;
    site.sql("create database moved")?;
    let moved = site.on_oss(&server);
    let tried = (|| {
        moved.zhuji(&["restore", "--from", "kept", "--verify"])?;
        let before = server.requests().len();
        let running = moved.start()?;
        let port = running.port();
        let record = &record_ids(port)?[7];
        upload(port, record, PDFS[0], &fixture(PDFS[0]).unwrap_or_default())?;
        running::delete(port, &format!("{RECORDS}/{record}"))?;
        works(running, ids)?;
        let kinds = sae_policy::allows(policy, &server.requests()[before..])?;
        Ok(format!(
            "{} objects on to OSS, where the service needed {kinds} kinds of requests and the policy allows each",
            server.objects().len()
        ))
    })();
    runtime.block_on(server.stop());
    tried
}

struct Programs {
    service: PathBuf,
    operator: PathBuf,
    psql: PathBuf,
}

/// A database, a store, and the settings of the service on them.
struct Site<'a> {
    home: &'a Path,
    programs: &'a Programs,
    environment: BTreeMap<String, String>,
}

impl<'a> Site<'a> {
    fn new(home: &'a Path, programs: &'a Programs, database: &str) -> Self {
        let port = free_port();
        let settings = [
            ("APP_ENV", "production".to_owned()),
            ("DEPLOYMENT_MODE", "private".to_owned()),
            ("HOST", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
            ("METRICS_LISTEN", "off".to_owned()),
            ("BASE_URL", format!("http://127.0.0.1:{port}")),
            ("DATABASE_URL", database.to_owned()),
            ("STORAGE_LOCAL_DIR", home.join("files").display().to_string()),
            ("STORAGE_SIGNING_KEY", "a key for the rehearsal alone".to_owned()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
        ];
        Self {
            home,
            programs,
            environment: settings.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    fn on_oss(&self, server: &OssServer) -> Self {
        let mut environment = self.environment.clone();
        environment.remove("STORAGE_LOCAL_DIR");
        environment.remove("STORAGE_SIGNING_KEY");
        let database = environment
            .get("DATABASE_URL")
            .map(String::as_str)
            .unwrap_or_default();
        let database = database.rsplit_once('/').map_or(database, |(server, _)| server);
        let settings = [
            ("DATABASE_URL", format!("{database}/moved")),
            ("STORAGE_TYPE", "oss".to_owned()),
            ("OSS_REGION", server.region().to_owned()),
            ("OSS_BUCKET", server.bucket().to_owned()),
            ("OSS_ENDPOINT", server.endpoint()),
            ("OSS_ACCESS_KEY_ID", server.access_key_id().to_owned()),
            ("OSS_ACCESS_KEY_SECRET", server.access_key_secret().to_owned()),
        ];
        environment.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        Self {
            home: self.home,
            programs: self.programs,
            environment,
        }
    }

    fn files(&self) -> PathBuf {
        self.home.join("files")
    }

    fn start(&self) -> Result<Running> {
        Running::start(&self.programs.service, &self.environment, self.home)
    }

    fn told(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.environment);
        let output = process::run_quietly(command.current_dir(self.home))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn zhuji(&self, arguments: &[&str]) -> Result<String> {
        self.told(&self.programs.operator, arguments)
    }

    fn service(&self, arguments: &[&str]) -> Result<String> {
        self.told(&self.programs.service, arguments)
    }

    fn sql(&self, sql: &str) -> Result<String> {
        let mut psql = Command::new(&self.programs.psql);
        let url = self.environment.get("DATABASE_URL").cloned().unwrap_or_default();
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        psql.args(["--set=ON_ERROR_STOP=1", "--command", sql]).arg(url);
        let output = process::run_quietly(psql.stdin(Stdio::null()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Every row and every byte, by other means than those that are rehearsed.
    fn state(&self) -> Result<State> {
        let tables = self.sql(
            "select format('%I.%I', schemaname, tablename) from pg_tables \
             where schemaname !~ '^pg_' and schemaname <> 'information_schema' order by 1",
        )?;
        let mut rows = BTreeMap::new();
        for table in tables.lines() {
            let mut lines: Vec<String> = self
                .sql(&format!("copy {table} to stdout"))?
                .lines()
                .map(ToOwned::to_owned)
                .collect();
            lines.sort();
            rows.insert(table.to_owned(), lines);
        }
        let mut files = BTreeMap::new();
        bytes_below(&self.files(), &self.files(), &mut files)?;
        Ok(State { rows, files })
    }

    fn is(&self, kept: &State, when: &str) -> Result<()> {
        let found = self.state()?;
        for (table, rows) in &kept.rows {
            if found.rows.get(table) != Some(rows) {
                return Err(format!("{when}, the rows of {table} are others").into());
            }
        }
        if found.rows.len() != kept.rows.len() {
            return Err(format!("{when}, there are other tables: {:?}", found.rows.keys()).into());
        }
        if found.files != kept.files {
            return Err(format!("{when}, there are other files: {:?}", found.files.keys()).into());
        }
        Ok(())
    }
}

struct State {
    rows: BTreeMap<String, Vec<String>>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

fn bytes_below(root: &Path, directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let inside = path.strip_prefix(root).unwrap_or(&path).to_owned();
        // The store's own notes are no files of anybody.
        if inside.starts_with(".zhuji") {
            continue;
        }
        if path.is_dir() {
            bytes_below(root, &path, found)?;
        } else {
            found.insert(inside, std::fs::read(&path)?);
        }
    }
    Ok(())
}

/// Imports the Excel file, and gives the first records their PDFs. Answers with whose they are.
fn fill(port: u16, excel: &[u8]) -> Result<Vec<String>> {
    running::send_file(port, &format!("{RECORDS}/import"), "a.xlsx", excel)?.json()?;
    let ids: Vec<String> = record_ids(port)?.into_iter().take(PDFS.len()).collect();
    for (id, name) in ids.iter().zip(PDFS) {
        let pdf = fixture(name).ok_or_else(|| format!("{name} is not beside this checkout"))?;
        upload(port, id, name, &pdf)?;
    }
    Ok(ids)
}

fn record_ids(port: u16) -> Result<Vec<String>> {
    let list = running::get(port, &format!("{RECORDS}?per_page=10"))?.json()?;
    let items = list["items"].as_array().ok_or("the list has no items")?;
    Ok(items
        .iter()
        .filter_map(|item| item["id"].as_str().map(ToOwned::to_owned))
        .collect())
}

/// Uploads a PDF, and waits until its text is extracted: nothing changes by itself after that.
fn upload(port: u16, id: &str, name: &str, pdf: &[u8]) -> Result<()> {
    running::send_file(port, &format!("{RECORDS}/{id}/pdf"), name, pdf)?.json()?;
    let sent = Instant::now();
    while sent.elapsed() < 2 * running::PATIENCE {
        let record = running::get(port, &format!("{RECORDS}/{id}"))?.json()?;
        match record["extraction"]["state"].as_str() {
            Some("done") => return Ok(()),
            Some("failed") => return Err(format!("{name}: {}", record["extraction"]).into()),
            _ => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    }
    Err(format!("{name}: its text was not extracted in time").into())
}

/// The service lists every record and serves every PDF, and ends in order.
fn works(running: Running, ids: &[String]) -> Result<()> {
    let port = running.port();
    let total = running::get(port, RECORDS)?.json()?["total"]
        .as_u64()
        .unwrap_or(0);
    if total < 900 {
        return Err(format!("the service lists {total} records").into());
    }
    for (id, name) in ids.iter().zip(PDFS) {
        let answer = running::get(port, &format!("{RECORDS}/{id}/pdf"))?;
        let signed = answer
            .header("location")
            .ok_or("a PDF has no address")?
            .to_owned();
        let (place, path) = signed
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or("the address of a PDF is no address")?;
        let at = place
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(port);
        let pdf = running::get(at, &format!("/{path}"))?;
        if pdf.status != 200 || Some(pdf.body) != fixture(name) {
            return Err(format!("{name} is not served as it was stored (status {})", pdf.status).into());
        }
    }
    running.stop()
}
