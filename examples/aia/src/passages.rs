//! Documents in pieces: cutting them up when they are read, and finding the pieces that a question is about.

use crate::tokens::estimate;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use uuid::Uuid;
use zhuji::db::{self, DbPool, Transaction};

/// The longest passage, in characters: about a paragraph.
const LONGEST: usize = 1_200;
/// A cut after a sentence is looked for in the last part of a passage, from here on.
const SHORTEST: usize = 700;
/// Rows in one statement.
const BATCH: usize = 500;
/// Passages that are looked at for one question; more would not fit beside it.
const MOST_FOUND: i64 = 50;
/// Words of a question that are searched for.
const MOST_WORDS: usize = 64;

/// A piece of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    /// From 1; of a text file always 1.
    page: i32,
    text: String,
}

/// A passage that goes along with a question. This is also how an answer names its sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The number that the answer refers to: `[1]`.
    pub(crate) number: u32,
    pub(crate) document_id: Uuid,
    pub(crate) document: String,
    pub(crate) page: i32,
    pub(crate) text: String,
}

/// Cuts a text, whose pages end with form feeds, into passages.
pub(crate) fn split(text: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    for (page, text) in (1_i32..).zip(text.split('\u{c}')) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (passage, after) = rest.split_at(cut(rest));
            passages.push(Passage {
                page,
                text: passage.trim().to_owned(),
            });
            rest = after.trim_start();
        }
    }
    passages
}

/// Where a passage at the start of `text` ends, in bytes: at the last sentence's end, or the last space, or anywhere.
fn cut(text: &str) -> usize {
    let (mut sentence, mut space) = (None, None);
    for (position, (at, c)) in text.char_indices().enumerate() {
        if position == LONGEST {
            return sentence.or(space).unwrap_or(at);
        }
        if position >= SHORTEST {
            match c {
                '。' | '！' | '？' | '；' => sentence = Some(at + c.len_utf8()),
                ' ' if text[..at].ends_with(['.', '!', '?', ';']) => sentence = Some(at),
                ' ' => space = Some(at),
                _ => {}
            }
        }
    }
    text.len()
}

/// The words of a text as PostgreSQL's search is given them: in lower case, and of scripts that are written without
/// spaces every two neighbours, which its parser would take for one long word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
        let chars: Vec<char> = run.chars().collect();
        for part in chars.chunk_by(|a, b| is_unspaced(*a) == is_unspaced(*b)) {
            match part {
                [_, _, ..] if is_unspaced(part[0]) => {
                    words.extend(part.windows(2).map(|pair| pair.iter().collect::<String>()));
                }
                part => words.push(part.iter().collect()),
            }
        }
    }
    words
}

/// Chinese characters, kana and hangul.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Puts the passages of a document in the place of those it has.
pub(crate) async fn replace(tx: &Transaction<'_>, document: Uuid, passages: &[Passage]) -> db::Result<()> {
    tx.execute("delete from passages where document_id = $1", &[&document])
        .await?;
    let insert = "insert into passages (document_id, number, page, text, words)
                  select $1::uuid, number, page, text, to_tsvector('english', words)
                  from unnest($2::integer[], $3::integer[], $4::text[], $5::text[]) as new (number, page, text, words)";
    for (batch, first) in passages.chunks(BATCH).zip((0..).step_by(BATCH)) {
        let numbers: Vec<i32> = (first..).take(batch.len()).collect();
        let pages: Vec<i32> = batch.iter().map(|passage| passage.page).collect();
        let texts: Vec<&str> = batch.iter().map(|passage| passage.text.as_str()).collect();
        let words: Vec<String> = batch
            .iter()
            .map(|passage| words(&passage.text).join(" "))
            .collect();
        tx.execute(insert, &[&document, &numbers, &pages, &texts, &words])
            .await?;
    }
    Ok(())
}

