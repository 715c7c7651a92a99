use std::{env, fs, path::Path};

use proc_macro2::TokenStream;
use quote::quote;

/// The path under which the deriving crate sees `zhuji-config`: by itself, or through the facade `zhuji`.
///
/// A module team depends on the facade alone. A look into its `Cargo.toml` spares it a `#[config(crate = …)]` on
/// every section; cargo compiles again when that file changes.
pub(crate) fn path() -> TokenStream {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|directory| fs::read_to_string(Path::new(&directory).join("Cargo.toml")).ok())
        .unwrap_or_default();
    if !names(&manifest, "zhuji-config") && names(&manifest, "zhuji") {
        quote!(::zhuji::config)
    } else {
        quote!(::zhuji_config)
    }
}

/// Whether a manifest mentions a package: as a key (`zhuji = …`, `zhuji.workspace = …`), as a table
/// (`[dependencies.zhuji]`), or as the package itself (`name = "zhuji-config"`).
fn names(manifest: &str, package: &str) -> bool {
    manifest.lines().map(str::trim).any(|line| {
        let after = line.strip_prefix(package).map(str::trim_start);
        after.is_some_and(|after| after.starts_with(['.', '=']))
            || (line.starts_with('[') && line.ends_with(&format!("dependencies.{package}]")))
            || (line.starts_with("name") && line.ends_with(&format!("\"{package}\"")))
    })
}
