use std::{fmt::Write, str::FromStr};

use crate::{ConfigValue as _, Field, Schema, Section, dotenv, loader::OWN_TITLE, toml_file};

/// What a template is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, zhuji_config_macros::ConfigEnum)]
#[non_exhaustive]
pub enum TemplateFormat {
    /// A `.env` file.
    Env,
    /// A `zhuji.toml`.
    Toml,
}

impl FromStr for TemplateFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|_| format!("expected {}", Self::expected()))
    }
}

/// Writes a file with every variable of a schema: doc comment, default, what a good value looks like.
///
/// A variable with a default is commented out, one that is required is there to be filled in. The text depends on the
/// schema alone, so that a committed `.env.example` can be held equal to it by a test.
pub fn template(schema: &Schema, format: TemplateFormat) -> String {
    let mut text = String::from(
        "# Every variable of this program. A line that starts with `#` shows a default or an example.\n",
    );
    text.push_str(match format {
        TemplateFormat::Env => {
            "# For a development machine: copy it to `.env`. Each variable also exists as NAME_FILE, the path of a file\n\
             # that holds the value. Empty means not set.\n"
        }
        TemplateFormat::Toml => {
            "# Copy it to `zhuji.toml`, or name it in CONFIG_FILE. `STORAGE_TYPE = \"oss\"` may also be written as\n\
             # `type = \"oss\"` beneath `[storage]`. The environment wins over this file.\n"
        }
    });
    // How the configuration is read comes last: nobody starts there.
    let (own, others): (Vec<_>, Vec<_>) = schema
        .sections()
        .iter()
        .partition(|section| section.spec.title == OWN_TITLE);
    for section in others
        .into_iter()
        .chain(own)
        .filter(|section| !section.fields.is_empty())
    {
        write_section(&mut text, section, format);
    }
    text
}

fn write_section(text: &mut String, section: &Section, format: TemplateFormat) {
    let _infallible = write!(text, "\n# ==== {} ====\n", section.spec.title);
    comment(text, &prose(section.spec.doc));
    for field in &section.fields {
        text.push('\n');
        comment(text, &prose(field.spec.doc));
        comment(text, &facts(field));
        let spec = &field.spec;
        let value = spec.default.or(spec.example);
        // Only what has to be filled in is not commented out.
        let mark = if field.required { "" } else { "#" };
        let shown = if field.required { None } else { value };
        let name = spec.name;
        let _infallible = match format {
            TemplateFormat::Env => {
                writeln!(text, "{mark}{name}={}", dotenv::quote(shown.unwrap_or_default()))
            }
            TemplateFormat::Toml => writeln!(
                text,
                "{mark}{name} = {}",
                toml_file::quote(shown.unwrap_or_default())
            ),
        };
    }
}

/// "Required, secret. Expected: … Default: … Also understood as: …"
fn facts(field: &Field) -> String {
    let spec = &field.spec;
    let mut facts = Vec::new();
    match (field.required, field.secret) {
        (true, true) => facts.push("Required, secret.".to_owned()),
        (true, false) => facts.push("Required.".to_owned()),
        (false, true) => facts.push("Secret.".to_owned()),
        (false, false) => {}
    }
    facts.push(format!("Expected: {}.", field.expected));
    match (spec.default, spec.default_note) {
        (Some(default), Some(note)) => facts.push(format!("Default: {default}; {note}.")),
        (Some(default), None) => facts.push(format!("Default: {default}.")),
        (None, Some(note)) => facts.push(format!("Default: {note}.")),
        (None, None) => {}
    }
    if let (Some(example), true) = (spec.example, field.required || spec.default.is_some()) {
        facts.push(format!("Example: {example}."));
    }
    if !spec.aliases.is_empty() {
        facts.push(format!("Also understood as: {}.", spec.aliases.join(", ")));
    }
    facts.join(" ")
}

/// A doc comment without what is rustdoc's alone: the marks of links, and the "Env: … Default: …" at a paragraph's end,
/// which the template says itself.
fn prose(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").map(|paragraph| {
        let end = ["Env: `", "Default: "]
            .iter()
            .filter_map(|mark| paragraph.find(mark))
            .min();
        paragraph[..end.unwrap_or(paragraph.len())].trim_end()
    });
    let paragraphs: Vec<&str> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    paragraphs.join("\n\n").replace("[`", "`").replace("`]", "`")
}

fn comment(text: &mut String, words: &str) {
    for line in words.lines() {
        let _infallible = writeln!(text, "{}", format!("# {line}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::prose;

    #[test]
    fn prose_is_for_people_without_rustdoc() {
        let doc = "How long. See [`Cache`].\nEnv: `CACHE_TTL`. Default: `5m`.\n\nNot longer than\na day. Env: `X`.\n\nDefault: none";
        assert_eq!(prose(doc), "How long. See `Cache`.\n\nNot longer than\na day.");
        assert_eq!(prose(""), "");
    }
}
