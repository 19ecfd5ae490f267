//! What capture costs.

use super::super::samples::Samples;
use super::insert::Method;
use super::shape::Shape;
use super::variant::Variant;

/// The cost of a row in one repeat.
pub(super) struct Cost {
    pub(super) micros: f64,
    /// Microseconds of processor time of the writer's process, or all its time where it seldom waits for its client.
    pub(super) processor: f64,
    /// Bytes of WAL.
    pub(super) wal: f64,
    /// Full-page images in the WAL.
    pub(super) images: f64,
}

pub(super) type Costs = Samples<(Shape, Method, Variant), Cost>;
