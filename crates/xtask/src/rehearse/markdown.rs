//! The little of Markdown that the pages need: links, headings as anchors, and text that is code.

/// One link, with the line it stands on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) target: String,
}

/// One line of text that is code: a line of a fenced block, or a span between backticks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) line: usize,
    pub(super) text: String,
}

/// One fenced block, with the line that opens it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) line: usize,
    /// What stands behind the fence: `sh`, `rust,no_run`.
    pub(super) language: String,
    pub(super) lines: Vec<String>,
}

/// What a page holds.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) links: Vec<Link>,
    pub(super) anchors: Vec<String>,
    pub(super) code: Vec<Code>,
    pub(super) blocks: Vec<Block>,
    pub(super) headings: usize,
    /// The lines of tables, heads and rules included.
    pub(super) table_rows: usize,
}

/// Reads a page.
pub(super) fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut fence: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let trimmed = line.trim_start();
        if let Some(open) = &fence {
            if trimmed.starts_with(open.as_str()) && trimmed.trim_end().chars().all(|c| open.starts_with(c)) {
                fence = None;
            } else {
                page.code.push(Code {
                    line: number,
                    text: line.to_owned(),
                });
                if let Some(block) = page.blocks.last_mut() {
                    block.lines.push(line.to_owned());
                }
            }
            continue;
        }
        if let Some(opening) = fence_of(trimmed) {
            page.blocks.push(Block {
                line: number,
                language: trimmed[opening.len()..].trim().to_owned(),
                lines: Vec::new(),
            });
            fence = Some(opening);
            continue;
        }
        let (prose, spans) = without_code(line);
        page.code
            .extend(spans.into_iter().map(|text| Code { line: number, text }));
        page.links.extend(
            targets(&prose)
                .into_iter()
                .map(|target| Link { line: number, target }),
        );
        page.table_rows += usize::from(trimmed.starts_with('|'));
        if let Some(heading) = heading(line) {
            page.headings += 1;
            let anchor = unique(slug(heading), &page.anchors);
            page.anchors.push(anchor);
        }
        page.anchors.extend(explicit_anchors(line));
    }
    page
}

/// The characters that a fenced block opens with.
fn fence_of(line: &str) -> Option<String> {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let fence: String = line.chars().take_while(|c| *c == mark).collect();
    (fence.len() >= 3).then_some(fence)
}

/// The line with its code spans blanked out, and the spans.
fn without_code(line: &str) -> (String, Vec<String>) {
    let mut prose = String::with_capacity(line.len());
    let mut spans = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let inside = start + ticks;
        let Some(length) = rest[inside..].find(&"`".repeat(ticks)) else {
            break;
        };
        prose.push_str(&rest[..start]);
        // A word in its place keeps `[`name`](target)` a link.
        prose.push_str("code");
        spans.push(rest[inside..inside + length].trim().to_owned());
        rest = &rest[inside + length + ticks..];
    }
    prose.push_str(rest);
    (prose, spans)
}

/// The targets of `[text](target)`, `[text](<target>)`, `[name]: target` and `href="target"`.
fn targets(prose: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let rest = &prose[at + 2..];
        let target = match rest.strip_prefix('<') {
            Some(bracketed) => bracketed.split('>').next(),
            None => rest[..closing(rest)].split_whitespace().next(),
        };
        found.extend(target.map(str::to_owned));
    }
    if let Some((name, target)) = prose.trim_start().split_once("]: ")
        && let Some(name) = name.strip_prefix('[')
        && !name.starts_with('^')
    {
        found.extend(target.split_whitespace().next().map(str::to_owned));
    }
    for attribute in ["href=\"", "src=\""] {
        let quoted = prose
            .match_indices(attribute)
            .map(|(at, _)| &prose[at + attribute.len()..]);
        found.extend(
            quoted
                .filter_map(|rest| rest.split_once('"'))
                .map(|(target, _)| target.to_owned()),
        );
    }
    found
}

/// Where the parenthesis that is open ends.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return at,
            ')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn heading(line: &str) -> Option<&str> {
    let level = line.chars().take_while(|c| *c == '#').count();
    let text = line.get(level..)?;
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim().trim_end_matches('#').trim_end())
}

fn explicit_anchors(line: &str) -> Vec<String> {
    let quoted = ["id=\"", "name=\""].into_iter().flat_map(|attribute| {
        line.match_indices(attribute)
            .map(move |(at, _)| &line[at + attribute.len()..])
    });
    quoted
        .filter_map(|rest| rest.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The anchor that forges make of a heading: lower case, punctuation gone, blanks to dashes.
fn slug(heading: &str) -> String {
    // Of a link only its text is shown.
    let mut shown = String::new();
    let mut rest = heading;
    while let Some(at) = rest.find("](") {
        shown.push_str(&rest[..at]);
        let end = closing(&rest[at + 2..]);
        rest = rest.get(at + 2 + end + 1..).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// A second heading of the same name gets `-1`, a third `-2`.
fn unique(slug: String, taken: &[String]) -> String {
    if !taken.contains(&slug) {
        return slug;
    }
    let mut number = 1;
    loop {
        let candidate = format!("{slug}-{number}");
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<String> {
        read(text).links.into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn every_way_to_write_a_link_is_read() {
        let text = "See [one](a.md) and [`two`](b.md#x \"title\"), ![three](c(1).png).\n\n[four]: <d e.md>\n[five]: e.md\n\
                    <a href=\"f.md\">six</a> [seven](<g h.md>)";
        assert_eq!(
            links(text),
            ["a.md", "b.md#x", "c(1).png", "<d", "e.md", "g h.md", "f.md"]
        );
    }

    #[test]
    fn what_is_code_is_no_link() {
        assert!(links("`[a](b)` and\n```md\n[c](d)\n```\n~~~\n[e](f)\n~~~\n").is_empty());
        let code = read("run `cargo xtask dev`:\n```sh\ncargo xtask test\n```\n").code;
        let texts: Vec<&str> = code.iter().map(|code| code.text.as_str()).collect();
        assert_eq!(texts, ["cargo xtask dev", "cargo xtask test"]);
        assert_eq!(code[1].line, 3);
    }

    #[test]
    fn a_longer_fence_holds_a_shorter_one() {
        assert!(links("````\n```\n[a](b)\n```\n[c](d)\n````\n").is_empty());
    }

    #[test]
    fn blocks_headings_and_rows_are_told_apart() {
        let page = read("# A\n| a |\n| --- |\n```rust,no_run\n# hidden\n| b |\n```\n## B\n");
        assert_eq!((page.headings, page.table_rows), (2, 2));
        let block = Block {
            line: 4,
            language: "rust,no_run".to_owned(),
            lines: vec!["# hidden".to_owned(), "| b |".to_owned()],
        };
        assert_eq!(page.blocks, [block]);
    }

    #[test]
    fn headings_become_anchors_as_forges_write_them() {
        let text = "# What's `in` it?\n## Same\n## Same\n### 部署 Guide\n<a id=\"mine\"></a>\n#no heading\n## [Link](x.md) here\n";
        assert_eq!(
            read(text).anchors,
            ["whats-in-it", "same", "same-1", "部署-guide", "mine", "link-here"]
        );
    }
}
