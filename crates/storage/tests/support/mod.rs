//! What several test files need.
#![allow(dead_code)]

use zhuji_storage::StorageConfig;
use zhuji_testkit::oss::OssServer;

/// Settings from these variables.
pub(crate) fn storage_config(variables: &[(&str, &str)]) -> StorageConfig {
    zhuji_config::load_from_pairs(variables.iter().copied()).unwrap()
}

/// Settings for a test server's bucket.
pub(crate) fn oss_config(server: &OssServer, endpoint: &str, more: &[(&str, &str)]) -> StorageConfig {
    let mut variables = vec![
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", server.region()),
        ("OSS_BUCKET", server.bucket()),
        ("OSS_ACCESS_KEY_ID", server.access_key_id()),
        ("OSS_ACCESS_KEY_SECRET", server.access_key_secret()),
        ("OSS_ENDPOINT", endpoint),
    ];
    variables.extend_from_slice(more);
    storage_config(&variables)
}
