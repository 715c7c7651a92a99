//! Runs the real binary against its own database and storage, and talks to it over HTTP.

#![allow(dead_code, reason = "each test binary uses its own part")]

use pdf_extract::{Document, EncryptionState, EncryptionVersion, Object, Permissions};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zhuji_testkit::{TestDatabase, free_port};

pub(crate) const LITERATURES: &str = "/api/v1/asl/literatures";
pub(crate) const BOUNDARY: &str = "----------------a-boundary-of-the-test";

/// A running service. Killed when dropped; its log is shown if the test fails.
pub(crate) struct Service {
    child: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<String>>>,
    pub(crate) client: Client,
}

/// What a service is started with; it can be started again with the same.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    variables: Vec<(String, OsString)>,
    // Dropped last: the service may still be connected.
    pub(crate) database: Option<TestDatabase>,
}

impl Setup {
    /// A database of its own on the shared server, files in a temporary directory.
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        Self::with_database_url(&database.url()).keep(database)
    }

    pub(crate) fn with_database_url(url: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let setup = Self {
            dir,
            port,
            variables: Vec::new(),
            database: None,
        };
        let uploads = setup.uploads();
        setup
            .set("APP_ENV", "test")
            .set("DATABASE_URL", url)
            .set("STORAGE_LOCAL_DIR", uploads)
            .set("HOST", "127.0.0.1")
            .set("PORT", port.to_string())
            .set("BASE_URL", format!("http://127.0.0.1:{port}"))
            .set("LOG_FORMAT", "json")
            .set("LOG_LEVEL", "info,asl=debug")
            .set("JOBS_CONCURRENCY", "2")
    }

    fn keep(mut self, database: TestDatabase) -> Self {
        self.database = Some(database);
        self
    }

    pub(crate) fn set(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Another instance of the same service: the same settings, on a port of its own.
    pub(crate) fn another_instance(&self) -> Self {
        let port = free_port();
        let other = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            port,
            variables: self.variables.clone(),
            database: None,
        };
        let uploads = other.uploads();
        other
            .set("PORT", port.to_string())
            .set("BASE_URL", format!("http://127.0.0.1:{port}"))
            .set("STORAGE_LOCAL_DIR", uploads)
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.dir.path().join("uploads")
    }

    pub(crate) async fn start(&self) -> Service {
        install_crypto();
        let mut child = Command::new(program())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = Arc::new(Mutex::new(Vec::new()));
        follow(child.stdout.take().expect("it is piped"), &log);
        follow(child.stderr.take().expect("it is piped"), &log);
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client without special wishes");
        let mut service = Service {
            child,
            port: self.port,
            log,
            client,
        };
        service.wait_until_ready().await;
        service
    }

    /// The keys of the stored PDFs, in the whole store.
    pub(crate) fn stored_pdfs(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.uploads(), &mut found);
        let root = self.uploads();
        let mut keys: Vec<String> = found
            .iter()
            .filter_map(|path| path.strip_prefix(&root).ok()?.to_str().map(str::to_owned))
            .filter(|key| key.starts_with("asl/pdfs/"))
            .collect();
        keys.sort();
        keys
    }

    /// Makes every stored PDF two days old, so that the sweep looks at it.
    pub(crate) fn age_stored_pdfs(&self) {
        let then = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
        for key in self.stored_pdfs() {
            // One that was removed in this moment needs no age.
            if let Ok(file) = std::fs::File::options()
                .write(true)
                .open(self.uploads().join(key))
            {
                file.set_modified(then).expect("it is ours");
            }
        }
    }
}

/// The service: as built along with the tests, unless `TEST_PROGRAM` names another build of it.
fn program() -> OsString {
    std::env::var_os("TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_literature").into())
}

/// The HTTP clients of these tests bring no cryptography of their own.
pub(crate) fn install_crypto() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .expect("nobody else installs one");
    });
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), found)
        } else {
            found.push(entry.path())
        }
    }
}

