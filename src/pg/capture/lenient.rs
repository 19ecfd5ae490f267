//! `on_capture_error = warn`: a row that cannot become a record is left out, and holds up nobody.
//!
//! Records are made in a subtransaction, which undoes what an error has left behind; they are written outside of it, so
//! that it needs no transaction id. Of each row left out a repair is written down, in the writer's transaction, by the
//! row's key; `pg/backfill/repair.rs` makes it. Where the queue cannot be written to, neither can that: the writer fails.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::context::Context;
use super::queue::{clear, fresh_id};
use super::rows::{read, value_in, Reader, Slot};
use super::statement::Versions;
use super::{arguments, columns, Bound, Event};
use crate::pg::hypertables::is_hypertable;
use crate::pg::latest::first_row;
use crate::pg::owner::{as_user, home, set_output_aside};
use crate::pg::report::{caught_if_at_fault, failure, Failure, Outcome};
use crate::pg::rules::{pseudonymizer, SourceRules};
use crate::pg::xact;
use crate::record::{escape_non_ascii, Operation};
use crate::rules::Mode;

/// Rows left out that are kept in memory.
const MOST: usize = 1000;
/// Rows that are looked at before memory is given back.
const STRETCH: usize = 1024;

thread_local! {
    /// The statement of a transaction, by its start, whose writer has been warned of a source last.
    static WARNED: Cell<Option<(u64, pg_sys::TimestampTz, i32)>> = const { Cell::new(None) };
}

/// Runs `work` in a subtransaction. When it fails by its own fault, nothing remains of it and the failure is returned;
/// other errors pass through, see [`caught_if_at_fault`].
pub(super) fn guarded<T>(
    context: &Context,
    work: impl FnOnce() -> Outcome<T>,
) -> Outcome<Result<T, Box<Failure>>> {
    // SAFETY: as the server's own languages do it. Inside, the caller's memory context is current, so that results
    // outlive the subtransaction; after it, context, resource owner and the stack of error contexts are as before. An
    // error that passes leaves all that to the abort of the transaction.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let frames = pg_sys::error_context_stack;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let done = caught_if_at_fault(work);
        pg_sys::MemoryContextSwitchTo(memory);
        match &done {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
                pg_sys::error_context_stack = frames;
                context.in_filter(false);
            }
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        Ok(done)
    }
}

/// What is known of the source of a trigger, even if its rules do not fit the table any more.
struct Target {
    source: i32,
    index_id: i32,
    index: String,
    watched: pg_sys::Oid,
    mode: Mode,
    key_columns: Vec<String>,
    /// The key's columns in the rows at hand, and their types' output functions. None: it must not be kept, or a column
    /// is gone.
    key: Option<Vec<(usize, pg_sys::Oid)>>,
    /// Where the key must not be kept: the rules, for the object's name.
    bound: Option<Bound>,
}

/// A row left out.
struct Omitted {
    operation: Operation,
    key: Option<Vec<Vec<u8>>>,
    object: Option<String>,
    number: i64,
    error: String,
}

/// The rows of one call of a trigger that are left out.
pub(super) struct Omissions<'a> {
    call: &'a pg_sys::TriggerData,
    event: Event,
    /// Read when the first row is left out.
    target: Option<Target>,
    rows: Vec<Omitted>,
    count: u64,
    /// Why the first was.
    first: Option<String>,
}

