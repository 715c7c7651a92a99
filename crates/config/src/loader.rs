use std::{fmt, path::PathBuf};

use crate::{
    Config, ConfigValue, FieldSpec, Problem, ProblemKind, Report, Schema, Setting, Settings,
    layer::{Rank, Raw},
    origin::Source,
    redact,
    resolve::Resolution,
    sources::Sources,
    suggest, unknown,
};

/// Reads sections from [`Sources`] and gathers every problem into one [`Report`].
///
/// Unknown variables are looked for in [`finish`](Loader::finish), when all sections are described.
pub struct Loader {
    pub(crate) sources: Sources,
    pub(crate) schema: Schema,
    report: Report,
    settings: Vec<Setting>,
    on_unknown: OnUnknown,
}

/// What a successful load leaves behind beside the sections themselves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// Every variable of the program.
    pub schema: Schema,
    /// Every value with its source, secrets redacted, as `config show` prints it.
    pub settings: Settings,
    /// What should be logged: unknown variables under `CONFIG_UNKNOWN=warn`.
    pub warnings: Vec<Problem>,
}

impl Loader {
    /// Starts with the problems the sources already have.
    pub fn new(mut sources: Sources) -> Self {
        let problems = std::mem::take(&mut sources.problems);
        let mut loader = Self {
            sources,
            schema: Schema::new(),
            report: Report {
                problems,
                warnings: Vec::new(),
            },
            settings: Vec::new(),
            on_unknown: OnUnknown::Error,
        };
        if let Some(own) = loader.load::<Own>() {
            loader.on_unknown = own.unknown;
        }
        loader
    }

    /// Reads a section (or a tuple of sections). `None` means that problems were recorded; go on with the other
    /// sections, so that the report is complete.
    pub fn load<T: Config>(&mut self) -> Option<T> {
        T::describe(&mut self.schema);
        T::read(&mut Reader { loader: self })
    }

    /// Makes a section's variables known without reading them: that of a module which is compiled in and not mounted.
    pub fn describe<T: Config>(&mut self) {
        T::describe(&mut self.schema);
    }

    /// Adds defaults for sections loaded after this, as [`Sources::with_defaults`].
    pub fn defaults<N: Into<String>, V: Into<String>, W: Into<String>>(
        &mut self,
        defaults: impl IntoIterator<Item = (N, V, W)>,
    ) {
        self.sources.add_defaults(defaults);
    }

    /// Records a problem that only the caller can see: one between sections.
    pub fn problem(&mut self, problem: Problem) {
        let same = |known: &&Problem| {
            known.variable == problem.variable && known.kind == problem.kind && known.detail == problem.detail
        };
        if self.report.problems.iter().find(same).is_none() {
            self.report.problems.push(problem);
        }
    }

    /// Records what should be looked at and stops nothing.
    pub fn warning(&mut self, warning: Problem) {
        self.report.warnings.push(warning);
    }

    /// Records that `variable` is required because of another setting, unless it is `present`.
    pub fn require(&mut self, variable: &str, present: bool, because: impl fmt::Display) {
        // A value that is set and bad is absent too, and has been reported already.
        if !present && self.report.of(variable).next().is_none() {
            let mut problem = Problem::required(variable, because);
            problem.hint = Some(self.how_to_set(variable));
            if let Some(field) = self.schema.find(variable) {
                problem.expected = Some(field.expected.clone());
            }
            self.problem(problem);
        }
    }

    /// Where the value of a variable came from; `None` if it is not set (a section's default counts as set).
    pub fn source_of(&self, variable: &str) -> Option<&Source> {
        self.settings
            .iter()
            .find(|setting| setting.name == variable)?
            .source
            .as_ref()
    }

    /// Whether somebody chose this value: it comes from neither kind of default.
    pub fn is_set(&self, variable: &str) -> bool {
        self.source_of(variable)
            .is_some_and(|s| !matches!(s, Source::Default | Source::ModeDefault(_)))
    }

