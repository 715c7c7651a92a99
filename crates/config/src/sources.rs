use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    Problem, ProblemKind, dotenv, file,
    layer::{Layer, Rank, Raw},
    origin::Source,
    toml_file,
};

/// The places values come from, weakest first: mode defaults, `zhuji.toml`, `.env`, `NAME_FILE`, the environment,
/// the command line. An empty value counts as not set.
///
/// Problems met while gathering (a file that can't be read, a line that can't be understood) are kept and appear in
/// the [`Loader`](crate::Loader)'s report with all others.
#[derive(Clone)]
pub struct Sources {
    /// Strongest first, because a lookup starts there.
    pub(crate) layers: Vec<Layer>,
    pub(crate) defaults: BTreeMap<String, (String, String)>,
    pub(crate) problems: Vec<Problem>,
}

impl Sources {
    /// No variable at all.
    pub fn empty() -> Self {
        Self {
            layers: Vec::new(),
            defaults: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// The environment of this process, and nothing else.
    pub fn from_process() -> Self {
        Self::from_os_pairs(std::env::vars_os())
    }

    /// A program's usual sources: the environment, the command line's assignments, `zhuji.toml` in the working
    /// directory where there is one (or the file that `CONFIG_FILE` names, which must exist), and in development
    /// `.env` in the working directory where there is one.
    pub fn discover<N: Into<String>, V: Into<String>>(arguments: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::from_process()
            .with_args(arguments)
            .with_files_in(Path::new(""))
    }

    /// These variables in place of the environment, for tests.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut layer = Layer::new(Rank::Environment);
        for (name, value) in pairs {
            layer.insert(name.into(), Raw::Text(value.into()), 0);
        }
        Self::empty().with_layer(layer)
    }

    /// As [`from_pairs`](Self::from_pairs), with values as the operating system has them: any bytes. A value that is
    /// not UTF-8 becomes a problem when a section reads it; a name that is not UTF-8 is nobody's variable.
    pub fn from_os_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut layer = Layer::new(Rank::Environment);
        for (name, value) in pairs {
            if let Ok(name) = name.into_string() {
                layer.insert(name, value.into_string().map_or(Raw::NotUnicode, Raw::Text), 0);
            }
        }
        Self::empty().with_layer(layer)
    }

    /// Adds assignments of the command line, which win over everything. Secrets do not belong there: everyone on
    /// the machine can list them.
    #[must_use]
    pub fn with_args<N: Into<String>, V: Into<String>>(
        self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut layer = Layer::new(Rank::CommandLine);
        for (name, value) in pairs {
            layer.insert(name.into(), Raw::Text(value.into()), 0);
        }
        self.with_layer(layer)
    }

    /// Adds `zhuji.toml` and, in development, `.env` from a directory, as [`discover`](Self::discover) does.
    #[must_use]
    pub fn with_files_in(mut self, directory: &Path) -> Self {
        self = match self.lookup("CONFIG_FILE", &[]) {
            Some(path) => self.with_file(Path::new(&path)),
            None => match directory.join("zhuji.toml") {
                path if path.exists() => self.with_file(&path),
                _ => self,
            },
        };
        let development = self
            .lookup("APP_ENV", &["NODE_ENV"])
            .is_none_or(|name| name == "development");
        let path = directory.join(".env");
        if development && path.exists() {
            self.with_dotenv(&path)
        } else {
            self
        }
    }

    /// Adds a TOML file. It must exist.
    #[must_use]
    pub fn with_file(mut self, path: &Path) -> Self {
        let mut layer = Layer::new(Rank::File);
        layer.path = path.to_path_buf();
        if let Some(text) = self.read(path) {
            toml_file::parse(&text, &mut layer, &mut self.problems);
        }
        self.with_layer(layer)
    }

