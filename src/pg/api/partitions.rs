//! Watched tables whose rows can be changed past their statement-level triggers all of a sudden: because they have become
//! partitions or members of an inheritance tree, or because their triggers are to fire for a subscription, which fires
//! those for rows alone. They get triggers that see each row. Watched tables with another owner. And watched tables that
//! are no more.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::triggers::{allow_triggers, create_leaf_trigger, create_trigger, drop_trigger, enable_trigger};
use crate::pg::hypertables::is_hypertable;
use crate::pg::report::{reported, Outcome};
use crate::record::Operation;
use crate::rules::Mode;

/// The event trigger's function, called after each statement that can make it necessary.
#[pg_extern(sql = false)]
fn follow_partitions() -> Result<(), ErrorReport> {
    reported(replace_triggers().and_then(|()| renew_rights()))
}

/// The event trigger's function, called after each statement that has dropped something.
#[pg_extern(sql = false)]
fn forget_dropped() -> Result<(), ErrorReport> {
    reported(Spi::run(include_str!("../../../sql/forget_dropped.sql")).map_err(Into::into))
}

/// A trigger that sees too little.
struct Blind {
    source: i32,
    relation: pg_sys::Oid,
    table: String,
    operation: Operation,
    /// As `pg_trigger.tgenabled` has it.
    state: String,
}

/// Gives new owners the rights that the old ones were given by watch().
fn renew_rights() -> Outcome<()> {
    let lacking = Spi::connect(|client| -> Outcome<Vec<(pg_sys::Oid, String, bool)>> {
        let mut lacking = Vec::new();
        for row in client.select(include_str!("../../../sql/owners_without_rights.sql"), None, &[])? {
            if let (Some(relation), Some(owner), Some(partitioned)) = (row.get(1)?, row.get(2)?, row.get(3)?)
            {
                lacking.push((relation, owner, partitioned));
            }
        }
        Ok(lacking)
    })?;
    for (relation, owner, partitioned) in lacking {
        if partitioned || is_hypertable(relation)? {
            allow_triggers(&owner, !partitioned)?;
        }
    }
    Ok(())
}

fn replace_triggers() -> Outcome<()> {
    let blind = Spi::connect(|client| -> Outcome<Vec<Blind>> {
        let mut blind = Vec::new();
        for row in client.select(include_str!("../../../sql/find_blind_triggers.sql"), None, &[])? {
            let (id, operation) = (row.get(1)?, row.get::<String>(4)?);
            let columns = (id, row.get(2)?, row.get(3)?, operation, row.get(5)?, row.get(6)?);
            if let (Some(source), Some(schema), Some(name), Some(operation), Some(state), Some(relation)) =
                columns
            {
                let (schema, name): (String, String) = (schema, name);
                let table = spi::quote_qualified_identifier(schema, name);
                blind.extend(Operation::of(&operation).map(|operation| Blind {
                    source,
                    relation,
                    table,
                    operation,
                    state,
                }));
            }
        }
        Ok(blind)
    })?;
    for Blind { source, relation, table, operation, state } in blind {
        // One that was watched before it became a hypertable. This may be a writer's session, whose insertion has made a
        // chunk: let capture() tell what to do.
        if is_hypertable(relation)? {
            continue;
        }
        drop_trigger(&table, source, operation)?;
        // Triggers for rows are all that a mirrored table has.
        create_trigger(&table, source, Mode::Append, operation, true)?;
        enable_trigger(&table, source, operation, &state)?;
    }
    cover_leaves()
}

/// New partitions of mirrored tables have to tell of their rows before they are emptied.
fn cover_leaves() -> Outcome<()> {
    let deaf = Spi::connect(|client| -> Outcome<Vec<(i32, String)>> {
        let mut deaf = Vec::new();
        for row in client.select(include_str!("../../../sql/find_deaf_leaves.sql"), None, &[])? {
            if let (Some(source), Some(schema), Some(name)) =
                (row.get(1)?, row.get::<String>(2)?, row.get::<String>(3)?)
            {
                deaf.push((source, spi::quote_qualified_identifier(schema, name)));
            }
        }
        Ok(deaf)
    })?;
    for (source, leaf) in deaf {
        create_leaf_trigger(&leaf, source)?;
    }
    Ok(())
}
