//! sink
#![forbid(unsafe_code)]
