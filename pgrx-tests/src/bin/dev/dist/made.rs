//! Packages that have been made, and where.

use std::path::PathBuf;

use audit_algolia_tests::cargo;

use super::contents::Format;

pub(super) struct Made {
    pub(super) major: u32,
    pub(super) format: Format,
    pub(super) file: PathBuf,
}

/// Where packages are made.
pub(super) fn folder() -> PathBuf {
    cargo::target_dir().join("dist")
}
