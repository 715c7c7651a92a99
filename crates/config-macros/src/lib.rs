#![doc = include_str!("../README.md")]

mod attributes;
mod config;
mod config_enum;
mod krate;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct a section of settings: each field is one variable, or with `#[config(nested)]` a section of its own.
///
/// # On the struct: `#[config(…)]`
///
/// | attribute | meaning |
/// | --- | --- |
/// | `title = "Storage"` | heading in templates; without it, the struct's name without `Config` |
/// | `prefixes("STORAGE_", "OSS_")` | a set variable that starts so and is not known is an error |
/// | `check = path` | `fn(&Self, &mut Reader<'_>)`, called when all fields are good, for rules between fields |
/// | `impl_default` | also implement `Default` from the defaults; every field needs one, or a type that may be absent |
/// | `crate = path` | where this crate is found, if it is neither `zhuji_config` nor `zhuji::config` |
///
/// # On a field: `#[config(…)]`
///
/// | attribute | meaning |
/// | --- | --- |
/// | `env = "STORAGE_TYPE"` | the variable's full name; required |
/// | `alias = "NODE_ENV"` | another name, as often as needed |
/// | `default = "3s"` | the default, as text; numbers and booleans may stand without quotes |
/// | `default_note = "cores × 2"` | words about a default that is worked out or depends on the mode |
/// | `example = "…"` | a good value, for templates |
/// | `secret` | never show the value, though its type is not `Secret` |
/// | `nested` | the field is a section; excludes all others |
///
/// A field without a default is required, unless it is an `Option` or a `Vec`. The field's doc comment is kept for
/// templates.
#[proc_macro_derive(Config, attributes(config))]
pub fn derive_config(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    config::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Lets a variable hold an enum without fields. Names are the variants' in kebab case, `Fsync` is `fsync`, and case
/// does not matter; a bad value lists the good ones and names the nearest.
///
/// On a variant: `#[config(name = "v4")]` for another name, `#[config(alias = "4")]` for one more.
///
/// Also adds `as_str()` and `NAMES` to the enum.
#[proc_macro_derive(ConfigEnum, attributes(config))]
pub fn derive_config_enum(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    config_enum::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
