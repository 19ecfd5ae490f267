//! What came with PostgreSQL 16, 17 and 18, where the server under test has it.

mod pg16;
mod pg17;
mod pg18;
mod pg18_keys;

use audit_algolia_tests::server::Installation;
use audit_algolia_tests::stage::leave_out;

/// Whether the server under test has what came with a version. If not, the output says so, also that of a run that passes.
fn has(major: u32, what: &str) -> bool {
    let installed = Installation::current().unwrap().major();
    if installed < major {
        leave_out(&format!("PostgreSQL {installed} has no {what}, which came with {major}"));
    }
    installed >= major
}
