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

/// Bytes that no two places of have in common, so that nothing can be mixed up unseen.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