/// The passages of the conversation's documents that a question is about, the best first, as many as fit into `budget`
/// tokens. A question whose words occur nowhere ("What is this about?") gets the documents' beginnings.
pub(crate) async fn find(
    db: &DbPool,
    conversation: Uuid,
    question: &str,
    budget: u32,
) -> db::Result<Vec<Source>> {
    let mut seen = HashSet::new();
    let terms: Vec<String> = words(question)
        .into_iter()
        .filter(|word| seen.insert(word.clone()))
        .take(MOST_WORDS)
        // In quotes, so that no word is an operator; none holds a quote or a backslash.
        .map(|word| format!("'{word}'"))
        .collect();
    let search = "select d.id, d.name, p.page, p.text
                  from conversation_documents c
                  join documents d on d.id = c.document_id
                  join passages p on p.document_id = d.id, to_tsquery('english', $2) as query
                  where c.conversation_id = $1 and p.words @@ query
                  order by ts_rank(p.words, query, 1) desc, c.position, p.number limit $3";
    let mut rows = match terms.is_empty() {
        true => Vec::new(),
        false => {
            db.query(search, &[&conversation, &terms.join(" | "), &MOST_FOUND])
                .await?
        }
    };
    if rows.is_empty() {
        let beginnings = "select d.id, d.name, p.page, p.text
                          from conversation_documents c
                          join documents d on d.id = c.document_id
                          join passages p on p.document_id = d.id
                          where c.conversation_id = $1 order by p.number, c.position limit $2";
        rows = db.query(beginnings, &[&conversation, &MOST_FOUND]).await?;
    }
    let found = rows.iter().map(|row| Source {
        number: 0,
        document_id: row.get(0),
        document: row.get(1),
        page: row.get(2),
        text: row.get(3),
    });
    Ok(fitting(found, budget))
}

/// The first of them that fit into `budget` tokens together, numbered. One that is too long does not keep out a shorter one.
fn fitting(found: impl Iterator<Item = Source>, budget: u32) -> Vec<Source> {
    let mut left = budget;
    let mut kept = Vec::new();
    for mut source in found {
        let cost = estimate(&source.text).saturating_add(estimate(&source.document));
        if let Some(rest) = left.checked_sub(cost) {
            left = rest;
            source.number = u32::try_from(kept.len() + 1).unwrap_or(u32::MAX);
            kept.push(source);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_sentences_and_nothing_is_lost() {
        let sentence = "Lead in the blood of children falls with the distance from the smelter. ";
        let text = format!("{}\u{c}\u{c}  Page three.\n", sentence.repeat(100));
        let passages = split(&text);
        assert_eq!(
            passages.last(),
            Some(&Passage {
                page: 3,
                text: "Page three.".into()
            })
        );
        for passage in &passages {
            assert!(
                passage.text.chars().count() <= LONGEST && passage.text.ends_with('.'),
                "{passage:?}"
            );
        }
        let joined: Vec<&str> = passages.iter().map(|passage| passage.text.as_str()).collect();
        assert_eq!(joined.join(" "), format!("{}Page three.", sentence.repeat(100)));
    }

    #[test]
    fn text_without_spaces_or_sentences_is_cut_all_the_same() {
        let text = "血铅".repeat(5_000);
        let passages = split(&text);
        assert_eq!(
            passages
                .iter()
                .map(|passage| passage.text.chars().count())
                .sum::<usize>(),
            10_000
        );
        assert!(
            passages
                .iter()
                .all(|passage| passage.text.chars().count() <= LONGEST)
        );
        let chinese = format!("{}。{}", "血".repeat(800), "铅".repeat(800));
        assert_eq!(split(&chinese)[0].text.chars().count(), 801);
        assert!(split(" \n\u{c}\t").is_empty());
    }

    #[test]
    fn words_are_lower_case_and_chinese_comes_in_pairs() {
        assert_eq!(
            words("Lead-in BLOOD: 10.1000/x"),
            ["lead", "in", "blood", "10", "1000", "x"]
        );
        assert_eq!(words("肺癌筛查CT检"), ["肺癌", "癌筛", "筛查", "ct", "检"]);
        assert!(words(" '\\|&!:* ").is_empty());
    }

    #[test]
    fn sources_keep_to_the_budget_and_are_numbered() {
        let source = |text: &str| Source {
            number: 0,
            document_id: Uuid::nil(),
            document: String::new(),
            page: 1,
            text: text.into(),
        };
        let found = [
            source(&"a".repeat(40)),
            source(&"b".repeat(400)),
            source(&"c".repeat(40)),
        ];
        let kept = fitting(found.into_iter(), 20);
        let kept: Vec<(u32, &str)> = kept
            .iter()
            .map(|source| (source.number, &source.text[..1]))
            .collect();
        assert_eq!(kept, [(1, "a"), (2, "c")]);
    }
}
