-- A workspace of reports: who read what, who changed what, who was allowed to, and which recommendations were followed.
-- Auditors answer these questions with a search key alone; no user's name leaves the database.
--
--     psql -v search_key=YourSearchKey -f report_workspace.sql
--
-- Run it as a superuser, in a database with the extension, after setting application_id, api_key_file and
-- pseudonym_key_file.
-- search_key is a key that can only search. The keys at the end are made from it.
-- Everything is in a schema of its own: DROP SCHEMA report_workspace CASCADE removes it.

\set ON_ERROR_STOP on
\if :{?search_key}
\else
    \set search_key 'your-search-key'
\endif
create schema report_workspace;
set search_path = report_workspace;
set timezone = 'UTC';

-- 1. The workspace. Nothing in this part concerns the index.

create table users (
    user_id text primary key,
    name text not null);

-- External reports come from elsewhere, and nobody here may change them.
create table report (
    report_id integer primary key,
    title text not null,
    kind text not null check (kind in ('external', 'editable')),
    status text not null default 'draft',
    author_id text references users,
    body text);

create table report_permission (
    report_id integer references report,
    user_id text references users,
    level text not null check (level in ('read', 'write')),
    primary key (report_id, user_id));

create table access_log (
    access_id bigint generated always as identity primary key,
    report_id integer not null references report,
    user_id text not null references users,
    action text not null default 'view',
    at timestamptz not null default now(),
    authorized boolean not null);

create table report_edit (
    edit_id bigint generated always as identity primary key,
    report_id integer not null references report,
    user_id text not null references users,
    section text not null,
    at timestamptz not null default now(),
    authorized boolean not null);

-- A trigger decides whether an access was allowed, by the permissions at the time of the access. The application does not.
create function judge() returns trigger
    language plpgsql
    set search_path from current
as $$
begin
    new.authorized := exists (
        select from report_permission as p join report as r using (report_id)
        where p.report_id = new.report_id and p.user_id = new.user_id
            and (tg_table_name = 'access_log' or (p.level = 'write' and r.kind = 'editable')));
    return new;
end $$;
create trigger judge before insert on access_log for each row execute function judge();
create trigger judge before insert on report_edit for each row execute function judge();

-- An index has no joins, so each record holds all that the questions need.
create table recommendation (
    recommendation_id integer primary key,
    post text not null,
    user_id text not null references users,
    strategy text not null,
    at timestamptz not null default now(),
    event text generated always as ('recommended') stored);

-- Only the first view counts.
create table recommendation_view (
    recommendation_id integer primary key references recommendation,
    post text not null,
    user_id text not null references users,
    strategy text not null,
    at timestamptz not null default now(),
    event text generated always as ('viewed') stored);

-- 2. What leaves the database: the columns named here, with pseudonyms for users. Names of users and bodies of reports
-- stay.

select audit_algolia.watch('access_log', index_name => 'workspace_access',
    columns => '{report_id AS report, user_id AS user, action, at, authorized}', pseudonymize => '{user_id}',
    time_column => 'at', facets => '{report, user, action, authorized}');

select audit_algolia.watch('report_edit', index_name => 'workspace_edit',
    columns => '{report_id AS report, user_id AS user, section, at, authorized}', pseudonymize => '{user_id}',
    time_column => 'at', facets => '{report, user, section, authorized}');

-- Here each change is a record: what was done, by whom, and what the row was before. Since a column is pseudonymized,
-- changed_by is a pseudonym too; without author_id in pseudonymize it would be the plain name.
select audit_algolia.watch('report', index_name => 'workspace_report',
    columns => '{report_id AS report, title, kind, status, author_id AS author}', pseudonymize => '{author_id}',
    operations => '{insert, update, delete}', facets => '{report, kind, status, author, op, changed_by}');

select audit_algolia.watch('report_permission', index_name => 'workspace_permission',
    columns => '{report_id AS report, user_id AS user, level}', pseudonymize => '{user_id}',
    operations => '{insert, update, delete}', facets => '{report, user, level, op, changed_by, previous.level}');

-- Two tables share an index. Their ids overlap, so each has a prefix of its own.
select audit_algolia.watch('recommendation', index_name => 'workspace_recommendation',
    columns => '{post, user_id AS user, strategy, event, at}', pseudonymize => '{user_id}',
    time_column => 'at', facets => '{post, user, strategy, event}', object_prefix => 'recommended:');
select audit_algolia.watch('recommendation_view', index_name => 'workspace_recommendation',
    columns => '{post, user_id AS user, strategy, event, at}', pseudonymize => '{user_id}',
    time_column => 'at', facets => '{post, user, strategy, event}', object_prefix => 'viewed:');

select audit_algolia.configure_index(index_name)
from (select distinct index_name from audit_algolia.sources where index_name like 'workspace\_%') as indices;

-- 3. Some weeks in the workspace. The application sets audit_algolia.actor to its user; the default is the session's user.

insert into users values ('alice', 'Alice Adams'), ('ben', 'Ben Brown'), ('carol', 'Carol Clark'), ('dave', 'Dave Dunn');

