use crate::{ConfigValue, Reader};

/// A section of settings: a plain struct with `#[derive(Config)]`.
///
/// The derive writes both functions. Write them by hand only for what a struct can't say.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a section of settings",
    label = "not a section",
    note = "derive it: `#[derive(zhuji_config::Config)]`"
)]
pub trait Config: Sized {
    /// Says which variables the section reads, without reading them.
    fn describe(into: &mut Schema);

    /// Reads every variable of the section. `None` means that at least one problem was recorded; the rest of the
    /// section was still read, so that the report is complete.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        /// Several sections at once.
        impl<$($name: Config),*> Config for ($($name,)*) {
            fn describe(_into: &mut Schema) {
                $($name::describe(_into);)*
            }

            #[allow(non_snake_case)]
            fn read(_reader: &mut Reader<'_>) -> Option<Self> {
                // All are read before the first missing one ends it.
                $(let $name = $name::read(_reader);)*
                Some(($($name?,)*))
            }
        }
    )*};
}

tuples! {
    ;
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

/// What a section says about itself; the derive writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SectionSpec {
    /// The heading in a template.
    pub title: &'static str,
    /// The struct's doc comment.
    pub doc: &'static str,
    /// What its variables start with. A set variable that starts so and is not known is an error.
    pub prefixes: &'static [&'static str],
}

/// What a field says about its variable; the derive writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FieldSpec {
    /// The variable.
    pub name: &'static str,
    /// Other names under which it is understood.
    pub aliases: &'static [&'static str],
    /// The field's doc comment.
    pub doc: &'static str,
    /// The text of the built-in default.
    pub default: Option<&'static str>,
    /// Words about a default that is worked out, such as "cores × 2", or that depends on the mode.
    pub default_note: Option<&'static str>,
    /// A good value, for the template.
    pub example: Option<&'static str>,
    /// Marked secret, whatever its type says.
    pub secret: bool,
}

/// One variable of the program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Field {
    /// What the derive wrote down.
    pub spec: FieldSpec,
    /// What a good value looks like.
    pub expected: String,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether the program can't start without it.
    pub required: bool,
}

/// A heading with the variables beneath it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Section {
    /// What the derive wrote down.
    pub spec: SectionSpec,
    /// The variables, in the order of the struct's fields.
    pub fields: Vec<Field>,
}

/// Every variable a program knows, by section. Gathered from the types alone, without an environment.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    sections: Vec<Section>,
}

impl Schema {
    /// An empty schema.
    pub fn new() -> Self {
        Self::default()
    }

    /// The schema of one section (or a tuple of sections) with everything nested in it.
    pub fn of<T: Config>() -> Self {
        let mut schema = Self::new();
        T::describe(&mut schema);
        schema
    }

    /// Opens a section; the fields that follow belong to it.
    pub fn section(&mut self, spec: SectionSpec) {
        self.sections.push(Section {
            spec,
            fields: Vec::new(),
        });
    }

    /// Adds a variable of type `T` to the section opened last. A variable that two sections share is listed once,
    /// where it came first, and is secret if one of them says so.
    pub fn field<T: ConfigValue>(&mut self, spec: FieldSpec) {
        let secret = T::SECRET || spec.secret;
        let mut fields = self.sections.iter_mut().flat_map(|section| &mut section.fields);
        if let Some(known) = fields.find(|field| field.spec.name == spec.name) {
            known.secret |= secret;
            return;
        }
        let field = Field {
            spec,
            expected: T::expected(),
            secret,
            required: spec.default.is_none() && T::absent().is_none(),
        };
        if self.sections.is_empty() {
            self.section(SectionSpec::default());
        }
        if let Some(section) = self.sections.last_mut() {
            section.fields.push(field);
        }
    }

    /// The sections, in the order in which they were described. One without fields is a section whose variables
    /// all appeared earlier.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// All variables.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.sections.iter().flat_map(|section| &section.fields)
    }

    /// The variable with this name or alias.
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.fields()
            .find(|field| field.spec.name == name)
            .or_else(|| self.fields().find(|field| field.spec.aliases.contains(&name)))
    }

    /// Whether a set variable of this name could be a mistyped one of ours.
    pub(crate) fn has_prefix_of(&self, name: &str) -> bool {
        self.sections
            .iter()
            .flat_map(|section| section.spec.prefixes)
            .any(|prefix| name.starts_with(prefix))
    }

    /// All names and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.fields()
            .flat_map(|field| std::iter::once(field.spec.name).chain(field.spec.aliases.iter().copied()))
    }
}
