//! PL/pgSQL statements that detach a partition and attach it again, in whatever state it is. A partition may be below a
//! table between it and the root, its box, whose name is that of the partition with `_box`.

/// Makes one statement of these PL/pgSQL statements.
pub(crate) fn block(statements: &str) -> String {
    format!("do $block$ declare above text; begin {statements} end $block$")
}

/// Detaches a partition from its parent, if it has one.
pub(crate) fn detach(part: &str) -> String {
    format!(
        "select inhparent::regclass::text into above from pg_inherits where inhrelid = '{part}'::regclass;
         if found then execute 'alter table ' || above || ' detach partition {part}'; end if;"
    )
}

/// Attaches a partition to its box if there is one, otherwise to the root.
pub(crate) fn attach(root: &str, part: &str, bounds: &str) -> String {
    format!(
        "if not exists (select from pg_inherits where inhrelid = '{part}'::regclass) then
             above := coalesce(to_regclass('{part}_box')::text, '{root}');
             execute 'alter table ' || above || $bounds$ attach partition {part} for values {bounds}$bounds$;
         end if;"
    )
}
