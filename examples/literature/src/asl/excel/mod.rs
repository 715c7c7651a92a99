//! Reads an Excel file (`.xlsx`) into records, and says of every row it refuses why.
//!
//! The work is done in an isolated child process ([`TASK`]): the file is a stranger's, and what it can do to a
//! parser - a zip bomb, a million cells, a panic - then ends with the child and harms no other request.

mod archive;
mod columns;
mod row;
mod sheet;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::io::Read;
use zhuji::IsolatedTask;

/// Reads the bytes of an `.xlsx` file on standard input and writes a [`Reading`] as JSON on standard output.
pub(crate) const TASK: IsolatedTask = IsolatedTask {
    name: "excel-rows",
    run,
};

/// The most text a cell may hold: Excel's own limit, in characters.
const MAX_CELL_CHARS: usize = 32_767;
/// The most rows a sheet may hold: Excel's own limit.
const MAX_ROWS: u32 = 1_048_576;
/// The most text all accepted records may hold together. One long string, shared by a million cells, takes no
/// room in the file and a great deal outside it.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;
/// How many refused rows are described one by one; beyond that they are only counted.
const MAX_REFUSALS_LISTED: usize = 1_000;

/// One literature record, as a row of the file gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) title: String,
    pub(crate) authors: Option<String>,
    pub(crate) year: Option<i32>,
    pub(crate) journal: Option<String>,
    pub(crate) doi: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) included: Option<bool>,
}

/// A row that holds no usable record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedRow {
    /// The row's number as Excel shows it: the headers are row 1.
    pub(crate) row: u32,
    pub(crate) reason: String,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Reading {
    Rows(Rows),
    /// It is not an Excel file at all.
    NotExcel {
        message: String,
    },
    /// It is larger, unpacked, than the service is willing to hold.
    TooLarge {
        message: String,
    },
    /// It is an Excel file, but a damaged one or one without a table of records.
    Unusable {
        message: String,
    },
}

/// The table of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub(crate) records: Vec<Record>,
    /// At most [`MAX_REFUSALS_LISTED`] of them.
    pub(crate) refused: Vec<RefusedRow>,
    pub(crate) refused_count: u32,
    /// Headers that name nothing a record has.
    pub(crate) ignored_columns: Vec<String>,
}

/// Why a file is not read; becomes the matching [`Reading`].
#[derive(Debug)]
enum Refusal {
    NotExcel(String),
    TooLarge(String),
    Unusable(String),
}

fn run(input: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    input
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the file could not be received: {error}"))?;
    serde_json::to_vec(&read(&bytes)).map_err(|error| format!("the records could not be written: {error}"))
}

/// Reads the whole file. A panic of the parser counts as a damaged file.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let outcome = std::panic::catch_unwind(|| archive::check(bytes).and_then(|()| sheet::read(bytes)));
    match outcome {
        Ok(Ok(rows)) => Reading::Rows(rows),
        Ok(Err(Refusal::NotExcel(message))) => Reading::NotExcel { message },
        Ok(Err(Refusal::TooLarge(message))) => Reading::TooLarge { message },
        Ok(Err(Refusal::Unusable(message))) => Reading::Unusable { message },
        Err(_panic) => Reading::Unusable {
            message: "the Excel file is damaged and cannot be read; open it in Excel and save it again"
                .into(),
        },
    }
}

/// Whether the first bytes can be those of an `.xlsx` file, which is a zip archive. The answer names what the
/// file seems to be instead.
pub(crate) fn sniff(start: &[u8]) -> Result<(), String> {
    const ZIP: &[u8] = b"PK\x03\x04";
    const OLE: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0];
    let found = if start.starts_with(ZIP) {
        return Ok(());
    } else if start.starts_with(OLE) {
        "it is an old .xls file, or one protected by a password; save it as .xlsx without a password"
    } else if start.starts_with(b"%PDF-") {
        "it is a PDF"
    } else if start.is_empty() {
        "it is empty"
    } else if start
        .iter()
        .all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
    {
        "it is plain text, perhaps CSV; open it in Excel and save it as .xlsx"
    } else {
        "its content is of another kind, whatever its name says"
    };
    Err(format!("the file is not an Excel workbook (.xlsx): {found}"))
}
