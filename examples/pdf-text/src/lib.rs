//! Text and page count of a PDF, read in an isolated child process ([`TASK`]): a PDF is a program of sorts, and a
//! broken one may loop, panic, recurse or ask for all memory. It then ends the child, and only marks its record.
//!
//! Not a module: what the modules that take PDFs share. Each declares [`TASK`] in its own manifest and runs it with its
//! own limits.

#[cfg(test)]
mod fixtures;

use pdf_extract::{Document, Object, OutputError, PlainTextOutput, output_doc_page};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use zhuji::IsolatedTask;

/// Reads a PDF on standard input and writes its [`Text`] as JSON on standard output; an error is a sentence for
/// the user of the record. The output takes up to [`MAX_OUTPUT_BYTES`].
pub const TASK: IsolatedTask = IsolatedTask {
    name: "pdf-text",
    run,
};

/// The most text that is kept of one PDF: about ten times the Bible.
pub const MAX_TEXT_BYTES: usize = 20 * 1024 * 1024;
/// The most that [`TASK`] writes: JSON makes six bytes of some characters.
pub const MAX_OUTPUT_BYTES: u64 = 6 * MAX_TEXT_BYTES as u64 + 4096;
/// A PDF announces itself within this many bytes; viewers look no further either.
pub const SNIFF_BYTES: usize = 1024;

/// What a PDF says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// How many pages the document has.
    pub pages: u32,
    /// At most [`MAX_TEXT_BYTES`]; a form feed between pages.
    pub text: String,
    /// Pages whose text could not be read while others could.
    pub unreadable_pages: u32,
}

/// Whether the first bytes of a file are those of a PDF.
pub fn sniff(start: &[u8]) -> bool {
    start[..start.len().min(SNIFF_BYTES)]
        .windows(5)
        .any(|window| window == b"%PDF-")
}

fn run(input: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    input
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the PDF could not be received: {error}"))?;
    let text = read(&bytes)?;
    serde_json::to_vec(&text).map_err(|error| format!("the text could not be written: {error}"))
}

/// Reads the whole document, in this process.
///
/// # Errors
/// A sentence for the user: damaged, without pages, or protected by a password.
pub fn read(bytes: &[u8]) -> Result<Text, String> {
    let document = catch_unwind(|| Document::load_mem(bytes)).unwrap_or_else(|_panic| {
        Err(pdf_extract::Error::InvalidStream(
            "its structure breaks the reader".into(),
        ))
    });
    let mut document = document.map_err(|error| broken(&error))?;
    if document.is_encrypted() {
        // Many publishers encrypt with an empty password, which every viewer tries first.
        let opened = catch_unwind(AssertUnwindSafe(|| document.decrypt("")));
        if !matches!(opened, Ok(Ok(()))) {
            return Err(protected());
        }
    }
    let numbers: Vec<u32> = catch_unwind(AssertUnwindSafe(|| document.get_pages().into_keys().collect()))
        .map_err(|_panic| "the PDF is damaged: its list of pages cannot be read".to_owned())?;
    if numbers.is_empty() {
        return Err("the PDF is damaged: it has no pages".into());
    }
    collect(&document, &numbers)
}

fn collect(document: &Document, numbers: &[u32]) -> Result<Text, String> {
    let mut text = String::new();
    let mut unreadable_pages = 0;
    let mut mended = None;
    for (index, number) in numbers.iter().enumerate() {
        let page = page(document, *number)
            .or_else(|| page(mended.get_or_insert_with(|| with_encodings(document)), *number));
        match page {
            Some(page) => {
                if index > 0 {
                    text.push('\u{c}');
                }
                text.push_str(page.trim());
            }
            None => unreadable_pages += 1,
        }
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            break;
        }
    }
    let pages = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    if unreadable_pages == pages {
        return Err(format!(
            "the text of none of the PDF's {pages} pages can be read: their content is damaged"
        ));
    }
    // PostgreSQL's text cannot hold NUL.
    text.retain(|c| c != '\0');
    Ok(Text {
        pages,
        text,
        unreadable_pages,
    })
}

/// The text of one page; nothing when the page's content breaks the reader, which must not hide the other pages.
fn page(document: &Document, number: u32) -> Option<String> {
    let mut text = String::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut output = PlainTextOutput::new(&mut text);
        output_doc_page(document, &mut output, number)
    }));
    match outcome {
        Ok(Ok(())) => Some(text),
        Ok(Err(OutputError::FormatError(_) | OutputError::IoError(_) | OutputError::PdfError(_)))
        | Err(_) => None,
    }
}

