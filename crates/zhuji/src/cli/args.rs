//! What can be typed.

use clap::{Parser, Subcommand, ValueEnum};

/// A service built on Zhuji. Without a command it serves.
#[derive(Parser, Debug)]
#[command(
    disable_help_subcommand = true,
    after_help = "Settings are environment variables; `config template` lists them all."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Sets a variable for this run, over everything else. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE", global = true, value_parser = name_and_value)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Command {
    /// Answers requests and runs jobs until SIGTERM or Ctrl-C. The default.
    Serve,
    /// Applies the migrations of all modules, and ends.
    Migrate,
    /// Looks at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tries every dependency once and says what is wrong and how to mend it.
    #[command(after_help = crate::doctor::EXIT_CODES)]
    Doctor(crate::doctor::Arguments),
    /// Asks the running service whether it is alive; made for containers without a shell or curl.
    #[command(after_help = "Example (Dockerfile): HEALTHCHECK CMD [\"/service\", \"healthcheck\"]")]
    Healthcheck {
        /// The endpoint to ask.
        #[arg(long, default_value = "/health/live")]
        path: String,
    },
    /// Lists the modules that are compiled in, and which of them this configuration runs.
    Modules {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum ConfigCommand {
    /// Checks all settings and reports every problem at once.
    #[command(after_help = "Exit code: 0 all well, 78 there are problems.")]
    Check,
    /// Shows every setting with its value (secrets hidden) and where it comes from.
    Show {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Prints a commented template of all settings.
    Template {
        /// The format.
        #[arg(long, value_enum, default_value = "env")]
        format: TemplateFormat,
    },
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum TemplateFormat {
    Env,
    Toml,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE, such as PORT=3002".to_owned())
}
