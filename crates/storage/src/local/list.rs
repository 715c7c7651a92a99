//! Listing in byte order of the whole key, as OSS does, which is not the order of names within a directory:
//! `a-b` comes before `a/b`, because `-` comes before `/`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, FileType},
    io::Errno,
};

use super::{attributes, errors::is, listed::Listed, root::Root};
use crate::{Entry, Key, ListOptions, ListPage, RESERVED_SEGMENT, listing::PageBuilder};

/// One page; blocking. Each directory on the way is read whole and sorted, a large one once for all pages.
pub(super) fn list(
    root: &Root,
    listed: &Listed,
    prefix: &str,
    options: &ListOptions,
) -> io::Result<ListPage> {
    let (folder, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let start = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let mut walk = Walk {
        root,
        listed,
        prefix,
        options,
        page: PageBuilder::new(prefix, options),
    };
    walk.folder(&start)?;
    Ok(walk.page.finish())
}

/// Opens one folder (`""` or with a final `/`) and reads the paths of what is in it, in no order; those of folders end in
/// `/`. `None` if there is nothing to list.
pub(super) fn folder(root: &Root, path: &str) -> io::Result<Option<(OwnedFd, Vec<String>)>> {
    let Some(dir) = open(root, path)? else {
        return Ok(None);
    };
    let names = read(&dir, path)?;
    Ok(Some((dir, names)))
}

fn open(root: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.dir(path.trim_end_matches('/')) {
        Ok(dir) => Ok(Some(dir)),
        // Not there, a file, a link, or removed while we walked.
        Err(error) if is(&error, &[Errno::NOENT, Errno::NOTDIR, Errno::LOOP]) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(dir: &OwnedFd, path: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." || (path.is_empty() && name == RESERVED_SEGMENT) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(_) => continue,
            },
            known => known,
        };
        match kind {
            FileType::Directory => names.push(format!("{path}{name}/")),
            FileType::RegularFile => names.push(format!("{path}{name}")),
            _ => {}
        }
    }
    Ok(names)
}

struct Walk<'a> {
    root: &'a Root,
    listed: &'a Listed,
    prefix: &'a str,
    options: &'a ListOptions,
    page: PageBuilder<'a>,
}

impl Walk<'_> {
    /// Walks one folder (`""` or with a final `/`). `false` when the page is full.
    fn folder(&mut self, path: &str) -> io::Result<bool> {
        let Some(names) = self.sorted(path)? else {
            return Ok(true);
        };
        for name in names.iter().filter(|name| self.wanted(name)).collect::<Vec<_>>() {
            let goes_on = match name.ends_with('/') {
                true if self.options.delimiter.is_some() => self.fold(name)?,
                true => self.folder(name)?,
                false => Key::new(name).is_err() || self.offer(name)?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        self.listed.forget(path);
        Ok(true)
    }

    fn sorted(&self, path: &str) -> io::Result<Option<Arc<[String]>>> {
        let Some(dir) = open(self.root, path)? else {
            return Ok(None);
        };
        // Before it is read: a change meanwhile gives it another time, and the names are not used again.
        let stat = fs::fstat(&dir)?;
        if let Some(names) = self.listed.get(path, &stat) {
            return Ok(Some(names));
        }
        let mut names = read(&dir, path)?;
        names.sort_unstable();
        let names: Arc<[String]> = names.into();
        self.listed.keep(path, &stat, &names);
        Ok(Some(names))
    }

    /// Whether a key below (or equal to) this name can be on the page.
    fn wanted(&self, name: &str) -> bool {
        let in_prefix =
            name.starts_with(self.prefix) || (name.ends_with('/') && self.prefix.starts_with(name));
        let behind = match &self.options.after {
            Some(after) => {
                name > after.as_str()
                    || (name.ends_with('/')
                        && after.starts_with(name)
                        && !after[name.len()..].starts_with('\u{10FFFF}'))
            }
            None => true,
        };
        in_prefix && behind
    }

    /// With a delimiter, a folder is one line, provided that there is at least one object in it.
    fn fold(&mut self, name: &str) -> io::Result<bool> {
        let after = self.options.after.clone().filter(|after| after.starts_with(name));
        let first = list(
            self.root,
            self.listed,
            name,
            &ListOptions {
                after,
                limit: 1,
                delimiter: None,
            },
        )?;
        Ok(match first.entries.into_iter().next() {
            None => true,
            Some(first) => {
                let key = first.key.clone();
                self.page.offer(&key, || first)
            }
        })
    }

    fn offer(&mut self, key: &str) -> io::Result<bool> {
        let metadata = match attributes::open(self.root, key) {
            Ok((_, metadata)) => metadata,
            // Deleted since the directory was read.
            Err(error) if is(&error, &[Errno::NOENT, Errno::LOOP, Errno::NOTDIR]) => return Ok(true),
            Err(error) => return Err(error),
        };
        Ok(self.page.offer(key, || {
            Entry::new(key, metadata.size, metadata.etag, metadata.last_modified)
        }))
    }
}
