//! A page in Chinese, `docs/zh/modes.md`, and its twin, `docs/modes.md`, stay together: the same code, as many headings,
//! as many table rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::markdown::{Block, Page};

pub(super) fn check(pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, page) in pages {
        let Some(twin) = twin_of(file) else {
            continue;
        };
        if let Some(original) = pages.get(&twin) {
            problems.extend(compare(file, page, &twin, original));
        }
    }
    problems
}

/// `docs/modes.md` for `docs/zh/modes.md`, `docs/runbooks/disk.md` for `docs/zh/runbooks/disk.md`.
fn twin_of(file: &Path) -> Option<PathBuf> {
    let (chinese, twin): (Vec<_>, Vec<_>) = file.iter().partition(|part| *part == "zh");
    (!chinese.is_empty()).then(|| twin.into_iter().collect())
}

fn compare(file: &Path, page: &Page, twin: &Path, original: &Page) -> Vec<String> {
    let (file, twin) = (file.display(), twin.display());
    let mut problems = Vec::new();
    for (what, here, there) in [
        ("headings", page.headings, original.headings),
        ("table rows", page.table_rows, original.table_rows),
        ("code blocks", page.blocks.len(), original.blocks.len()),
    ] {
        if here != there {
            problems.push(format!("{file}: {here} {what}, but {there} in {twin}"));
        }
    }
    if page.blocks.len() == original.blocks.len() {
        for (here, there) in page.blocks.iter().zip(&original.blocks) {
            if here.language != there.language || code(here) != code(there) {
                problems.push(format!(
                    "{file}:{}: not the code of {twin}:{}",
                    here.line, there.line
                ));
            }
        }
    }
    problems
}

/// The lines of a block without its comments, which each language has for itself. In Rust a line that begins with `# `
/// is code that rustdoc hides.
fn code(block: &Block) -> Vec<&str> {
    let mark = match block.language.split(',').next().unwrap_or_default() {
        "rust" => "//",
        "sh" | "toml" | "yaml" => "#",
        _ => return block.lines.iter().map(String::as_str).collect(),
    };
    let trailing = format!(" {mark} ");
    let lines = block
        .lines
        .iter()
        .filter(|line| !line.trim_start().starts_with(mark))
        .filter_map(|line| line.split(&trailing).next());
    lines.map(str::trim_end).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::markdown;
    use super::*;

    fn problems(english: &str, chinese: &str) -> Vec<String> {
        let pages = [("docs/a.md", english), ("docs/zh/a.md", chinese)];
        check(
            &pages
                .into_iter()
                .map(|(name, text)| (PathBuf::from(name), markdown::read(text)))
                .collect(),
        )
    }

    #[test]
    fn twins_differ_in_words_and_comments_only() {
        let english = "# Title\n| a |\n```sh\n# Begin.\nrun   # it ends\n```\n\
                       ```rust,no_run\n# hidden();\n/// What it does.\nfn f() {} // short\n```\n";
        let chinese = "# 标题\n\n[English](../a.md)\n\n| 甲 |\n```sh\n# 开始。\nrun  # 会结束\n```\n\
                       ```rust,no_run\n# hidden();\n/// 作用。\nfn f() {} // 短\n```\n";
        let found = problems(english, chinese);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_folder_of_pages_has_twins_too() {
        let twin = |file: &str| twin_of(Path::new(file));
        assert_eq!(
            twin("docs/zh/runbooks/disk.md"),
            Some("docs/runbooks/disk.md".into())
        );
        assert_eq!(twin("docs/runbooks/disk.md"), None);
    }

    #[test]
    fn a_twin_that_has_drifted_away_is_named() {
        let english = "# Title\n## Part\n| a |\n| b |\n```sh\nrun --fast\n```\n```rust\n# hidden();\n```\n";
        let chinese = "# 标题\n| 甲 |\n```sh\nrun\n```\n```rust\n# other();\n```\n";
        assert_eq!(
            problems(english, chinese),
            [
                "docs/zh/a.md: 1 headings, but 2 in docs/a.md",
                "docs/zh/a.md: 1 table rows, but 2 in docs/a.md",
                "docs/zh/a.md:3: not the code of docs/a.md:5",
                "docs/zh/a.md:6: not the code of docs/a.md:8",
            ]
        );
        assert_eq!(
            problems("```sh\na\n```\n", "没有代码\n"),
            ["docs/zh/a.md: 0 code blocks, but 1 in docs/a.md"]
        );
    }
}
