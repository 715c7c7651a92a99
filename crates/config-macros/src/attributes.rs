use syn::{
    Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Path, Result, Token, meta::ParseNestedMeta,
    parenthesized, punctuated::Punctuated, spanned::Spanned,
};

/// `#[config(…)]` on a struct.
#[derive(Default)]
pub(crate) struct StructAttributes {
    pub(crate) title: Option<String>,
    pub(crate) prefixes: Vec<LitStr>,
    pub(crate) check: Option<Path>,
    pub(crate) impl_default: bool,
    pub(crate) krate: Option<Path>,
}

/// `#[config(…)]` on a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) env: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) default: Option<LitStr>,
    pub(crate) default_note: Option<LitStr>,
    pub(crate) example: Option<LitStr>,
    pub(crate) secret: bool,
    pub(crate) nested: Option<Path>,
}

const ON_STRUCT: &str = "`title`, `prefixes(…)`, `check`, `impl_default`, `crate`";
const ON_FIELD: &str = "`env`, `alias`, `default`, `default_note`, `example`, `secret`, `nested`";
const ON_VARIANT: &str = "`name`, `alias`";

pub(crate) fn of_struct(attributes: &[Attribute]) -> Result<StructAttributes> {
    let mut parsed = StructAttributes::default();
    each(attributes, |meta| {
        if meta.path.is_ident("title") {
            once(&meta, parsed.title.is_some())?;
            parsed.title = Some(text(&meta)?.value());
        } else if meta.path.is_ident("prefixes") {
            let content;
            parenthesized!(content in meta.input);
            for prefix in Punctuated::<LitStr, Token![,]>::parse_terminated(&content)? {
                if !is_variable_name(&prefix.value()) {
                    return Err(Error::new(
                        prefix.span(),
                        "a prefix is the start of a name, such as \"STORAGE_\"",
                    ));
                }
                parsed.prefixes.push(prefix);
            }
        } else if meta.path.is_ident("check") {
            once(&meta, parsed.check.is_some())?;
            parsed.check = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("impl_default") {
            parsed.impl_default = true;
        } else if meta.path.is_ident("crate") {
            parsed.krate = Some(meta.value()?.parse()?);
        } else {
            return Err(unknown(&meta, "struct", ON_STRUCT));
        }
        Ok(())
    })?;
    Ok(parsed)
}

pub(crate) fn of_field(attributes: &[Attribute]) -> Result<FieldAttributes> {
    let mut parsed = FieldAttributes::default();
    each(attributes, |meta| {
        if meta.path.is_ident("env") {
            once(&meta, parsed.env.is_some())?;
            parsed.env = Some(variable(&meta)?);
        } else if meta.path.is_ident("alias") {
            parsed.aliases.push(variable(&meta)?);
        } else if meta.path.is_ident("default") {
            once(&meta, parsed.default.is_some())?;
            parsed.default = Some(literal(&meta)?);
        } else if meta.path.is_ident("default_note") {
            parsed.default_note = Some(text(&meta)?);
        } else if meta.path.is_ident("example") {
            parsed.example = Some(literal(&meta)?);
        } else if meta.path.is_ident("secret") {
            parsed.secret = true;
        } else if meta.path.is_ident("nested") {
            parsed.nested = Some(meta.path.clone());
        } else {
            return Err(unknown(&meta, "field", ON_FIELD));
        }
        Ok(())
    })?;
    Ok(parsed)
}

/// The name given to a variant, and its aliases.
pub(crate) fn of_variant(attributes: &[Attribute]) -> Result<(Option<String>, Vec<String>)> {
    let (mut name, mut aliases) = (None, Vec::new());
    each(attributes, |meta| {
        if meta.path.is_ident("name") {
            once(&meta, name.is_some())?;
            name = Some(text(&meta)?.value());
        } else if meta.path.is_ident("alias") {
            aliases.push(text(&meta)?.value());
        } else {
            return Err(unknown(&meta, "variant", ON_VARIANT));
        }
        Ok(())
    })?;
    Ok((name, aliases))
}

/// The lines of a doc comment, without the blank that follows `///`.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(line), ..
                }) => Some(line.value()),
                _ => None,
            },
            _ => None,
        })
        .flat_map(|block| {
            block
                .lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

fn each(attributes: &[Attribute], mut visit: impl FnMut(ParseNestedMeta<'_>) -> Result<()>) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("config"))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut visit))
}

fn unknown(meta: &ParseNestedMeta<'_>, place: &str, known: &str) -> Error {
    meta.error(format!("unknown attribute; on a {place}, `config` takes {known}"))
}

fn once(meta: &ParseNestedMeta<'_>, given: bool) -> Result<()> {
    if given {
        Err(meta.error("given twice"))
    } else {
        Ok(())
    }
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if text.value().is_empty() {
        Err(Error::new(text.span(), "can't be empty"))
    } else {
        Ok(text)
    }
}

/// A default or an example: a text, or a number or boolean that is turned into the text it is written as.
fn literal(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let value: Expr = meta.value()?.parse()?;
    let span = value.span();
    let text = match &value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) if text.value().is_empty() => {
            return Err(Error::new(
                span,
                "an empty text counts as not set; leave the attribute away",
            ));
        }
        Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) => text.value(),
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) => number.base10_digits().to_owned(),
        Expr::Lit(ExprLit {
            lit: Lit::Float(number),
            ..
        }) => number.base10_digits().to_owned(),
        Expr::Lit(ExprLit {
            lit: Lit::Bool(truth),
            ..
        }) => truth.value.to_string(),
        _ => {
            return Err(Error::new(
                span,
                "write the value as it stands in the environment: \"3s\"",
            ));
        }
    };
    Ok(LitStr::new(&text, span))
}

fn variable(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let name: LitStr = meta.value()?.parse()?;
    if is_variable_name(&name.value()) {
        Ok(name)
    } else {
        Err(Error::new(
            name.span(),
            "a variable's name is made of A-Z, 0-9 and _, and starts with a letter",
        ))
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
