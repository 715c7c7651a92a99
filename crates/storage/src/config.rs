//! The settings: one documented field per variable.

use std::path::{Path, PathBuf};

use zhuji_config::{ByteSize, Config, ConfigEnum, Problem, Reader, Secret, Url};

use crate::{Error, RESERVED_SEGMENT, Result, hybrid, oss, signer::MIN_SIGNING_KEY};

/// No outbox.
const OFF: &str = "off";
/// The outbox in the reserved part of the local directory.
const AUTO: &str = "auto";

/// Where files are kept.
#[derive(Config, Clone, Debug)]
#[config(title = "Storage", prefixes("STORAGE_", "OSS_"), check = check, impl_default)]
pub struct StorageConfig {
    /// Which adapter holds the files: `local`, `oss`, `memory`, or a registered name.
    ///
    /// Env: `STORAGE_TYPE`. Default: `local`; `oss` in cloud and hybrid mode.
    #[config(
        env = "STORAGE_TYPE",
        default = "local",
        default_note = "`oss` in cloud and hybrid mode"
    )]
    pub kind: String,
    /// Root directory of the local adapter; created if it is missing.
    ///
    /// Env: `STORAGE_LOCAL_DIR`. Default: `./uploads`.
    #[config(env = "STORAGE_LOCAL_DIR", default = "./uploads")]
    pub local_dir: PathBuf,
    /// How hard the local adapter pushes a write to the disk before it acknowledges it.
    ///
    /// Env: `STORAGE_DURABILITY`. Default: `fsync`; `rename` in development.
    #[config(
        env = "STORAGE_DURABILITY",
        default = "fsync",
        default_note = "`rename` in development"
    )]
    pub durability: Durability,
    /// Public base of object URLs: a CDN, or a custom domain bound to the bucket.
    ///
    /// Env: `STORAGE_PUBLIC_URL`. Default: from `BASE_URL` or the bucket.
    #[config(
        env = "STORAGE_PUBLIC_URL",
        default_note = "from BASE_URL or the bucket",
        example = "https://files.example.com"
    )]
    pub public_url: Option<Url>,
    /// Public address of this service; object URLs of the local adapter are below its `/uploads`.
    ///
    /// Env: `BASE_URL`. Default: `http://localhost:$PORT`.
    #[config(env = "BASE_URL", default_note = "http://localhost:$PORT")]
    pub base_url: Option<Url>,
    /// Key of local signed URLs, at least 16 bytes; every instance on the same files needs the same one.
    ///
    /// Env: `STORAGE_SIGNING_KEY`. Default: random, kept in the data directory.
    #[config(
        env = "STORAGE_SIGNING_KEY",
        default_note = "random, kept in the data directory"
    )]
    pub signing_key: Option<Secret>,
    /// Keys that start so are readable without a signature, comma separated; everything else is private. With `oss` they
    /// are stored as `public-read`, which a bucket with Block Public Access refuses.
    ///
    /// Env: `STORAGE_PUBLIC_PREFIXES`. Default: none.
    #[config(env = "STORAGE_PUBLIC_PREFIXES", example = "avatars/")]
    pub public_prefixes: Vec<String>,
    /// Keys that start so stay in `STORAGE_LOCAL_DIR` whatever `STORAGE_TYPE` is, comma separated, each ending in `/`; nothing
    /// about them, not even their names, goes to the other store.
    ///
    /// Env: `STORAGE_RESIDENT_PREFIXES`. Default: none.
    #[config(env = "STORAGE_RESIDENT_PREFIXES", example = "asl/resident/")]
    pub resident_prefixes: Vec<String>,
    /// Where writes that can't reach a store elsewhere are kept until they can: a directory, `auto` for `.zhuji/outbox` in
    /// `STORAGE_LOCAL_DIR`, or `off`. It belongs to one process.
    ///
    /// Env: `STORAGE_OUTBOX_DIR`. Default: `off`; `auto` in hybrid mode.
    #[config(
        env = "STORAGE_OUTBOX_DIR",
        default = "off",
        default_note = "`auto` in hybrid mode",
        example = "/var/lib/outbox"
    )]
    pub outbox_dir: PathBuf,
    /// How much may be kept there; further uploads are refused.
    ///
    /// Env: `STORAGE_OUTBOX_MAX`. Default: `10GiB`.
    #[config(env = "STORAGE_OUTBOX_MAX", default = "10GiB")]
    pub outbox_max: ByteSize,
    /// Says that all instances see the same `STORAGE_LOCAL_DIR`, on a NAS. Without it, files on disk are refused in production
    /// when there is more than one instance.
    ///
    /// Env: `STORAGE_LOCAL_SHARED`. Default: `false`.
    #[config(env = "STORAGE_LOCAL_SHARED", default = false)]
    pub local_shared: bool,
    /// Objects in flight in one `upload_many`.
    ///
    /// Env: `STORAGE_CONCURRENCY`. Default: `10`.
    #[config(env = "STORAGE_CONCURRENCY", default = 10)]
    pub concurrency: usize,
    /// The largest object that a signed upload URL of this service takes; OSS itself takes up to 5 GiB in one upload.
    ///
    /// Env: `STORAGE_MAX_UPLOAD`. Default: `5GiB`.
    #[config(env = "STORAGE_MAX_UPLOAD", default = "5GiB")]
    pub max_upload: ByteSize,
    /// Alibaba Cloud OSS.
    #[config(nested)]
    pub oss: OssConfig,
}

