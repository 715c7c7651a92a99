//! What the file system says, in our terms.

use std::io;

use rustix::io::Errno;

use crate::{Error, ErrorKind};

/// The error of a system call. The text never contains a path: keys are told, directories are not.
pub(super) fn from_io(operation: &'static str, subject: &str, error: io::Error) -> Error {
    let (kind, why, hint) = describe(&error);
    let mut told = Error::new(kind, operation, subject, why);
    if let Some(hint) = hint {
        told = told.with_hint(hint);
    }
    told.with_source(error)
}

fn describe(error: &io::Error) -> (ErrorKind, &'static str, Option<&'static str>) {
    let Some(errno) = Errno::from_io_error(error) else {
        return (
            ErrorKind::Unexpected,
            "the file system answered with an error",
            None,
        );
    };
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::ISDIR => (ErrorKind::NotFound, "there is no such object", None),
        Errno::LOOP | Errno::XDEV => (
            ErrorKind::Denied,
            "a symbolic link is in the way",
            Some("links below the storage directory are not followed"),
        ),
        Errno::NOSPC => (
            ErrorKind::NoSpace,
            "the disk is full",
            Some("free some space on the storage volume"),
        ),
        Errno::DQUOT => (
            ErrorKind::NoSpace,
            "the disk quota is used up",
            Some("raise the quota of the storage volume"),
        ),
        Errno::ROFS => (
            ErrorKind::ReadOnly,
            "the file system is read-only",
            Some("mount the storage volume read-write"),
        ),
        Errno::ACCESS | Errno::PERM => (
            ErrorKind::Denied,
            "the operating system refuses access",
            Some("check the owner and mode of the storage directory"),
        ),
        Errno::NAMETOOLONG => (
            ErrorKind::InvalidKey,
            "the key is too long for this file system",
            None,
        ),
        Errno::ILSEQ | Errno::INVAL => (
            ErrorKind::InvalidKey,
            "the file system does not accept this key",
            None,
        ),
        Errno::MFILE | Errno::NFILE => (
            ErrorKind::Unavailable,
            "too many files are open",
            Some("raise the limit of open files"),
        ),
        Errno::NOMEM | Errno::AGAIN | Errno::BUSY | Errno::STALE | Errno::INTR => (
            ErrorKind::Unavailable,
            "the file system is busy or was remounted",
            None,
        ),
        Errno::FBIG => (
            ErrorKind::InvalidInput,
            "the object is larger than this file system allows",
            None,
        ),
        Errno::IO => (
            ErrorKind::Unexpected,
            "the disk reports an input/output error",
            Some("check the disk"),
        ),
        _ => (
            ErrorKind::Unexpected,
            "the file system answered with an error",
            None,
        ),
    }
}

/// Whether a system call failed with one of these.
pub(super) fn is(error: &io::Error, codes: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| codes.contains(&errno))
}
