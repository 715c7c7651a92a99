//! Looks at the zip archive before anything parses it: what it declares, and what it really unpacks to.

use super::Refusal;
use std::io::{Cursor, Read, sink};
use zip::ZipArchive;

/// The most an archive may unpack to. A workbook of 50,000 abstracts is about 120 MB.
const MAX_UNPACKED_BYTES: u64 = 256 * 1024 * 1024;
/// The most files an archive may hold; a workbook has a few dozen.
const MAX_ENTRIES: usize = 2_000;

/// Refuses what is no workbook, and what is a bomb.
pub(super) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    super::sniff(bytes).map_err(Refusal::NotExcel)?;
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| damaged())?;
    let mut has_workbook = false;
    for name in archive.file_names() {
        has_workbook |= name.is_ok_and(|name| name.eq_ignore_ascii_case("xl/workbook.xml"));
    }
    if archive.len() > MAX_ENTRIES {
        return Err(too_large());
    }
    if !has_workbook {
        let message = "the file is not an Excel workbook (.xlsx): it is a zip archive of another kind";
        return Err(Refusal::NotExcel(message.into()));
    }
    if archive.has_overlapping_entries().map_err(|_| damaged())? {
        return Err(too_large());
    }
    if archive
        .decompressed_size()
        .is_some_and(|declared| declared > u128::from(MAX_UNPACKED_BYTES))
    {
        return Err(too_large());
    }
    // What an archive declares, if it does at all, is a stranger's word. Unpacking it once into nothing costs a few milliseconds and
    // no memory, and is the only way to know.
    let mut left = MAX_UNPACKED_BYTES;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|_| damaged())?;
        let unpacked =
            std::io::copy(&mut entry.by_ref().take(left + 1), &mut sink()).map_err(|_| damaged())?;
        left = left.checked_sub(unpacked).ok_or_else(too_large)?;
    }
    Ok(())
}

fn damaged() -> Refusal {
    Refusal::Unusable(
        "the Excel file is damaged: its zip archive cannot be unpacked; save it again and retry".into(),
    )
}

fn too_large() -> Refusal {
    Refusal::TooLarge(format!(
        "the Excel file unpacks to more than {} MB, which no table of records does; split it and import the parts",
        MAX_UNPACKED_BYTES / (1024 * 1024)
    ))
}
