//! Every link of every page leads somewhere, every `cargo xtask` command that a page names can be typed, the operator's
//! pages name the settings and the metrics that there are, and a page in Chinese has not drifted away from its twin.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::markdown::{self, Page};
use super::{names, twins};
use crate::failure::{Result, on_path};
use crate::workspace::Workspace;

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let mut pages = BTreeMap::new();
    for file in workspace
        .files()?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|ext| ext == "md"))
    {
        let path = workspace.root().join(&file);
        let text = std::fs::read_to_string(&path).map_err(on_path(&path))?;
        pages.insert(file, markdown::read(&text));
    }
    let mut problems = check(&pages, &crate::command(), &|path| {
        workspace.root().join(path).exists()
    });
    problems.extend(names::check(workspace, &pages)?);
    problems.extend(twins::check(&pages));
    if problems.is_empty() {
        let links: usize = pages.values().map(|page| page.links.len()).sum();
        return Ok(format!("{} pages, {links} links", pages.len()));
    }
    let lines = problems
        .iter()
        .map(|problem| format!("\n    {problem}"))
        .collect::<String>();
    Err(format!("{} places mislead a reader:{lines}", problems.len()).into())
}

fn check(
    pages: &BTreeMap<PathBuf, Page>,
    xtask: &clap::Command,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, page) in pages {
        for link in &page.links {
            if let Err(why) = follow(file, &link.target, pages, exists) {
                problems.push(format!(
                    "{}:{}: {}: {why}",
                    file.display(),
                    link.line,
                    link.target
                ));
            }
        }
        for code in &page.code {
            for why in commands(&code.text, xtask) {
                problems.push(format!("{}:{}: {why}", file.display(), code.line));
            }
        }
    }
    problems
}

/// Says why a link leads nowhere. A link to another site is taken on trust: a build must not depend on the network.
fn follow(
    file: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, Page>,
    exists: &dyn Fn(&Path) -> bool,
) -> std::result::Result<(), String> {
    // `crate::Thing` is rustdoc's own kind of link: `cargo doc` checks it.
    if target.contains("://") || target.starts_with("mailto:") || target.contains("::") {
        return Ok(());
    }
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let leads_to = if path.is_empty() {
        file.to_owned()
    } else {
        resolve(file, path)?
    };
    if !exists(&leads_to) {
        return Err("there is no such file".to_owned());
    }
    match (anchor, pages.get(&leads_to)) {
        (Some(anchor), Some(page)) if !page.anchors.iter().any(|known| known == anchor) => {
            Err("the page has no such heading".to_owned())
        }
        _ => Ok(()),
    }
}

/// The path from the root, for a path from the page; an error for one that leaves the repository.
fn resolve(file: &Path, path: &str) -> std::result::Result<PathBuf, String> {
    let path = decoded(path);
    let (mut resolved, path) = match path.strip_prefix('/') {
        Some(from_root) => (PathBuf::new(), from_root),
        None => (
            file.parent().map(Path::to_owned).unwrap_or_default(),
            path.as_str(),
        ),
    };
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir if resolved.pop() => {}
            Component::ParentDir => return Err("it leaves the repository".to_owned()),
            _ => {}
        }
    }
    Ok(resolved)
}

/// `%20` and its like as the characters they stand for.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = (*first == b'%').then(|| tail.get(..2)).flatten();
        let value = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Says which `cargo xtask` commands in a piece of code could not be typed.
fn commands(code: &str, xtask: &clap::Command) -> Vec<String> {
    const CALL: &str = "cargo xtask ";
    let mut problems = Vec::new();
    for (at, _) in code.match_indices(CALL) {
        let rest = &code[at + CALL.len()..];
        // `[--port 9100]` is how a synopsis marks what may be left out; what follows a `#` or an operator is not ours.
        let rest = rest
            .split(['#', '|', '&', ';', '>', '`'])
            .next()
            .unwrap_or_default();
        let mut words = rest
            .split(|c: char| c.is_whitespace() || "[]".contains(c))
            .filter(|word| !word.is_empty());
        let Some(name) = words
            .next()
            .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        else {
            continue;
        };
        if name.starts_with('-') {
            continue;
        }
        let Some(command) = xtask.find_subcommand(name) else {
            problems.push(format!("`cargo xtask {name}` does not exist"));
            continue;
        };
        // What follows `--` is for another program.
        for option in words
            .take_while(|word| *word != "--")
            .filter_map(|word| word.strip_prefix("--"))
        {
            let option = option.split('=').next().unwrap_or_default();
            let known = option == "help" || command.get_arguments().any(|arg| arg.get_long() == Some(option));
            if !known {
                problems.push(format!("`cargo xtask {name}` has no option `--{option}`"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let pages: BTreeMap<PathBuf, Page> = files
            .iter()
            .map(|(name, text)| (PathBuf::from(name), markdown::read(text)))
            .collect();
        let known: Vec<PathBuf> = pages
            .keys()
            .cloned()
            .chain([PathBuf::from("docs"), "docs/a b.png".into()])
            .collect();
        check(&pages, &crate::command(), &|path| {
            known.iter().any(|known| known == path)
        })
    }

    #[test]
    fn a_link_that_leads_somewhere_is_fine() {
        let found = problems(&[
            (
                "README.md",
                "# Top\n[d](docs/guide.md#a-part) [self](#top) [dir](docs/) [web](https://example.org/x)",
            ),
            (
                "docs/guide.md",
                "## A part\n[up](../README.md) [root](/README.md) [img](a%20b.png) [code](crate::Thing)",
            ),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        let found = problems(&[(
            "docs/guide.md",
            "\n[a](gone.md)\n[b](#gone)\n[c](../../outside.md)",
        )]);
        assert_eq!(
            found,
            [
                "docs/guide.md:2: gone.md: there is no such file",
                "docs/guide.md:3: #gone: the page has no such heading",
                "docs/guide.md:4: ../../outside.md: it leaves the repository",
            ]
        );
    }

    #[test]
    fn a_command_that_cannot_be_typed_is_named() {
        let fine = "`cargo xtask oss [--port 9100] [--bucket demo]`, `cargo xtask test -- --no-capture`, `cargo xtask …`\n\
                    ```sh\ncargo xtask dev --cloud   # --not-an-option\n```\n";
        assert!(problems(&[("README.md", fine)]).is_empty());
        let found = problems(&[("README.md", "`cargo xtask dve` and `cargo xtask dev --clod`")]);
        assert_eq!(
            found,
            [
                "README.md:1: `cargo xtask dve` does not exist",
                "README.md:1: `cargo xtask dev` has no option `--clod`",
            ]
        );
    }
}
