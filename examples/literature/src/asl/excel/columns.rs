//! Which column holds which field, by the names that export tools and people give them.

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Title,
    Authors,
    Year,
    Journal,
    Doi,
    Abstract,
    Included,
}

/// Known headers, in the form [`normalise`] gives them. PubMed, Embase, Zotero, EndNote, CNKI and Wanfang exports.
const NAMES: &[(Field, &[&str])] = &[
    (
        Field::Title,
        &[
            "title",
            "articletitle",
            "papertitle",
            "documenttitle",
            "primarytitle",
            "标题",
            "题名",
            "篇名",
            "文献标题",
            "论文题目",
            "题目",
        ],
    ),
    (
        Field::Authors,
        &[
            "authors",
            "author",
            "authornames",
            "authorlist",
            "authorfullnames",
            "作者",
            "作者姓名",
            "全部作者",
        ],
    ),
    (
        Field::Year,
        &[
            "year",
            "publicationyear",
            "pubyear",
            "publishedyear",
            "yearofpublication",
            "publicationdate",
            "date",
            "年份",
            "年",
            "发表年份",
            "出版年",
            "出版年份",
            "发表时间",
        ],
    ),
    (
        Field::Journal,
        &[
            "journal",
            "journaltitle",
            "journalname",
            "source",
            "sourcetitle",
            "publicationtitle",
            "venue",
            "期刊",
            "期刊名称",
            "刊名",
            "来源",
            "文献来源",
        ],
    ),
    (
        Field::Doi,
        &[
            "doi",
            "doinumber",
            "digitalobjectidentifier",
            "doi号",
            "数字对象标识符",
        ],
    ),
    (
        Field::Abstract,
        &[
            "abstract",
            "abstracttext",
            "abstractnote",
            "summary",
            "摘要",
            "文摘",
        ],
    ),
    (
        Field::Included,
        &[
            "included",
            "include",
            "labelincluded",
            "label",
            "decision",
            "纳入",
            "是否纳入",
            "入选",
        ],
    ),
];

/// The columns of a sheet.
#[derive(Debug, Default)]
pub(super) struct Columns {
    fields: Vec<(u32, Field)>,
    /// Headers that name no field.
    pub(super) ignored: Vec<String>,
}

impl Columns {
    /// Reads the header row: (column, text) pairs. The first column that names a field holds it.
    pub(super) fn from_headers<'a>(headers: impl IntoIterator<Item = (u32, &'a str)>) -> Self {
        let mut columns = Self::default();
        for (column, header) in headers {
            match field_named(header) {
                Some(field) if !columns.has(field) => columns.fields.push((column, field)),
                _ if header.trim().is_empty() => {}
                _ => columns.ignored.push(header.trim().chars().take(80).collect()),
            }
        }
        columns
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.fields.iter().any(|(_, known)| *known == field)
    }

    pub(super) fn field_of(&self, column: u32) -> Option<Field> {
        self.fields
            .iter()
            .find(|(known, _)| *known == column)
            .map(|(_, field)| *field)
    }
}

fn field_named(header: &str) -> Option<Field> {
    let name = normalise(header);
    NAMES
        .iter()
        .find(|(_, names)| names.contains(&name.as_str()))
        .map(|(field, _)| *field)
}

/// Letters and digits only, in lower case: `Publication Year`, `publication_year` and `PUBLICATION-YEAR:` are one name.
fn normalise(header: &str) -> String {
    // `Author(s)` is `authors`, so brackets vanish and what they hold stays.
    header
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}
