#![doc = include_str!("../README.md")]

mod adapter;
mod body;
mod config;
mod content;
mod crc;
mod encode;
mod error;
mod factory;
mod health_check;
mod hybrid;
mod key;
pub mod layers;
mod listing;
mod local;
mod memory;
mod object;
mod options;
mod oss;
#[cfg(feature = "oss-sdk")]
mod oss_sdk;
mod retry;
mod rules;
pub mod serve;
mod signer;
mod storage;
mod transfer;
mod upload_many;
mod verify;

pub use adapter::StorageAdapter;
pub use async_trait::async_trait;
pub use body::{Body, ByteStream};
pub use config::{Addressing, Durability, OssClientKind, OssConfig, SignatureVersion, StorageConfig};
pub use content::{MAX_METADATA_BYTES, attachment, guess_content_type, inline};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use factory::StorageFactory;
pub use key::{Key, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, RESERVED_SEGMENT};
pub use local::{LocalAdapter, LocalOptions};
pub use memory::MemoryAdapter;
pub use object::{ContentRange, Download, Entry, ListPage, Metadata, SignedUrl, Stored};
pub use options::{ByteRange, GetOptions, ListOptions, MAX_PAGE, PutOptions, SignMethod, SignOptions};
pub use oss::{
    Credentials, CredentialsProvider, CredentialsSource, CredentialsUri, EcsRole, OidcRole, OssAdapter,
    RefreshingCredentials, StaticCredentials,
};
#[cfg(feature = "oss-sdk")]
pub use oss_sdk::OssSdkAdapter;
pub use retry::RetryPolicy;
pub use rules::{
    CorsRule, LifecycleRule, RuleChange, RulesDiff, RulesSection, RulesSupport, StorageClass, StorageRules,
    Swept, Transition, Versioning,
};
pub use signer::{Grant, UrlSigner};
pub use storage::Storage;
pub use transfer::{DownloadFileOptions, Progress, UploadFileOptions};
pub use verify::Verified;
