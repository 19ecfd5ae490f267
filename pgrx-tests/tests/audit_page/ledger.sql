-- Notes each change of the tables whose history the audit page tells, in the writer's transaction and by other means than
-- the extension's: triggers in PL/pgSQL, put on the tables as the scripts create them.

create schema ledger;
create table ledger.change (
    number bigint generated always as identity primary key,
    source text not null,
    op text not null,
    old jsonb,
    new jsonb,
    actor text not null,
    at timestamptz not null default clock_timestamp());

create function ledger.note() returns trigger
    language plpgsql
    security definer
as $$
begin
    insert into ledger.change (source, op, old, new, actor)
    values (tg_table_name, lower(tg_op), to_jsonb(old), to_jsonb(new), current_setting('audit_algolia.actor'));
    return null;
end $$;

create function ledger.attach() returns event_trigger
    language plpgsql
as $$
declare
    made record;
begin
    for made in select object_identity from pg_event_trigger_ddl_commands()
        where object_identity in (
            'report_workspace.report', 'report_workspace.report_permission', 'scraped_content.raw_post') loop
        execute format(
            'create or replace trigger ledger after insert or update or delete on %s for each row execute function ledger.note()',
            made.object_identity);
    end loop;
end $$;
create event trigger ledger on ddl_command_end when tag in ('CREATE TABLE') execute function ledger.attach();
