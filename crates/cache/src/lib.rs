//! One cache in process, on Redis or both.
