use std::{cmp::Reverse, collections::BTreeMap, ffi::OsString, fmt, path::Path};

use crate::{
    Problem, ProblemKind, dotenv, file,
    layer::{Layer, Rank, Raw},
    resolve::{Found, Resolution},
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
            .is_none_or(|name| name.trim().eq_ignore_ascii_case("development"));
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
        self.refuse_in(&mut layer, "CONFIG_FILE", None);
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
        // These decide which files are read, and were needed before this one was.
        self.refuse_in(&mut layer, "CONFIG_FILE", None);
        self.refuse_in(&mut layer, "APP_ENV", Some("development"));
        self.refuse_in(&mut layer, "NODE_ENV", Some("development"));
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

    /// The text of a variable before any section is loaded, by name or alias, with the same precedence; a section's
    /// own default is not known here. For the few variables that decide how others are read. A variable that is set in a way
    /// that is a problem counts as not set; the section that reads it will report it.
    pub fn lookup(&self, name: &str, aliases: &[&str]) -> Option<String> {
        let names: Vec<&str> = std::iter::once(name).chain(aliases.iter().copied()).collect();
        let file_names: Vec<String> = names.iter().map(|name| format!("{name}_FILE")).collect();
        match self.resolve(&names, &file_names, true) {
            Resolution::Found(Found {
                raw: Raw::Text(text), ..
            }) => Some(text),
            _ => None,
        }
    }

    /// Takes a variable out of a file that comes too late to set it, unless it says what is so anyway.
    fn refuse_in(&mut self, layer: &mut Layer, name: &str, harmless: Option<&str>) {
        let Some(entry) = layer.get(name) else { return };
        let is_harmless = |text: &str| harmless.is_some_and(|harmless| text.eq_ignore_ascii_case(harmless));
        if matches!(&entry.raw, Raw::Text(text) if !is_harmless(text.trim())) {
            self.problems.push(
                Problem::new(name, ProblemKind::Invalid)
                    .with_source(layer.source(entry))
                    .with_detail("it decides which files are read, so it can't be set in this one")
                    .with_hint("Set it in the environment"),
            );
            layer.entries.remove(name);
        }
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
        self.layers.sort_by_key(|layer| Reverse(layer.rank));
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
