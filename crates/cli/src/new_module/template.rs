//! The files of a new module: real files, with names to fill in.

use super::name::Name;
use super::source::Dependencies;

/// The internal registry's one stable address. `CARGO_REGISTRIES_INTERNAL_INDEX` leads elsewhere.
const INDEX: &str = "sparse+https://crates.zhuji.internal/index/";

/// A file of the new crate.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) text: String,
}

/// A manifest in a directory would make cargo take that for a package of its own, and a `.gitignore` would be obeyed:
/// these have other names here.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.tmpl")),
    ("README.md", include_str!("template/README.md.tmpl")),
    ("clippy.toml", include_str!("template/clippy.toml")),
    (".cargo/config.toml", include_str!("template/cargo-config.toml")),
    (".env.example", include_str!("template/env.example")),
    (".gitignore", include_str!("template/gitignore")),
    (
        "migrations/0001_notes.sql",
        include_str!("template/migrations/0001_notes.sql"),
    ),
    ("src/config.rs", include_str!("template/src/config.rs.tmpl")),
    ("src/count.rs", include_str!("template/src/count.rs.tmpl")),
    ("src/lib.rs", include_str!("template/src/lib.rs.tmpl")),
    ("src/main.rs", include_str!("template/src/main.rs.tmpl")),
    ("src/routes.rs", include_str!("template/src/routes.rs.tmpl")),
    ("tests/module.rs", include_str!("template/tests/module.rs.tmpl")),
];

/// The files with all names filled in.
pub(super) fn render(name: &Name, dependencies: &Dependencies) -> Vec<File> {
    let (package, type_name, prefix) = (name.package(), name.type_name(), name.prefix());
    let values = [
        ("{{package}}", package.as_str()),
        ("{{module}}", name.module()),
        ("{{crate}}", name.module()),
        ("{{Module}}", &type_name),
        ("{{MODULE}}", &prefix),
        ("{{zhuji}}", &dependencies.zhuji),
        ("{{testkit}}", &dependencies.testkit),
        ("{{rust_version}}", env!("CARGO_PKG_RUST_VERSION")),
        ("{{index}}", INDEX),
    ];
    let fill = |text: &str| {
        values
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    FILES
        .iter()
        .map(|(path, text)| File {
            path,
            text: fill(text),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        let name = Name::parse("patient-notes").expect("a name");
        let line = r#"version = "0.1", registry = "internal""#.to_owned();
        let dependencies = Dependencies {
            zhuji: line.clone(),
            testkit: line,
        };
        for file in render(&name, &dependencies) {
            assert!(!file.text.contains("{{"), "{}: {}", file.path, file.text);
            assert!(file.text.ends_with('\n'), "{}", file.path);
            let longest = file.text.lines().map(|line| line.chars().count()).max();
            let source = file.path.ends_with(".rs");
            assert!(
                !source || longest.unwrap_or(0) <= 120,
                "{}: {longest:?}",
                file.path
            );
        }
    }
}
