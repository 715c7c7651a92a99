//! The settings of a store in two places.

use std::path::{Path, PathBuf};

use zhuji_config::{Problem, Reader};

use crate::{
    Error, Key, OssClientKind, RESERVED_SEGMENT, Result, StorageConfig, config::public_prefix, key::invalid,
};

/// No outbox.
const OFF: &str = "off";
/// The outbox in the reserved part of the local directory.
const AUTO: &str = "auto";

impl StorageConfig {
    /// The directory of the outbox; `None` if it is switched off, or if nothing has to be sent anywhere.
    pub fn outbox(&self) -> Option<PathBuf> {
        let sdk = self.kind == "oss" && self.oss.client == OssClientKind::Sdk;
        let useless = sdk || matches!(self.kind.as_str(), "local" | "memory");
        if useless || self.outbox_dir == Path::new(OFF) {
            return None;
        }
        Some(match self.outbox_dir == Path::new(AUTO) {
            true => self.local_dir.join(RESERVED_SEGMENT).join("outbox"),
            false => self.outbox_dir.clone(),
        })
    }

    /// The same store without its outbox: for a tool that looks at the store while a service has it open.
    #[must_use]
    pub fn without_outbox(mut self) -> Self {
        self.outbox_dir = PathBuf::from(OFF);
        self
    }

    /// Refuses prefixes that can't be or contradict one another; with the variable.
    pub(crate) fn check_prefixes(&self) -> Result<(), (&'static str, Error)> {
        for prefix in &self.public_prefixes {
            public_prefix(prefix).map_err(|error| ("STORAGE_PUBLIC_PREFIXES", error))?;
        }
        for prefix in &self.resident_prefixes {
            self.resident_prefix(prefix)
                .map_err(|error| ("STORAGE_RESIDENT_PREFIXES", error))?;
        }
        Ok(())
    }

    fn resident_prefix(&self, prefix: &str) -> Result<()> {
        folder(prefix)?;
        let meets = |public: &&String| public.starts_with(prefix) || prefix.starts_with(public.as_str());
        match self.public_prefixes.iter().find(meets) {
            Some(_) => Err(invalid(
                prefix,
                "prefix meets one of STORAGE_PUBLIC_PREFIXES, which everyone may read",
            )),
            None => Ok(()),
        }
    }
}

/// Finds everything at once.
pub(crate) fn check(config: &StorageConfig, reader: &mut Reader<'_>) {
    for prefix in &config.resident_prefixes {
        if let Err(error) = config.resident_prefix(prefix) {
            reader.problem(
                Problem::invalid("STORAGE_RESIDENT_PREFIXES", error.why())
                    .with_expected("folders of keys, such as `asl/resident/`")
                    .with_found(prefix),
            );
        }
    }
    if config.outbox_max.bytes() == 0 {
        reader.problem(Problem::invalid("STORAGE_OUTBOX_MAX", "must be at least one byte").with_found("0"));
    }
    check_outbox(config, reader);
}

/// An outbox that a mode gives is left out where it has no use; one that somebody asked for has to work.
fn check_outbox(config: &StorageConfig, reader: &mut Reader<'_>) {
    let (name, dir) = ("STORAGE_OUTBOX_DIR", &config.outbox_dir);
    if dir == Path::new(OFF) || !reader.is_set(name) {
        return;
    }
    let mut refuse = |why: &str, mend: &str| reader.problem(Problem::invalid(name, why).with_hint(mend));
    if matches!(config.kind.as_str(), "local" | "memory") {
        refuse(
            "STORAGE_TYPE keeps files here, so nothing has to be sent",
            "Leave it out, or set it to `off`",
        );
    } else if config.kind == "oss" && config.oss.client == OssClientKind::Sdk {
        refuse(
            "OSS_CLIENT=sdk does not tell what can be repeated",
            "Use OSS_CLIENT=native, or set it to `off`",
        );
    }
    let reserved = config.local_dir.join(RESERVED_SEGMENT);
    let among_objects = dir.starts_with(&config.local_dir) && !dir.starts_with(reserved);
    if dir != Path::new(AUTO) && (among_objects || config.local_dir.starts_with(dir)) {
        refuse(
            "it and STORAGE_LOCAL_DIR lie one in the other, and what waits would look like objects",
            "Set it to `auto`, or to a directory of its own",
        );
    }
}