/// The bucket and the way to it.
#[derive(Config, Clone, Debug)]
#[config(title = "Alibaba Cloud OSS", impl_default)]
pub struct OssConfig {
    /// Region of the bucket; `oss-cn-hangzhou` and `cn-hangzhou` are both understood.
    ///
    /// Env: `OSS_REGION`. Default: none; required for `oss`.
    #[config(env = "OSS_REGION", example = "cn-hangzhou")]
    pub region: Option<String>,
    /// Name of the bucket.
    ///
    /// Env: `OSS_BUCKET`. Default: none; required for `oss`.
    #[config(env = "OSS_BUCKET", example = "aiclinical-prod")]
    pub bucket: Option<String>,
    /// Access key id, of a RAM user with rights on this bucket only.
    ///
    /// Env: `OSS_ACCESS_KEY_ID`. Default: none; required for `oss` without a role.
    #[config(env = "OSS_ACCESS_KEY_ID")]
    pub access_key_id: Option<Secret>,
    /// Access key secret.
    ///
    /// Env: `OSS_ACCESS_KEY_SECRET`. Default: none; required for `oss` without a role.
    #[config(env = "OSS_ACCESS_KEY_SECRET")]
    pub access_key_secret: Option<Secret>,
    /// Security token of temporary (STS) keys.
    ///
    /// Env: `OSS_SECURITY_TOKEN`. Default: none.
    #[config(env = "OSS_SECURITY_TOKEN")]
    pub security_token: Option<Secret>,
    /// Where traffic goes: a host, or a URL for another scheme or port.
    ///
    /// Env: `OSS_ENDPOINT`. Default: from the region.
    #[config(
        env = "OSS_ENDPOINT",
        default_note = "from the region",
        example = "oss-cn-hangzhou.aliyuncs.com"
    )]
    pub endpoint: Option<String>,
    /// Send traffic to the region's internal endpoint, which is free of charge inside Alibaba Cloud.
    ///
    /// Env: `OSS_INTERNAL`. Default: `false`; `true` in production in cloud mode.
    #[config(
        env = "OSS_INTERNAL",
        default = false,
        default_note = "`true` in production in cloud mode"
    )]
    pub internal: bool,
    /// How the bucket appears in the address of the endpoint.
    ///
    /// Env: `OSS_ADDRESSING`. Default: `auto`.
    #[config(env = "OSS_ADDRESSING", default = "auto")]
    pub addressing: Addressing,
    /// Signature algorithm; `v1` only for old private clouds. `OSS_CLIENT=sdk` always signs with `v1`.
    ///
    /// Env: `OSS_SIGNATURE_VERSION`. Default: `v4`.
    #[config(env = "OSS_SIGNATURE_VERSION", default = "v4")]
    pub signature_version: SignatureVersion,
    /// Which client speaks to OSS. `sdk` needs a build with the feature `oss-sdk` and can do less: V1 signatures and access
    /// keys only, objects up to 64 MiB, no lists, copies, ranges, metadata or public prefixes.
    ///
    /// Env: `OSS_CLIENT`. Default: `native`.
    #[config(env = "OSS_CLIENT", default = "native")]
    pub client: OssClientKind,
    /// RAM role that this service may assume by its OIDC token, when there are no access keys.
    ///
    /// Env: `ALIBABA_CLOUD_ROLE_ARN`. Default: none.
    #[config(env = "ALIBABA_CLOUD_ROLE_ARN")]
    pub role_arn: Option<String>,
    /// The OIDC identity provider of the role.
    ///
    /// Env: `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`. Default: none.
    #[config(env = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN")]
    pub oidc_provider_arn: Option<String>,
    /// File with the OIDC token; read again at every refresh.
    ///
    /// Env: `ALIBABA_CLOUD_OIDC_TOKEN_FILE`. Default: none.
    #[config(env = "ALIBABA_CLOUD_OIDC_TOKEN_FILE")]
    pub oidc_token_file: Option<PathBuf>,
    /// Use the RAM role of the ECS instance, when there are neither access keys nor an OIDC role: its name, or `auto`.
    ///
    /// Env: `ALIBABA_CLOUD_ECS_METADATA`. Default: none; the metadata service is never looked for.
    #[config(env = "ALIBABA_CLOUD_ECS_METADATA", example = "auto")]
    pub ecs_metadata: Option<String>,
    /// Address that answers with temporary keys, when there is nothing of the above.
    ///
    /// Env: `ALIBABA_CLOUD_CREDENTIALS_URI`. Default: none.
    #[config(env = "ALIBABA_CLOUD_CREDENTIALS_URI")]
    pub credentials_uri: Option<Secret>,
}

