//! The settings: one documented field per variable.

use std::path::PathBuf;

use zhuji_config::{ByteSize, Config, ConfigEnum, Problem, Reader, Secret, Url};

use crate::{Result, hybrid, oss, signer::MIN_SIGNING_KEY};

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
    hybrid::check(config, reader);
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
