//! Which utility statements concern launcher and workers, and how.

use std::collections::hash_map::DefaultHasher;
use std::ffi::CStr;
use std::hash::{Hash, Hasher};
use std::os::raw::c_char;

use pgrx::pg_sys;

use crate::pg::databases;
use crate::pg::list::cells;

/// A change of a database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DatabaseChange {
    Drop,
    Rename,
    Move,
    Copy,
}

/// What a utility statement means to us.
pub(super) enum StatementEffect {
    None,
    /// There must be no other connections to the database.
    Database {
        oid: u32,
        is_drop: bool,
        is_rename: bool,
    },
    /// There will be another database, perhaps with the extension, or one that is opened or closed to us.
    Databases,
    /// The extension is about to be dropped.
    DropExtension,
    /// Rows are copied into the extension's own tables.
    CopyIn,
    /// The current transaction is prepared under this identifier.
    Prepare(u64),
    /// A transaction prepared earlier ends now.
    CommitPrepared(u64),
    RollbackPrepared(u64),
}

/// # Safety
/// `node` is a valid utility statement or null.
pub(super) unsafe fn effect_of(node: *mut pg_sys::Node) -> StatementEffect {
    // SAFETY: each cast follows the node's own tag.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else {
            return StatementEffect::None;
        };
        match tag {
            pg_sys::NodeTag::T_DropdbStmt => {
                database((*node.cast::<pg_sys::DropdbStmt>()).dbname, DatabaseChange::Drop)
            }
            pg_sys::NodeTag::T_DropStmt => {
                let drop = &*node.cast::<pg_sys::DropStmt>();
                let is_ours = drop.removeType == pg_sys::ObjectType::OBJECT_EXTENSION
                    && cells(drop.objects).iter().any(|cell| names(cell.ptr_value.cast(), c"audit_algolia"));
                // The server will most likely refuse others.
                if is_ours && pg_sys::superuser() {
                    StatementEffect::DropExtension
                } else {
                    StatementEffect::None
                }
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = &*node.cast::<pg_sys::RenameStmt>();
                if rename.renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    database(rename.subname, DatabaseChange::Rename)
                } else {
                    StatementEffect::None
                }
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let create = &*node.cast::<pg_sys::CreatedbStmt>();
                match option(create.options, c"template") {
                    Some(template) => database(template, DatabaseChange::Copy),
                    None => StatementEffect::Databases,
                }
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = &*node.cast::<pg_sys::AlterDatabaseStmt>();
                // The other options decide whether workers may be in it.
                match option(alter.options, c"tablespace") {
                    Some(_) => database(alter.dbname, DatabaseChange::Move),
                    None => StatementEffect::Databases,
                }
            }
            pg_sys::NodeTag::T_CopyStmt => {
                let copy = &*node.cast::<pg_sys::CopyStmt>();
                // A dump names tables with their schemas.
                let schema = copy.relation.as_ref().map_or(std::ptr::null_mut(), |table| table.schemaname);
                if copy.is_from && !schema.is_null() && CStr::from_ptr(schema) == c"audit_algolia" {
                    StatementEffect::CopyIn
                } else {
                    StatementEffect::None
                }
            }
            pg_sys::NodeTag::T_TransactionStmt => {
                use pg_sys::TransactionStmtKind::*;
                let transaction = &*node.cast::<pg_sys::TransactionStmt>();
                match transaction.kind {
                    TRANS_STMT_PREPARE => StatementEffect::Prepare(hash(transaction.gid)),
                    TRANS_STMT_COMMIT_PREPARED => StatementEffect::CommitPrepared(hash(transaction.gid)),
                    TRANS_STMT_ROLLBACK_PREPARED => StatementEffect::RollbackPrepared(hash(transaction.gid)),
                    _ => StatementEffect::None,
                }
            }
            _ => StatementEffect::None,
        }
    }
}

/// # Safety
/// `name` is a C string or null.
unsafe fn database(name: *const c_char, change: DatabaseChange) -> StatementEffect {
    if name.is_null() {
        return StatementEffect::None;
    }
    // SAFETY: a look-up in the shared catalog. The server itself complains about an unknown name.
    let oid = unsafe { pg_sys::get_database_oid(name, true) };
    // The server will refuse others, so our processes need not leave.
    let may = |oid| match change {
        DatabaseChange::Copy => databases::may_copy(oid),
        _ => databases::is_owner(oid),
    };
    if oid == pg_sys::InvalidOid || !may(oid) {
        StatementEffect::None
    } else {
        StatementEffect::Database {
            oid: oid.to_u32(),
            is_drop: change == DatabaseChange::Drop,
            is_rename: change == DatabaseChange::Rename,
        }
    }
}

/// The text of an option.
///
/// # Safety
/// `options` is a list of DefElem nodes, or null.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*const c_char> {
    // SAFETY: the list's elements are read within its length. defGetString accepts any kind of value.
    unsafe {
        let list = options.as_ref()?;
        for place in 0..usize::try_from(list.length).unwrap_or(0) {
            let element: *mut pg_sys::DefElem = (*list.elements.add(place)).ptr_value.cast();
            if CStr::from_ptr((*element).defname) == name && !(*element).arg.is_null() {
                return Some(pg_sys::defGetString(element).cast_const());
            }
        }
    }
    None
}

/// # Safety
/// `node` is a String node or null.
unsafe fn names(node: *mut pg_sys::Node, name: &CStr) -> bool {
    // SAFETY: the caller guarantees this. A String node contains a C string.
    unsafe {
        if node.is_null() {
            return false;
        }
        let text = (*node.cast::<pg_sys::String>()).sval;
        !text.is_null() && CStr::from_ptr(text) == name
    }
}

/// # Safety
/// `text` is a C string or null.
unsafe fn hash(text: *const c_char) -> u64 {
    let mut hasher = DefaultHasher::new();
    if !text.is_null() {
        // SAFETY: the caller guarantees this.
        unsafe { CStr::from_ptr(text) }.hash(&mut hasher);
    }
    hasher.finish()
}
