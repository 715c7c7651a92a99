//! `cargo xtask oss`: the test kit's OSS server alone, for any client to be tried against.

use std::path::PathBuf;

use clap::Args;
use zhuji_testkit::oss::{OssServer, OssServerOptions};

use crate::failure::{Failure, Result};
use crate::port;
use crate::service;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask oss                                one bucket `demo`, in memory, until Ctrl-C
  cargo xtask oss --port 9200 --bucket papers    elsewhere, with another bucket
  cargo xtask oss --data .zhuji/oss              keeps the objects for the next start
  cargo xtask oss > .zhuji/oss.env &             then: . .zhuji/oss.env

Region, endpoint, bucket and keys are printed as `export` lines on standard output, everything else on standard error.
Signatures, clocks and limits are checked as OSS documents them.")]
pub(crate) struct OssArgs {
    /// The port on 127.0.0.1
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// The bucket that exists from the start
    #[arg(long, default_value = "demo")]
    bucket: String,
    /// Keep the objects in this directory; without it they are gone at the end
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

pub(crate) fn run(args: &OssArgs) -> Result<()> {
    port::require_free(args.port, "--port")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = start(args.port, &args.bucket, args.data.clone()).await?;
        print!("{}", server.export_lines());
        eprintln!("OSS on {}: Ctrl-C ends it", server.endpoint());
        service::asked_to_end().await?;
        server.stop().await;
        Ok(())
    })
}

/// Starts the server.
pub(crate) async fn start(port: u16, bucket: &str, data: Option<PathBuf>) -> Result<OssServer> {
    let options = OssServerOptions {
        port,
        bucket: bucket.to_owned(),
        data_dir: data,
        ..OssServerOptions::default()
    };
    let started = OssServer::start(options).await;
    started.map_err(|error| {
        Failure::new(format!(
            "the OSS server could not be started on port {port}: {error}"
        ))
    })
}
