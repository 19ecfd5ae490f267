-- Weeks of work in the tables of the worked examples, after their scripts: for the demo, and for tests of the audit page.
-- The times of rows are spread over eighty days; the times of changes are those at which this runs.

\set ON_ERROR_STOP on
set timezone = 'UTC';
select setseed(0.42);

-- Moments of work: on working days, between eight and seven, most of them around noon.
create function pg_temp.moments(number integer, days integer) returns setof timestamptz
    language sql volatile
begin atomic
    select date_trunc('milliseconds', moment)
    from (
        select date_trunc('day', now() - random() * days * interval '1 day')
            + interval '8 hours' + (random() + random()) * interval '5.5 hours' as moment
        from generate_series(1, number * 3)) as drawn
    where moment < now() and (extract(isodow from moment) < 6 or random() < 0.1)
    limit number;
end;

-- 1. The workspace: more people, more reports, and who may do what with them.

set search_path = report_workspace;

insert into users values ('esra', 'Esra Ekinci'), ('frida', 'Frida Fjord'), ('gabor', 'Gábor Gál'),
    ('hanna', 'Hanna Hall'), ('ivan', 'Ivan Ilić'), ('jun', 'Jun Jung');

set audit_algolia.actor = 'alice';
insert into report values (3, 'Travel costs', 'editable', 'draft', 'carol'), (4, 'Energy', 'editable', 'draft', 'dave'),
    (5, 'Hiring plan', 'editable', 'draft', 'esra'), (6, 'Safety audit', 'external', 'published', null),
    (7, 'Market study', 'editable', 'draft', 'ben'), (8, 'Roadmap', 'editable', 'draft', 'alice');
insert into report_permission
select report_id, user_id, case when place % 3 = report_id % 3 then 'write' else 'read' end
from generate_series(3, 8) as report_id, (select user_id, row_number() over (order by user_id) as place from users) as u
where (place + report_id) % 4 <> 0;
insert into report_permission values (1, 'esra', 'read'), (1, 'frida', 'read'), (2, 'gabor', 'read');
select pg_sleep(0.7);
set audit_algolia.actor = 'carol';
update report set title = 'Energy use' where report_id = 4;
update report set status = 'review' where report_id in (3, 4);
update report_permission set level = 'write' where (report_id, user_id) = (1, 'esra');
select pg_sleep(0.7);
set audit_algolia.actor = 'alice';
delete from report_permission where (report_id, user_id) = (1, 'frida');
insert into report_permission values (1, 'hanna', 'read');
update report set author_id = 'esra', status = 'review' where report_id = 1;
select pg_sleep(0.7);
set audit_algolia.actor = 'esra';
update report_permission set level = 'read' where (report_id, user_id) = (1, 'ben');
delete from report_permission where (report_id, user_id) = (1, 'hanna');
insert into report_permission values (1, 'hanna', 'write');
update report set status = 'published' where report_id in (1, 3);
delete from report_permission where report_id = 7 and user_id in ('ivan', 'jun');

-- Who may read a report does, some more than others; a few times somebody does who may not.
create temporary table allowed as
select row_number() over (order by (report_id * 7) % 8, user_id) as place, report_id, user_id, level
from report_permission;
insert into access_log (report_id, user_id, action, at)
select a.report_id, a.user_id, (array['view', 'view', 'view', 'download', 'print'])[1 + floor(5 * drawn)::integer], drawn_at
from (
    select 1 + floor(power(random(), 1.7) * (select count(*) from allowed))::bigint as place, random() as drawn, at as drawn_at
    from pg_temp.moments(2400, 80) as at) as d
join allowed as a using (place)
order by drawn_at;
insert into access_log (report_id, user_id, action, at)
select r.report_id, u.user_id, 'view', at
from (select row_number() over (order by at) as place, at from pg_temp.moments(14, 80) as at) as m
join lateral (
    select r.report_id, u.user_id from report as r, users as u
    where not exists (select from allowed as a where (a.report_id, a.user_id) = (r.report_id, u.user_id))
    order by md5(format('%s %s %s', m.place, r.report_id, u.user_id)) limit 1) as u on true
