//! One row of cells into one record, or into the reason why not.

use super::columns::{Columns, Field};
use super::{MAX_CELL_CHARS, Record};
use calamine::DataRef;

/// A row as it is collected, cell by cell.
#[derive(Debug, Default)]
pub(super) struct Draft {
    record: Record,
    has_cells: bool,
    problem: Option<String>,
}

/// What a row turned out to be.
#[derive(Debug)]
pub(super) enum Outcome {
    Blank,
    Record(Record),
    Refused(String),
}

impl Draft {
    pub(super) fn cell(&mut self, columns: &Columns, column: u32, value: &DataRef<'_>) {
        let Some(field) = columns.field_of(column) else {
            return;
        };
        match self.set(field, value) {
            Ok(()) => {}
            // The first problem of a row is the one its owner mends first.
            Err(problem) => self.problem = self.problem.take().or(Some(problem)),
        }
    }

    pub(super) fn finish(self) -> Outcome {
        if !self.has_cells {
            Outcome::Blank
        } else if let Some(problem) = self.problem {
            Outcome::Refused(problem)
        } else if self.record.title.is_empty() {
            Outcome::Refused("the title is missing".into())
        } else {
            Outcome::Record(self.record)
        }
    }

    fn set(&mut self, field: Field, value: &DataRef<'_>) -> Result<(), String> {
        let Some(text) = text_of(field, value).inspect_err(|_| self.has_cells = true)? else {
            return Ok(());
        };
        self.has_cells = true;
        if text.chars().count() > MAX_CELL_CHARS {
            return Err(format!(
                "{} is longer than the {MAX_CELL_CHARS} characters Excel allows",
                label(field)
            ));
        }
        match field {
            Field::Title => self.record.title = one_line(&text),
            Field::Authors => self.record.authors = Some(one_line(&text)),
            Field::Year => self.record.year = year(&text)?,
            Field::Journal => self.record.journal = Some(one_line(&text)),
            Field::Doi => self.record.doi = Some(one_line(&text)),
            Field::Abstract => self.record.summary = Some(text),
            Field::Included => self.record.included = included(&text)?,
        }
        Ok(())
    }
}

/// A cell as clean text; nothing for an empty one.
pub(super) fn text_of_header(value: &DataRef<'_>) -> Option<String> {
    text_of(Field::Title, value)
        .ok()
        .flatten()
        .map(|text| one_line(&text))
}

fn text_of(field: Field, value: &DataRef<'_>) -> Result<Option<String>, String> {
    let text = match value {
        DataRef::Empty => return Ok(None),
        DataRef::Error(error) => {
            return Err(format!(
                "{} holds the Excel error {error}; mend its formula",
                label(field)
            ));
        }
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => clean(text),
        DataRef::SharedString(text) => clean(text),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number.to_string(),
        DataRef::Bool(yes) => yes.to_string(),
        DataRef::DateTime(moment) => {
            let (year, month, day, ..) = moment.to_ymd_hms_milli();
            format!("{year:04}-{month:02}-{day:02}")
        }
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Without the control characters that no page shows and PostgreSQL's `text` cannot hold (NUL).
fn clean(text: &str) -> String {
    let kept: String = text
        .replace("\r\n", "\n")
        .chars()
        .map(|c| if c == '\r' { '\n' } else { c })
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    kept.trim().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `2020`, `2020.0`, `2020-05-01`, `2020 May`, `May 2020`; nothing for what people write when there is none.
fn year(text: &str) -> Result<Option<i32>, String> {
    if matches!(
        text.to_lowercase().as_str(),
        "n.d." | "nd" | "n/a" | "na" | "-" | "none" | "null" | "无" | "不详"
    ) {
        return Ok(None);
    }
    let refused = || {
        let found: String = text.chars().take(40).collect();
        format!("the year is not one, such as 2020: found {found:?}")
    };
    let mut groups = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|group| group.len() == 4);
    let year: i32 = groups
        .next()
        .and_then(|group| group.parse().ok())
        .ok_or_else(refused)?;
    if (1400..=2200).contains(&year) {
        Ok(Some(year))
    } else {
        Err(refused())
    }
}

fn included(text: &str) -> Result<Option<bool>, String> {
    match text.to_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "include" | "included" | "relevant" | "是" | "纳入" => Ok(Some(true)),
        "0" | "no" | "n" | "false" | "exclude" | "excluded" | "irrelevant" | "否" | "排除" | "不纳入" => {
            Ok(Some(false))
        }
        "-" | "?" | "maybe" | "unclear" | "n/a" | "na" | "pending" | "待定" => Ok(None),
        other => {
            let found: String = other.chars().take(40).collect();
            Err(format!(
                "`included` is neither yes nor no (1, 0, yes, no, true, false): found {found:?}"
            ))
        }
    }
}

fn label(field: Field) -> &'static str {
    match field {
        Field::Title => "the title",
        Field::Authors => "the authors' cell",
        Field::Year => "the year",
        Field::Journal => "the journal",
        Field::Doi => "the DOI",
        Field::Abstract => "the abstract",
        Field::Included => "`included`",
    }
}
