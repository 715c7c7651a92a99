use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, Fields, Result, spanned::Spanned};

use crate::{attributes, krate};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let section = attributes::of_struct(&input.attrs)?;
    let krate = section
        .krate
        .as_ref()
        .map_or_else(krate::path, ToTokens::to_token_stream);
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "`ConfigEnum` is for enums"));
    };
    if data.variants.is_empty() {
        return Err(Error::new(
            input.ident.span(),
            "an enum without variants has no value to write",
        ));
    }
    let name = &input.ident;
    let (mut variants, mut names, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen: Vec<String> = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(
                variant.fields.span(),
                "a variant with fields can't be written as one word",
            ));
        }
        let (own, aliases) = attributes::of_variant(&variant.attrs)?;
        let own = own.unwrap_or_else(|| kebab(&variant.ident.to_string()));
        let accepted: Vec<String> = std::iter::once(own.clone()).chain(aliases).collect();
        for name in &accepted {
            if seen.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
                return Err(Error::new(
                    variant.ident.span(),
                    format!("the name `{name}` is already taken"),
                ));
            }
            seen.push(name.clone());
        }
        variants.push(&variant.ident);
        names.push(own);
        patterns.push(accepted);
    }
    let listed = listed(&names);
    let checks = variants.iter().zip(&patterns).map(|(variant, accepted)| {
        quote! {
            if #(__text.eq_ignore_ascii_case(#accepted))||* {
                return ::core::result::Result::Ok(Self::#variant);
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        #[allow(dead_code)]
        impl #name {
            /// The name of each value, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[#(#names),*];

            /// The value's name, as it is written in the environment.
            pub const fn as_str(&self) -> &'static str {
                match self {
                    #(Self::#variants => #names,)*
                }
            }
        }

        #[automatically_derived]
        impl #krate::ConfigValue for #name {
            fn expected() -> ::std::string::String {
                ::std::string::String::from(#listed)
            }

            fn parse(text: &str) -> ::core::result::Result<Self, ::std::string::String> {
                let __text = text.trim();
                #(#checks)*
                ::core::result::Result::Err(::std::string::String::new())
            }

            fn nearest(text: &str) -> ::core::option::Option<&'static str> {
                #krate::__private::nearest(text.trim(), Self::NAMES)
            }
        }
    })
}

/// `HttpProxy` is `http-proxy`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for (index, character) in name.trim_start_matches("r#").chars().enumerate() {
        if character.is_uppercase() && index > 0 {
            kebab.push('-');
        }
        kebab.extend(character.to_lowercase());
    }
    kebab
}

/// `a`, "`a` or `b`", "`a`, `b` or `c`".
fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
