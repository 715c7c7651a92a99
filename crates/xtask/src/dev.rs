//! `cargo xtask dev`: the reference service on this machine, with nothing to set up.

use std::path::Path;

use clap::Args;
use zhuji_testkit::{DevCluster, DevRedis};

use crate::failure::{Failure, Result};
use crate::machine::{self, POSTGRES, REDIS};
use crate::oss;
use crate::port;
use crate::service::{self, Environment};
use crate::workspace::Workspace;

/// The bucket of cloud mode.
const BUCKET: &str = "literature";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask dev                    http://localhost:3001, until Ctrl-C
  cargo xtask dev --port 4000        on another port
  cargo xtask dev --cloud            the same program in cloud mode: OSS, Redis and PostgreSQL, all on this machine

PostgreSQL (and Redis, in cloud mode) is found, or installed where that takes no password.
Everything is kept in ./.zhuji and is there again at the next start; remove that directory to begin anew.
Variables of your shell reach the service (LOG_LEVEL=debug cargo xtask dev). So do those of ./.env, except with --cloud:
there the service runs as in production, which does not read that file.")]
pub(crate) struct DevArgs {
    /// The service's port
    #[arg(long, default_value_t = 3001)]
    port: u16,
    /// Run in cloud mode, against an OSS server, Redis and PostgreSQL on this machine
    #[arg(long)]
    cloud: bool,
    /// The port of the OSS server in cloud mode
    #[arg(long, default_value_t = 9100, requires = "cloud")]
    oss_port: u16,
    /// Build with optimisation: the first build takes much longer
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &DevArgs) -> Result<()> {
    // Whatever can be refused is refused before minutes of building.
    port::require_free(args.port, "--port")?;
    machine::ensure(&POSTGRES)?;
    if args.cloud {
        port::require_free(args.oss_port, "--oss-port")?;
        machine::ensure(&REDIS)?;
    }
    let program = service::build(args.release)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if args.cloud {
            cloud(&workspace.state(), args, &program).await
        } else {
            standalone(&workspace.state(), args, &program).await
        }
    })?;
    println!("stopped; the data is in .zhuji");
    Ok(())
}

/// Files in a directory, one database, nothing else.
async fn standalone(state: &Path, args: &DevArgs, program: &Path) -> Result<()> {
    let cluster = start_postgres(&state.join("postgres"))?;
    let mut environment = common(args.port);
    environment
        .set("APP_ENV", "development")
        .set("DEPLOYMENT_MODE", "standalone")
        .set("DATABASE_URL", cluster.url())
        .set_path("STORAGE_LOCAL_DIR", &state.join("uploads"));
    let places = [("files", ".zhuji/uploads"), ("PostgreSQL", ".zhuji/postgres")];
    let outcome = service::run(program, args.port, &environment, || {
        say_where(args.port, "standalone mode", &places);
    })
    .await;
    cluster.stop();
    outcome
}

/// What the cloud would provide, each as a process or a thread of this machine. The database is another one than in
/// standalone mode: its rows point to objects that only OSS has.
async fn cloud(state: &Path, args: &DevArgs, program: &Path) -> Result<()> {
    let cluster = start_postgres(&state.join("postgres-cloud"))?;
    let redis = DevRedis::start(state.join("redis")).map_err(|error| Failure::new(error.to_string()))?;
    let oss = oss::start(args.oss_port, BUCKET, Some(state.join("oss"))).await?;
    let mut environment = common(args.port);
    environment
        .set("APP_ENV", "production")
        .set("DEPLOYMENT_MODE", "cloud")
        .set("DATABASE_URL", cluster.url())
        .set("REDIS_URL", redis.url())
        .set("STORAGE_TYPE", "oss")
        .set("OSS_REGION", oss.region())
        .set("OSS_ENDPOINT", oss.endpoint())
        .set("OSS_BUCKET", oss.bucket())
        .set("OSS_ACCESS_KEY_ID", oss.access_key_id())
        .set("OSS_ACCESS_KEY_SECRET", oss.access_key_secret())
        // In production figures have a port of their own, open to the network: not on a developer's machine.
        .set("METRICS_LISTEN", "same")
        // Nobody balances load here, so nobody has to notice that this instance is going.
        .set("DRAIN_DELAY", "0s");
    let endpoint = oss.endpoint();
    let places = [
        ("OSS", endpoint.as_str()),
        ("Redis", ".zhuji/redis"),
        ("PostgreSQL", ".zhuji/postgres-cloud"),
    ];
    let outcome = service::run(program, args.port, &environment, || {
        say_where(args.port, "cloud mode", &places);
    })
    .await;
    // In the reverse order of the start, and only when the service has gone.
    oss.stop().await;
    drop(redis);
    cluster.stop();
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