join report as r using (report_id)
order by at;

create temporary table editable as
select row_number() over (order by place) as place, report_id, user_id
from allowed where level = 'write' and report_id not in (2, 6);
insert into report_edit (report_id, user_id, section, at)
select a.report_id, a.user_id, (array['outline', 'sales', 'costs', 'summary', 'ratings'])[1 + floor(5 * drawn)::integer], at
from (
    select 1 + floor(power(random(), 1.4) * (select count(*) from editable))::bigint as place, random() as drawn, at
    from pg_temp.moments(420, 80) as at) as d
join editable as a using (place)
order by at;
insert into report_edit (report_id, user_id, section, at)
select report_id, user_id, 'summary', at
from (select row_number() over (order by at) as place, at from pg_temp.moments(9, 80) as at) as m
join (
    select row_number() over (order by report_id, user_id) as place, report_id, user_id from allowed where level = 'read')
    as a using (place)
order by at;

insert into recommendation (recommendation_id, post, user_id, strategy, at)
select 100 + n,
    (array['budget', 'holidays', 'audit', 'canteen', 'security', 'parking', 'onboarding'])[1 + floor(7 * power(random(), 1.5))::integer],
    user_id, (array['colleagues', 'popular', 'recent', 'editors’ choice'])[1 + n % 4], at
from (select row_number() over (order by at) as n, at from pg_temp.moments(700, 60) as at) as m
join (select row_number() over (order by user_id) - 1 as place, user_id from users) as u on place = (n * 7) % 10;
insert into recommendation_view (recommendation_id, post, user_id, strategy, at)
select recommendation_id, post, user_id, strategy, least(at + random() * interval '6 hours', now())
from recommendation
where recommendation_id > 100
    and random() < case strategy when 'colleagues' then 0.62 when 'popular' then 0.31 when 'recent' then 0.22 else 0.45 end;

-- 2. Two hours of clicks and impressions, of more people than an index lists in one answer.

set search_path = user_analytics;
insert into users select 'visitor ' || n, now() from generate_series(1, 3000) as n;
insert into event (user_id, event, at)
select 'visitor ' || 1 + floor(3000 * power(random(), 1.5))::integer,
    case when random() < 0.3 then 'click' else 'impression' end,
    date_trunc('milliseconds', now() - random() * interval '2 hours')
from generate_series(1, 6000);

-- 3. Posts that are fetched again and again, each time in a transaction of its own, and some that disappear.

set search_path = scraped_content;
do $$
declare
    name text;
begin
    for round in 1..25 loop
        name := (array['forum', 'photos', 'news'])[1 + round % 3];
        perform set_config('audit_algolia.actor', name || ' scraper', false);
        perform save_posts(name, (
            select jsonb_agg(jsonb_build_object('id', 'p' || n, 'author', 'author ' || n % 40,
                'text', (array['a boat', 'the harbour', 'wind from the west', 'new sails', '=SUM(A1)', '<b>bold</b>'])[1 + (n + round / 9) % 6],
                'likes', n % 7 + round * (n % 3)))
            from (select distinct floor(60 * random())::integer as n from generate_series(1, 20)) as drawn));
        if round % 5 = 0 then
            delete from raw_post where source = name and post_id in ('p' || round, 'p' || round + 1, 'p' || round + 2);
        end if;
        commit;
    end loop;
end $$;

-- 4. Ten days of scans.

set search_path = scan_ingest;
select ingest(array_agg(ip), array_agg(port), array_agg(service), array_agg(state), array_agg(banner), array_agg(seen_at))
from (
    select ('192.0.2.0'::inet + n % 250) as ip, (array[22, 443, 80, 5432])[1 + n / 250 % 4] as port,
        (array['ssh', 'https', 'http', 'postgresql'])[1 + n / 250 % 4] as service, s.state,
        case s.state when 'open' then 'answers' end as banner, now() - random() * interval '10 days' as seen_at
    from generate_series(0, 999) as n,
        lateral (select (array['open', 'open', 'open', 'closed', 'filtered'])[1 + floor(5 * random() + 0 * n)::integer] as state) as s
    ) as seen;
