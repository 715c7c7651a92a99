//! A module running as a service of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::subject::{BASELINE, SERVE, Subject};
use super::world::{SHUTDOWN_SECONDS, World};
use crate::http_client;

/// How long a loaded machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A module that runs as a service in a process of its own, on throw-away servers. Killed when dropped.
#[derive(Debug)]
pub struct ModuleService {
    process: Process,
    address: String,
    name: &'static str,
    client: reqwest::Client,
    /// Kept for as long as the service may use it, where nobody else keeps it.
    _world: Option<Arc<World>>,
}

/// What a service answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in the answer {} {}", self.status, self.text))
    }
}

impl ModuleService {
    /// Starts the module and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start; the message has its log.
    pub async fn start(subject: &Subject) -> Self {
        let world = Arc::new(World::new(subject).await);
        let mut service = Self::start_in(&world, subject, false).await;
        service._world = Some(world);
        service
    }

    pub(super) async fn start_in(world: &World, subject: &Subject, baseline: bool) -> Self {
        let mut process = Process::start(world, subject, "serve", baseline);
        let address = process.address().await;
        let service = Self {
            process,
            address,
            name: subject.name,
            client: http_client(),
            _world: None,
        };
        service
            .until("/health/ready", |answer| answer.status == 200)
            .await;
        service
    }

    /// `http://127.0.0.1:PORT/api/v1/<module>` and the path, which begins with `/`. Paths of the platform itself
    /// (`/health`, `/metrics`) stay as they are.
    pub fn url(&self, path: &str) -> String {
        let own = ["/health", "/metrics", "/uploads/", "/admin"];
        match own.iter().any(|own| path.starts_with(own)) {
            true => format!("http://{}{path}", self.address),
            false => format!("http://{}/api/v1/{}{path}", self.address, self.name),
        }
    }

    /// A client for requests that the methods here do not make.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// `GET`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// `DELETE`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// `POST` of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, json: impl Into<String>) -> Answer {
        self.send(Method::POST, path, Some(json.into())).await
    }

    /// `PUT` of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn put(&self, path: &str, json: impl Into<String>) -> Answer {
        self.send(Method::PUT, path, Some(json.into())).await
    }

    /// Asks until the answer is the wanted one: for what a job does.
    ///
    /// # Panics
    /// When it is not after a minute; the message has the last answer and the service's log.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "GET {path} still answers {} {}; the log:\n{}",
                answer.status,
                answer.text,
                self.log().join("\n")
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the service has logged so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    pub(super) async fn send_with(&self, path: &str, token: &str) -> Answer {
        let request = self.client.get(self.url(path)).bearer_auth(token);
        Self::answer(request)
            .await
            .unwrap_or_else(|error| self.silent(path, &error))
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        Self::answer(request)
            .await
            .unwrap_or_else(|error| self.silent(path, &error))
    }

    async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.timeout(PATIENCE).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok(Answer { status, text })
    }

    fn silent(&self, path: &str, error: &reqwest::Error) -> ! {
        panic!(
            "no answer from {path}: {error:?}; the log:\n{}",
            self.log().join("\n")
        )
    }

    /// Asks it to end (`SIGTERM`), waits for that, and answers with whether it ended well, and its log.
    ///
    /// # Panics
    /// When it has not ended well after its time.
    pub async fn stop(mut self) -> (ExitStatus, Vec<String>) {
        let id = i32::try_from(self.process.child.id()).expect("the id of a process");
        let id = Pid::from_raw(id).expect("the id of a process is not zero");
        // One that has ended by itself is found out below.
        let _ = kill_process(id, Signal::TERM);
        let deadline = Duration::from_secs(2 * SHUTDOWN_SECONDS) + PATIENCE / 4;
        let status = self.process.ended(deadline).await;
        (status, self.log())
    }
}

/// The test program, started once more as a service.
pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Process").field(&self.child.id()).finish()
    }
}

impl Process {
    pub(super) fn start(world: &World, subject: &Subject, arguments: &str, baseline: bool) -> Self {
        let program = std::env::current_exe().expect("a test program has a path");
        let arguments = format!("{}{arguments}", if baseline { BASELINE } else { "" });
        let mut child = Command::new(program)
            .args([
                subject.service,
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env_clear()
            .envs(world.variables(subject))
            .env(SERVE, arguments)
            .current_dir(world.directory("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a program can start itself");
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            follow(child.stdout.take().expect("it is piped"), &log),
            follow(child.stderr.take().expect("it is piped"), &log),
        ];
        Self { child, log, readers }
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the service listens, as its log says.
    async fn address(&mut self) -> String {
        let start = Instant::now();
        loop {
            let listening = self
                .log()
                .iter()
                .filter_map(|line| record(line))
                .find(|record| record["message"] == "listening");
            if let Some(address) = listening.as_ref().and_then(|record| record["address"].as_str()) {
                return address.to_owned();
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                self.read_to_the_end();
                panic!(
                    "the module could not be started ({status}):\n{}",
                    self.log().join("\n")
                );
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the module does not start:\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.read_to_the_end();
                return status;
            }
            assert!(
                start.elapsed() < deadline,
                "the process does not end:\n{}",
                self.log().join("\n")
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn read_to_the_end(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of the log as JSON. The test runner may have written the test's name in front of the first.
pub(super) fn record(line: &str) -> Option<Value> {
    serde_json::from_str(&line[line.find('{')?..]).ok()
}

fn follow(from: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> std::thread::JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
