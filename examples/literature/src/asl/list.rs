//! Listing and searching.

use super::Asl;
use super::record::{COLUMNS, Literature};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zhuji::axum::Json;
use zhuji::axum::extract::rejection::QueryRejection;
use zhuji::axum::extract::{Query, State};
use zhuji::http::{HttpResult, Problem};

const DEFAULT_PER_PAGE: u32 = 20;
const MAX_PER_PAGE: u32 = 200;
const MAX_PAGE: u32 = 1_000_000;
/// Longer searches than anybody types only cost time.
const MAX_QUERY_CHARS: usize = 500;
const MAX_TERMS: usize = 20;

/// The query string, as text: a number that is none is answered with a sentence, not with a parser's message.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    query: Option<String>,
    page: Option<String>,
    per_page: Option<String>,
}

/// A page of records.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    total: i64,
    page: u32,
    per_page: u32,
    items: Vec<Literature>,
}

/// `GET /literatures?query=&page=&per_page=`
pub(super) async fn search(
    State(asl): State<Arc<Asl>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> HttpResult<Json<Page>> {
    let Query(parameters) = parameters
        .map_err(|_| Problem::bad_request("The query string can't be read: each parameter is given once."))?;
    let page = number("page", parameters.page.as_deref(), 1, MAX_PAGE).map_err(Problem::bad_request)?;
    let per_page = number(
        "per_page",
        parameters.per_page.as_deref(),
        DEFAULT_PER_PAGE,
        MAX_PER_PAGE,
    )
    .map_err(Problem::bad_request)?;
    let query = parameters.query.unwrap_or_default();
    if query.chars().count() > MAX_QUERY_CHARS {
        return Err(Problem::bad_request(format!(
            "The query is longer than {MAX_QUERY_CHARS} characters."
        )));
    }
    let terms = terms(&query);
    if terms.len() > MAX_TERMS {
        return Err(Problem::bad_request(format!(
            "The query has more than {MAX_TERMS} words."
        )));
    }

    // `like all` of no patterns is true: without a query every record is found.
    let patterns: Vec<String> = terms.iter().map(|term| pattern(term)).collect();
    let phrase = pattern(&terms.join(" "));
    let offset = i64::from(page - 1) * i64::from(per_page);
    let total = asl.total(&patterns).await?;
    // Records with the words side by side come first; then the order of the import.
    let sql = format!(
        "select {COLUMNS} from literatures where search_text like all($1) \
         order by (search_text like $2) desc, id limit $3 offset $4"
    );
    let rows = asl
        .cx
        .db()
        .query(&sql, &[&patterns, &phrase, &i64::from(per_page), &offset])
        .await?;
    Ok(Json(Page {
        total,
        page,
        per_page,
        items: rows.iter().map(Literature::from_row).collect(),
    }))
}

fn number(name: &str, text: Option<&str>, default: u32, largest: u32) -> Result<u32, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|number| (1..=largest).contains(number));
    number.ok_or_else(|| format!("`{name}` must be a whole number from 1 to {largest}."))
}

/// The words of a query in lower case; `"words in quotes"` are one term. NUL, which PostgreSQL's text cannot hold,
/// separates words like a space.
fn terms(query: &str) -> Vec<String> {
    let mut terms = Vec::new();
    for (index, part) in query.to_lowercase().split(['"', '“', '”']).enumerate() {
        let words = part
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty());
        if index % 2 == 1 {
            terms.push(words.collect::<Vec<_>>().join(" "));
        } else {
            terms.extend(words.map(str::to_owned));
        }
    }
    terms.retain(|term| !term.is_empty());
    terms
}

/// A `like` pattern for text that contains the term, whose own `%`, `_` and `\` stand for themselves.
fn pattern(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 2);
    pattern.push('%');
    for c in term.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_split_into_words_and_phrases() {
        assert_eq!(terms("Blood  lead"), ["blood", "lead"]);
        assert_eq!(terms("\"Blood Lead\" 血铅"), ["blood lead", "血铅"]);
        assert_eq!(terms("“Blood  Lead”"), ["blood lead"]);
        assert_eq!(terms("an \"open quote"), ["an", "open quote"]);
        assert_eq!(terms("a\0b"), ["a", "b"]);
        assert!(terms("  \" \" ").is_empty());
    }

    #[test]
    fn wildcards_stand_for_themselves() {
        assert_eq!(pattern("100%_\\"), "%100\\%\\_\\\\%");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(number("page", None, 1, 9).ok(), Some(1));
        assert_eq!(number("page", Some(""), 1, 9).ok(), Some(1));
        assert_eq!(number("page", Some("9"), 1, 9).ok(), Some(9));
        for bad in ["0", "10", "-1", "1.5", "x", "99999999999999999999", " 1"] {
            assert!(number("page", Some(bad), 1, 9).is_err(), "{bad}");
        }
    }
}
