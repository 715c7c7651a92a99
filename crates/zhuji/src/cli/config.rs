//! `config check|show|template`.

use std::process::ExitCode;

use super::{ConfigCommand, TemplateFormat};
use crate::platform::{Platform, loader, read, schema};

const EXIT_CONFIG: u8 = 78;

/// `config template`.
pub(crate) fn template(platform: &Platform, format: TemplateFormat) -> ExitCode {
    let format = match format {
        TemplateFormat::Env => zhuji_config::TemplateFormat::Env,
        TemplateFormat::Toml => zhuji_config::TemplateFormat::Toml,
    };
    print(&zhuji_config::template(&schema(platform), format))
}

/// `config check` and `config show`.
pub(crate) fn config(platform: &Platform, set: &[(String, String)], command: &ConfigCommand) -> ExitCode {
    let mut loader = loader(platform, set);
    read(platform, &mut loader);
    let report = loader.report();
    if let ConfigCommand::Show { json } = command {
        let settings = loader.settings();
        print(&if *json {
            settings.to_json()
        } else {
            settings.to_string()
        });
    }
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    if !report.is_ok() {
        eprintln!("{report}");
        return ExitCode::from(EXIT_CONFIG);
    }
    if matches!(command, ConfigCommand::Check) {
        return print("The settings are complete.");
    }
    ExitCode::SUCCESS
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
pub(super) fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    ExitCode::SUCCESS
}
