//! Statements of PL/pgSQL that detach a partition and attach it again, whatever has become of it meanwhile. A partition may
//! be below a table that stands between it and the root, which has its name and `_box` at the end.

/// Runs such statements.
pub(crate) fn block(statements: &str) -> String {
    format!("do $block$ declare above text; begin {statements} end $block$")
}

/// From whatever it is a partition of.
pub(crate) fn detach(part: &str) -> String {
    format!(
        "select inhparent::regclass::text into above from pg_inherits where inhrelid = '{part}'::regclass;
         if found then execute 'alter table ' || above || ' detach partition {part}'; end if;"
    )
}

/// To its box if there is one, and to the root if not.
pub(crate) fn attach(root: &str, part: &str, bounds: &str) -> String {
    format!(
        "if not exists (select from pg_inherits where inhrelid = '{part}'::regclass) then
             above := coalesce(to_regclass('{part}_box')::text, '{root}');
             execute 'alter table ' || above || $bounds$ attach partition {part} for values {bounds}$bounds$;
         end if;"
    )
}
