//! `cargo xtask dev`: the reference service on this machine, with nothing to set up.

use std::path::Path;

use clap::Args;
use zhuji_testkit::DevCluster;

use crate::failure::{Failure, Result};
use crate::machine::{self, POSTGRES};
use crate::port;
use crate::service::{self, Environment};
use crate::workspace::Workspace;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask dev                    http://localhost:3001, until Ctrl-C
  cargo xtask dev --port 4000        on another port
  cargo xtask dev --cloud            the same program in cloud mode: OSS, Redis and PostgreSQL, all on this machine

Everything is kept in ./.zhuji and is there again at the next start; remove that directory to begin anew.
Variables of your shell and of ./.env reach the service (LOG_LEVEL=debug cargo xtask dev).")]
pub(crate) struct DevArgs {
    /// The service's port
    #[arg(long, default_value_t = 3001)]
    port: u16,
    /// Run in cloud mode against local servers
    #[arg(long)]
    cloud: bool,
    /// Build with optimisation: the first build takes much longer
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &DevArgs) -> Result<()> {
    // Whatever can be refused is refused before minutes of building.
    port::require_free(args.port, "--port")?;
    machine::ensure(&POSTGRES)?;
    let program = service::build(args.release)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(standalone(workspace, args.port, &program))
}

async fn standalone(workspace: &Workspace, port: u16, program: &Path) -> Result<()> {
    let state = workspace.state();
    let cluster = start_postgres(&state.join("postgres"))?;
    let mut environment = common(port);
    environment
        .set("APP_ENV", "development")
        .set("DEPLOYMENT_MODE", "standalone")
        .set("DATABASE_URL", cluster.url())
        .set_path("STORAGE_LOCAL_DIR", &state.join("uploads"));
    let outcome = service::run(program, port, &environment, || {
        say_where(
            port,
            "standalone mode",
            &[("files", ".zhuji/uploads"), ("PostgreSQL", ".zhuji/postgres")],
        )
    })
    .await;
    cluster.stop();
    println!("stopped; the data is in .zhuji");
    outcome
}

fn start_postgres(directory: &Path) -> Result<DevCluster> {
    // Durable, because this is where a person keeps what they have entered.
    DevCluster::start(directory, true).map_err(|error| Failure::new(error.to_string()))
}

/// What both modes have in common.
fn common(port: u16) -> Environment {
    let mut environment = Environment::default();
    environment
        .set("HOST", "127.0.0.1")
        .set("PORT", port.to_string())
        .set("BASE_URL", format!("http://localhost:{port}"));
    environment
}

/// Tells a person where to look, below whatever the service has logged so far.
fn say_where(port: u16, mode: &str, places: &[(&str, &str)]) {
    println!("\n  Ready in {mode}:  http://localhost:{port}\n");
    println!("    health      http://localhost:{port}/health");
    for (what, place) in places {
        println!("    {what:<11} {place}");
    }
    println!("\n  Ctrl-C stops everything and keeps the data.\n");
}
