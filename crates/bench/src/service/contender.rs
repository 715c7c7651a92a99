//! The two services, with what each needs to run: a database, a folder, records to upload to.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use rust_xlsxwriter::Workbook;
use serde::Deserialize;
use uuid::Uuid;
use zhuji_testkit::{TestDatabase, TestPostgres, free_port};

use super::{PEER_COMMAND, peer};
use crate::load::{Connection, multipart};
use crate::process::Process;

/// Which part of its work a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything: how it runs when nothing is set.
    All,
    /// Requests only: jobs are stored and not run. The peer never runs any.
    Web,
}

/// One of the two.
#[derive(Debug)]
pub(super) struct Contender {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    folder: PathBuf,
    pub(super) address: SocketAddr,
    database: TestDatabase,
    upload_path: fn(Uuid) -> String,
    /// Records that nothing was uploaded to yet.
    fresh: Vec<Uuid>,
}

impl Contender {
    /// The real binary in standalone mode, with so many records.
    pub(super) async fn ours(
        postgres: &TestPostgres,
        folder: &Path,
        binary: &Path,
        records: usize,
    ) -> anyhow::Result<Self> {
        let mut ours = Self::new("ours", postgres, folder, binary.to_owned(), &[]).await?;
        ours.upload_path = |id| format!("/api/v1/asl/literatures/{id}/pdf");
        // The first start makes the tables; the records come in through the door that users have.
        let process = ours.start(Role::Web).await?;
        ours.fresh = import(ours.address, records)
            .await
            .with_context(|| format!("importing records:\n{}", process.last_words()))?;
        Ok(ours)
    }

    /// The minimal service, with so many records.
    pub(super) async fn theirs(
        postgres: &TestPostgres,
        folder: &Path,
        records: usize,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut theirs = Self::new("theirs", postgres, folder, program, &[PEER_COMMAND]).await?;
        theirs.upload_path = |id| format!("/pdf/{id}");
        for tables in peer::SCHEMA {
            theirs.database.execute(tables).await;
        }
        theirs.fresh = (0..records).map(|_| Uuid::new_v4()).collect();
        let values: Vec<String> = theirs
            .fresh
            .iter()
            .enumerate()
            .map(|(number, id)| {
                let title = title(number);
                format!("('{id}', sha256('{title}'), '{title}', lower('{title}'))")
            })
            .collect();
        let insert = "insert into literatures (id, fingerprint, title, search_text) values";
        theirs
            .database
            .execute(&format!("{insert} {}", values.join(", ")))
            .await;
        Ok(theirs)
    }

    async fn new(
        name: &'static str,
        postgres: &TestPostgres,
        folder: &Path,
        program: PathBuf,
        arguments: &'static [&'static str],
    ) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            name,
            program,
            arguments,
            folder,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
            database: postgres.database().await,
            upload_path: |id| format!("/{id}"),
            fresh: Vec::new(),
        })
    }

    /// Starts it, and waits until it is healthy.
    pub(super) async fn start(&self, role: Role) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.program);
        let mut set = |name: &str, value: OsString| {
            command.env(name, value);
        };
        set("DEPLOYMENT_MODE", "standalone".into());
        set("DATABASE_URL", self.database.url().into());
        set("HOST", "127.0.0.1".into());
        set("PORT", self.address.port().to_string().into());
        set("ROLE", if role == Role::Web { "web" } else { "all" }.into());
        set("STORAGE_LOCAL_DIR", self.uploads().into());
        // A log of its own is part of what ours does; nobody reads it here.
        let mut clean = Command::new(command.get_program());
        clean.env_clear().envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        clean.args(self.arguments).current_dir(&self.folder);
        Process::start(&mut clean, self.address, self.folder.join("log"))
            .await
            .with_context(|| format!("starting {}", self.name))
    }

    /// Where to upload to, so many times: each time to a record without a PDF.
    pub(super) fn targets(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        ensure!(
            self.fresh.len() >= count,
            "no fresh records are left for {}",
            self.name
        );
        let rest = self.fresh.len() - count;
        Ok(self
            .fresh
            .split_off(rest)
            .into_iter()
            .map(self.upload_path)
            .collect())
    }

    /// The PDFs that are on the disk: how many, and their bytes together.
    pub(super) fn stored(&self) -> std::io::Result<(usize, u64)> {
        let mut found = (0, 0);
        for pdf in self.pdfs()? {
            found.0 += 1;
            found.1 += pdf.metadata()?.len();
        }
        Ok(found)
    }

    /// Removes all stored PDFs, unseen by the service.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        self.pdfs()?.into_iter().try_for_each(std::fs::remove_file)
    }

    fn pdfs(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = walk(&self.uploads())?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "pdf"));
        Ok(files)
    }

    fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }
}

fn walk(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(walk(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn title(number: usize) -> String {
    format!("Record {number} of the benchmark")
}

async fn import(address: SocketAddr, records: usize) -> anyhow::Result<Vec<Uuid>> {
    const LITERATURES: &str = "/api/v1/asl/literatures";
    #[derive(Deserialize)]
    struct Page {
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        id: Uuid,
    }
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "title")?;
    for number in 0..records {
        sheet.write(u32::try_from(number + 1)?, 0, title(number))?;
    }
    let request = multipart(
        &format!("{LITERATURES}/import"),
        "records.xlsx",
        &workbook.save_to_buffer()?,
    );
    let mut connection = Connection::open(address).await?;
    let answer = connection.send(&request).await?;
    if answer.status != 200 {
        bail!(
            "status {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
    }
    let mut ids = Vec::with_capacity(records);
    for page in 1.. {
        let path = format!("{LITERATURES}?page={page}&per_page=200");
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        let answer = connection.send(request.as_bytes()).await?;
        ensure!(answer.status == 200, "GET {path}: status {}", answer.status);
        let page: Page = serde_json::from_slice(answer.body).with_context(|| format!("GET {path}"))?;
        if page.items.is_empty() {
            break;
        }
        ids.extend(page.items.into_iter().map(|item| item.id));
    }
    ensure!(ids.len() == records, "{} records came of {records}", ids.len());
    Ok(ids)
}
