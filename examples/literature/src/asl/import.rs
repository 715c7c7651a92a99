//! Importing an Excel file.

use super::excel::{self, Reading, Record, RefusedRow, Rows};
use super::{Asl, AslConfig};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use zhuji::Limits;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::db::{self, ErrorKind, Transaction};
use zhuji::http::{FilePart, HttpResult, Problem};

/// Rows in one statement: few round trips, and no statement of hundreds of megabytes.
const ROWS_PER_STATEMENT: usize = 500;
/// Imports at once: each holds its whole file, and the reader's output of it, in memory.
pub(super) const AT_ONCE: usize = 2;
/// How long an import waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tries of a transaction that stood in another one's way.
const ATTEMPTS: u32 = 3;

/// What an import answers.
#[derive(Debug, Serialize)]
pub(super) struct Imported {
    success: bool,
    /// Records that the file holds, new or not.
    count: usize,
    /// Those that are new.
    inserted: u64,
    /// Those that were there already, or stand in the file twice.
    duplicates: u64,
    refused_count: u32,
    /// The first thousand of the refused rows, each with its number and the reason.
    refused: Vec<RefusedRow>,
    /// Columns whose header names nothing that a record has.
    ignored_columns: Vec<String>,
}

/// `POST /literatures/import`: in memory, in one transaction.
pub(super) async fn import(State(asl): State<Arc<Asl>>, mut part: FilePart) -> HttpResult<Json<Imported>> {
    excel::sniff(part.stream.peek(4096).await?).map_err(|why| Problem::unsupported_media(sentence(&why)))?;
    // Before the file is read: this is what bounds the memory of all imports together.
    let _place = tokio::time::timeout(PATIENCE, asl.imports.acquire())
        .await
        .map_err(|_elapsed| {
            let detail = "Other Excel files are being imported. Please try again shortly.";
            Problem::unavailable(detail, PATIENCE)
        })?
        .map_err(|error| Problem::internal().caused_by(&error))?;
    let bytes = part.stream.bytes(asl.cx.config().max_excel_bytes.bytes()).await?;
    let rows = read(&asl, bytes).await?;
    let Rows {
        records,
        refused,
        refused_count,
        ignored_columns,
    } = rows;

    let count = records.len();
    let rows = in_locking_order(records);
    let inserted = insert_all(&asl, &rows).await?;
    asl.records_changed().await;
    let duplicates = count as u64 - inserted;
    tracing::info!(
        file = part.file_name,
        inserted,
        duplicates,
        refused = refused_count,
        "Excel file imported"
    );
    Ok(Json(Imported {
        success: true,
        count,
        inserted,
        duplicates,
        refused_count,
        refused,
        ignored_columns,
    }))
}

/// Reads the file in a child process, so that what a hostile one breaks, it breaks alone.
async fn read(asl: &Asl, bytes: Bytes) -> HttpResult<Rows> {
    let input = stream::iter([Ok::<_, Infallible>(bytes)]);
    let output = asl
        .cx
        .isolated()
        .run(excel::TASK.name, input, limits(asl.cx.config()))
        .await;
    let output = match output {
        Ok(output) => output,
        Err(error) if error.is_about_the_input() => {
            let detail = "Reading the Excel file takes more time or memory than allowed. \
                          Split it and import the parts.";
            return Err(Problem::too_large(detail).caused_by(&error));
        }
        Err(error) => {
            let detail = "The Excel file could not be read at the moment. Please try again shortly.";
            return Err(Problem::unavailable(detail, Duration::from_secs(5)).caused_by(&error));
        }
    };
    match serde_json::from_slice(&output).map_err(|error| Problem::internal().caused_by(&error))? {
        Reading::Rows(rows) => Ok(rows),
        Reading::NotExcel { message } => Err(Problem::unsupported_media(sentence(&message))),
        Reading::TooLarge { message } => Err(Problem::too_large(sentence(&message))),
        Reading::Unusable { message } => Err(Problem::bad_request(sentence(&message))),
    }
}

fn limits(config: &AslConfig) -> Limits {
    Limits {
        time: config.import_time_limit,
        memory: config.extraction_memory_limit.bytes(),
        // The reader stops at 64 MiB of text, which JSON can lengthen.
        output: 256 << 20,
    }
}

/// A record on its way into the database.
struct Row {
    id: Uuid,
    identity: String,
    record: Record,
}

/// The records by what makes them unique: two imports that overlap then wait for one another, and never in a circle.
/// Their ids keep the order of the file, because version 7 ids grow with time.
fn in_locking_order(records: Vec<Record>) -> Vec<Row> {
    let mut rows: Vec<Row> = records
        .into_iter()
        .map(|record| Row {
            id: Uuid::now_v7(),
            identity: identity(&record),
            record,
        })
        .collect();
    // Stable: of two rows with the same identity the first of the file stays.
    rows.sort_by(|a, b| a.identity.cmp(&b.identity));
    rows
}

