//! Whole files, in pieces that can fail and be resumed one by one.

pub(crate) mod checkpoint;
mod download;
mod options;
pub(crate) mod source;
mod target;

pub(crate) use download::download_file;
pub use options::{DownloadFileOptions, Progress, UploadFileOptions};