    /// Adds a `.env` file. It must exist. Whether this is a development machine is the caller's business;
    /// [`discover`](Self::discover) looks at `APP_ENV`.
    #[must_use]
    pub fn with_dotenv(mut self, path: &Path) -> Self {
        let mut layer = Layer::new(Rank::Dotenv);
        layer.path = path.to_path_buf();
        if let Some(text) = self.read(path) {
            dotenv::parse(&text, &mut layer, &mut self.problems);
        }
        // These two decide which files are read, and were needed before this file was.
        for (name, value_allowed) in [
            ("CONFIG_FILE", None),
            ("APP_ENV", Some("development")),
            ("NODE_ENV", Some("development")),
        ] {
            let Some(entry) = layer.get(name) else { continue };
            if value_allowed.is_none_or(|allowed| entry.raw != Raw::Text(allowed.to_owned())) {
                let source = layer.source(entry);
                self.problems.push(
                    Problem::new(name, ProblemKind::Invalid)
                        .with_source(source)
                        .with_detail("it decides whether this file is read, so it can't be set in it")
                        .with_hint("Set it in the environment"),
                );
                layer.entries.remove(name);
            }
        }
        self.with_layer(layer)
    }

    /// Adds defaults that stand above a section's own and below everything else, as (variable, value, reason); the
    /// reason is shown as the value's source: "DEPLOYMENT_MODE=cloud".
    #[must_use]
    pub fn with_defaults<N: Into<String>, V: Into<String>, W: Into<String>>(
        mut self,
        defaults: impl IntoIterator<Item = (N, V, W)>,
    ) -> Self {
        self.add_defaults(defaults);
        self
    }

    pub(crate) fn add_defaults<N: Into<String>, V: Into<String>, W: Into<String>>(
        &mut self,
        defaults: impl IntoIterator<Item = (N, V, W)>,
    ) {
        for (name, value, why) in defaults {
            self.defaults.insert(name.into(), (value.into(), why.into()));
        }
    }

    /// The text of a variable before any section is loaded, by name or alias, from the strongest layer that sets it;
    /// `NAME_FILE` and mode defaults are not looked at. For the few variables that decide how others are read.
    pub fn lookup(&self, name: &str, aliases: &[&str]) -> Option<String> {
        self.layers.iter().find_map(|layer| {
            std::iter::once(&name)
                .chain(aliases)
                .find_map(|name| match &layer.get(name)?.raw {
                    Raw::Text(text) => Some(text.clone()),
                    Raw::List(_) | Raw::NotUnicode => None,
                })
        })
    }

    fn with_layer(mut self, layer: Layer) -> Self {
        // A place given twice: the later one adds to the earlier.
        match self
            .layers
            .iter_mut()
            .find(|known| known.rank == layer.rank && known.path == layer.path)
        {
            Some(known) => known.entries.extend(layer.entries),
            None => self.layers.push(layer),
        }
        self.layers.sort_by(|a, b| b.rank.cmp(&a.rank));
        self
    }

    fn read(&mut self, path: &Path) -> Option<String> {
        file::read(path)
            .map_err(|reason| {
                let problem =
                    Problem::new(path.display().to_string(), ProblemKind::Unreadable).with_detail(reason);
                self.problems.push(problem);
            })
            .ok()
    }
}

/// Counts, never values.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |rank| {
            self.layers
                .iter()
                .filter(|l| l.rank == rank)
                .map(|l| l.entries.len())
                .sum::<usize>()
        };
        f.debug_struct("Sources")
            .field("defaults", &self.defaults.len())
            .field("file", &count(Rank::File))
            .field("dotenv", &count(Rank::Dotenv))
            .field("environment", &count(Rank::Environment))
            .field("command_line", &count(Rank::CommandLine))
            .field("problems", &self.problems.len())
            .finish()
    }
}

