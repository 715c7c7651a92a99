//! The service against real servers, used for a moment as people use it, with a database that goes away in between; and
//! what `/metrics` says then.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use zhuji_testkit::oss::{OssServer, OssServerOptions};
use zhuji_testkit::{TestPostgres, TestRedis, free_port, http_client};

use super::exposition::{self, Series};
use crate::failure::{Failure, Result};
use crate::process;

const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(250);
const RECORD: &str = "01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c";
const LITERATURES: &str = "/api/v1/asl/literatures";

/// Scrapes until `problems` finds none any more, for at most a minute and a half; answers with the last scrape. Some figures come
/// with their own pace: the server's connections, the counts of the queues.
pub(super) fn until(
    program: &Path,
    promtool: &Path,
    problems: impl Fn(&[Series]) -> Vec<String>,
) -> Result<Vec<Series>> {
    tokio::runtime::Runtime::new()?.block_on(async {
        // With TLS, so that there is a certificate to look at.
        let postgres = TestPostgres::options().tls().start().await;
        let database = postgres.database().await;
        let redis = TestRedis::start().await;
        // With an outbox, whose figures only exist in front of a store elsewhere.
        let oss = OssServer::start(OssServerOptions::default()).await?;
        let directory = tempfile::tempdir()?;
        let port = free_port();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("APP_ENV", "test")
            .env("DATABASE_URL", format!("{}?sslmode=require", database.url()))
            .env("REDIS_URL", redis.url())
            .env("STORAGE_TYPE", "oss")
            .env("STORAGE_OUTBOX_DIR", directory.path().join("outbox"))
            .env("OSS_REGION", oss.region())
            .env("OSS_BUCKET", oss.bucket())
            .env("OSS_ENDPOINT", oss.endpoint())
            .env("OSS_ACCESS_KEY_ID", oss.access_key_id())
            .env("OSS_ACCESS_KEY_SECRET", oss.access_key_secret())
            .env("PORT", port.to_string())
            .env("BASE_URL", format!("http://127.0.0.1:{port}"))
            .env("LOG_FORMAT", "json")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let service = Service {
            child: command.spawn()?,
            base: format!("http://127.0.0.1:{port}"),
            client: http_client(),
        };
        service.answers("/health/ready", 200).await?;
        database
            .execute(&format!(
                "INSERT INTO asl.literatures (id, fingerprint, title, search_text) VALUES ('{RECORD}', '\\x01', 'A', 'a')"
            ))
            .await;
        service.answers(&format!("{LITERATURES}?query=a"), 200).await?;
        service.answers("/nowhere", 404).await?;
        service.upload().await?;
        service.extracted().await?;
        service.answers(&format!("{LITERATURES}/{RECORD}/pdf"), 302).await?;
        postgres.stop_fast().await;
        service.answers(LITERATURES, 503).await?;
        postgres.start_again().await;
        service.answers(LITERATURES, 200).await?;

        let started = Instant::now();
        let (text, emitted) = loop {
            let text = service.text("/metrics").await?;
            let emitted = exposition::read(&text);
            if problems(&emitted).is_empty() || started.elapsed() > PATIENCE {
                break (text, emitted);
            }
            tokio::time::sleep(PAUSE).await;
        };
        passes(promtool, &text, directory.path())?;
        service.stop()?;
        Ok(emitted)
    })
}

fn passes(promtool: &Path, text: &str, directory: &Path) -> Result<()> {
    let file = directory.join("metrics");
    std::fs::write(&file, text)?;
    let mut check = Command::new(promtool);
    check
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file)?);
    let output = check.output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!(
        "promtool does not like what the service emits:\n{why}"
    )))
}

struct Service {
    child: Child,
    base: String,
    client: reqwest::Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// Asks until this is the answer.
    async fn answers(&self, path: &str, status: u16) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = self.client.get(format!("{}{path}", self.base)).send().await;
            let last = match &answer {
                Ok(answer) if answer.status().as_u16() == status => return Ok(()),
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > PATIENCE {
                return Err(format!("{path} does not answer {status}; the last answer was: {last}").into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn text(&self, path: &str) -> Result<String> {
        let get = self.client.get(format!("{}{path}", self.base));
        let failed = |error| Failure::new(format!("{path}: {error}"));
        get.send().await.map_err(failed)?.text().await.map_err(failed)
    }

    async fn upload(&self) -> Result<()> {
        const BOUNDARY: &str = "a-boundary";
        let mut body = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\
             content-type: application/pdf\r\n\r\n"
        )
        .into_bytes();
        body.extend(pdf());
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        let post = self
            .client
            .post(format!("{}{LITERATURES}/{RECORD}/pdf", self.base))
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(body);
        let answer = post
            .send()
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the upload was answered {status}").into()),
        }
    }

    /// Waits for the job.
    async fn extracted(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let text = self.text(&format!("{LITERATURES}/{RECORD}")).await?;
            let record: Value = serde_json::from_str(&text).unwrap_or_default();
            match record["extraction"]["state"].as_str() {
                Some("done") => return Ok(()),
                state if started.elapsed() > PATIENCE => {
                    return Err(format!("the extraction is not done, but {state:?}").into());
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// As an engine ends it.
    fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself, which its status tells.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::with_code(
                format!("the service ended with {status}"),
                process::code_of(status),
            )),
        }
    }
}

/// One page with one word.
fn pdf() -> Vec<u8> {
    let text = "BT /F1 12 Tf 72 720 Td (word) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
    ];
    let mut pdf = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (number, object) in (1..).zip(&objects) {
        table.push_str(&format!("{:010} 00000 n \n", pdf.len()));
        pdf.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let (count, start) = (objects.len() + 1, pdf.len());
    pdf.push_str(&format!(
        "xref\n0 {count}\n{table}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    ));
    pdf.into_bytes()
}