    /// Every variable described so far.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Every value read so far, secrets redacted. Unlike [`finish`](Self::finish) it answers when there are problems
    /// too, which is when an operator asks.
    pub fn settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        // A later section may have said that the variable is secret.
        for setting in settings
            .iter_mut()
            .filter(|setting| self.is_secret(&setting.name))
        {
            setting.secret = true;
            setting.value = setting.value.take().map(|_| "***".to_owned());
        }
        Settings::new(settings)
    }

    /// The problems so far, and unknown variables among them.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        for problem in report
            .problems
            .iter_mut()
            .filter(|problem| self.is_secret(&problem.variable))
        {
            problem.found = None;
        }
        let unknown = unknown::find(&self.sources, &self.schema, &report.problems);
        match self.on_unknown {
            OnUnknown::Warn => report.warnings.extend(unknown),
            OnUnknown::Error => report.problems.extend(unknown),
        }
        report
    }

    /// Looks for unknown variables and ends the load.
    ///
    /// # Errors
    /// The report, when it holds at least one problem.
    pub fn finish(self) -> Result<Loaded, Report> {
        let report = self.report();
        if !report.is_ok() {
            return Err(report);
        }
        let settings = self.settings();
        Ok(Loaded {
            schema: self.schema,
            settings,
            warnings: report.warnings,
        })
    }

    /// As [`finish`](Self::finish), with the sections that were loaded.
    ///
    /// # Errors
    /// The report, when it holds at least one problem.
    pub fn finish_with<T>(self, sections: Option<T>) -> Result<(T, Loaded), Report> {
        let loaded = self.finish()?;
        match sections {
            Some(sections) => Ok((sections, loaded)),
            // Only a hand-written `Config` can fail without saying why.
            None => Err(Report {
                problems: vec![
                    Problem::invalid("configuration", "a section was refused without a reason")
                        .with_hint("This is a mistake in the program, not in the configuration"),
                ],
                warnings: loaded.warnings,
            }),
        }
    }

    fn is_secret(&self, variable: &str) -> bool {
        self.schema
            .fields()
            .any(|field| field.secret && field.spec.name == variable)
    }

    fn how_to_set(&self, variable: &str) -> String {
        // A variable misspelt in its prefix is nobody's unknown variable, and here is the place to notice it.
        let known: Vec<&str> = self.schema.names().collect();
        let stray = self
            .sources
            .layers
            .iter()
            .flat_map(|layer| layer.entries.keys())
            .filter(|name| variable.len() >= 5 && name.len() <= 128 && !known.contains(&name.as_str()))
            .find(|name| suggest::distance(name, variable) <= 2);
        match stray {
            Some(stray) => format!("{} is set: did you mean {variable}?", redact::name(stray)),
            None => format!("Set {variable} or {variable}_FILE"),
        }
    }
}

/// Names and counts, never values.
impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("sources", &self.sources)
            .field("variables", &self.schema.fields().count())
            .field("problems", &self.report.problems.len())
            .finish()
    }
}

/// What a section reads its variables from, and where its check reports.
#[derive(Debug)]
pub struct Reader<'a> {
    loader: &'a mut Loader,
}

