//! What can be typed after `zhuji deploy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub(crate) enum DeployCommand {
    /// Prints what Alibaba Cloud SAE is told, worked out from the service's settings: probes, grace period, instances, secrets.
    ///
    /// The settings are read by the same types as in the service, so what it would refuse is refused here, and a pool plan
    /// that can't work too. Exit code: 0 done, 1 --check found a difference, 2 the file is wrong.
    #[command(
        after_help = "Example: zhuji deploy render --mode cloud --from deploy/cloud.toml > deploy/sae.json\n         \
                            zhuji deploy render --mode cloud --from deploy/cloud.toml --check deploy/sae.json\n         \
                            zhuji deploy render --mode cloud --from deploy/cloud.toml --arguments deploy \\\n           \
                            | xargs -0 aliyun sae DeployApplication --AppId \"$APP\""
    )]
    Render(Render),
}

#[derive(Args, Debug)]
pub(crate) struct Render {
    /// The mode to render; the others need no manifest of a vendor (`private` is compose.yaml).
    #[arg(long, value_enum)]
    pub(super) mode: RenderedMode,
    /// The plan: application, database, settings and secrets, in TOML.
    #[arg(long, value_name = "FILE")]
    pub(super) from: PathBuf,
    /// Another image than the plan's: the digest that was pushed.
    #[arg(long)]
    pub(super) image: Option<String>,
    /// Prints nothing, and fails if this file is not what would be printed.
    #[arg(long, value_name = "FILE", conflicts_with = "arguments")]
    pub(super) check: Option<PathBuf>,
    /// Prints the parameters of one call of the vendor's command line, ended by NUL.
    #[arg(long, value_enum)]
    pub(super) arguments: Option<Operation>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum RenderedMode {
    /// Alibaba Cloud SAE.
    Cloud,
}

/// A call of the vendor's interface.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Operation {
    /// `DeployApplication`
    Deploy,
    /// `CreateApplicationScalingRule`
    Scale,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deploy => "DeployApplication",
            Self::Scale => "CreateApplicationScalingRule",
        }
    }
}
