//! Health checks that run in the background, read from memory.
