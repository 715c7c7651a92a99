//! The derive behind zhuji-config.
