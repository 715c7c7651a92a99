//! Typed settings from the environment, every problem in one report, secrets never printed.