impl<'a> Omissions<'a> {
    pub(super) fn new(call: &'a pg_sys::TriggerData, event: Event) -> Omissions<'a> {
        Omissions { call, event, target: None, rows: Vec::new(), count: 0, first: None }
    }

    /// Leaves out all rows of the call: its source could not be made ready. An error if there is no such source.
    ///
    /// # Safety
    /// The call is under way.
    pub(super) unsafe fn all(mut self, context: &Context, error: Box<Failure>) -> Outcome<()> {
        // SAFETY: handed on to the caller; the rows are read as `statement.rs` does it.
        unsafe {
            if !self.find_target(context)? {
                return Err(error);
            }
            let none = std::ptr::null_mut();
            let no_row = Versions { old: none, new: none };
            let is_statement = !self.event.is_row;
            let relation = self.call.tg_relation;
            match self.event.operation {
                Operation::Truncate if self.event.is_before => self.all_in(relation, context, &error)?,
                Operation::Truncate => self.add(context, no_row, &error)?,
                // Rows of chunks may be laid out in another way.
                _ if is_statement && as_user(home()?.owner, || is_hypertable((*relation).rd_id))? => {
                    self.add(context, no_row, &error)?;
                }
                operation if !is_statement => {
                    self.add(context, Versions::of(self.call, operation), &error)?;
                }
                _ => {
                    let old = Reader::open(self.call.tg_oldtable, relation);
                    let new = Reader::open(self.call.tg_newtable, relation);
                    let mut scratch = PgMemoryContexts::new("audit_algolia omissions");
                    let mut more = true;
                    while more {
                        old.clear();
                        new.clear();
                        scratch.reset();
                        more = scratch.switch_to(|_| -> Outcome<bool> {
                            for _ in 0..STRETCH {
                                let (has_old, has_new) = (old.next(), new.next());
                                if !has_old && !has_new {
                                    return Ok(false);
                                }
                                self.add(context, Versions { old: old.slot, new: new.slot }, &error)?;
                            }
                            Ok(true)
                        })?;
                    }
                    old.close();
                    new.close();
                }
            }
        }
        self.finish()
    }

    /// Leaves out all rows of a table that is about to be emptied.
    ///
    /// # Safety
    /// As for `all`.
    unsafe fn all_in(
        &mut self,
        relation: pg_sys::Relation,
        context: &Context,
        error: &Failure,
    ) -> Outcome<()> {
        // SAFETY: handed on to the caller; as `Statement::empty` reads them.
        unsafe {
            if (*(*relation).rd_rel).relkind != pg_sys::RELKIND_RELATION as i8 {
                return Ok(());
            }
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan(relation, snapshot, 0, std::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let mut scratch = PgMemoryContexts::new("audit_algolia omissions");
            while pg_sys::table_scan_getnextslot(scan, forward, slot) {
                let row = Versions { old: slot, new: std::ptr::null_mut() };
                scratch.switch_to(|_| self.add(context, row, error))?;
                clear(slot);
                scratch.reset();
            }
            pg_sys::table_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::UnregisterSnapshot(snapshot);
        }
        Ok(())
    }

    /// Leaves out a row. Of a mirrored one whose key has changed, the index has to be put right for both.
    ///
    /// # Safety
    /// The slots are null or hold rows of the trigger's relation.
    pub(super) unsafe fn add(&mut self, context: &Context, row: Versions, error: &Failure) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        unsafe {
            if !self.find_target(context)? {
                return Err(failure(error.code(), error.kind(), "Call audit_algolia.watch() again."));
            }
            self.first.get_or_insert_with(|| error.kind());
            self.count += 1;
            let told = row.told();
            let (key, object) = self.name_of(context, told)?;
            let is_mirrored = self.target.as_ref().is_some_and(|target| target.mode == Mode::Mirror);
            if is_mirrored && !row.old.is_null() && row.old != told {
                let (old_key, old_object) = self.name_of(context, row.old)?;
                let is_same =
                    (&old_key, &old_object) == (&key, &object) && (key.is_some() || object.is_some());
                if !is_same {
                    self.push(Operation::Delete, old_key, old_object, error)?;
                }
            }
            self.push(self.event.operation, key, object, error)
        }
    }

    fn push(
        &mut self,
        operation: Operation,
        key: Option<Vec<Vec<u8>>>,
        object: Option<String>,
        error: &Failure,
    ) -> Outcome<()> {
        // Younger than the lock on the row, as that of a version is.
        let number = fresh_id(home()?.block_sequence);
        let is_nameless = key.is_none() && object.is_none();
        // Rows without a name are looked for together.
        if is_nameless
            && self.rows.last().is_some_and(|last| {
                last.key.is_none() && last.object.is_none() && last.operation == operation
            })
        {
            return Ok(());
        }
        self.rows.push(Omitted { operation, key, object, number, error: error.kind() });
        if self.rows.len() >= MOST {
            self.store()?;
        }
        Ok(())
    }

    /// The row's key, or, where that must not be kept, the record that deletes its object; as far as they can be had.
    ///
    /// # Safety
    /// The slot is null or holds a row of the trigger's relation.
    unsafe fn name_of(
        &self,
        context: &Context,
        slot: Slot,
    ) -> Outcome<(Option<Vec<Vec<u8>>>, Option<String>)> {
        let Some(target) = &self.target else { return Ok((None, None)) };
        if slot.is_null() {
            return Ok((None, None));
        }
        // SAFETY: handed on to the caller. An output function returns a C string.
        let name = guarded(context, || unsafe {
            let level = pg_sys::NewGUCNestLevel();
            set_output_aside();
            let name = match (&target.key, &target.bound) {
                (Some(columns), _) => {
                    read(slot, columns.iter().map(|(place, _)| place + 1).max().unwrap_or(0));
                    let part = |(place, output): &(usize, pg_sys::Oid)| {
                        let datum = value_in(slot, *place)?;
                        let text = CStr::from_ptr(pg_sys::OidOutputFunctionCall(*output, datum));
                        Some(text.to_bytes().to_vec())
                    };
                    (columns.iter().map(part).collect(), None)
                }
                (None, Some(bound)) => {
                    let mut object = Vec::new();
                    read(slot, bound.width);
                    bound.write_object(
                        |place| value_in(slot, place),
                        pseudonymizer().as_deref(),
                        &mut object,
                    )?;
                    (None, String::from_utf8(object).ok())
                }
                (None, None) => (None, None),
            };
            pg_sys::AtEOXact_GUC(false, level);
            Ok(name)
        })?;
        Ok(name.unwrap_or_default())
    }

    /// Finds out for whom the rows are; `false`: for nobody, it seems.
    ///
    /// # Safety
    /// The call is under way.
    unsafe fn find_target(&mut self, context: &Context) -> Outcome<bool> {
        if self.target.is_some() {
            return Ok(true);
        }
        // SAFETY: handed on to the caller.
        let (relation, descriptor, arguments) = unsafe {
            let relation = self.call.tg_relation;
            ((*relation).rd_id, (*relation).rd_att, arguments(self.call))
        };
        let Some(source) = arguments.first().and_then(|argument| argument.parse::<i32>().ok()) else {
            return Ok(false);
        };
        // SAFETY: the relation is open.
        let columns = unsafe { columns(descriptor) };
        let ids = [(pg_sys::INT4OID, source.into()), (pg_sys::OIDOID, relation.into())];
        let found = as_user(home()?.owner, || {
            first_row(include_str!("../../../sql/repair_target.sql"), &ids, |row| {
                let names: Vec<Option<String>> = row.get(4).unwrap_or_default();
                let key_columns: Vec<String> = names.into_iter().flatten().collect();
                let is_hidden = row.get::<bool>(5).unwrap_or(true);
                let place = |name: &String| {
                    let found = columns.iter().find(|(_, column, _)| column == name);
                    found.map(|(place, _, of)| (*place, output_of(*of)))
                };
                let target = Target {
                    source,
                    index_id: row.get(1).unwrap_or_default(),
                    index: row.get(2).unwrap_or_default(),
                    watched: row.get(3).unwrap_or(pg_sys::InvalidOid),
                    mode: row.get::<String>(6).and_then(|word| Mode::of(&word)).unwrap_or(Mode::Append),
                    key: match is_hidden {
                        true => None,
                        false => key_columns.iter().map(place).collect(),
                    },
                    key_columns,
                    bound: None,
                };
                Ok((target, is_hidden))
            })
        })?;
        let Some((mut target, is_hidden)) = found else { return Ok(false) };
        if is_hidden {
            let bound = guarded(context, || {
                let names: Vec<&str> = columns.iter().map(|(_, name, _)| name.as_str()).collect();
                let rules =
                    as_user(home()?.owner, || SourceRules::load(source, relation, &target.index, &names))?;
                rules.map(|rules| Bound::new(&rules, &columns, &target.index)).transpose()
            })?;
            target.bound = bound.unwrap_or_default();
        }
        self.target = Some(target);
        Ok(true)
    }

    /// Writes repairs down for the rows at hand.
    fn store(&mut self) -> Outcome<()> {
        let (Some(target), rows) = (&self.target, std::mem::take(&mut self.rows)) else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let seam = seam();
        // SAFETY: reads the state of the session, and when its statement has begun.
        let (in_utf8, now) = unsafe {
            let in_utf8 = pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32;
            (in_utf8, pg_sys::GetCurrentStatementStartTimestamp())
        };
        let types = [
            pg_sys::OIDOID,
            pg_sys::INT4OID,
            pg_sys::TEXTOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTOID,
            pg_sys::INT8OID,
            pg_sys::INT8ARRAYOID,
            pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID,
        ];
        as_user(home()?.owner, || {
            Spi::connect_mut(|client| -> Outcome<()> {
                let types = types.map(pgrx::PgOid::from);
                let insert = client.prepare_mut(include_str!("../../../sql/add_repair.sql"), &types)?;
                for row in &rows {
                    let object = row.object.as_ref().map(|object| match in_utf8 {
                        true => object.clone(),
                        false => escape_non_ascii(object).into_owned(),
                    });
                    // SAFETY: the datums have the types they are said to have.
                    let (key, now) = unsafe {
                        let key = row.key.as_ref().map(|key| text_array(key));
                        (
                            DatumWithOid::new(key.map(KeyDatum), pg_sys::TEXTARRAYOID),
                            DatumWithOid::new(now, pg_sys::TIMESTAMPTZOID),
                        )
                    };
                    let arguments = [
                        target.watched.into(),
                        target.index_id.into(),
                        row.operation.word().into(),
                        target.key_columns.clone().into(),
                        key,
                        object.into(),
                        row.number.into(),
                        seam.to_vec().into(),
                        row.error.clone().into(),
                        now,
                    ];
                    client.update(&insert, None, &arguments)?;
                }
                Ok(())
            })
        })?;
        xact::note_repairs(target.index_id, rows.len() as i64);
        Ok(())
    }

    /// Writes repairs down for the rows left out, and warns the writer, of the rows of a statement once.
    pub(super) fn finish(mut self) -> Outcome<()> {
        self.store()?;
        let (Some(target), Some(why)) = (self.target, self.first) else { return Ok(()) };
        // SAFETY: the call is under way; the relation's name is a C string. The rest reads the state of the transaction.
        let (table, statement) = unsafe {
            let name = (*(*self.call.tg_relation).rd_rel).relname.data.as_ptr();
            let statement = (
                pg_sys::GetTopFullTransactionId().value,
                pg_sys::GetCurrentStatementStartTimestamp(),
                target.source,
            );
            (CStr::from_ptr(name).to_string_lossy(), statement)
        };
        if self.event.is_row && WARNED.replace(Some(statement)) == Some(statement) {
            return Ok(());
        }
        let rows = match (self.count, self.event.is_row) {
            (1, _) | (_, true) => "a change".to_owned(),
            (count, _) => format!("{count} changes"),
        };
        let detail = match self.event.is_row {
            true => "Of further changes by the same statement nothing is said.",
            false => "Its other changes are captured.",
        };
        let index = &target.index;
        failure(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{rows} of table \"{table}\" could not be captured for index \"{index}\": {why}"),
            "Mend the cause: the rows are read again until it works, see audit_algolia.repair and README.md, When \
             capture fails.",
        )
        .with_detail(detail)
        .warn();
        Ok(())
    }
}

