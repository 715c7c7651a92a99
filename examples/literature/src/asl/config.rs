use std::time::Duration;
use zhuji::config::{ByteSize, Config, Problem, Reader};

/// Settings of the module.
#[derive(Config, Clone, Debug)]
#[config(title = "Literature screening (asl)", prefixes("ASL_"), check = AslConfig::check)]
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
    /// How much memory reading one file, PDF or Excel, may take: at least 256MiB, of which the reader's own stack is a
    /// part. A PDF larger than a quarter of it is kept, but its text is not extracted.
    #[config(env = "ASL_EXTRACTION_MEMORY_LIMIT", default = "1GiB")]
    pub(crate) extraction_memory_limit: ByteSize,
    /// How long the address of a PDF works that a browser is sent to.
    #[config(env = "ASL_PDF_URL_EXPIRES", default = "5m")]
    pub(crate) pdf_url_expires: Duration,
    /// How often to look for stored PDFs that no record names, left by a process that died in between; the first time
    /// after one interval. From 1s to 3650d.
    #[config(env = "ASL_SWEEP_INTERVAL", default = "1h")]
    pub(crate) sweep_interval: Duration,
    /// How old such a PDF must be before it is removed. From 5m, which is longer than the last step of any upload, to
    /// 3650d.
    #[config(env = "ASL_SWEEP_AGE", default = "1d")]
    pub(crate) sweep_age: Duration,
}

/// With less, the reader's process can't even be started.
const LEAST_MEMORY: u64 = 256 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl AslConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        // Sweeping often only costs requests. Sweeping early would remove a PDF whose transaction is still under way.
        let bounds = [
            ("ASL_SWEEP_INTERVAL", self.sweep_interval, SECOND, "1s"),
            ("ASL_SWEEP_AGE", self.sweep_age, 5 * MINUTE, "5m"),
            ("ASL_IMPORT_TIME_LIMIT", self.import_time_limit, SECOND, "1s"),
            (
                "ASL_EXTRACTION_TIME_LIMIT",
                self.extraction_time_limit,
                SECOND,
                "1s",
            ),
            ("ASL_PDF_URL_EXPIRES", self.pdf_url_expires, SECOND, "1s"),
        ];
        if self.extraction_memory_limit.bytes() < LEAST_MEMORY {
            let variable = "ASL_EXTRACTION_MEMORY_LIMIT";
            reader.problem(Problem::invalid(variable, "it is less than 256MiB"));
        }
        for (variable, value, least, least_text) in bounds {
            if value < least || value > 3_650 * DAY {
                let reason = format!("it is not from {least_text} to 3650d");
                reader.problem(Problem::invalid(variable, reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AslConfig;
    use zhuji::config::load_from_pairs;

    #[test]
    fn a_reader_without_memory_is_refused() {
        let variable = "ASL_EXTRACTION_MEMORY_LIMIT";
        load_from_pairs::<AslConfig>([(variable, "256MiB")]).expect("it is enough");
        let report = load_from_pairs::<AslConfig>([(variable, "255MiB")]).expect_err("it is too little");
        assert!(report.to_string().contains(variable), "{report}");
    }

    #[test]
    fn a_sweep_without_bounds_is_refused() {
        for (variable, good, bad) in [
            (
                "ASL_SWEEP_INTERVAL",
                ["1s", "3650d"],
                ["0s", "999ms", "3651d", "99999999d"],
            ),
            (
                "ASL_SWEEP_AGE",
                ["5m", "3650d"],
                ["0s", "299s", "3651d", "99999999d"],
            ),
        ] {
            for value in good {
                load_from_pairs::<AslConfig>([(variable, value)]).expect("it is within the bounds");
            }
            for value in bad {
                let report = load_from_pairs::<AslConfig>([(variable, value)]).expect_err(value);
                assert!(report.to_string().contains(variable), "{report}");
            }
        }
    }
}