impl Reader<'_> {
    /// Reads one variable. `None` means that a problem was recorded.
    pub fn field<T: ConfigValue>(&mut self, spec: &FieldSpec) -> Option<T> {
        // Whatever this section says: what another one keeps secret is secret.
        let secret = T::SECRET || spec.secret || self.loader.is_secret(spec.name);
        let names: Vec<&'static str> = std::iter::once(spec.name)
            .chain(spec.aliases.iter().copied())
            .collect();
        // A variable that is itself called `SOMETHING_FILE` is not the file form of `SOMETHING`.
        let file_names: Vec<String> = names
            .iter()
            .map(|name| format!("{name}_FILE"))
            .filter(|name| self.loader.schema.find(name).is_none())
            .collect();
        let found = match self.loader.sources.resolve(&names, &file_names, secret) {
            Resolution::Found(found) => found,
            Resolution::Unset { empty } => return self.absent(spec, secret, empty),
            Resolution::Refused(problem) => {
                self.loader.problem(problem);
                self.show(spec.name, "", secret, None, Some("in conflict or unreadable"));
                return None;
            }
        };
        let text = found.raw.to_text();
        self.show(spec.name, &text, secret, Some(found.source.clone()), None);
        let parsed = match &found.raw {
            Raw::Malformed => return None,
            Raw::NotUnicode => Err("it is not UTF-8 text".to_owned()),
            Raw::Text(text) if text.contains('\0') => Err("it holds a NUL character".to_owned()),
            Raw::List(items) if items.iter().any(|item| item.contains('\0')) => {
                Err("it holds a NUL character".to_owned())
            }
            Raw::Text(text) => T::parse(text),
            Raw::List(items) => T::parse_list(items),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(detail) => {
                let mut problem = Problem::new(spec.name, ProblemKind::Invalid)
                    .with_source(found.source)
                    .with_expected(T::expected());
                if secret {
                    // The type's own words might quote the value; a secret's are not printed.
                    problem = problem
                        .with_detail("its value was not accepted, and is not shown because it is secret");
                } else {
                    problem.detail = Some(detail).filter(|detail| !detail.is_empty());
                    problem.hint = T::nearest(&text).map(|name| format!("Did you mean `{name}`?"));
                    if !text.is_empty() {
                        problem = problem.with_found(&text);
                    }
                }
                self.loader.problem(problem);
                None
            }
        }
    }

    /// Whether somebody chose this value: it comes from neither kind of default.
    pub fn is_set(&self, variable: &str) -> bool {
        self.loader.is_set(variable)
    }

    /// Records a problem; a section's check uses it.
    pub fn problem(&mut self, problem: Problem) {
        self.loader.problem(problem);
    }

    /// Records that `variable` is required because of another setting, unless it is `present`.
    pub fn require(&mut self, variable: &str, present: bool, because: impl fmt::Display) {
        self.loader.require(variable, present, because);
    }

    /// Runs a section's check; `None` if the check recorded a problem.
    pub fn check<T>(&mut self, section: T, check: impl FnOnce(&T, &mut Self)) -> Option<T> {
        let before = self.loader.report.problems.len();
        check(&section, self);
        (self.loader.report.problems.len() == before).then_some(section)
    }

    fn absent<T: ConfigValue>(&mut self, spec: &FieldSpec, secret: bool, empty: bool) -> Option<T> {
        let note = empty.then_some("set but empty");
        if let Some(default) = spec.default {
            self.show(spec.name, default, secret, Some(Source::Default), note);
            return match T::parse(default) {
                Ok(value) => Some(value),
                Err(_) => {
                    let problem = Problem::new(spec.name, ProblemKind::BadDefault)
                        .with_expected(T::expected())
                        .with_hint("This is a mistake in the program, not in the configuration");
                    self.loader.problem(problem);
                    None
                }
            };
        }
        self.show(spec.name, "", secret, None, note.or(spec.default_note));
        let value = T::absent();
        if value.is_none() {
            let mut problem = Problem::new(spec.name, ProblemKind::Missing).with_expected(T::expected());
            if empty {
                problem = problem.with_detail("required and empty, which counts as not set");
            }
            problem.hint = Some(self.loader.how_to_set(spec.name));
            self.loader.problem(problem);
        }
        value
    }

    fn show(&mut self, name: &str, text: &str, secret: bool, source: Option<Source>, note: Option<&str>) {
        if self.loader.settings.iter().any(|setting| setting.name == name) {
            return;
        }
        let value = match (text.is_empty(), secret) {
            (true, _) => None,
            (false, true) => Some("***".to_owned()),
            (false, false) => Some(redact::display(text, 200)),
        };
        let note = note.map(str::to_owned);
        self.loader.settings.push(Setting {
            name: name.to_owned(),
            value,
            secret,
            source,
            note,
        });
    }
}

/// Reads one section (or a tuple of sections), everything checked.
///
/// # Errors
/// All problems, unknown variables included.
pub fn load<T: Config>(sources: Sources) -> Result<T, Report> {
    let mut loader = Loader::new(sources);
    let section = loader.load::<T>();
    loader.finish_with(section).map(|(section, _)| section)
}

/// Reads one section from these variables alone, for tests and for programs without an environment.
///
/// # Errors
/// All problems, unknown variables included.
pub fn load_from_pairs<T: Config>(
    pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
) -> Result<T, Report> {
    load(Sources::from_pairs(pairs))
}

/// Which layer's unknown variables count wherever they stand: our own file and our own command line hold nothing
/// that is meant for other programs.
pub(crate) fn is_ours(rank: Rank) -> bool {
    matches!(rank, Rank::File | Rank::CommandLine)
}

/// What becomes of unknown variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, zhuji_config_macros::ConfigEnum)]
enum OnUnknown {
    Error,
    Warn,
}

/// The heading of [`Own`], which templates put last.
pub(crate) const OWN_TITLE: &str = "Configuration";

/// How the configuration itself is read. These belong in the environment or on the command line.
#[derive(zhuji_config_macros::Config)]
#[config(title = "Configuration")]
struct Own {
    /// A TOML file with settings; it must exist when it is named here.
    ///
    /// Env: `CONFIG_FILE`. Default: `zhuji.toml` in the working directory, where there is one.
    #[config(
        env = "CONFIG_FILE",
        default_note = "`zhuji.toml` in the working directory, where there is one"
    )]
    _file: Option<PathBuf>,
    /// What an unknown variable does, under a known prefix or with nearly a known name: `error` stops the start, `warn`
    /// is only logged. For the day of an upgrade that removed a variable.
    ///
    /// Env: `CONFIG_UNKNOWN`. Default: `error`.
    #[config(env = "CONFIG_UNKNOWN", default = "error")]
    unknown: OnUnknown,
}