/// How hard a local write is pushed to the disk.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Atomic, and safe when the process dies; the last seconds may be lost when the power fails.
    Rename,
    /// Also safe when the power fails: file and directory are synced before the write is acknowledged.
    Fsync,
}

/// How the bucket appears in the endpoint's address.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `path` for an IP address or `localhost`, else `virtual`.
    Auto,
    /// `https://bucket.endpoint/key`, the only style of OSS itself.
    Virtual,
    /// `http://endpoint/bucket/key`, for servers that stand in for OSS.
    Path,
    /// `https://endpoint/key`: the endpoint is a custom domain bound to the bucket.
    Cname,
}

/// Signature algorithm of OSS.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVersion {
    /// HMAC-SHA256, bound to day and region.
    V4,
    /// HMAC-SHA1; OSS refuses it for new accounts and buckets since 2025.
    V1,
}

/// Which client speaks to OSS.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OssClientKind {
    /// The one of this crate.
    Native,
    /// The `aliyun-oss-rust-sdk` crate, if this build contains it (feature `oss-sdk`), with its limits.
    Sdk,
}

impl StorageConfig {
    /// Where the traffic to the bucket goes, and the base of the URLs that others are given; `None` where the files are not in
    /// OSS, or the settings can't be used.
    pub fn oss_addresses(&self) -> Option<(Url, Url)> {
        let oss = Some(&self.oss).filter(|_| self.kind == "oss")?;
        let region = oss::endpoint::region(oss.region.as_deref()?).ok()?;
        let bucket = oss::endpoint::bucket(oss.bucket.as_deref()?).ok()?;
        let (traffic, public) =
            oss::endpoint::endpoints(oss, self.public_url.as_ref(), &region, &bucket).ok()?;
        Some((traffic.as_url().clone(), public.as_url().clone()))
    }

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

    /// The base of URLs that this process serves itself.
    pub(crate) fn served_base(&self) -> String {
        match &self.public_url {
            Some(public) => public.as_str().trim_end_matches('/').to_owned(),
            None => self.base_of_uploads(),
        }
    }

    /// The address of this service's own objects.
    pub(crate) fn base_of_uploads(&self) -> String {
        match &self.base_url {
            Some(base) => format!("{}/uploads", base.as_str().trim_end_matches('/')),
            None => "http://localhost:3001/uploads".to_owned(),
        }
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
        hybrid::resident_prefix(prefix)?;
        let meets = |public: &&String| public.starts_with(prefix) || prefix.starts_with(public.as_str());
        match self.public_prefixes.iter().find(meets) {
            Some(_) => Err(crate::key::invalid(
                prefix,
                "prefix meets one of STORAGE_PUBLIC_PREFIXES, which everyone may read",
            )),
            None => Ok(()),
        }
    }
}