/// A value and where it was found.
pub(crate) struct Found {
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// What the layers say about one variable.
pub(crate) enum Resolution {
    /// Set nowhere; in the environment it may be there and empty.
    Unset {
        empty: bool,
    },
    Found(Found),
    /// Set in a way that is a problem.
    Refused(Problem),
}

/// One place that sets a variable: (index of the layer, the name used, the entry's text, its source).
struct Candidate {
    rank: Rank,
    name: String,
    raw: Raw,
    source: Source,
}

impl Sources {
    /// Finds a variable. `file_names` are the `NAME_FILE` forms that apply.
    pub(crate) fn resolve(&self, names: &[&'static str], file_names: &[String], secret: bool) -> Resolution {
        let direct = match self.strongest(names, secret) {
            Ok(direct) => direct,
            Err(problem) => return Resolution::Refused(problem),
        };
        let by_file = match self.strongest(file_names, false) {
            Ok(by_file) => by_file,
            Err(problem) => return Resolution::Refused(problem),
        };
        match (direct, by_file) {
            (None, None) => match names.iter().find_map(|name| self.defaults.get(*name)) {
                Some((value, why)) => Resolution::Found(Found {
                    raw: Raw::Text(value.clone()),
                    source: Source::ModeDefault(why.clone()),
                }),
                None => {
                    let empty = |layer: &Layer| names.iter().any(|name| layer.entries.contains_key(*name));
                    Resolution::Unset {
                        empty: self.layers.iter().any(empty),
                    }
                }
            },
            (Some(direct), None) => Resolution::Found(Found {
                raw: direct.raw,
                source: direct.source,
            }),
            (None, Some(by_file)) => read_value_file(names[0], by_file, secret),
            (Some(direct), Some(by_file)) => {
                // `NAME_FILE` stands between `.env` and the environment. Where the place that sets it says the
                // opposite of that (it is set as high as the value, or lower than `.env`), nobody can tell what was
                // meant.
                let file_wins = direct.rank < Rank::Environment;
                let clear = if file_wins {
                    by_file.rank > direct.rank
                } else {
                    by_file.rank < direct.rank
                };
                match (clear, file_wins) {
                    (false, _) => Resolution::Refused(
                        Problem::new(names[0], ProblemKind::Conflict)
                            .with_detail(format!(
                                "both {} ({}) and {} ({}) are set",
                                direct.name, direct.source, by_file.name, by_file.source
                            ))
                            .with_hint("Unset one of them"),
                    ),
                    (true, true) => read_value_file(names[0], by_file, secret),
                    (true, false) => Resolution::Found(Found {
                        raw: direct.raw,
                        source: direct.source,
                    }),
                }
            }
        }
    }

    /// The strongest layer's word on any of these names.
    fn strongest(&self, names: &[impl AsRef<str>], _secret: bool) -> Result<Option<Candidate>, Problem> {
        for layer in &self.layers {
            let mut set = names
                .iter()
                .filter_map(|name| Some((name.as_ref(), layer.get(name.as_ref())?)));
            let Some((name, entry)) = set.next() else { continue };
            if let Some((other, second)) = set.find(|(_, other)| other.raw != entry.raw) {
                return Err(Problem::new(name, ProblemKind::Conflict)
                    .with_source(layer.source(second))
                    .with_detail(format!("it is also set as {other}, to something else"))
                    .with_hint(format!("Unset {other}")));
            }
            return Ok(Some(Candidate {
                rank: layer.rank,
                name: name.to_owned(),
                raw: entry.raw.clone(),
                source: layer.source(entry),
            }));
        }
        Ok(None)
    }
}

/// The value in the file that `NAME_FILE` names.
fn read_value_file(variable: &str, pointer: Candidate, secret: bool) -> Resolution {
    let problem = || Problem::new(&pointer.name, ProblemKind::Unreadable).with_source(pointer.source.clone());
    let Raw::Text(path) = &pointer.raw else {
        return Resolution::Refused(problem().with_detail("its value is not one path"));
    };
    let path = PathBuf::from(path);
    // Whoever writes the secret itself into NAME_FILE must not read it in the log: a path is shown only where the
    // directory it names exists.
    let plausible = path
        .parent()
        .is_some_and(|parent| parent.parent().is_some() && parent.is_dir());
    let shown = if !secret || plausible || path.exists() {
        crate::redact::display(&path.display().to_string(), 120)
    } else {
        "the path (not shown: it may be the secret itself)".to_owned()
    };
    match file::read(&path) {
        Err(reason) => Resolution::Refused(
            problem()
                .with_detail(format!("{shown}: {reason}"))
                .with_hint(format!("It must name a file that holds the value of {variable}")),
        ),
        Ok(text) => {
            // Editors and `echo` end a file with a line break that is not part of the value.
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Resolution::Refused(problem().with_detail(format!("{shown}: the file is empty")));
            }
            Resolution::Found(Found {
                raw: Raw::Text(text.to_owned()),
                source: Source::SecretFile {
                    variable: pointer.name.clone(),
                    path,
                },
            })
        }
    }
}