set audit_algolia.actor = 'alice';
insert into report values
    (1, 'Figures', 'editable', 'draft', 'alice', 'the first figures'),
    (2, 'Ratings of suppliers', 'external', 'published', null, null);
insert into report_permission values
    (1, 'alice', 'write'), (1, 'ben', 'read'), (1, 'carol', 'read'), (1, 'dave', 'read'),
    (2, 'ben', 'write'), (2, 'carol', 'read');
delete from report_permission where (report_id, user_id) = (1, 'dave');

-- Two moments that an auditor will ask about. Times in the index are exact to the millisecond, so these moments keep a
-- distance from the changes around them.
create table moment (
    name text primary key,
    at timestamptz not null);
select pg_sleep(0.01);
insert into moment values ('t1', clock_timestamp());
select pg_sleep(0.01);
update report_permission set level = 'write' where (report_id, user_id) = (1, 'ben');
delete from report_permission where (report_id, user_id) = (1, 'carol');
select pg_sleep(0.01);
insert into moment values ('t2', clock_timestamp());
select pg_sleep(0.01);
insert into report_permission values (1, 'dave', 'read');

set audit_algolia.actor = 'ben';
update report set title = 'Quarterly figures', body = 'better figures' where report_id = 1;
set audit_algolia.actor = 'alice';
update report set status = 'published' where report_id = 1;

insert into access_log (report_id, user_id, at) values
    (1, 'alice', '2026-11-16 09:05'), (1, 'ben', '2026-11-16 09:20'), (1, 'ben', '2026-11-16 14:10'),
    (1, 'alice', '2026-11-17 09:15'), (1, 'ben', '2026-11-17 09:30'), (1, 'carol', '2026-11-19 09:50'),
    (2, 'carol', '2026-11-17 11:00'), (2, 'dave', '2026-11-18 23:55');

insert into report_edit (report_id, user_id, section, at) values
    (1, 'alice', 'outline', '2026-10-12 10:00'), (1, 'alice', 'sales', '2026-10-12 10:30'),
    (1, 'ben', 'sales', '2026-11-16 15:00'), (1, 'ben', 'sales', '2026-11-17 15:00'),
    (1, 'alice', 'summary', '2026-11-17 16:00'), (1, 'ben', 'costs', '2026-11-18 15:00'),
    (1, 'alice', 'summary', '2026-11-18 15:30'), (2, 'ben', 'ratings', '2026-11-18 16:00'),
    (1, 'carol', 'summary', '2026-11-19 10:00'), (1, 'dave', 'costs', '2026-11-19 11:00');

insert into recommendation (recommendation_id, post, user_id, strategy, at) values
    (1, 'budget', 'ben', 'colleagues', '2026-11-16 08:00'), (2, 'budget', 'carol', 'colleagues', '2026-11-16 08:00'),
    (3, 'holidays', 'ben', 'popular', '2026-11-16 08:00'), (4, 'holidays', 'dave', 'popular', '2026-11-16 08:00'),
    (5, 'audit', 'carol', 'colleagues', '2026-11-17 08:00'), (6, 'audit', 'alice', 'popular', '2026-11-17 08:00');
insert into recommendation_view (recommendation_id, post, user_id, strategy, at)
select r.recommendation_id, r.post, r.user_id, r.strategy, r.at + interval '1 hour'
from recommendation as r where r.recommendation_id in (1, 2, 3)
on conflict do nothing;

-- 4. The questions, as an auditor sends them to Algolia: POST /1/indexes/<index_name>/query with the body `query`.
-- `answer` is the relevant part of the response. In both, <name> stands for a user's pseudonym and <time> for Unix seconds.
--
-- Hits come newest first. The numbers at the end of their objectIDs give the order of changes within one millisecond.

create function spelled(template text) returns jsonb
    language plpgsql stable
    set search_path from current
as $$
declare
    word text;
begin
    for word in select distinct m.part[1] from regexp_matches(template, '<([^<>]+)>', 'g') as m (part) loop
        template := replace(template, '<' || word || '>', coalesce(
            (select round(extract(epoch from m.at), 3)::text from moment as m where m.name = word),
            (select audit_algolia.pseudonym(u.user_id) from users as u where u.user_id = word),
            extract(epoch from word::timestamptz)::bigint::text));
    end loop;
    return template;
end $$;

create table question (
    number text primary key,
    asks text not null,
    index_name text not null,
    query jsonb not null,
    answer jsonb not null);

