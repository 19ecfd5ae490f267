//! Names of relations, and the columns that a row descriptor describes.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A column of a relation.
pub(super) struct TableColumn {
    /// Its attribute number minus one.
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) type_oid: pg_sys::Oid,
}

/// The name of a relation without its schema.
///
/// # Safety
/// `relation` is open.
pub(super) unsafe fn relation_name(relation: pg_sys::Relation) -> String {
    // SAFETY: the relation's name is a C string.
    unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy().into_owned()
}

/// The columns that triggers see.
///
/// # Safety
/// `descriptor` is valid.
pub(super) unsafe fn columns(descriptor: pg_sys::TupleDesc) -> Vec<TableColumn> {
    // SAFETY: the caller guarantees this; names are C strings.
    unsafe {
        (0..usize::try_from((*descriptor).natts).unwrap_or(0))
            .map(|place| (place, attribute(descriptor, place)))
            .filter(|(_, attribute)| !(**attribute).attisdropped && !is_virtual(*attribute))
            .map(|(place, attribute)| {
                let name = CStr::from_ptr((*attribute).attname.data.as_ptr()).to_string_lossy().into_owned();
                TableColumn { place, name, type_oid: (*attribute).atttypid }
            })
            .collect()
    }
}

/// A column of a row descriptor.
///
/// # Safety
/// `descriptor` is valid and `place` is less than its `natts`.
pub(super) unsafe fn attribute(descriptor: pg_sys::TupleDesc, place: usize) -> pg_sys::Form_pg_attribute {
    // SAFETY: the caller guarantees this. Up to version 17 the attributes follow the descriptor; from 18 on they follow
    // an array of compact ones.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let first = (*descriptor).attrs.as_mut_ptr();
        #[cfg(feature = "pg18")]
        let first: pg_sys::Form_pg_attribute = (*descriptor)
            .compact_attrs
            .as_mut_ptr()
            .add(usize::try_from((*descriptor).natts).unwrap_or(0))
            .cast();
        first.add(place)
    }
}

/// Whether a column is computed when it is read, so that triggers do not see its values.
///
/// # Safety
/// `attribute` is valid.
pub(super) unsafe fn is_virtual(attribute: pg_sys::Form_pg_attribute) -> bool {
    const VIRTUAL: u8 = b'v';
    // SAFETY: the caller guarantees this.
    unsafe { (*attribute).attgenerated as u8 == VIRTUAL }
}
