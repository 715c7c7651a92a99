//! What a backup says about itself, and where its parts are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// Raised when an older program could not read what is written.
const FORMAT: u32 = 1;
/// Written last: a directory with it is a whole backup.
const MANIFEST: &str = "manifest.json";
pub(crate) const DUMP: &str = "database.dump";
const OBJECTS: &str = "objects.jsonl";
const FILES: &str = "files";

/// The whole of a backup but its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) created_at: String,
    /// What wrote it.
    pub(crate) program: String,
    pub(crate) database: Option<Rows>,
    pub(crate) files: Option<Objects>,
}

/// The database's part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    /// The version of the server it was taken from.
    pub(crate) server: String,
    /// What wrote the dump.
    pub(crate) pg_dump: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// The newest migration of each schema that has any.
    pub(crate) migrations: BTreeMap<String, i64>,
    pub(crate) tables: Vec<Table>,
}

impl Rows {
    pub(crate) fn count(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// One table as the snapshot saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// The sum of all rows' hashes: equal for equal rows in any order.
    pub(crate) digest: String,
}

/// The files' part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Objects {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Of the list of objects.
    pub(crate) sha256: String,
    /// Deleted by users while the backup was under way.
    pub(crate) gone: u64,
}

/// A line of the list. All that is known of an object, so that nothing hangs on attributes that a copy of the backup may
/// lose on the way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) size: u64,
    /// CRC-64/XZ.
    pub(crate) crc64: u64,
    pub(crate) content_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user: BTreeMap<String, String>,
}

/// The directory of a backup.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn dump(&self) -> PathBuf {
        self.0.join(DUMP)
    }

    /// The store with the objects.
    pub(crate) fn files(&self) -> PathBuf {
        self.0.join(FILES)
    }

    fn list(&self) -> PathBuf {
        self.0.join(OBJECTS)
    }

    pub(crate) fn write(&self, database: Option<Rows>, files: Option<Objects>) -> Result<Manifest, Failure> {
        let manifest = Manifest {
            format: FORMAT,
            created_at: format!("{:.0}", jiff::Timestamp::now()),
            program: concat!("zhuji ", env!("CARGO_PKG_VERSION")).to_owned(),
            database,
            files,
        };
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Failure::failed(format!("{MANIFEST}: {error}")))?;
        // Under its name only when it is whole and on the disk.
        let part = self.0.join("manifest.json.new");
        File::create(&part)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&part, self.0.join(MANIFEST)))
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(at(&part))?;
        Ok(manifest)
    }

    pub(crate) fn read(&self) -> Result<Manifest, Failure> {
        let path = self.0.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::failed(format!(
                "{}: no backup is here, or one that was interrupted: there is no {MANIFEST}",
                self.0.display()
            )),
            _ => at(&path)(error),
        })?;
        let unreadable = |error: serde_json::Error| Failure::failed(format!("{}: {error}", path.display()));
        let value: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => serde_json::from_value(value).map_err(unreadable),
            Some(format) if format > u64::from(FORMAT) => Err(Failure::failed(format!(
                "{}: format {format} is newer than this program; take a newer one",
                path.display()
            ))),
            _ => Err(Failure::failed(format!("{}: it is no backup's", path.display()))),
        }
    }

    /// Writes the list of objects, and answers with its checksum.
    pub(crate) fn write_list(&self, objects: &[Object]) -> Result<String, Failure> {
        let path = self.list();
        let mut text = String::new();
        for object in objects {
            let line = serde_json::to_string(object)
                .map_err(|error| Failure::failed(format!("{}: {error}", object.key)))?;
            text.push_str(&line);
            text.push('\n');
        }
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(at(&path))?;
        Ok(hex::encode(Sha256::digest(text.as_bytes())))
    }

    pub(crate) fn read_list(&self) -> Result<Vec<Object>, Failure> {
        let path = self.list();
        let file = File::open(&path).map_err(at(&path))?;
        let mut objects = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(at(&path))?;
            let object = serde_json::from_str(&line)
                .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
            objects.push(object);
        }
        Ok(objects)
    }

    /// Whether the dump and the list are the files that were written, to the byte. One line for each that is not.
    pub(crate) fn damages(&self, manifest: &Manifest) -> Vec<String> {
        let parts = [
            manifest.database.as_ref().map(|part| (self.dump(), &part.sha256)),
            manifest.files.as_ref().map(|part| (self.list(), &part.sha256)),
        ];
        let parts = parts.into_iter().flatten();
        parts
            .filter_map(|(path, kept)| match sha256(&path) {
                Ok(found) if found == *kept => None,
                Ok(_) => Some(format!(
                    "{}: it was changed or is damaged (SHA-256)",
                    path.display()
                )),
                Err(error) => Some(error.to_string()),
            })
            .collect()
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String, Failure> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(at(path))? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// `path: why`.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_backup_of_a_known_format_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let why = |home: &Home| home.read().unwrap_err().to_string();
        assert!(why(&home).contains("interrupted"), "{}", why(&home));
        home.write(None, None).unwrap();
        assert!(home.read().unwrap().files.is_none());
        let path = dir.path().join(MANIFEST);
        std::fs::write(&path, r#"{"format":2,"new":true}"#).unwrap();
        assert!(why(&home).contains("newer than this program"), "{}", why(&home));
        std::fs::write(&path, "[]").unwrap();
        assert!(why(&home).contains("no backup's"), "{}", why(&home));
    }

    #[test]
    fn a_changed_list_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let object = Object {
            key: "asl/a\n\"b".to_owned(),
            size: 3,
            crc64: u64::MAX,
            content_type: "text/plain".to_owned(),
            content_disposition: None,
            user: BTreeMap::new(),
        };
        let sha256 = home.write_list(&[object.clone(), object.clone()]).unwrap();
        let read = home.read_list().unwrap();
        assert_eq!(
            (read.len(), &read[1].key, read[1].crc64),
            (2, &object.key, u64::MAX)
        );
        let objects = Objects {
            count: 2,
            bytes: 6,
            sha256,
            gone: 0,
        };
        let manifest = home.write(None, Some(objects)).unwrap();
        assert!(home.damages(&manifest).is_empty());
        std::fs::write(home.list(), "").unwrap();
        assert!(home.damages(&manifest)[0].contains("SHA-256"));
    }
}
