//! Stages whose library and objects are of a released version.

use std::path::PathBuf;
use std::sync::Arc;

use audit_algolia_tests::server::{released_library, released_versions, Installation, PgConfig, StopMode};
use audit_algolia_tests::stage::{leave_out, Stage, StageBuilder};
use postgres::Client;

/// The version of the source.
pub(crate) const PRESENT: &str = env!("CARGO_PKG_VERSION");

/// The released versions that there is an upgrade from.
pub(crate) fn versions() -> Vec<String> {
    let mut versions = released_versions().unwrap();
    versions.retain(|version| version != PRESENT);
    assert!(!versions.is_empty(), "there is no released version");
    versions
}

/// A stage that is upgraded, or put back to an old version.
pub(crate) struct Upgrade {
    pub(crate) stage: Stage,
    installation: Arc<Installation>,
    present_library: PathBuf,
    released_library: PathBuf,
    /// The shared installation stays while this value lives, and with it the present library.
    _shared: Installation,
}

impl Upgrade {
    /// A stage whose library and objects are of a released version; `None` if its library cannot be built.
    pub(crate) fn from(version: &str, builder: StageBuilder) -> Option<Upgrade> {
        let shared = Installation::current().unwrap();
        let Some(released_library) = released_library(&PgConfig::find().unwrap(), version).unwrap() else {
            leave_out(&format!("the library of version {version}, whose commit this clone does not have"));
            return None;
        };
        let installation = Arc::new(shared.own_copy().unwrap());
        let stage = builder.installation(Arc::clone(&installation)).start().unwrap();
        stage.admin().batch_execute("drop extension audit_algolia").unwrap();
        let present_library = shared.library();
        let upgrade = Upgrade { stage, installation, present_library, released_library, _shared: shared };
        upgrade.replace_library(version);
        upgrade.stage.cluster.restart(StopMode::Fast).unwrap();
        let create = format!("create extension audit_algolia version '{version}'");
        upgrade.stage.session().batch_execute(&create).unwrap();
        Some(upgrade)
    }

    /// Replaces the library. Processes that have loaded it go on with the old one.
    pub(crate) fn replace_library(&self, version: &str) {
        let library = if version == PRESENT { &self.present_library } else { &self.released_library };
        self.installation.replace_library(library).unwrap();
    }
}

/// Updates the extension's objects.
pub(crate) fn update(db: &mut Client, version: &str) {
    db.batch_execute(&format!("alter extension audit_algolia update to '{version}'")).unwrap();
}

/// The version of the extension's objects.
pub(crate) fn extension_version(db: &mut Client) -> String {
    db.query_one("select extversion from pg_extension where extname = 'audit_algolia'", &[]).unwrap().get(0)
}

/// Asserts that `watch` fails because library and extension are of these versions. A library that is older than these
/// objects may not have the function at all.
#[track_caller]
pub(crate) fn assert_refused(db: &mut Client, library: &str, extension: &str) {
    let watch = "select audit_algolia.watch('former', 'other', columns => '{id}')";
    let error = db.batch_execute(watch).unwrap_err();
    let error = error.as_db_error().unwrap();
    let told = format!("the library is version {library}, the extension {extension}");
    let is_refused = error.code().code() == "55000" && error.message().contains(&told);
    let is_missing = error.code().code() == "42883" && error.message().contains("could not find function");
    assert!(is_refused || library != PRESENT && is_missing, "{error}");
}
