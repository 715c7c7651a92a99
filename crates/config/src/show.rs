use std::fmt::{self, Write};

use crate::origin::Source;

/// One variable as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The value; `***` for a secret, `None` when it is not set.
    pub value: Option<String>,
    /// Whether the value is hidden.
    pub secret: bool,
    /// Where it came from; `None` when it is not set.
    pub source: Option<Source>,
    /// What else there is to say: "set but empty".
    pub note: Option<String>,
}

/// All variables with value and source. `Display` is a table for people, [`to_json`](Settings::to_json) is for
/// machines. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    pub(crate) fn new(settings: Vec<Setting>) -> Self {
        Self(settings)
    }

    /// The settings, in the order in which the sections were read.
    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.0.iter()
    }

    /// The setting of this name.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.name == name)
    }

    /// A JSON array of objects with `name`, `value` (null when not set), `secret`, `source` and `note`, on one line.
    pub fn to_json(&self) -> String {
        let mut json = String::from("[");
        for (index, setting) in self.0.iter().enumerate() {
            json.push_str(if index == 0 { "{" } else { ",{" });
            json.push_str("\"name\":");
            string(&mut json, &setting.name);
            json.push_str(",\"value\":");
            optional(&mut json, setting.value.as_deref());
            json.push_str(if setting.secret {
                ",\"secret\":true"
            } else {
                ",\"secret\":false"
            });
            json.push_str(",\"source\":");
            optional(
                &mut json,
                setting.source.as_ref().map(ToString::to_string).as_deref(),
            );
            json.push_str(",\"note\":");
            optional(&mut json, setting.note.as_deref());
            json.push('}');
        }
        json.push(']');
        json
    }
}

fn optional(json: &mut String, text: Option<&str>) {
    match text {
        Some(text) => string(json, text),
        None => json.push_str("null"),
    }
}

fn string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _infallible = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |setting: &Setting| setting.value.clone().unwrap_or_else(|| "-".to_owned());
        let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).min(60);
        let names = width(&mut self.0.iter().map(|s| s.name.chars().count()));
        let values = width(&mut self.0.iter().map(|s| value(s).chars().count()));
        for (index, setting) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            let source = match (&setting.source, &setting.note) {
                (Some(source), Some(note)) => format!("{source} ({note})"),
                (Some(source), None) => source.to_string(),
                (None, Some(note)) => format!("not set ({note})"),
                (None, None) => "not set".to_owned(),
            };
            write!(f, "{:names$}  {:values$}  {source}", setting.name, value(setting))?;
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Settings {
    type Item = &'a Setting;
    type IntoIter = std::slice::Iter<'a, Setting>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
