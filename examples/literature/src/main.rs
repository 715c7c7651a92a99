//! The reference service: literature screening and an AI assistant, two modules on the platform.
//!
//! What it can do is in [`asl`] and [`aia`]; which of them run, and where their files, rows and jobs live, is decided when
//! it starts, by environment variables alone.

mod asl;
mod page;

use std::process::ExitCode;
use zhuji::Platform;

fn main() -> ExitCode {
    Platform::builder(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .module::<asl::Asl>()
        .module::<aia::Aia>()
        .pages(page::routes())
        .run()
}
