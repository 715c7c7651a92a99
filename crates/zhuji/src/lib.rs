//! The platform: modules written once, run in every deployment mode.
