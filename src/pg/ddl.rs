//! What a DDL statement has done to partition and inheritance trees, and which watched tables that concerns.
//!
//! Most such statements are about tables that nobody watches. So nothing here locks a table, and a statement that can
//! concern no watched table is recognized by its own words, before any catalog is read.

use pgrx::pg_sys;

use super::latest_snapshot::{all_rows, PreparedQuery};
use super::list::cells;
use super::report::SqlResult;

/// The effects of a DDL statement.
#[derive(Default)]
pub(super) struct DdlEffects {
    /// Tables that have become partitions or children of others.
    pub(super) attached: Vec<pg_sys::Oid>,
    /// Tables that are no longer partitions or children of a table, with that table.
    pub(super) detached: Vec<(pg_sys::Oid, pg_sys::Oid)>,
    /// Tables with a new owner.
    pub(super) owner_changed: Vec<pg_sys::Oid>,
    /// Tables with a trigger that is to fire for a subscription as well.
    pub(super) enabled_always: Vec<pg_sys::Oid>,
}

impl DdlEffects {
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
            && self.detached.is_empty()
            && self.owner_changed.is_empty()
            && self.enabled_always.is_empty()
    }
}

/// The statement that an event trigger's function is called for; `None` if something else calls the function.
///
/// # Safety
/// `call` is what the function manager passes to a function.
pub(super) unsafe fn statement(call: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::Node> {
    // SAFETY: the caller guarantees this. The context node shows whether it is the call of an event trigger.
    unsafe {
        let context = (*call).context.cast::<pg_sys::EventTriggerData>().as_ref()?;
        (context.type_ == pg_sys::NodeTag::T_EventTriggerData).then_some(context.parsetree)
    }
}

/// Whether a statement may have added a table to an inheritance tree or removed one, or may have had any other of the
/// [`effects`].
///
/// # Safety
/// `node` is a valid statement or null.
pub(super) unsafe fn is_of_interest(node: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's own tag. The statement of a foreign table begins with that of a table.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else { return false };
        match tag {
            pg_sys::NodeTag::T_CreateStmt | pg_sys::NodeTag::T_CreateForeignTableStmt => {
                !cells((*node.cast::<pg_sys::CreateStmt>()).inhRelations).is_empty()
            }
            pg_sys::NodeTag::T_AlterTableStmt => cells((*node.cast::<pg_sys::AlterTableStmt>()).cmds)
                .iter()
                .any(|cell| AlterPart::of(cell.ptr_value.cast()).is_some()),
            pg_sys::NodeTag::T_CreateSchemaStmt => {
                !cells((*node.cast::<pg_sys::CreateSchemaStmt>()).schemaElts).is_empty()
            }
            _ => false,
        }
    }
}

/// A relevant part of ALTER TABLE, with the other table that it names.
enum AlterPart {
    Attach(*mut pg_sys::RangeVar),
    Detach(*mut pg_sys::RangeVar),
    Inherit,
    Disinherit(*mut pg_sys::RangeVar),
    ChangeOwner,
    EnableAlways,
}

impl AlterPart {
    /// # Safety
    /// `node` is a part of ALTER TABLE, or null.
    unsafe fn of(node: *mut pg_sys::Node) -> Option<AlterPart> {
        use pg_sys::AlterTableType as Kind;
        // SAFETY: the caller guarantees this. The tag is checked first, and the definition has the type that the
        // subtype implies.
        unsafe {
            if node.as_ref()?.type_ != pg_sys::NodeTag::T_AlterTableCmd {
                return None;
            }
            let part = &*node.cast::<pg_sys::AlterTableCmd>();
            let partition = |part: &pg_sys::AlterTableCmd| (*part.def.cast::<pg_sys::PartitionCmd>()).name;
            match part.subtype {
                Kind::AT_AttachPartition => Some(AlterPart::Attach(partition(part))),
                Kind::AT_DetachPartition | Kind::AT_DetachPartitionFinalize => {
                    Some(AlterPart::Detach(partition(part)))
                }
                Kind::AT_AddInherit => Some(AlterPart::Inherit),
                Kind::AT_DropInherit => Some(AlterPart::Disinherit(part.def.cast())),
                Kind::AT_ChangeOwner => Some(AlterPart::ChangeOwner),
                Kind::AT_EnableAlwaysTrig | Kind::AT_EnableReplicaTrig => Some(AlterPart::EnableAlways),
                _ => None,
            }
        }
    }
}

