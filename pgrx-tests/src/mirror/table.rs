//! Creates the table of a mirror run.

use anyhow::{anyhow, Result};

use super::partitions;
use super::plan::Shape;
use super::writer::{session, PATIENCE};
use crate::stage::Stage;
use crate::wait::poll;

/// Creates the table and watches it.
pub(super) fn create(stage: &Stage, table: &str, shape: Shape) -> Result<()> {
    let mut statements = format!(
        "create table {table} (id int primary key, v int not null, shown bool not null, note text not null)"
    );
    match shape {
        Shape::Plain => (),
        Shape::Restless => {
            statements += &format!(
                ";
                 create function {table}_again() returns trigger language plpgsql as $$ begin
                     if tg_op = 'DELETE' then
                         if old.v % 3 = 0 then
                             insert into {table} values (old.id, old.v + 1, true, '') on conflict do nothing;
                         end if;
                     elsif new.v % 3 = 0 then
                         update {table} set v = v + 1 where id = new.id;
                     elsif new.v % 7 = 0 then
                         delete from {table} where id = new.id;
                     elsif new.v % 11 = 0 then
                         begin
                             update {table} set v = v + 1 where id = new.id;
                             raise exception 'never mind';
                         exception when raise_exception then
                         end;
                     end if;
                     return null;
                 end $$;
                 create trigger aaa after insert or update on {table} for each row execute function {table}_again();
                 create trigger zzz after delete on {table} for each row execute function {table}_again()"
            );
        }
        Shape::Moving => statements += &partitions::create(table),
        Shape::Partitioned => {
            statements += &format!(
                " partition by hash (id);
                 create table {table}_0 partition of {table} for values with (modulus 2, remainder 0);
                 create table {table}_1 partition of {table} for values with (modulus 2, remainder 1)"
            );
        }
    }
    statements += &format!(
        "; select audit_algolia.watch('{table}', columns => '{{v}}', filter => 'shown', mode => 'mirror')"
    );
    // A crash may end the session meanwhile.
    let made = poll(PATIENCE, || {
        let mut db = session(&stage.cluster).ok()?;
        match db.batch_execute(&format!("begin; {statements}; commit")) {
            Ok(()) => Some(()),
            Err(_) => {
                let there = format!("select 1 from audit_algolia.sources where source::text = '{table}'");
                session(&stage.cluster).ok()?.query_opt(&there, &[]).ok()?.map(|_| ())
            }
        }
    });
    made.ok_or_else(|| anyhow!("could not make the table"))
}