/// A copy whose simple fonts all have an encoding. The reader needs one for letters that a font's own map to Unicode
/// leaves out, and gives up a page where there is none: title pages set in a decorative font, mostly.
fn with_encodings(document: &Document) -> Document {
    let mut mended = document.clone();
    for object in mended.objects.values_mut() {
        if let Object::Dictionary(font) = object
            && font.has_type(b"Font")
            && !font.has(b"Encoding")
            && font
                .get(b"Subtype")
                .and_then(Object::as_name)
                .is_ok_and(|kind| kind != b"Type0")
        {
            font.set("Encoding", Object::Name(b"WinAnsiEncoding".to_vec()));
        }
    }
    mended
}

fn protected() -> String {
    "the PDF is protected by a password; upload a copy saved without one".into()
}

fn broken(error: &pdf_extract::Error) -> String {
    use pdf_extract::Error;
    match error {
        Error::InvalidPassword | Error::Decryption(_) | Error::UnsupportedSecurityHandler(_) => protected(),
        _ => format!(
            "the PDF is damaged and cannot be read ({error}); open it in a PDF viewer and save it again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Text, read, sniff};
    use crate::fixtures;

    #[test]
    fn a_textbook_gives_its_117_pages() {
        let Some(bytes) = fixtures::read("geotopo.pdf") else {
            return;
        };
        let Text {
            pages,
            text,
            unreadable_pages,
        } = read(&bytes).expect("a good PDF");
        assert_eq!((pages, unreadable_pages), (117, 0));
        assert!(text.contains("Topologie"), "{}", &text[..2000.min(text.len())]);
    }

    #[test]
    fn two_columns_give_three_pages() {
        let Some(bytes) = fixtures::read("multicolumn.pdf") else {
            return;
        };
        let read = read(&bytes).expect("a good PDF");
        assert_eq!(read.pages, 3);
        assert!(read.text.len() > 1000);
    }

    #[test]
    fn a_made_file_of_many_pages_gives_them_all() {
        let read = read(&fixtures::pdf_of(117, None)).expect("a good PDF");
        assert_eq!((read.pages, read.unreadable_pages), (117, 0));
        assert_eq!(read.text.matches("A page of many").count(), 117);
    }

    #[test]
    fn an_empty_password_is_none_and_another_is_the_reason() {
        let opened = read(&fixtures::pdf_of(2, Some(""))).expect("every viewer opens it");
        assert_eq!(opened.pages, 2);
        assert!(opened.text.contains("A page of many"), "{:?}", opened.text);
        let reason = read(&fixtures::pdf_of(2, Some("secret"))).expect_err("it is protected");
        assert!(reason.contains("password"), "{reason}");
    }

    #[test]
    fn a_password_is_named_as_the_reason() {
        let Some(bytes) = fixtures::read("password-protected.pdf") else {
            return;
        };
        let reason = read(&bytes).expect_err("it is protected");
        assert!(reason.contains("password"), "{reason}");
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        for bytes in [
            &b""[..],
            b"%PDF-1.4",
            b"%PDF-1.7\n%%EOF",
            b"not a PDF at all",
            &[0; 4096],
        ] {
            let reason = read(bytes).expect_err("it is broken");
            assert!(reason.contains("damaged"), "{reason}");
        }
        let whole = fixtures::minimal_pdf("Hello from a small file");
        for cut in (0..whole.len()).step_by(7) {
            let _outcome = read(&whole[..cut]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xFF;
            let _outcome = read(&bytes);
        }
    }

    #[test]
    fn a_small_file_gives_its_sentence() {
        let read = read(&fixtures::minimal_pdf("Hello from a small file")).expect("a good PDF");
        assert_eq!(read.pages, 1);
        assert!(read.text.contains("Hello from a small file"), "{:?}", read.text);
    }

    #[test]
    fn a_pdf_is_known_by_its_content() {
        assert!(sniff(b"%PDF-1.4 ..."));
        assert!(sniff(&[vec![b' '; 1000], b"%PDF-1.4".to_vec()].concat()));
        assert!(!sniff(&[vec![b' '; 1024], b"%PDF-1.4".to_vec()].concat()));
        assert!(!sniff(b""));
        assert!(!sniff(b"%PDF"));
        assert!(!sniff(b"PK\x03\x04"));
    }
}
