-- Posts and profiles that scrapers write by upserts. For each table an index holds the stream of its changes, with the
-- row before and after. Consumers read an index like a topic, with a search key.
--
--     psql -v search_key=YourSearchKey -f scraped_content.sql
--
-- Run it as a superuser, in a database with the extension, after setting application_id, api_key_file and
-- pseudonym_key_file. Everything is in a schema of its own, except two roles:
--     DROP SCHEMA scraped_content CASCADE; DROP ROLE example_scraper, example_reader;

\set ON_ERROR_STOP on
\if :{?search_key}
\else
    \set search_key 'your-search-key'
\endif
create schema scraped_content;
set search_path = scraped_content;

-- 1. What is scraped. The payload is stored unchanged, and does not leave the database.

create table raw_post (
    source text,
    post_id text,
    author text not null,
    body text not null,
    likes integer not null default 0,
    payload jsonb not null,
    fetched_at timestamptz not null default now(),
    primary key (source, post_id));

create table raw_profile (
    source text,
    handle text,
    followers integer not null default 0,
    bio text,
    payload jsonb not null,
    fetched_at timestamptz not null default now(),
    primary key (source, handle));

-- 2. How it is written: in batches, repeatedly. `on conflict` changes each row once, and the order by key keeps two
-- concurrent scrapers from a deadlock.

create function save_posts(source text, posts jsonb) returns bigint
    language sql
begin atomic
    with saved as (
        insert into raw_post as kept (source, post_id, author, body, likes, payload)
        select distinct on (p ->> 'id')
            save_posts.source, p ->> 'id', p ->> 'author', p ->> 'text', (p ->> 'likes')::integer, p
        from jsonb_array_elements(posts) as p
        order by p ->> 'id'
        on conflict (source, post_id) do update
        set author = excluded.author, body = excluded.body, likes = excluded.likes,
            payload = excluded.payload, fetched_at = excluded.fetched_at
        returning 1)
    select count(*) from saved;
end;

create function save_profiles(source text, profiles jsonb) returns bigint
    language sql
begin atomic
    with saved as (
        insert into raw_profile as kept (source, handle, followers, bio, payload)
        select distinct on (p ->> 'handle')
            save_profiles.source, p ->> 'handle', (p ->> 'followers')::integer, p ->> 'bio', p
        from jsonb_array_elements(profiles) as p
        order by p ->> 'handle'
        on conflict (source, handle) do update
        set followers = excluded.followers, bio = excluded.bio,
            payload = excluded.payload, fetched_at = excluded.fetched_at
        returning 1)
    select count(*) from saved;
end;

-- 3. The streams. A record has the row after the change, its old values in `previous`, and `op`. An author and the
-- profile with the same handle have the same pseudonym. fetched_at and payload are not among the columns, so a post that
-- is fetched again unchanged makes no record.

select audit_algolia.watch('raw_post', index_name => 'scraped_raw_post',
    columns => '{source, post_id, author, body, likes}', pseudonymize => '{author}',
    operations => '{insert, update, delete}', facets => '{source, author, op}');
select audit_algolia.watch('raw_profile', index_name => 'scraped_raw_profile',
    columns => '{source, handle, followers, bio}', pseudonymize => '{handle}',
    operations => '{insert, update, delete}', facets => '{source, handle, op}');
select audit_algolia.configure_index('scraped_raw_post');
select audit_algolia.configure_index('scraped_raw_profile');

-- 4. Who may do what. Scrapers write, and see nothing of the extension; analysts read. Timeouts limit the statements of
-- both; a cancelled statement queues nothing, like any that fails.

do $$
declare
    role name;
begin
    foreach role in array '{example_scraper, example_reader}'::name[] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I login', role);
        end if;
    end loop;
end $$;
revoke execute on all functions in schema scraped_content from public;
grant usage on schema scraped_content to example_scraper, example_reader;
grant select on all tables in schema scraped_content to example_scraper, example_reader;
grant insert, update, delete on raw_post, raw_profile to example_scraper;
grant execute on function save_posts, save_profiles to example_scraper;
alter role example_scraper set statement_timeout = '5s';
alter role example_scraper set lock_timeout = '2s';
alter role example_reader set statement_timeout = '2s';
alter role example_reader set idle_in_transaction_session_timeout = '10s';
-- An additional safeguard: the role has no right to write anyway.
alter role example_reader set default_transaction_read_only = on;

-- 5. Two sources, a first fetch and a second. The post that is unchanged in the second makes no record.

set role example_scraper;
-- Who makes the changes. The default is the session's user, which SET ROLE does not change.
set audit_algolia.actor = 'forum scraper';
select save_posts('forum', '[{"id": "f1", "author": "ann", "text": "hello", "likes": 1, "ip": "192.0.2.7"},
    {"id": "f2", "author": "bob", "text": "first", "likes": 0}]');
select save_profiles('forum', '[{"handle": "ann", "followers": 10, "bio": "sails", "mail": "ann@example.org"}]');
set audit_algolia.actor = 'photos scraper';
select save_posts('photos', '[{"id": "f1", "author": "ann", "text": "a boat", "likes": 5}]');
select save_profiles('photos', '[{"handle": "ann", "followers": 200, "bio": null}]');

set audit_algolia.actor = 'forum scraper';
select save_posts('forum', '[{"id": "f1", "author": "ann", "text": "hello, world", "likes": 3},
    {"id": "f2", "author": "bob", "text": "first", "likes": 0}]');
select save_profiles('forum', '[{"handle": "ann", "followers": 11, "bio": "sails"}]');
delete from raw_post where (source, post_id) = ('forum', 'f2');
reset role;

-- 6. How a consumer reads a topic: POST /1/indexes/scraped_raw_post/query, with a key for that index alone.
--
--   - It remembers the changed_at up to which it has read, and asks from a little before that:
--         {"filters": "changed_at >= 1795180455.5", "hitsPerPage": 1000}
--     A little before, because a transaction may commit after one that made later changes, and because the newest
--     records are delivered first. Look back as far as transactions last and a backlog takes. A record that was read
--     before has the same objectID, however often it is sent.
--   - Hits come newest first, at most 1,000. If nbHits says that there are more, it continues below the last one, with
--         "changed_at >= 1795180455.5 AND changed_at <= …"
--     All rows of a batch have one changed_at, so a batch should have fewer rows than a query can return.
--   - It applies them in the order of changed_at, and then of the numbers at the end of the objectIDs.

select topic, audit_algolia.secured_key(:'search_key', '', now() + interval '30 days', array[topic]) as key
from unnest('{scraped_raw_post, scraped_raw_profile}'::text[]) as topic;