fn follow(from: impl std::io::Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

impl Service {
    async fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                std::thread::sleep(Duration::from_millis(100));
                panic!("the service ended with {status}:\n{}", self.log().join("\n"));
            }
            if self
                .get("/health/ready")
                .await
                .is_ok_and(|response| response.status() == StatusCode::OK)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the service is not ready:\n{}", self.log().join("\n"));
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line of the log holds `words`, and answers it.
    pub(crate) async fn logged(&self, words: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                return line;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{words:?} is not in the log:\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(path)).send().await
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await.expect("an answer");
        let status = response.status();
        let body = response.text().await.expect("a body");
        assert!(status.is_success(), "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Sends a file as the form field `file`.
    pub(crate) async fn send_file(&self, path: &str, file_name: &str, content: &[u8]) -> Answer {
        self.post_body(path, multipart("file", file_name, content)).await
    }

    pub(crate) async fn post_body(&self, path: &str, body: Vec<u8>) -> Answer {
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self
            .client
            .post(self.url(path))
            .header(CONTENT_TYPE, content_type)
            .body(body);
        Answer::of(request.send().await.expect("an answer")).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        let request = self
            .client
            .post(self.url(path))
            .header(CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string());
        Answer::of(request.send().await.expect("an answer")).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str) -> Answer {
        Answer::of(
            self.client
                .request(method, self.url(path))
                .send()
                .await
                .expect("an answer"),
        )
        .await
    }

    pub(crate) async fn import(&self, content: &[u8]) -> Value {
        let answer = self
            .send_file(&format!("{LITERATURES}/import"), "records.xlsx", content)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Imports one record and answers its id.
    pub(crate) async fn one_record(&self) -> String {
        self.import(&workbook(&[
            &["title", "year"],
            &["A record of the test", "2020"],
        ]))
        .await;
        let page = self.json(LITERATURES).await;
        page["items"][0]["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn upload(&self, id: &str, file_name: &str, content: &[u8]) -> Answer {
        self.send_file(&format!("{LITERATURES}/{id}/pdf"), file_name, content)
            .await
    }

    /// Waits until the extraction of the record's PDF has ended, and answers the record.
    pub(crate) async fn extracted(&self, id: &str) -> Value {
        let start = Instant::now();
        loop {
            let record = self.json(&format!("{LITERATURES}/{id}")).await;
            let state = record["extraction"]["state"]
                .as_str()
                .expect("a state")
                .to_owned();
            if state == "done" || state == "failed" {
                return record;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "still {state}\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// As `kill -TERM`; answers how it ended.
    pub(crate) async fn terminate(self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Waits until it has ended, and answers how.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(40),
                "it does not end\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("it runs");
    }

    /// As `kill -KILL`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("Linux writes it");
        let kilobytes: u64 = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number");
        kilobytes * 1024
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the service's log:\n{}", self.log().join("\n"));
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a whole body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self {
            status,
            headers,
            body,
        }
    }

    /// Asserts that this is a problem of this status with a sentence that holds `word`, and nothing it must not hold.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, word: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let content_type = self.headers.get(CONTENT_TYPE).expect("a content type");
        assert_eq!(content_type, "application/problem+json", "{self:?}");
        for field in ["type", "title", "status", "detail", "request_id"] {
            assert!(self.body.get(field).is_some(), "{field} is missing: {self:?}");
        }
        assert_eq!(
            self.body["request_id"].as_str(),
            self.headers["x-request-id"].to_str().ok()
        );
        let detail = self.body["detail"].as_str().expect("a sentence");
        assert!(
            detail.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} is not in {detail:?}"
        );
        let text = self.body.to_string();
        for secret in [
            "panicked",
            "select ",
            "insert ",
            "/tmp/",
            "postgres://",
            "postgresql://",
            ".rs:",
        ] {
            assert!(!text.contains(secret), "{secret:?} is in {text}");
        }
    }
}

/// A multipart body with one file.
pub(crate) fn multipart(field: &str, file_name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = part_head(field, file_name);
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// The beginning of a multipart body, up to where the file's bytes begin.
pub(crate) fn part_head(field: &str, file_name: &str) -> Vec<u8> {
    format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{file_name}\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    )
    .into_bytes()
}

/// An Excel file of these cells.
pub(crate) fn workbook(cells: &[&[&str]]) -> Vec<u8> {
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (row, texts) in (0..).zip(cells) {
        for (column, text) in (0..).zip(*texts) {
            sheet.write_string(row, column, *text).expect("inside the sheet");
        }
    }
    workbook.save_to_buffer().expect("memory is enough")
}

/// A correct PDF with this many pages.
pub(crate) fn pdf(pages: usize) -> Vec<u8> {
    padded_pdf(pages, 0)
}

/// A correct PDF with this many pages, and a comment of this many bytes that no reader reads.
fn padded_pdf(pages: usize, padding: usize) -> Vec<u8> {
    let kids: Vec<String> = (0..pages).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {pages} >>", kids.join(" ")),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for page in 0..pages {
        let content = format!("BT /F1 24 Tf 72 700 Td (Page {} of the test) Tj ET", page + 1);
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * page
        ));
        objects.push(format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ));
    }
    let mut pdf = format!("%PDF-1.4\n%{}\n", "x".repeat(padding));
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(pdf.len());
        pdf.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let table = pdf.len();
    pdf.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    for offset in offsets {
        pdf.push_str(&format!("{offset:010} 00000 n \n"));
    }
    pdf.push_str(&format!(
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        objects.len() + 1
    ));
    pdf.into_bytes()
}

/// A correct PDF of one page and a little more than this many bytes.
pub(crate) fn large_pdf(bytes: usize) -> Vec<u8> {
    padded_pdf(1, bytes)
}

/// A PDF that opens with a password alone: a real one, or a made one.
pub(crate) fn protected_pdf() -> Vec<u8> {
    fixture("password-protected.pdf").unwrap_or_else(|| {
        let mut document = Document::load_mem(&pdf(2)).expect("it is correct");
        let id = || Object::string_literal("0123456789abcdef");
        document.trailer.set("ID", vec![id(), id()]);
        let version = EncryptionVersion::V2 {
            document: &document,
            owner_password: "of the owner",
            user_password: "of the user",
            key_length: 128,
            permissions: Permissions::all(),
        };
        let state = EncryptionState::try_from(version).expect("it can be encrypted");
        document.encrypt(&state).expect("it was not encrypted before");
        let mut bytes = Vec::new();
        document.save_to(&mut bytes).expect("memory is enough");
        bytes
    })
}

/// A real file from the folder beside the checkout; says so and answers nothing where it is missing.
pub(crate) fn fixture(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/fixtures")
        .join(name);
    let bytes = std::fs::read(path).ok();
    if bytes.is_none() {
        eprintln!("SKIPPED: the real file {name} is not beside this checkout; a made one takes its place");
    }
    bytes
}