/// All of them in one transaction, tried again where another one was in its way. Answers how many are new.
async fn insert_all(asl: &Asl, rows: &[Row]) -> db::Result<u64> {
    let mut attempt = 1;
    loop {
        let outcome = asl.cx.db().transaction(async |tx| {
            let mut inserted = 0;
            for rows in rows.chunks(ROWS_PER_STATEMENT) {
                inserted += insert(tx, rows).await?;
            }
            Ok::<_, db::Error>(inserted)
        });
        match outcome.await {
            Err(error)
                if attempt < ATTEMPTS
                    && matches!(error.kind(), ErrorKind::Deadlock | ErrorKind::Serialization) =>
            {
                tracing::warn!(attempt, %error, "the import is tried again");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Adds the records that are not there yet and answers how many those were.
async fn insert(tx: &Transaction<'_>, rows: &[Row]) -> db::Result<u64> {
    let sql = "insert into literatures
                   (id, fingerprint, title, authors, year, journal, doi, abstract, included, search_text)
               select id, sha256(convert_to(identity, 'UTF8')),
                      title, authors, year, journal, doi, abstract, included, search_text
               from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[],
                           $8::text[], $9::boolean[], $10::text[])
                    as file (id, identity, title, authors, year, journal, doi, abstract, included, search_text)
               on conflict (fingerprint) do nothing";
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let identities: Vec<&str> = rows.iter().map(|row| row.identity.as_str()).collect();
    let records: Vec<&Record> = rows.iter().map(|row| &row.record).collect();
    let search_texts: Vec<String> = records.iter().map(|record| search_text(record)).collect();
    let titles: Vec<&str> = records.iter().map(|record| record.title.as_str()).collect();
    let authors: Vec<Option<&str>> = records.iter().map(|record| record.authors.as_deref()).collect();
    let years: Vec<Option<i32>> = records.iter().map(|record| record.year).collect();
    let journals: Vec<Option<&str>> = records.iter().map(|record| record.journal.as_deref()).collect();
    let dois: Vec<Option<&str>> = records.iter().map(|record| record.doi.as_deref()).collect();
    let summaries: Vec<Option<&str>> = records.iter().map(|record| record.summary.as_deref()).collect();
    let included: Vec<Option<bool>> = records.iter().map(|record| record.included).collect();
    tx.execute(
        sql,
        &[
            &ids,
            &identities,
            &titles,
            &authors,
            &years,
            &journals,
            &dois,
            &summaries,
            &included,
            &search_texts,
        ],
    )
    .await
}

/// What makes two rows the same record: the DOI however it is written, or else title, year and authors without the
/// differences of case, spacing and punctuation that two databases' exports have.
fn identity(record: &Record) -> String {
    let doi = record.doi.as_deref().map(str::to_lowercase).unwrap_or_default();
    if let Some(at) = doi.find("10.") {
        return format!("doi:{}", &doi[at..]);
    }
    let year = record.year.map(|year| year.to_string()).unwrap_or_default();
    let authors = record.authors.as_deref().unwrap_or_default();
    format!("title:{}|{year}|{}", letters(&record.title), letters(authors))
}

fn letters(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn search_text(record: &Record) -> String {
    let Record {
        title,
        authors,
        journal,
        doi,
        summary,
        ..
    } = record;
    let rest = [authors, journal, doi, summary];
    let mut text = title.to_lowercase();
    for part in rest.into_iter().flatten() {
        // A line break, so that no phrase is found across two fields.
        text.push('\n');
        text.push_str(
            &part
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase(),
        );
    }
    text
}

/// The reader's messages as sentences.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first: String = chars
        .next()
        .map(|c| c.to_uppercase().collect())
        .unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(title: &str, doi: Option<&str>) -> Record {
        Record {
            title: title.into(),
            doi: doi.map(str::to_owned),
            ..Record::default()
        }
    }

    #[test]
    fn the_same_record_is_known_however_it_is_written() {
        let ways = [
            "https://doi.org/10.1136/BMJ.m1501",
            "doi:10.1136/bmj.M1501",
            "10.1136/bmj.m1501",
        ];
        for way in ways {
            assert_eq!(identity(&record("A", Some(way))), "doi:10.1136/bmj.m1501");
        }
        assert_eq!(
            identity(&record("Lead in  blood.", None)),
            identity(&record("LEAD IN BLOOD", Some("n/a")))
        );
        assert_ne!(identity(&record("Lead", None)), identity(&record("Load", None)));
    }

    #[test]
    fn rows_are_locked_in_one_order_and_listed_in_the_files() {
        let dois = |records: &[&str]| -> Vec<(String, Uuid)> {
            let records = records.iter().map(|doi| record("T", Some(doi))).collect();
            in_locking_order(records)
                .into_iter()
                .map(|row| (row.identity, row.id))
                .collect()
        };
        let rows = dois(&["10.1/c", "10.1/a", "10.1/b"]);
        let order: Vec<&str> = rows.iter().map(|(identity, _)| identity.as_str()).collect();
        assert_eq!(order, ["doi:10.1/a", "doi:10.1/b", "doi:10.1/c"]);
        assert!(rows[2].1 < rows[0].1 && rows[0].1 < rows[1].1, "{rows:?}");
    }

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("the file is empty"), "The file is empty.");
        assert_eq!(sentence(""), ".");
    }
}
