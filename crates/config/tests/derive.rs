//! What the derives write.

use std::{path::PathBuf, time::Duration};

use zhuji_config::{Config, ConfigEnum, Secret, load_from_pairs};

#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum AppEnv {
    Development,
    Production,
    Test,
}

#[derive(Config, Clone, Debug, PartialEq)]
#[config(title = "Storage", prefixes("STORAGE_", "OSS_"), impl_default)]
struct StorageConfig {
    /// Which adapter.
    #[config(env = "STORAGE_TYPE", default = "local")]
    kind: String,
    #[config(env = "STORAGE_LOCAL_DIR", default = "./uploads")]
    local_dir: PathBuf,
    #[config(env = "STORAGE_SIGNING_KEY")]
    signing_key: Option<Secret>,
    #[config(env = "STORAGE_PUBLIC_PREFIXES")]
    public_prefixes: Vec<String>,
    #[config(env = "APP_ENV", alias = "NODE_ENV", default = "development")]
    env: AppEnv,
    #[config(env = "STORAGE_TIMEOUT", default = "3s")]
    timeout: Duration,
    #[config(nested)]
    oss: OssConfig,
}

#[derive(Config, Clone, Debug, PartialEq)]
#[config(impl_default)]
struct OssConfig {
    #[config(env = "OSS_BUCKET")]
    bucket: Option<String>,
}

#[test]
fn defaults() {
    let config: StorageConfig = load_from_pairs([("", ""); 0]).unwrap();
    assert_eq!(config, StorageConfig::default());
    assert_eq!(config.timeout, Duration::from_secs(3));
    assert_eq!(config.env, AppEnv::Development);
    assert_eq!(AppEnv::NAMES, ["development", "production", "test"]);
}
