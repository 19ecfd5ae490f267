//! What every part of a run is given.

use std::sync::Arc;

use audit_algolia_tests::server::Installation;

use super::packages::Packages;
use super::scale::Scale;

/// Where to measure, and how much.
pub(super) struct Setup {
    pub(super) installation: Arc<Installation>,
    pub(super) packages: Packages,
    pub(super) scale: Scale,
}
