use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};

use crate::redact::{MASK, is_sensitive_name, redact};

/// More of one value is never kept: a `Debug` of a gigabyte must not need a gigabyte.
const VALUE_MAX: usize = 64 * 1024;

/// One value, redacted on the way in: what is stored in a span can no longer leak.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Arc<str>),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
}

impl Value {
    fn text(text: &str) -> Self {
        Self::Text(redact(text).into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(value) => f.write_str(value),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            // `Debug` keeps the fraction, and is valid JSON for every finite number.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// The fields of one span or event, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) message: Option<Arc<str>>,
    pub(crate) list: Vec<(Cow<'static, str>, Value)>,
    /// The real target of a record that came through the `log` crate.
    pub(crate) log_target: Option<Arc<str>>,
    /// Something was too long to be kept.
    pub(crate) cut: bool,
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.list
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// A copy that shares its texts.
    pub(crate) fn share(&self) -> Self {
        Self {
            message: None,
            list: self.list.clone(),
            log_target: None,
            cut: self.cut,
        }
    }

    /// Takes over what was recorded later.
    pub(crate) fn merge(&mut self, later: Self) {
        self.cut |= later.cut;
        for (name, value) in later.list {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: Cow<'static, str>, value: Value) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.list.push((name, value)),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if name == "message" {
            let text = match value {
                Value::Text(text) => text,
                other => other.to_string().into(),
            };
            self.message = Some(text);
            return;
        }
        if let Some(log) = name.strip_prefix("log.") {
            // The bridge from the `log` crate sends where a record came from as fields.
            match (log, &value) {
                ("target", Value::Text(target)) => return self.log_target = Some(target.clone()),
                ("module_path" | "file" | "line", _) => return,
                _ => {}
            }
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        let value = match value {
            // A count of tokens is no token.
            Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Bool(_) if !name.contains("pass") => {
                value
            }
            _ if is_sensitive_name(name) => Value::Text(MASK.into()),
            value => value,
        };
        self.set(Cow::Borrowed(name), value);
    }

    fn put_display(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = Bounded::default();
        // An error here is either the bound or a `Debug` that gave up; what was written is kept in both cases.
        let _ = text.write_fmt(value);
        self.cut |= text.full;
        self.put(field, Value::text(&text.text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.put(field, Value::Float(value));
        } else {
            self.put(field, Value::Text(value.to_string().into()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Uint(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        // Beyond 64 bits a JSON number is rounded by most readers, so it goes as text.
        match i64::try_from(value) {
            Ok(value) => self.put(field, Value::Int(value)),
            Err(_) => self.put(field, Value::Text(value.to_string().into())),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.put(field, Value::Uint(value)),
            Err(_) => self.put(field, Value::Text(value.to_string().into())),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let kept = &value[..value.floor_char_boundary(VALUE_MAX)];
        self.cut |= kept.len() < value.len();
        self.put(field, Value::text(kept));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.put_display(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_display(field, format_args!("{value:?}"));
    }
}

/// An error and its causes in one line, without what an error's own text already repeats.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = VALUE_MAX - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        self.text.push_str(&part[..part.floor_char_boundary(room)]);
        self.full = true;
        Err(fmt::Error)
    }
}