/// Checks one of `STORAGE_RESIDENT_PREFIXES`.
fn folder(prefix: &str) -> Result<()> {
    let Some(folder) = prefix.strip_suffix('/') else {
        return Err(invalid(
            prefix,
            "prefix does not end in `/`: it would divide a folder, and one of its own name would stay out",
        ));
    };
    Key::new(folder).map(drop)
}

#[cfg(test)]
mod tests {
    use zhuji_config::load_from_pairs;

    use super::*;

    #[test]
    fn hostile_resident_prefixes_are_refused() {
        for good in ["asl/resident/", "asl/", "病历/", "a b/"] {
            load_from_pairs::<StorageConfig>([("STORAGE_RESIDENT_PREFIXES", good)]).unwrap();
        }
        for bad in [
            "asl/resident",
            "/",
            "/asl/",
            "../",
            "asl/../x/",
            "asl//x/",
            "./",
            "asl/./",
            ".zhuji/",
            ".zhuji/tmp/",
            "a\u{0}b/",
            "a\nb/",
            "\\asl/",
            &format!("{}/", "s".repeat(256)),
        ] {
            let report = load_from_pairs::<StorageConfig>([("STORAGE_RESIDENT_PREFIXES", bad)]).unwrap_err();
            assert_eq!(
                report.of("STORAGE_RESIDENT_PREFIXES").count(),
                1,
                "{bad:?}: {report}"
            );
        }
        for (public, refused) in [("asl/", 1), ("asl/resident/shown/", 1), ("avatars/", 0)] {
            let report = load_from_pairs::<StorageConfig>([
                ("STORAGE_RESIDENT_PREFIXES", "asl/resident/"),
                ("STORAGE_PUBLIC_PREFIXES", public),
            ]);
            let count = report
                .err()
                .map_or(0, |report| report.of("STORAGE_RESIDENT_PREFIXES").count());
            assert_eq!(count, refused, "{public}");
        }
    }

    #[test]
    fn an_outbox_is_refused_where_it_can_not_be() {
        let oss = [
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", "cn-hangzhou"),
            ("OSS_BUCKET", "bucket"),
            ("OSS_ACCESS_KEY_ID", "id"),
            ("OSS_ACCESS_KEY_SECRET", "secret"),
        ];
        let load = |more: &[(&'static str, &'static str)]| {
            load_from_pairs::<StorageConfig>(oss.into_iter().chain(more.iter().copied()))
        };
        assert_eq!(load(&[]).unwrap().outbox(), None);
        let auto = load(&[("STORAGE_OUTBOX_DIR", "auto"), ("STORAGE_LOCAL_DIR", "/data")]).unwrap();
        assert_eq!(auto.outbox(), Some(PathBuf::from("/data/.zhuji/outbox")));
        assert_eq!(auto.without_outbox().outbox(), None);
        let own = load(&[
            ("STORAGE_OUTBOX_DIR", "/data/outbox"),
            ("STORAGE_LOCAL_DIR", "/data/files"),
        ])
        .unwrap();
        assert_eq!(own.outbox(), Some(PathBuf::from("/data/outbox")));
        for bad in [
            [("STORAGE_OUTBOX_DIR", "/data"), ("STORAGE_LOCAL_DIR", "/data")],
            [
                ("STORAGE_OUTBOX_DIR", "/data/files/x"),
                ("STORAGE_LOCAL_DIR", "/data/files"),
            ],
            [
                ("STORAGE_OUTBOX_DIR", "/data"),
                ("STORAGE_LOCAL_DIR", "/data/files"),
            ],
        ] {
            assert_eq!(
                load(&bad).unwrap_err().of("STORAGE_OUTBOX_DIR").count(),
                1,
                "{bad:?}"
            );
        }
        let here = load_from_pairs::<StorageConfig>([("STORAGE_OUTBOX_DIR", "auto")]).unwrap_err();
        assert_eq!(here.of("STORAGE_OUTBOX_DIR").count(), 1, "{here}");
        assert_eq!(
            load(&[("STORAGE_OUTBOX_MAX", "0")])
                .unwrap_err()
                .of("STORAGE_OUTBOX_MAX")
                .count(),
            1
        );
    }
}
