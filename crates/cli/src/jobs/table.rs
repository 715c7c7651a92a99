//! Rows under one another, for people.

/// Lines of equally wide columns; the last one is as long as it is.
pub(super) fn lines<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|cell| clean(cell))))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Text of others without what a terminal would obey: it stays on its line.
pub(super) fn clean(text: &str) -> String {
    let visible = |character: char| match character {
        '\n' | '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other => other,
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_a_terminal_is_not_commanded() {
        let rows = [
            ["a".to_owned(), "b\u{1b}[2Jc\nd".to_owned()],
            ["long".to_owned(), String::new()],
        ];
        assert_eq!(
            lines(["X", "Y"], &rows),
            ["X     Y", "a     b\u{fffd}[2Jc d", "long"]
        );
    }
}
