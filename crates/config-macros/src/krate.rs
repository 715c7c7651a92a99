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
/// (`[dependencies.zhuji]`), or as the package itself (`name = "zhuji-config"`). What a workspace offers its members is
/// not what this package uses.
fn names(manifest: &str, package: &str) -> bool {
    let mut of_workspace = false;
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            of_workspace = line.starts_with("[workspace");
            return !of_workspace && line.ends_with(&format!("dependencies.{package}]"));
        }
        let key = line
            .strip_prefix(package)
            .is_some_and(|after| after.trim_start().starts_with(['.', '=']));
        let own_name = line.starts_with("name") && line.ends_with(&format!("\"{package}\""));
        !of_workspace && (key || own_name)
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn finds_a_dependency_however_it_is_written() {
        for manifest in [
            "[dependencies]\nzhuji = \"0.1\"",
            "[dependencies]\nzhuji.workspace = true",
            "[dependencies]\n zhuji={ path = \"x\" }",
            "[target.'cfg(unix)'.dependencies.zhuji]\nversion = \"1\"",
            "[package]\nname = \"zhuji\"",
        ] {
            assert!(names(manifest, "zhuji"), "{manifest}");
            assert!(!names(manifest, "zhuji-config"), "{manifest}");
        }
    }

    #[test]
    fn is_not_taken_in_by_others() {
        for manifest in [
            "[dependencies]\nzhuji-storage = \"0.1\"",
            "[workspace.dependencies]\nzhuji = \"0.1\"",
            "# zhuji = \"0.1\"",
            "",
        ] {
            assert!(!names(manifest, "zhuji"), "{manifest}");
        }
    }
}
