use std::time::Duration;
use zhuji::config::{ByteSize, Config};

/// Settings of the module.
#[derive(Config, Clone, Debug)]
#[config(title = "Literature screening (asl)", prefixes("ASL_"))]
pub(crate) struct AslConfig {
    /// The largest PDF that may be uploaded.
    #[config(env = "ASL_MAX_PDF_BYTES", default = "512MiB")]
    pub(crate) max_pdf_bytes: ByteSize,
    /// The largest Excel file that may be imported; it is held in memory while it is read.
    #[config(env = "ASL_MAX_EXCEL_BYTES", default = "32MiB")]
    pub(crate) max_excel_bytes: ByteSize,
    /// How long reading an Excel file may take.
    #[config(env = "ASL_IMPORT_TIME_LIMIT", default = "30s")]
    pub(crate) import_time_limit: Duration,
    /// How long extracting the text of a PDF may take.
    #[config(env = "ASL_EXTRACTION_TIME_LIMIT", default = "60s")]
    pub(crate) extraction_time_limit: Duration,
    /// How much memory reading one file, PDF or Excel, may take.
    #[config(env = "ASL_EXTRACTION_MEMORY_LIMIT", default = "1GiB")]
    pub(crate) extraction_memory_limit: ByteSize,
    /// How long the address of a PDF works that a browser is sent to.
    #[config(env = "ASL_PDF_URL_EXPIRES", default = "5m")]
    pub(crate) pdf_url_expires: Duration,
    /// How often to look for stored PDFs that no record names, left by a process that died in between.
    #[config(env = "ASL_SWEEP_INTERVAL", default = "1h")]
    pub(crate) sweep_interval: Duration,
    /// How old such a PDF must be before it is removed; far longer than any upload's last step.
    #[config(env = "ASL_SWEEP_AGE", default = "15m")]
    pub(crate) sweep_age: Duration,
}