insert into question
select number, asks, index_name, spelled(query), spelled(answer)
from (values
    ('1', 'When are the peak periods of report 1?',
        'workspace_access',
        '{"filters": "report:1", "facets": ["at_hour_of_day", "at_weekday", "at_day"], "hitsPerPage": 0}',
        '{"nbHits": 6, "facets": {
            "at_hour_of_day": {"09": 5, "14": 1},
            "at_weekday": {"Mon": 3, "Tue": 2, "Thu": 1},
            "at_day": {"2026-11-16": 3, "2026-11-17": 2, "2026-11-19": 1}}}'),

    ('2', 'Which users made the most changes to report 1 in November?',
        'workspace_edit',
        '{"filters": "report:1 AND authorized:true AND at >= <2026-11-01> AND at < <2026-12-01>",
          "facets": ["user"], "hitsPerPage": 0}',
        '{"facets": {"user": {"<ben>": 3, "<alice>": 2}}}'),

    ('3a', 'Who read report 1?',
        'workspace_access',
        '{"filters": "report:1", "facets": ["user"], "hitsPerPage": 0}',
        '{"facets": {"user": {"<ben>": 3, "<alice>": 2, "<carol>": 1}}}'),

    ('3b', 'Who read a report without being authorized?',
        'workspace_access',
        '{"filters": "authorized:false", "attributesToRetrieve": ["report", "user", "action", "at"]}',
        '{"hits": [
            {"report": 1, "user": "<carol>", "action": "view", "at": <2026-11-19 09:50>},
            {"report": 2, "user": "<dave>", "action": "view", "at": <2026-11-18 23:55>}]}'),

    ('3c', 'Who changed a report without being authorized?',
        'workspace_edit',
        '{"filters": "authorized:false", "attributesToRetrieve": ["report", "user", "section"]}',
        -- Users who may no longer see the report, users who may only read it, and anybody who edits an external report.
        '{"hits": [
            {"report": 1, "user": "<dave>", "section": "costs"},
            {"report": 1, "user": "<carol>", "section": "summary"},
            {"report": 2, "user": "<ben>", "section": "ratings"}]}'),

    ('4a', 'What is the history of report 1?',
        'workspace_report',
        '{"filters": "report:1",
          "attributesToRetrieve": ["op", "title", "status", "changed", "previous", "changed_by", "changed_at"]}',
        '{"hits": [
            {"op": "update", "title": "Quarterly figures", "status": "published",
             "changed": ["status"], "previous": {"status": "draft"}, "changed_by": "<alice>"},
            {"op": "update", "title": "Quarterly figures", "status": "draft",
             "changed": ["title"], "previous": {"title": "Figures"}, "changed_by": "<ben>"},
            {"op": "insert", "title": "Figures", "status": "draft", "changed_by": "<alice>"}]}'),

    -- Read it from the end: the changes up to t1 show who had which permission then, and the others what changed until
    -- t2. Alice could always write; Ben could read, then write; Carol could read until her permission was revoked; Dave
    -- had none.
    ('4b', 'Who had which permission on report 1 between t1 and t2?',
        'workspace_permission',
        '{"filters": "report:1 AND changed_at <= <t2>", "hitsPerPage": 1000,
          "attributesToRetrieve": ["op", "user", "level", "changed", "previous", "changed_by", "changed_at"]}',
        '{"hits": [
            {"op": "delete", "user": "<carol>", "level": "read", "changed_by": "<alice>"},
            {"op": "update", "user": "<ben>", "level": "write",
             "changed": ["level"], "previous": {"level": "read"}, "changed_by": "<alice>"},
            {"op": "delete", "user": "<dave>", "level": "read", "changed_by": "<alice>"},
            {"op": "insert", "user": "<dave>", "level": "read", "changed_by": "<alice>"},
            {"op": "insert", "user": "<carol>", "level": "read", "changed_by": "<alice>"},
            {"op": "insert", "user": "<ben>", "level": "read", "changed_by": "<alice>"},
            {"op": "insert", "user": "<alice>", "level": "write", "changed_by": "<alice>"}]}'),

    ('5a', 'Which recommended posts were viewed, and by whom?',
        'workspace_recommendation',
        '{"filters": "event:viewed", "facets": ["post", "user"], "hitsPerPage": 0}',
        '{"facets": {"post": {"budget": 2, "holidays": 1}, "user": {"<ben>": 2, "<carol>": 1}}}'),

    ('5b', 'How effective is it to recommend what colleagues read?',
        'workspace_recommendation',
        '{"filters": "strategy:colleagues", "facets": ["event"], "hitsPerPage": 0}',
        '{"facets": {"event": {"recommended": 3, "viewed": 2}}}'),

    ('5c', 'How effective is it to recommend what is popular?',
        'workspace_recommendation',
        '{"filters": "strategy:popular", "facets": ["event"], "hitsPerPage": 0}',
        '{"facets": {"event": {"recommended": 3, "viewed": 1}}}')
) as q (number, asks, index_name, query, answer);

select number, asks, index_name, query from question order by number;

-- 5. Search keys that are valid for a day: one for an auditor, who sees the whole workspace, and one for a manager, who
-- sees one report. Both see pseudonyms. In the database, a role that may call pseudonym() can resolve them:
--     select name from users where audit_algolia.pseudonym(user_id) = 'p_…';

select holder, audit_algolia.secured_key(:'search_key', filters, now() + interval '1 day', '{workspace_*}') as key
from (values ('auditor', ''), ('manager of report 1', 'report:1')) as h (holder, filters);
