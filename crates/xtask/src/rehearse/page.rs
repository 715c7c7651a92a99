//! The part of a page that a rehearsal writes: between `<!-- begin NAME -->` and `<!-- end NAME -->`.

use std::path::Path;

use crate::failure::{Result, on_path};

/// Replaces the part; the rest of the page is a person's.
pub(super) fn replace(file: &Path, name: &str, part: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).map_err(on_path(file))?;
    let text = replaced(&text, name, part)
        .ok_or_else(|| format!("{}: there is no part `{name}` to write", file.display()))?;
    std::fs::write(file, text).map_err(on_path(file))
}

fn replaced(text: &str, name: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("<!-- begin {name} -->\n"))?;
    let (_, after) = rest.split_once(&format!("<!-- end {name} -->"))?;
    Some(format!(
        "{before}<!-- begin {name} -->\n\n{part}\n<!-- end {name} -->{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_is_replaced() {
        let page = "# A\n<!-- begin x -->\nold\n<!-- end x -->\nB\n";
        let written = replaced(page, "x", "new\n").expect("it has the part");
        assert_eq!(written, "# A\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nB\n");
        assert_eq!(
            replaced(&written, "x", "new\n").as_deref(),
            Some(written.as_str())
        );
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
