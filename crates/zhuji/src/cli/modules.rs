//! `modules`: what is compiled in, and what would run.

use std::process::ExitCode;

use serde_json::json;

use super::config::print;
use crate::module::{Manifest, Need};
use crate::platform::{Platform, chosen_modules};

pub(crate) fn modules(platform: &Platform, set: &[(String, String)], json: bool) -> ExitCode {
    let chosen = chosen_modules(platform, set);
    let runs = |name| chosen.contains(&name);
    if json {
        let rows: Vec<_> = platform
            .manifests()
            .map(|manifest| {
                json!({
                    "name": manifest.name,
                    "runs": runs(manifest.name),
                    "schema": manifest.needs_any(Need::Database).then_some(manifest.schema),
                    "needs": needs(&manifest),
                    "migrations": manifest.migrations.len(),
                    "routes": format!("/api/v1/{}", manifest.name),
                })
            })
            .collect();
        return print(&json!(rows).to_string());
    }
    let mut text = String::from("module            runs  routes                    needs\n");
    for manifest in platform.manifests() {
        let runs = if runs(manifest.name) { "yes" } else { "no" };
        let routes = format!("/api/v1/{}", manifest.name);
        text += &format!(
            "{:<16}  {runs:<4}  {routes:<24}  {}\n",
            manifest.name,
            needs(&manifest).join(", ")
        );
    }
    print(&text)
}

fn needs(manifest: &Manifest) -> Vec<String> {
    manifest
        .needs
        .iter()
        .map(|need| format!("{need:?}").to_lowercase())
        .collect()
}
