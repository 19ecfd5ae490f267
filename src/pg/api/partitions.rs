//! Watched tables that become partitions: their triggers are changed for ones that see rows on their way through the root.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::watch::{create_trigger, drop_trigger};
use crate::pg::report::{reported, Outcome};

/// The event trigger's function, called after each ALTER TABLE.
#[pg_extern(sql = false)]
fn follow_partitions() -> Result<(), ErrorReport> {
    reported(replace_triggers())
}

fn replace_triggers() -> Outcome<()> {
    let attached = Spi::connect(|client| -> Outcome<Vec<(i32, String)>> {
        let mut attached = Vec::new();
        for row in client.select(include_str!("../../../sql/find_attached.sql"), None, &[])? {
            if let (Some(id), Some(schema), Some(name)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
                let (schema, name): (String, String) = (schema, name);
                attached.push((id, spi::quote_qualified_identifier(schema, name)));
            }
        }
        Ok(attached)
    })?;
    for (id, table) in attached {
        drop_trigger(&table, id)?;
        create_trigger(&table, id, true)?;
    }
    Ok(())
}
