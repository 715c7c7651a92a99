//! The reader against real, made and hostile files.

use super::{Reading, Record, Rows, read};
use crate::asl::fixtures;
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook};
use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

fn rows(bytes: &[u8]) -> Rows {
    match read(bytes) {
        Reading::Rows(rows) => rows,
        other => panic!("not read: {other:?}"),
    }
}

fn sheet(cells: &[&[&str]]) -> Vec<u8> {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    for (row, texts) in (0..).zip(cells) {
        for (column, text) in (0..).zip(*texts) {
            sheet.write_string(row, column, *text).expect("inside the sheet");
        }
    }
    workbook.save_to_buffer().expect("memory is enough")
}

#[test]
fn a_published_review_gives_its_975_records() {
    let Some(bytes) = fixtures::read("menon_2022.xlsx") else {
        return;
    };
    let rows = rows(&bytes);
    assert_eq!((rows.records.len(), rows.refused_count), (975, 0));
    assert_eq!(
        rows.records
            .iter()
            .filter(|record| record.included == Some(true))
            .count(),
        74
    );
    assert_eq!(rows.ignored_columns, ["id"]);
    let first = &rows.records[0];
    assert!(first.title.starts_with("Early warning scores"), "{first:?}");
    assert_eq!(
        (first.year, first.doi.as_deref()),
        (Some(2020), Some("https://doi.org/10.1136/bmj.m1501"))
    );
    assert!(first.summary.as_deref().is_some_and(|text| text.len() > 500));
}

#[test]
fn headers_may_be_written_in_many_ways() {
    let english = sheet(&[
        &[
            " Article Title ",
            "AUTHOR(S)",
            "Publication_Year",
            "Source",
            "D.O.I.",
        ],
        &["T", "A", "1999", "J", "10.1/x"],
    ]);
    let chinese = sheet(&[
        &["标题", "作者", "年份", "期刊", "DOI号", "摘要", "是否纳入"],
        &["肺癌", "王芳", "2021年", "中华医学", "10.1/x", "目的", "是"],
    ]);
    assert_eq!(rows(&english).records[0].year, Some(1999));
    assert_eq!(rows(&english).records[0].journal.as_deref(), Some("J"));
    let expected = Record {
        title: "肺癌".into(),
        authors: Some("王芳".into()),
        year: Some(2021),
        journal: Some("中华医学".into()),
        doi: Some("10.1/x".into()),
        summary: Some("目的".into()),
        included: Some(true),
    };
    assert_eq!(rows(&chinese).records, [expected]);
}

#[test]
fn each_refused_row_says_its_number_and_why() {
    let bytes = sheet(&[
        &["title", "year", "included", "comment"],
        &["Good", "2020", "1", "x"],
        &["", "2020", "1"],
        &["Odd year", "soon", "0"],
        &[],
        &["Odd verdict", "2020", "perhaps not"],
        &["No year", "n.d.", ""],
    ]);
    let rows = rows(&bytes);
    assert_eq!(rows.records.len(), 2);
    let refused: Vec<(u32, &str)> = rows
        .refused
        .iter()
        .map(|row| (row.row, row.reason.as_str()))
        .collect();
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 4, 6]);
    assert!(refused[0].1.contains("title is missing"), "{refused:?}");
    assert!(refused[1].1.contains("\"soon\""), "{refused:?}");
    assert!(refused[2].1.contains("perhaps not"), "{refused:?}");
    assert_eq!(rows.ignored_columns, ["comment"]);
}

#[test]
fn numbers_dates_formulas_errors_and_merged_cells() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    for (column, header) in (0..).zip(["title", "year", "authors"]) {
        sheet.write(0, column, header).expect("inside");
    }
    sheet.write(1, 0, 1984).expect("inside");
    let date = Format::new().set_num_format("yyyy-mm-dd");
    sheet
        .write_with_format(1, 1, ExcelDateTime::from_ymd(2019, 5, 1).expect("a date"), &date)
        .expect("inside");
    sheet
        .write_formula(2, 0, Formula::new("=\"A\"&\"B\"").set_result("AB"))
        .expect("inside");
    sheet.write(2, 1, 2001.0).expect("inside");
    sheet
        .write_formula(3, 0, Formula::new("=1/0").set_result("#DIV/0!"))
        .expect("inside");
    sheet
        .merge_range(4, 0, 4, 2, "Merged title", &Format::new())
        .expect("inside");
    sheet
        .write_string(5, 0, "Line one\r\nline\u{1}two")
        .expect("inside");
    let rows = rows(&workbook.save_to_buffer().expect("memory is enough"));
    let read: Vec<(&str, Option<i32>)> = rows.records.iter().map(|r| (r.title.as_str(), r.year)).collect();
    assert_eq!(
        read,
        [
            ("1984", Some(2019)),
            ("AB", Some(2001)),
            ("Merged title", None),
            ("Line one linetwo", None)
        ],
        "{rows:?}"
    );
    assert_eq!(rows.refused_count, 1);
    assert!(rows.refused[0].reason.contains("#DIV/0!"), "{rows:?}");
}

