#![doc = include_str!("../README.md")]

// The derives name this crate by its full path, here too.
extern crate self as zhuji_config;

mod bytesize;
mod dotenv;
mod duration;
mod file;
mod layer;
mod loader;
mod origin;
mod problem;
mod redact;
mod resolve;
mod schema;
mod secret;
mod secret_url;
mod show;
mod sources;
mod suggest;
mod template;
mod toml_file;
mod unknown;
mod value;

pub use bytesize::ByteSize;
pub use duration::{format_duration, parse_duration};
pub use loader::{Loaded, Loader, Reader, load, load_from_pairs};
pub use origin::Source;
pub use problem::{Problem, ProblemKind, Report};
pub use schema::{Config, Field, FieldSpec, Schema, Section, SectionSpec};
pub use secret::Secret;
pub use secret_url::SecretUrl;
pub use show::{Setting, Settings};
pub use sources::Sources;
pub use suggest::nearest;
pub use template::{TemplateFormat, template};
pub use url::Url;
pub use value::{ConfigValue, Optional};
pub use zhuji_config_macros::{Config, ConfigEnum};

/// What the derives call; not for anyone else.
#[doc(hidden)]
pub mod __private {
    /// The value of a field's default text, for `#[config(impl_default)]`.
    pub fn default_value<T: crate::ConfigValue>(variable: &str, text: &str) -> T {
        match T::parse(text) {
            Ok(value) => value,
            Err(_) => panic!(
                "the default of {variable} does not parse; expected {}",
                T::expected()
            ),
        }
    }

    /// The name of an enum's value that a word was probably meant to be.
    pub fn nearest(word: &str, names: &[&'static str]) -> Option<&'static str> {
        crate::suggest::nearest(word, names.iter().copied())
    }
}
