//! The other end of the contenders' standard streams.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::contender::{Task, Took};
use super::server::Ports;

/// A process that answers each line with a line. It ends with its standard input.
#[derive(Debug)]
struct Talk {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let told = command.get_program().to_owned();
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} could not be started", told.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            input: input.context("no standard input")?,
            output: BufReader::new(output.context("no standard output")?).lines(),
            _child: child,
        })
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = self.output.next_line().await?;
        line.context("it ended; what it said is above")
    }
}

/// The server that all contenders speak to.
#[derive(Debug)]
pub(super) struct Server {
    _talk: Talk,
    pub(super) ports: Ports,
}

impl Server {
    /// `folder` is given `ca.pem`.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(super::SERVER_COMMAND).arg(folder);
        let mut talk = Talk::start(command)?;
        let ports = serde_json::from_str(&talk.line().await?)?;
        Ok(Self { _talk: talk, ports })
    }
}

/// One contender on one address.
#[derive(Debug)]
pub(super) struct Contender {
    name: String,
    talk: Talk,
}

impl Contender {
    /// One that is compiled into this program; in a process of its own.
    pub(super) fn start(name: &str, endpoint: &str, ca: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([super::CONTENDER_COMMAND, name, endpoint]);
        // Elsewhere the machine's own certificates are read, by those who read them even for plain HTTP.
        if endpoint.starts_with("https:") {
            command.env("SSL_CERT_FILE", ca);
        }
        Self::run(name, command)
    }

    pub(super) fn run(name: &str, command: Command) -> anyhow::Result<Self> {
        let talk = Talk::start(command).with_context(|| name.to_owned())?;
        Ok(Self {
            name: name.to_owned(),
            talk,
        })
    }

    pub(super) async fn perform(&mut self, task: Task) -> anyhow::Result<Took> {
        let line = serde_json::to_string(&task)? + "\n";
        self.talk.input.write_all(line.as_bytes()).await?;
        let answer = self
            .talk
            .line()
            .await
            .with_context(|| format!("{}: {task:?}", self.name))?;
        let took: Took = serde_json::from_str(&answer).with_context(|| answer.clone())?;
        match &took.error {
            Some(error) => bail!("{}: {task:?}: {error}", self.name),
            None => Ok(took),
        }
    }
}