/// The cluster, the oldest transaction that is running, and this one: whoever changes a row of ours from now on is not
/// older than the second.
fn seam() -> [i64; 3] {
    // SAFETY: a transaction is under way, and it writes; a snapshot of this moment is read at once.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value as i64;
        let mine = pg_sys::GetTopFullTransactionId().value as i64;
        let oldest = (*pg_sys::GetLatestSnapshot()).xmin.into_inner();
        let oldest = next - i64::from((next as u32).wrapping_sub(oldest));
        [pg_sys::GetSystemIdentifier() as i64, oldest.min(mine), mine]
    }
}

fn output_of(oid: pg_sys::Oid) -> pg_sys::Oid {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: a look-up in the system caches; the type is that of a column.
    unsafe { pg_sys::getTypeOutputInfo(oid, &mut function, &mut is_varlena) };
    function
}

/// Texts as the database keeps them, whatever their encoding.
fn text_array(texts: &[Vec<u8>]) -> pg_sys::Datum {
    // SAFETY: each text is copied by its length; an array of texts is made of them in the current context.
    unsafe {
        let mut datums: Vec<pg_sys::Datum> = texts
            .iter()
            .map(|text| pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32).into())
            .collect();
        pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::os::raw::c_char,
        )
        .into()
    }
}

/// An array of texts.
struct KeyDatum(pg_sys::Datum);

impl IntoDatum for KeyDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTARRAYOID
    }
}
