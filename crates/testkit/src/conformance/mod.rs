//! Suites that every implementation of a trait has to pass, with the same cases for all of them.

pub mod storage;