/// Finds everything at once; what only the factory can know (the adapter's name) it says in
/// [`check_kind`](crate::StorageFactory::check_kind).
fn check(config: &StorageConfig, reader: &mut Reader<'_>) {
    if let Some(key) = &config.signing_key
        && key.expose().len() < MIN_SIGNING_KEY
    {
        let why = format!("is shorter than {MIN_SIGNING_KEY} bytes");
        reader.problem(
            Problem::invalid("STORAGE_SIGNING_KEY", why)
                .with_hint("Generate one with `openssl rand -hex 32`"),
        );
    }
    for prefix in &config.public_prefixes {
        if let Err(error) = public_prefix(prefix) {
            reader.problem(
                Problem::invalid("STORAGE_PUBLIC_PREFIXES", error.why())
                    .with_expected("beginnings of keys, such as `avatars/`")
                    .with_found(prefix),
            );
        }
    }
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
    if config.concurrency == 0 {
        reader.problem(Problem::invalid("STORAGE_CONCURRENCY", "must be at least 1").with_found("0"));
    }
    if config.max_upload.bytes() == 0 {
        reader.problem(Problem::invalid("STORAGE_MAX_UPLOAD", "must be at least one byte").with_found("0"));
    }
    // Another adapter may use the section in its own way.
    if config.kind == "oss" {
        check_oss(&config.oss, reader);
        #[cfg(feature = "oss-sdk")]
        if config.oss.client == OssClientKind::Sdk {
            check_sdk(config, reader);
        }
    }
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

fn check_oss(oss: &OssConfig, reader: &mut Reader<'_>) {
    let because = "STORAGE_TYPE is `oss`";
    reader.require("OSS_REGION", oss.region.is_some(), because);
    reader.require("OSS_BUCKET", oss.bucket.is_some(), because);
    for (variable, error) in oss::mistakes(oss) {
        reader.problem(problem(variable, &error));
    }
    if oss.has_temporary_keys() && oss.access_key_id.is_none() && oss.access_key_secret.is_none() {
        return;
    }
    let because = "STORAGE_TYPE is `oss` and there is neither an OIDC role (ALIBABA_CLOUD_ROLE_ARN and its two companions) \
         nor ALIBABA_CLOUD_ECS_METADATA";
    reader.require("OSS_ACCESS_KEY_ID", oss.access_key_id.is_some(), because);
    reader.require("OSS_ACCESS_KEY_SECRET", oss.access_key_secret.is_some(), because);
}

/// What the `aliyun-oss-rust-sdk` crate can't do. It signs with V1 whatever is set: that is told to who chose V4.
#[cfg(feature = "oss-sdk")]
fn check_sdk(config: &StorageConfig, reader: &mut Reader<'_>) {
    for (variable, error) in crate::oss_sdk::mistakes(config) {
        reader.problem(problem(variable, &error));
    }
    let signature = "OSS_SIGNATURE_VERSION";
    if config.oss.signature_version == SignatureVersion::V4 && reader.is_set(signature) {
        let why = "the SDK signs with V1 only, and OSS_CLIENT is `sdk`";
        reader
            .problem(Problem::invalid(signature, why).with_hint("set it to `v1`, or use OSS_CLIENT=native"));
    }
}

fn problem(variable: &str, error: &crate::Error) -> Problem {
    let problem = Problem::invalid(variable, error.why());
    match error.hint() {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

/// Checks one of `STORAGE_PUBLIC_PREFIXES`. An empty one would make everything public.
pub(crate) fn public_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        return Err(crate::key::invalid(
            prefix,
            "prefix is empty, which would make every object public",
        ));
    }
    crate::key::check_prefix(prefix)
}

impl OssConfig {
    /// Whether the settings name a source of temporary keys.
    pub(crate) fn has_temporary_keys(&self) -> bool {
        let role = self.role_arn.is_some() && self.oidc_provider_arn.is_some();
        (role && self.oidc_token_file.is_some())
            || self.ecs_metadata.is_some()
            || self.credentials_uri.is_some()
    }
}

#[cfg(test)]
mod tests {
    use zhuji_config::load_from_pairs;

    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = load_from_pairs::<StorageConfig>(Vec::<(&str, &str)>::new()).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", StorageConfig::default()));
        assert_eq!(config.kind, "local");
        assert_eq!(config.durability, Durability::Fsync);
        assert_eq!(config.concurrency, 10);
        assert_eq!(
            config.max_upload.bytes(),
            crate::serve::ObjectServer::DEFAULT_MAX_UPLOAD
        );
        assert_eq!(config.served_base(), "http://localhost:3001/uploads");
    }

    #[test]
    fn everything_missing_for_oss_is_said_at_once() {
        let report = load_from_pairs::<StorageConfig>([("STORAGE_TYPE", "oss")])
            .unwrap_err()
            .to_string();
        for name in [
            "OSS_REGION",
            "OSS_BUCKET",
            "OSS_ACCESS_KEY_ID",
            "OSS_ACCESS_KEY_SECRET",
        ] {
            assert!(report.contains(name), "{name}: {report}");
        }
    }

    #[test]
    fn everything_malformed_is_said_at_once() {
        let report = load_from_pairs::<StorageConfig>([
            ("STORAGE_TYPE", "oss"),
            ("STORAGE_SIGNING_KEY", "tooshort-secret"),
            ("STORAGE_PUBLIC_PREFIXES", "avatars/,../x,/y"),
            ("STORAGE_CONCURRENCY", "0"),
            ("STORAGE_MAX_UPLOAD", "0"),
            ("OSS_CLIENT", "sdk"),
            ("OSS_ENDPOINT", "ftp://user:pass-word@host"),
            ("OSS_REGION", "Hang Zhou"),
            ("OSS_BUCKET", "My_Bucket"),
        ])
        .unwrap_err();
        let found: Vec<(&str, usize)> = [
            "STORAGE_SIGNING_KEY",
            "STORAGE_PUBLIC_PREFIXES",
            "STORAGE_CONCURRENCY",
            "STORAGE_MAX_UPLOAD",
            "OSS_CLIENT",
            "OSS_ENDPOINT",
            "OSS_REGION",
            "OSS_BUCKET",
            "OSS_ACCESS_KEY_ID",
            "OSS_ACCESS_KEY_SECRET",
        ]
        .map(|name| (name, report.of(name).count()))
        .into();
        // Where the build contains the SDK's adapter, that takes no public prefix.
        let sdk = usize::from(cfg!(feature = "oss-sdk"));
        let expected: Vec<(&str, usize)> = found
            .iter()
            .map(|(name, _)| match *name {
                "STORAGE_PUBLIC_PREFIXES" => (*name, 2 + sdk),
                "OSS_CLIENT" => (*name, 1 - sdk),
                _ => (*name, 1),
            })
            .collect();
        assert_eq!(found, expected, "{report}");
        let text = report.to_string();
        assert!(
            !text.contains("tooshort") && !text.contains("pass-word"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_used_is_not_judged() {
        load_from_pairs::<StorageConfig>([
            ("STORAGE_TYPE", "local"),
            ("OSS_CLIENT", "sdk"),
            ("OSS_BUCKET", "My_Bucket"),
        ])
        .unwrap();
    }

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

    #[cfg(feature = "oss-sdk")]
    #[test]
    fn the_sdk_is_told_what_it_cannot_do() {
        let load = |more: &[(&'static str, &'static str)]| {
            let mut variables = vec![
                ("STORAGE_TYPE", "oss"),
                ("OSS_CLIENT", "sdk"),
                ("OSS_REGION", "cn-hangzhou"),
                ("OSS_BUCKET", "bucket"),
                ("OSS_ACCESS_KEY_ID", "id"),
                ("OSS_ACCESS_KEY_SECRET", "secret"),
            ];
            variables.extend_from_slice(more);
            load_from_pairs::<StorageConfig>(variables)
        };
        load(&[]).unwrap();
        load(&[("OSS_SIGNATURE_VERSION", "v1")]).unwrap();
        for refused in [
            ("OSS_SIGNATURE_VERSION", "v4"),
            ("OSS_SECURITY_TOKEN", "token"),
            ("STORAGE_PUBLIC_PREFIXES", "avatars/"),
        ] {
            let report = load(&[refused]).unwrap_err();
            assert_eq!(report.of(refused.0).count(), 1, "{report}");
        }
    }

    #[test]
    fn an_oidc_role_replaces_keys() {
        load_from_pairs::<StorageConfig>([
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", "oss-cn-hangzhou"),
            ("OSS_BUCKET", "bucket"),
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/x"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/x"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/var/run/token"),
        ])
        .unwrap();
    }
}