/// The table that a statement has named and just found by the same name.
///
/// # Safety
/// `name` is a valid node.
unsafe fn found(name: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    // SAFETY: the caller guarantees this. The look-up locks nothing and returns an invalid oid if there is no such
    // table.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The effects of the statement that the event trigger at its end is called for. Only the trigger's function may call
/// this.
pub(super) fn effects() -> SqlResult<DdlEffects> {
    let mut effects = DdlEffects::default();
    let commands = all_rows(include_str!("../../sql/ddl/ddl_commands.sql"), &[], |row| row.get(1))?;
    for command in commands.into_iter().flatten() {
        let command: pg_sys::Datum = command;
        // SAFETY: the server returns pointers to the commands that it has collected, which live until the statement
        // ends.
        if let Some(command) = unsafe { command.cast_mut_ptr::<pg_sys::CollectedCommand>().as_ref() } {
            // SAFETY: as above.
            unsafe { effects.add(command) };
        }
    }
    Ok(effects)
}

impl DdlEffects {
    /// # Safety
    /// The server has collected the command.
    unsafe fn add(&mut self, command: &pg_sys::CollectedCommand) {
        // SAFETY: the caller guarantees this. The command's type determines the variant.
        unsafe {
            match command.type_ {
                pg_sys::CollectedCommandType::SCT_Simple if is_of_interest(command.parsetree) => {
                    self.attached.push(command.d.simple.address.objectId);
                }
                pg_sys::CollectedCommandType::SCT_AlterTable => {
                    let altered = command.d.alterTable;
                    for cell in cells(altered.subcmds) {
                        let part = (*cell.ptr_value.cast::<pg_sys::CollectedATSubcmd>()).parsetree;
                        let table = altered.objectId;
                        match AlterPart::of(part) {
                            Some(AlterPart::Attach(partition)) => self.attached.extend(found(partition)),
                            Some(AlterPart::Detach(partition)) => {
                                self.detached.extend(found(partition).map(|partition| (partition, table)));
                            }
                            Some(AlterPart::Inherit) => self.attached.push(table),
                            Some(AlterPart::Disinherit(parent)) => {
                                self.detached.extend(found(parent).map(|parent| (table, parent)));
                            }
                            Some(AlterPart::ChangeOwner) => self.owner_changed.push(table),
                            Some(AlterPart::EnableAlways) => self.enabled_always.push(table),
                            None => (),
                        }
                    }
                }
                _ => (),
            }
        }
    }
}

/// What a statement is about to drop.
#[derive(Default)]
pub(super) struct Dropping {
    pub(super) tables: Vec<pg_sys::Oid>,
    /// Schemas, with all tables in them.
    pub(super) schemas: Vec<pg_sys::Oid>,
    /// Owners, with all their tables.
    pub(super) owners: Vec<pg_sys::Oid>,
}

impl Dropping {
    /// What the statement drops, if partitions may be among it.
    ///
    /// # Safety
    /// `node` is a valid statement or null.
    pub(super) unsafe fn of(node: *mut pg_sys::Node) -> Option<Dropping> {
        use pg_sys::ObjectType::{OBJECT_SCHEMA, OBJECT_TABLE};
        let mut dropping = Dropping::default();
        // SAFETY: each cast follows the node's own tag, and each object has the type that the statement implies. Names
        // are C strings, and the look-ups lock nothing.
        unsafe {
            match node.as_ref()?.type_ {
                pg_sys::NodeTag::T_DropStmt => {
                    let drop = &*node.cast::<pg_sys::DropStmt>();
                    match drop.removeType {
                        OBJECT_TABLE => {
                            let tables = cells(drop.objects).iter().filter_map(|cell| {
                                found(pg_sys::makeRangeVarFromNameList(cell.ptr_value.cast()))
                            });
                            dropping.tables.extend(tables);
                            if !dropping.tables.iter().any(|table| pg_sys::get_rel_relispartition(*table)) {
                                return None;
                            }
                        }
                        OBJECT_SCHEMA => dropping.schemas.extend(cells(drop.objects).iter().map(|cell| {
                            let name = (*cell.ptr_value.cast::<pg_sys::String>()).sval;
                            pg_sys::get_namespace_oid(name, true)
                        })),
                        _ => return None,
                    }
                }
                pg_sys::NodeTag::T_DropOwnedStmt => {
                    let drop = &*node.cast::<pg_sys::DropOwnedStmt>();
                    let roles = cells(drop.roles).iter();
                    dropping
                        .owners
                        .extend(roles.map(|role| pg_sys::get_rolespec_oid(role.ptr_value.cast(), true)));
                }
                _ => return None,
            }
        }
        Some(dropping)
    }
}

thread_local! {
    static DROPPED: PreparedQuery = const { PreparedQuery::new(include_str!("../../sql/ddl/dropped_tables.sql")) };
}

/// The tables that the event trigger's statement has dropped, except temporary ones, which nobody watches. Only the
/// trigger's function may call this.
pub(super) fn dropped_tables() -> Vec<pg_sys::Oid> {
    DROPPED.with(|query| query.all_rows(|row| row.get(1))).into_iter().flatten().collect()
}
