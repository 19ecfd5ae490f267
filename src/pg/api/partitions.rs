//! Watched tables whose rows can be changed past their statement-level triggers all of a sudden: because they have become
//! partitions or members of an inheritance tree, or because their triggers are to fire for a subscription, which fires
//! those for rows alone. They get triggers that see each row. And watched tables that are no more.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::triggers::{create_leaf_trigger, create_trigger, drop_trigger, enable_trigger};
use crate::pg::report::{reported, Outcome};
use crate::record::Operation;
use crate::rules::Mode;

/// The event trigger's function, called after each statement that can make it necessary.
#[pg_extern(sql = false)]
fn follow_partitions() -> Result<(), ErrorReport> {
    reported(replace_triggers())
}

/// The event trigger's function, called after each statement that has dropped something.
#[pg_extern(sql = false)]
fn forget_dropped() -> Result<(), ErrorReport> {
    reported(Spi::run(include_str!("../../../sql/forget_dropped.sql")).map_err(Into::into))
}

/// A trigger that sees too little.
struct Blind {
    source: i32,
    table: String,
    operation: Operation,
    /// As `pg_trigger.tgenabled` has it.
    state: String,
}

fn replace_triggers() -> Outcome<()> {
    let blind = Spi::connect(|client| -> Outcome<Vec<Blind>> {
        let mut blind = Vec::new();
        for row in client.select(include_str!("../../../sql/find_blind_triggers.sql"), None, &[])? {
            let columns = (row.get(1)?, row.get(2)?, row.get(3)?, row.get::<String>(4)?, row.get(5)?);
            if let (Some(source), Some(schema), Some(name), Some(operation), Some(state)) = columns {
                let (schema, name): (String, String) = (schema, name);
                let table = spi::quote_qualified_identifier(schema, name);
                blind.extend(Operation::of(&operation).map(|operation| Blind {
                    source,
                    table,
                    operation,
                    state,
                }));
            }
        }
        Ok(blind)
    })?;
    for Blind { source, table, operation, state } in blind {
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
