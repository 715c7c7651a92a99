//! The little XML that the OSS interface needs: a writer that escapes, and a reader into a small tree.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::error::OssError;

/// Deepest nesting that a request document may have.
const MAX_DEPTH: usize = 32;

/// Writes a document; every text is escaped.
#[derive(Debug)]
pub(crate) struct XmlWriter {
    out: String,
}

impl XmlWriter {
    pub(crate) fn document() -> Self {
        Self {
            out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"),
        }
    }

    pub(crate) fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        escape_into(&mut self.out, value);
        self.close(name);
    }

    /// A parsed tree as it would have been written; what was an attribute is gone.
    pub(crate) fn element(&mut self, element: &Element) {
        self.open(&element.name);
        if element.children.is_empty() {
            escape_into(&mut self.out, &element.text);
        }
        for child in &element.children {
            self.element(child);
        }
        self.close(&element.name);
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }
}

fn escape_into(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // Control characters are not legal XML even as references; OSS writes them all the same, which is
            // why clients are told to list with `encoding-type=url`.
            c if (c as u32) < 0x20 && c != '\n' && c != '\t' => {
                out.push_str(&format!("&#x{:X};", c as u32));
            }
            c => out.push(c),
        }
    }
}

/// One element of a parsed document.
#[derive(Debug, Default, Clone)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn with_text(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
            children: Vec::new(),
        }
    }

    /// Refuses another name, and children that are not `known`.
    pub(crate) fn must_be(&self, name: &str, known: &[&str]) -> Result<(), OssError> {
        if self.name != name {
            return Err(OssError::malformed_xml(format!(
                "<{name}> is expected instead of <{}>",
                self.name
            )));
        }
        match self
            .children
            .iter()
            .find(|child| !known.contains(&child.name.as_str()))
        {
            Some(stranger) => Err(OssError::malformed_xml(format!(
                "<{name}> has no <{}>",
                stranger.name
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.children
            .iter()
            .find(|child| child.name == name)
            .map(|child| child.text.as_str())
    }
}

/// Parses a whole document: exactly one root, everything closed, no DTD (so no entity of the sender's making).
pub(crate) fn parse(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} nested elements"));
                }
                if root.is_some() {
                    return Err("more than one root element".to_owned());
                }
                let name = start.local_name().as_ref().to_owned();
                open.push(Element {
                    name,
                    ..Element::default()
                });
            }
            Event::Empty(empty) => {
                let name = empty.local_name().as_ref().to_owned();
                attach(
                    &mut open,
                    &mut root,
                    Element {
                        name,
                        ..Element::default()
                    },
                )?;
            }
            Event::End(_) => {
                let done = open.pop().ok_or("an end tag without a start")?;
                attach(&mut open, &mut root, done)?;
            }
            Event::Text(text) => add_text(&mut open, &text.xml10_content())?,
            Event::CData(data) => add_text(&mut open, &data.xml10_content())?,
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().map_err(|e| e.to_string())? {
                    Some(c) => c.to_string(),
                    None => {
                        let name = reference.xml10_content();
                        quick_xml::escape::resolve_predefined_entity(&name)
                            .ok_or_else(|| format!("unknown entity &{name};"))?
                            .to_owned()
                    }
                };
                add_text(&mut open, &resolved)?;
            }
            Event::DocType(_) => return Err("a document type is not accepted".to_owned()),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if let Some(unclosed) = open.last() {
        return Err(format!("<{}> is never closed", unclosed.name));
    }
    root.ok_or_else(|| "no root element".to_owned())
}

fn attach(open: &mut [Element], root: &mut Option<Element>, done: Element) -> Result<(), String> {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_none() => *root = Some(done),
        None => return Err("more than one root element".to_owned()),
    }
    Ok(())
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() || text == "\u{feff}" => {}
        None => return Err("text outside the root element".to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_writer_wrote() {
        let mut xml = XmlWriter::document();
        xml.open("Delete");
        xml.text("Key", "a<b>&\"c\" \u{4e2d}");
        xml.close("Delete");
        let root = parse(&xml.finish()).expect("own output");
        assert_eq!(root.child_text("Key"), Some("a<b>&\"c\" \u{4e2d}"));
    }

    #[test]
    fn refuses_broken_documents() {
        for text in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "</a>",
            "text",
            "<a>&unknown;</a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            &"<a>".repeat(100),
        ] {
            assert!(parse(text).is_err(), "accepted {text:?}");
        }
    }
}
