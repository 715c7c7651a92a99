//! Which of several places has the last word on a variable.

use std::path::PathBuf;

use crate::{
    Problem, ProblemKind, file,
    layer::{Layer, Rank, Raw},
    origin::Source,
    redact,
    sources::Sources,
};

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

/// A place that sets a variable, by one of its names.
struct Candidate {
    rank: Rank,
    name: String,
    raw: Raw,
    source: Source,
}

impl Sources {
    /// Finds a variable. `file_names` are the `NAME_FILE` forms that apply.
    pub(crate) fn resolve(&self, names: &[&str], file_names: &[String], secret: bool) -> Resolution {
        let direct = match self.strongest(names) {
            Ok(direct) => direct,
            Err(problem) => return Resolution::Refused(*problem),
        };
        let by_file = match self.strongest(file_names) {
            Ok(by_file) => by_file,
            Err(problem) => return Resolution::Refused(*problem),
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
    fn strongest(&self, names: &[impl AsRef<str>]) -> Result<Option<Candidate>, Box<Problem>> {
        for layer in &self.layers {
            let mut set = names
                .iter()
                .filter_map(|name| Some((name.as_ref(), layer.get(name.as_ref())?)));
            let Some((name, entry)) = set.next() else { continue };
            if let Some((other, second)) = set.find(|(_, other)| other.raw != entry.raw) {
                let problem = Problem::new(name, ProblemKind::Conflict)
                    .with_source(layer.source(second))
                    .with_detail(format!("it is also set as {other}, to something else"))
                    .with_hint(format!("Unset {other}"));
                return Err(Box::new(problem));
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
    let path = match &pointer.raw {
        Raw::Text(path) => PathBuf::from(path),
        Raw::Malformed => {
            return Resolution::Found(Found {
                raw: Raw::Malformed,
                source: pointer.source,
            });
        }
        Raw::List(_) | Raw::NotUnicode => {
            return Resolution::Refused(problem().with_detail("its value is not one path"));
        }
    };
    // Whoever writes the secret itself into NAME_FILE must not read it in the log: a path is shown only where the
    // directory it names exists.
    let plausible = path
        .parent()
        .is_some_and(|parent| parent.parent().is_some() && parent.is_dir());
    let shown = if !secret || plausible || path.exists() {
        redact::display(&path.display().to_string(), 120)
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
