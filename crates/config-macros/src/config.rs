use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Result, Type, spanned::Spanned};

use crate::{
    attributes::{self, FieldAttributes},
    krate,
};

/// One field, understood.
struct Field<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    kind: Kind,
}

enum Kind {
    Nested,
    Variable(Box<Variable>),
}

struct Variable {
    env: LitStr,
    attributes: FieldAttributes,
    doc: String,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let section = attributes::of_struct(&input.attrs)?;
    let krate = section
        .krate
        .as_ref()
        .map_or_else(krate::path, ToTokens::to_token_stream);
    let name = &input.ident;
    if !input.generics.params.is_empty() {
        return Err(Error::new(
            input.generics.span(),
            "a section of settings has no generics",
        ));
    }
    let fields = fields(input)?;

    let title = section.title.unwrap_or_else(|| {
        let name = name.to_string();
        name.strip_suffix("Config")
            .filter(|short| !short.is_empty())
            .unwrap_or(&name)
            .to_owned()
    });
    let (doc, prefixes) = (attributes::doc(&input.attrs), &section.prefixes);
    let specs = fields.iter().map(|field| field.spec(&krate));
    let describe = fields.iter().filter_map(|field| field.describe(&krate));
    let nested = fields.iter().filter_map(|field| field.describe_nested(&krate));
    let read = fields.iter().map(|field| field.read(&krate));
    let idents: Vec<_> = fields.iter().map(|field| field.ident).collect();
    let finish = match &section.check {
        Some(check) => quote_spanned!(check.span()=> __reader.check(__section, #check)),
        None => quote!(::core::option::Option::Some(__section)),
    };
    let default = section.impl_default.then(|| {
        let values = fields.iter().map(|field| field.default(&krate));
        quote! {
            #[automatically_derived]
            impl ::core::default::Default for #name {
                fn default() -> Self {
                    Self { #(#idents: #values,)* }
                }
            }
        }
    });

    Ok(quote! {
        const _: () = {
            #(#specs)*

            #[automatically_derived]
            impl #krate::Config for #name {
                fn describe(__into: &mut #krate::Schema) {
                    __into.section(#krate::SectionSpec { title: #title, doc: #doc, prefixes: &[#(#prefixes),*] });
                    #(#describe)*
                    #(#nested)*
                }

                fn read(__reader: &mut #krate::Reader<'_>) -> ::core::option::Option<Self> {
                    // Every field is read before the first bad one ends it, so that no problem is missed.
                    #(#read)*
                    let __section = Self { #(#idents: #idents?,)* };
                    #finish
                }
            }

            #default
        };
    })
}

fn fields(input: &DeriveInput) -> Result<Vec<Field<'_>>> {
    let named = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Some(fields),
            _ => None,
        },
        _ => None,
    };
    let Some(named) = named else {
        let hint = match &input.data {
            Data::Enum(_) => "`Config` is for structs with named fields; derive `ConfigEnum` for an enum",
            _ => "`Config` is for structs with named fields, one per variable",
        };
        return Err(Error::new(input.ident.span(), hint));
    };
    // A developer too wants all problems at once.
    let mut errors: Option<Error> = None;
    let mut fields = Vec::new();
    for field in &named.named {
        // Fields of a struct with named fields have names.
        let Some(ident) = &field.ident else { continue };
        match kind(field) {
            Ok(kind) => fields.push(Field {
                ident,
                ty: &field.ty,
                kind,
            }),
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    match errors {
        Some(errors) => Err(errors),
        None => unique(fields),
    }
}

fn kind(field: &syn::Field) -> Result<Kind> {
    let attributes = attributes::of_field(&field.attrs)?;
    if let Some(nested) = &attributes.nested {
        let alone = attributes.env.is_none()
            && attributes.aliases.is_empty()
            && attributes.default.is_none()
            && attributes.default_note.is_none()
            && attributes.example.is_none()
            && !attributes.secret;
        return match alone {
            true => Ok(Kind::Nested),
            false => Err(Error::new(
                nested.span(),
                "a nested section names its own variables: `nested` stands alone",
            )),
        };
    }
    let Some(env) = attributes.env.clone() else {
        let span = field.ident.as_ref().map_or_else(|| field.span(), Ident::span);
        let hint =
            "which variable is this? Write `#[config(env = \"NAME\")]`, or `#[config(nested)]` for a section";
        return Err(Error::new(span, hint));
    };
    let doc = attributes::doc(&field.attrs);
    Ok(Kind::Variable(Box::new(Variable { env, attributes, doc })))
}

/// Refuses a struct that reads one variable twice.
fn unique(fields: Vec<Field<'_>>) -> Result<Vec<Field<'_>>> {
    let mut seen: Vec<String> = Vec::new();
    for field in &fields {
        let Kind::Variable(variable) = &field.kind else {
            continue;
        };
        for name in std::iter::once(&variable.env).chain(&variable.attributes.aliases) {
            if seen.contains(&name.value()) {
                return Err(Error::new(
                    name.span(),
                    "this name is already taken in this section",
                ));
            }
            seen.push(name.value());
        }
    }
    Ok(fields)
}

impl Field<'_> {
    fn spec_ident(&self) -> Ident {
        let name = self.ident.to_string();
        Ident::new(
            &format!("__SPEC_{}", name.trim_start_matches("r#").to_uppercase()),
            self.ident.span(),
        )
    }

    fn spec(&self, krate: &TokenStream) -> Option<TokenStream> {
        let Kind::Variable(variable) = &self.kind else {
            return None;
        };
        let Variable { env, attributes, doc } = &**variable;
        let (ident, aliases, secret) = (self.spec_ident(), &attributes.aliases, attributes.secret);
        let optional = |text: &Option<LitStr>| match text {
            Some(text) => quote!(::core::option::Option::Some(#text)),
            None => quote!(::core::option::Option::None),
        };
        let default = optional(&attributes.default);
        let default_note = optional(&attributes.default_note);
        let example = optional(&attributes.example);
        Some(quote! {
            const #ident: #krate::FieldSpec = #krate::FieldSpec {
                name: #env,
                aliases: &[#(#aliases),*],
                doc: #doc,
                default: #default,
                default_note: #default_note,
                example: #example,
                secret: #secret,
            };
        })
    }

    fn describe(&self, _krate: &TokenStream) -> Option<TokenStream> {
        let Kind::Variable(_) = &self.kind else {
            return None;
        };
        let (ty, spec) = (self.ty, self.spec_ident());
        // The span of the type: that is what an error about it should point at.
        let call = quote_spanned!(ty.span()=> __into.field::<#ty>);
        Some(quote!(#call(#spec);))
    }

    fn describe_nested(&self, krate: &TokenStream) -> Option<TokenStream> {
        let Kind::Nested = &self.kind else { return None };
        let ty = self.ty;
        let path = quote_spanned!(ty.span()=> <#ty as #krate::Config>::describe);
        Some(quote!(#path(__into);))
    }

    fn read(&self, krate: &TokenStream) -> TokenStream {
        let (ident, ty) = (self.ident, self.ty);
        match &self.kind {
            Kind::Nested => {
                let path = quote_spanned!(ty.span()=> <#ty as #krate::Config>::read);
                quote!(let #ident = #path(__reader);)
            }
            Kind::Variable(_) => {
                let spec = self.spec_ident();
                let call = quote_spanned!(ty.span()=> __reader.field::<#ty>);
                quote!(let #ident = #call(&#spec);)
            }
        }
    }

    fn default(&self, krate: &TokenStream) -> TokenStream {
        let ty = self.ty;
        match &self.kind {
            Kind::Nested => quote_spanned!(ty.span()=> <#ty as ::core::default::Default>::default()),
            Kind::Variable(variable) => match &variable.attributes.default {
                Some(text) => {
                    let env = &variable.env;
                    quote_spanned!(ty.span()=> #krate::__private::default_value::<#ty>(#env, #text))
                }
                None => quote_spanned!(ty.span()=> <#ty as #krate::Optional>::when_absent()),
            },
        }
    }
}
