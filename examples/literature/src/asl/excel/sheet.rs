//! The sheet that holds the records, read cell by cell: never as a grid, whose corners a file chooses freely.

use super::columns::{Columns, Field};
use super::row::{Draft, Outcome, text_of_header};
use super::{MAX_REFUSALS_LISTED, MAX_ROWS, MAX_TEXT_BYTES, Record, Refusal, RefusedRow, Rows};
use calamine::{Reader, SheetType, Xlsx, XlsxError};
use std::io::Cursor;

/// Reads the first sheet whose first row has a title column.
pub(super) fn read(bytes: &[u8]) -> Result<Rows, Refusal> {
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let names: Vec<String> = workbook
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet)
        .map(|sheet| sheet.name.clone())
        .collect();
    let mut headers_seen = Vec::new();
    for name in &names {
        match read_sheet(&mut workbook, name)? {
            Found::Records(rows) => return Ok(rows),
            Found::NoTitleColumn(headers) => headers_seen.extend(headers),
        }
    }
    let message = if names.is_empty() {
        "the Excel file has no sheet with cells".into()
    } else if headers_seen.is_empty() {
        "the Excel file is empty: its first row must hold the headers (title, authors, year, journal, doi, abstract)".into()
    } else {
        headers_seen.truncate(12);
        format!(
            "the first row must hold the headers, and one of them must be `title`: found {}",
            headers_seen.join(", ")
        )
    };
    Err(Refusal::Unusable(message))
}

enum Found {
    Records(Rows),
    NoTitleColumn(Vec<String>),
}

fn read_sheet(workbook: &mut Xlsx<Cursor<&[u8]>>, name: &str) -> Result<Found, Refusal> {
    let mut cells = workbook
        .worksheet_cells_reader(name)
        .map_err(|error| damaged(&error))?;
    let mut headers: Vec<(u32, String)> = Vec::new();
    // The cell that ended the header row is the first of the records.
    let mut next = loop {
        match cells.next_cell().map_err(|error| damaged(&error))? {
            Some(cell) if cell.get_position().0 == 0 => {
                headers.extend(text_of_header(cell.get_value()).map(|text| (cell.get_position().1, text)));
            }
            other => break other,
        }
    };
    let columns = Columns::from_headers(headers.iter().map(|(column, text)| (*column, text.as_str())));
    if !columns.has(Field::Title) {
        return Ok(Found::NoTitleColumn(columns.ignored));
    }

    let mut table = Table::default();
    let mut draft = Draft::default();
    let mut current = 0;
    while let Some(cell) = next {
        let (row, column) = cell.get_position();
        if row >= MAX_ROWS {
            return Err(Refusal::Unusable(format!(
                "the sheet has more than {MAX_ROWS} rows, which Excel itself cannot"
            )));
        }
        if row != current {
            table.row(current, std::mem::take(&mut draft))?;
            current = row;
        }
        draft.cell(&columns, column, cell.get_value());
        next = cells.next_cell().map_err(|error| damaged(&error))?;
    }
    table.row(current, draft)?;
    table.rows.ignored_columns = columns.ignored;
    Ok(Found::Records(table.rows))
}

/// The records so far, and how much text they hold.
#[derive(Default)]
struct Table {
    rows: Rows,
    text_bytes: usize,
}

impl Table {
    fn row(&mut self, index: u32, draft: Draft) -> Result<(), Refusal> {
        match draft.finish() {
            Outcome::Blank => {}
            Outcome::Record(record) => {
                self.text_bytes += size_of(&record);
                if self.text_bytes > MAX_TEXT_BYTES {
                    return Err(Refusal::TooLarge(format!(
                        "the records hold more than {} MB of text; split the file and import the parts",
                        MAX_TEXT_BYTES / (1024 * 1024)
                    )));
                }
                self.rows.records.push(record);
            }
            Outcome::Refused(reason) => {
                self.rows.refused_count += 1;
                if self.rows.refused.len() < MAX_REFUSALS_LISTED {
                    self.rows.refused.push(RefusedRow {
                        row: index + 1,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }
}

fn size_of(record: &Record) -> usize {
    // The fixed part counts too: a million rows of one letter each are not free either.
    let texts = [&record.authors, &record.journal, &record.doi, &record.summary];
    std::mem::size_of::<Record>()
        + record.title.len()
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

fn damaged(error: &XlsxError) -> Refusal {
    if matches!(error, XlsxError::Password) {
        return Refusal::Unusable("the Excel file is protected by a password; save it without one".into());
    }
    Refusal::Unusable(format!(
        "the Excel file is damaged ({error}); open it in Excel and save it again"
    ))
}
