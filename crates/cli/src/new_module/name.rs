//! A module's name, in every shape it is written in.

/// Names that mean something else below `/api/v1`, in the database or to cargo.
const RESERVED: &[&str] = &[
    // Schemas of PostgreSQL and of the platform.
    "public",
    "information_schema",
    "zhuji_jobs",
    // Words of the platform: a log line or a metric could not be told apart.
    "admin",
    "health",
    "metrics",
    "pages",
    "platform",
    "storage",
    "uploads",
    "zhuji",
    // Names of crates and of directories that cargo makes.
    "build",
    "core",
    "alloc",
    "deps",
    "examples",
    "incremental",
    "proc_macro",
    "std",
    "test",
    "tokio",
    "serde",
    "serde_json",
    "zhuji_testkit",
    // Words of SQL that a schema would have to be quoted for.
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "asc",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "default",
    "desc",
    "distinct",
    "do",
    "end",
    "except",
    "fetch",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "into",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "primary",
    "references",
    "select",
    "table",
    "then",
    "to",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "window",
    "with",
];

/// Keywords of Rust, reserved ones included.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// Names of types that the new crate itself uses.
const TYPES: &[&str] = &[
    "context", "json", "manifest", "module", "need", "note", "option", "path", "problem", "result", "router",
    "state", "total",
];

/// As long as a module's manifest allows.
const LONGEST: usize = 32;

/// A checked name.
#[derive(Debug)]
pub(super) struct Name {
    module: String,
}

impl Name {
    /// Takes `patient-notes` and `patient_notes`; an error says what is wrong with anything else.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("`{text}` can't be the name of a module: {why}"));
        if text.is_empty() || text.len() > LONGEST {
            return refuse("it has 1 to 32 letters");
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return refuse("it begins with a letter a-z");
        }
        if !text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
        {
            return refuse("it has only a-z, 0-9 and - or _, such as patient-notes");
        }
        if text.contains('-') && text.contains('_') {
            return refuse("its words are joined by - or by _, not by both");
        }
        if text.split(['-', '_']).any(str::is_empty) {
            return refuse("between - or _ there are words");
        }
        let module = text.replace('-', "_");
        if module.starts_with("pg_") || module.starts_with("zhuji_") || RESERVED.contains(&module.as_str()) {
            return refuse("the name is taken by the platform, by PostgreSQL or by cargo");
        }
        if KEYWORDS.contains(&module.as_str()) {
            return refuse("it is a keyword of Rust");
        }
        if TYPES.contains(&module.as_str()) {
            return refuse("the platform has a type of this name");
        }
        Ok(Self { module })
    }

    /// `patient_notes`: the module, its schema, its crate.
    pub(super) fn module(&self) -> &str {
        &self.module
    }

    /// `patient-notes`: the package and the program.
    pub(super) fn package(&self) -> String {
        self.module.replace('_', "-")
    }

    /// `PatientNotes`: the type.
    pub(super) fn type_name(&self) -> String {
        let capital = |word: &str| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        };
        self.module.split('_').map(capital).collect()
    }

    /// `PATIENT_NOTES`: in front of its variables.
    pub(super) fn prefix(&self) -> String {
        self.module.to_ascii_uppercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_the_same_module() {
        for text in ["patient-notes", "patient_notes"] {
            let name = Name::parse(text).expect(text);
            assert_eq!(name.module(), "patient_notes");
            assert_eq!(name.package(), "patient-notes");
            assert_eq!(name.type_name(), "PatientNotes");
            assert_eq!(name.prefix(), "PATIENT_NOTES");
        }
        assert_eq!(Name::parse("aia2").expect("a name").type_name(), "Aia2");
    }

    #[test]
    fn what_would_break_something_later_is_refused_now() {
        for (bad, why) in [
            ("", "1 to 32"),
            ("a_name_that_is_longer_than_thirty_two", "1 to 32"),
            ("2asl", "begins with"),
            ("-asl", "begins with"),
            ("Asl", "begins with"),
            ("patientNotes", "only a-z"),
            ("文献", "begins with"),
            ("a/b", "only a-z"),
            ("../a", "begins with"),
            ("a-b_c", "not by both"),
            ("a--b", "there are words"),
            ("a-", "there are words"),
            ("public", "taken"),
            ("user", "taken"),
            ("pg-stats", "taken"),
            ("zhuji-jobs", "taken"),
            ("match", "keyword"),
            ("async", "keyword"),
            ("context", "type of this name"),
        ] {
            let refusal = Name::parse(bad).expect_err(bad);
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
