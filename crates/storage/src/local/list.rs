//! Listing in byte order of the whole key, as OSS does, which is not the order of names within a directory:
//! `a-b` comes before `a/b`, because `-` comes before `/`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, FileType},
    io::Errno,
};

use super::{attributes, errors::is, root::Root};
use crate::{Entry, Key, ListOptions, ListPage, RESERVED_SEGMENT, listing::PageBuilder};

/// One page; blocking. Each directory on the way is read whole and sorted.
pub(super) fn list(root: &Root, prefix: &str, options: &ListOptions) -> io::Result<ListPage> {
    let (folder, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let start = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let mut walk = Walk {
        root,
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
    let dir = match root.dir(path.trim_end_matches('/')) {
        // Not there, a file, a link, or removed while we walked.
        Err(error) if is(&error, &[Errno::NOENT, Errno::NOTDIR, Errno::LOOP]) => return Ok(None),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&dir)? {
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
    Ok(Some((dir, names)))
}

struct Walk<'a> {
    root: &'a Root,
    prefix: &'a str,
    options: &'a ListOptions,
    page: PageBuilder<'a>,
}

impl Walk<'_> {
    /// Walks one folder (`""` or with a final `/`). `false` when the page is full.
    fn folder(&mut self, path: &str) -> io::Result<bool> {
        let Some((_, mut names)) = folder(self.root, path)? else {
            return Ok(true);
        };
        names.retain(|name| self.wanted(name));
        names.sort_unstable();
        for name in names {
            let goes_on = match name.ends_with('/') {
                true if self.options.delimiter.is_some() => self.fold(&name)?,
                true => self.folder(&name)?,
                false => Key::new(&name).is_err() || self.offer(&name)?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
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
