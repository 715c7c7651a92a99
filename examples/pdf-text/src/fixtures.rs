//! Files for the tests: real ones where they are at hand, made ones everywhere.

use pdf_extract::{Document, EncryptionState, EncryptionVersion, Object, Permissions};
use std::path::{Path, PathBuf};

/// A real file from the folder beside the checkout; says so and answers nothing where it is missing.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/fixtures")
        .join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("SKIPPED: the real file {name} is not beside this checkout");
    }
    bytes
}

/// A correct PDF of one page with one line of text.
pub(crate) fn minimal_pdf(line: &str) -> Vec<u8> {
    let content = format!("BT /F1 24 Tf 72 700 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let mut pdf = String::from("%PDF-1.4\n");
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(pdf.len());
        pdf.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let table = pdf.len();
    pdf.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    for offset in offsets {
        pdf.push_str(&format!("{offset:010} 00000 n \n"));
    }
    pdf.push_str(&format!(
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        objects.len() + 1
    ));
    pdf.into_bytes()
}

/// A PDF of this many pages with a line of text each, which opens with this password alone, or with none.
pub(crate) fn pdf_of(pages: u32, password: Option<&str>) -> Vec<u8> {
    let mut document = Document::load_mem(&minimal_pdf("A page of many")).expect("it is correct");
    let (first, parent) = ((3, 0), (2, 0));
    let page = document.get_object(first).expect("it has one page").clone();
    let more = (1..pages).map(|_| document.add_object(page.clone()));
    let kids: Vec<Object> = std::iter::once(first)
        .chain(more.collect::<Vec<_>>())
        .map(Object::Reference)
        .collect();
    let tree = document.get_object_mut(parent).and_then(Object::as_dict_mut);
    let tree = tree.expect("it has a list of pages");
    tree.set("Kids", kids);
    tree.set("Count", i64::from(pages));
    if let Some(password) = password {
        let id = || Object::string_literal("0123456789abcdef");
        document.trailer.set("ID", vec![id(), id()]);
        let version = EncryptionVersion::V2 {
            document: &document,
            owner_password: "of the owner",
            user_password: password,
            key_length: 128,
            permissions: Permissions::all(),
        };
        let state = EncryptionState::try_from(version).expect("it can be encrypted");
        document.encrypt(&state).expect("it was not encrypted before");
    }
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).expect("memory is enough");
    bytes
}