#[test]
fn the_records_may_be_on_a_later_sheet() {
    let mut workbook = Workbook::new();
    workbook
        .add_worksheet()
        .write(0, 0, "About this file")
        .expect("inside");
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "title").expect("inside");
    sheet.write(1, 0, "Found").expect("inside");
    assert_eq!(
        rows(&workbook.save_to_buffer().expect("memory is enough"))
            .records
            .len(),
        1
    );
}

#[test]
fn a_corner_cell_far_away_costs_nothing() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "title").expect("inside");
    sheet.write(1_048_575, 0, "Last").expect("inside");
    sheet.write(1_048_575, 16_383, "corner").expect("inside");
    assert_eq!(
        rows(&workbook.save_to_buffer().expect("memory is enough"))
            .records
            .len(),
        1
    );
}

#[test]
fn files_of_another_kind_are_named() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"title,authors\nA,B\n", "CSV"),
        ("标题,作者\n".as_bytes(), "CSV"),
        (b"%PDF-1.4", "PDF"),
        (&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1], ".xls"),
        (&[0, 1, 2, 3], "another kind"),
    ] {
        let reading = read(bytes);
        assert!(
            matches!(&reading, Reading::NotExcel { message } if message.contains(word)),
            "{reading:?}"
        );
    }
    let word_file = archive(&[("word/document.xml", b"<w/>")]);
    assert!(matches!(read(&word_file), Reading::NotExcel { .. }));
}

#[test]
fn workbooks_without_a_table_say_what_is_missing() {
    let reading = read(&sheet(&[&["name", "age"], &["A", "3"]]));
    assert!(
        matches!(&reading, Reading::Unusable { message } if message.contains("name, age")),
        "{reading:?}"
    );
    let reading = read(&sheet(&[]));
    assert!(
        matches!(&reading, Reading::Unusable { message } if message.contains("headers")),
        "{reading:?}"
    );
    // A workbook that lists a sheet the archive does not hold.
    let whole = sheet(&[&["title"], &["A"]]);
    let reading = read(&without(&whole, "xl/worksheets/sheet1.xml"));
    assert!(matches!(reading, Reading::Unusable { .. }), "{reading:?}");
    let reading = read(&whole[..whole.len() / 2]);
    assert!(matches!(reading, Reading::Unusable { .. }), "{reading:?}");
}

#[test]
fn a_zip_bomb_is_refused_before_it_is_parsed() {
    const PART: u32 = 16 << 20;
    let part = archive(&[("blank", &vec![b' '; PART as usize])]);
    let mut part = zip::ZipArchive::new(Cursor::new(part)).expect("it was just made");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .start_file("xl/workbook.xml", SimpleFileOptions::default())
        .expect("memory is enough");
    for number in 0..20 {
        let entry = part.by_index_raw(0).expect("it has one");
        writer
            .raw_copy_file_rename(entry, format!("xl/worksheets/sheet{number}.xml"))
            .expect("memory is enough");
    }
    let bomb = writer.finish().expect("memory is enough").into_inner();
    assert!(bomb.len() < 1024 * 1024, "{}", bomb.len());
    let reading = read(&bomb);
    assert!(matches!(reading, Reading::TooLarge { .. }), "{reading:?}");
    // The same bomb with a directory that claims one byte for each part.
    let mut liar = bomb;
    let windows = liar.windows(4).enumerate();
    let claims: Vec<usize> = windows
        .filter(|(_, window)| *window == PART.to_le_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(claims.len() >= 20);
    for at in claims {
        liar[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    }
    let reading = read(&liar);
    assert!(
        matches!(reading, Reading::TooLarge { .. } | Reading::Unusable { .. }),
        "{reading:?}"
    );
}

#[test]
fn one_long_string_in_many_cells_is_refused() {
    let long = "x".repeat(32_000);
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "title").expect("inside");
    for row in 1..2_200 {
        sheet.write(row, 0, long.as_str()).expect("inside");
    }
    let reading = read(&workbook.save_to_buffer().expect("memory is enough"));
    assert!(matches!(reading, Reading::TooLarge { .. }), "not refused");
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = sheet(&[&["title", "year"], &["A", "2020"], &["B", "x"]]);
    for at in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5A;
        let _outcome = read(&bytes);
    }
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("memory is enough");
        writer.write_all(content).expect("memory is enough");
    }
    writer.finish().expect("memory is enough").into_inner()
}

fn without(bytes: &[u8], left_out: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("a workbook is a zip archive");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).expect("an entry");
        if entry.name().expect("a name") != left_out {
            writer.raw_copy_file(entry).expect("memory is enough");
        }
    }
    writer.finish().expect("memory is enough").into_inner()
}
