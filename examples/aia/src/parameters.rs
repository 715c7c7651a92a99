//! What stands in an address: ids and pages.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zhuji::axum::extract::{FromRequestParts, Path, Query};
use zhuji::axum::http::request::Parts;
use zhuji::http::Problem;

const DEFAULT_PER_PAGE: u32 = 20;
const MAX_PER_PAGE: u32 = 200;
const MAX_PAGE: u32 = 1_000_000;

/// The id in the path. Whatever is no id names nothing: 404, however long or odd it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let nothing = || Problem::not_found("Nothing has this id.");
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| nothing())?;
        // Only the form that the service itself gives out, so that everything has one address.
        Uuid::try_parse(&text)
            .ok()
            .filter(|id| id.to_string() == text)
            .map(Self)
            .ok_or_else(nothing)
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    page: u32,
    per_page: u32,
}

/// A part of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    total: i64,
    page: u32,
    per_page: u32,
    items: Vec<T>,
}

impl Paging {
    pub(crate) fn limit(self) -> i64 {
        self.per_page.into()
    }

    pub(crate) fn offset(self) -> i64 {
        i64::from(self.page - 1) * i64::from(self.per_page)
    }

    pub(crate) fn page<T>(self, total: i64, items: Vec<T>) -> Page<T> {
        Page {
            total,
            page: self.page,
            per_page: self.per_page,
            items,
        }
    }
}

/// As text: a number that is none is answered with a sentence, not with a parser's message.
#[derive(Deserialize)]
struct Asked {
    page: Option<String>,
    per_page: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                Problem::bad_request("The query string can't be read: each parameter is given once.")
            })?;
        Ok(Self {
            page: number("page", asked.page.as_deref(), 1, MAX_PAGE)?,
            per_page: number(
                "per_page",
                asked.per_page.as_deref(),
                DEFAULT_PER_PAGE,
                MAX_PER_PAGE,
            )?,
        })
    }
}

fn number(name: &str, text: Option<&str>, default: u32, largest: u32) -> Result<u32, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|number| (1..=largest).contains(number));
    number
        .ok_or_else(|| Problem::bad_request(format!("`{name}` must be a whole number from 1 to {largest}.")))
}
