-- name: insert_source
-- Nothing when the collection follows one of that name.
insert into rotina.source (id, tenant, collection_id, name, kind, settings, gone)
values (
    %(id)s, %(tenant)s, %(collection_id)s, %(name)s, %(kind)s, %(settings)s, %(gone)s
)
on conflict (collection_id, name) do nothing
returning id;

-- name: list_sources
-- Of a collection, by name, with what is known of their documents.
select s.id, s.name, s.kind, s.settings, s.gone, s.synced_at,
    count(i.uri) filter (where i.outcome is distinct from 'failed') as documents,
    count(i.uri) filter (where i.outcome = 'failed') as failed,
    count(i.uri) filter (where i.tried is distinct from i.fingerprint) as due
from rotina.source s left join rotina.source_item i on i.source_id = s.id
where s.collection_id = %(collection_id)s and (%(name)s::text is null or s.name = %(name)s)
group by s.id order by s.name;

-- name: delete_source
-- What it brought stays.
delete from rotina.source where collection_id = %(collection_id)s and name = %(name)s returning id;

-- name: retry_failed
-- What failed is due again.
update rotina.source_item set tried = null where source_id = %(source_id)s and outcome = 'failed';

-- name: clock
-- The database's, which all workers share.
select clock_timestamp() as now;

-- name: see_items
-- What a source lists, in order, so that two listings never wait for each other in a circle.
insert into rotina.source_item (source_id, tenant, uri, fingerprint, metadata, seen_at)
select %(source_id)s, %(tenant)s, uri, fingerprint, metadata, clock_timestamp()
from unnest(%(uris)s::text[], %(fingerprints)s::text[], %(metadata)s::jsonb[])
    as l (uri, fingerprint, metadata)
order by uri
on conflict (source_id, uri) do update set
    fingerprint = excluded.fingerprint, metadata = excluded.metadata, seen_at = excluded.seen_at;

-- name: due_items
-- What is new or has changed, in order.
select uri, fingerprint, metadata from rotina.source_item
where source_id = %(source_id)s and seen_at >= %(began)s and tried is distinct from fingerprint
order by uri limit %(limit)s;

-- name: tried_item
-- What came of one.
update rotina.source_item set tried = %(fingerprint)s, outcome = %(outcome)s, error = %(error)s,
    tried_by = %(run_id)s
where source_id = %(source_id)s and uri = %(uri)s;

-- name: gone_items
-- What no listing has told of since this one began, in order. Another sync may have listed meanwhile.
select uri from rotina.source_item
where source_id = %(source_id)s and seen_at < %(began)s order by uri limit %(limit)s
for update;

-- name: items_elsewhere
-- What other sources of the collection list as well, in order.
select i.source_id, i.uri
from rotina.source s join rotina.source_item i on i.source_id = s.id
where s.collection_id = %(collection_id)s and s.id <> %(source_id)s and i.uri = any(%(uris)s::text[])
order by i.source_id, i.uri
for update of i;

-- name: take_over
-- The stored content may be that of the source that lists them no more: what others say is fetched
-- again, unless a person has said something else.
update rotina.source_item i set tried = null
from unnest(%(sources)s::uuid[], %(uris)s::text[]) as l (source_id, uri)
    join rotina.document d on d.collection_id = %(collection_id)s and d.uri = l.uri and d.from_source
where i.source_id = l.source_id and i.uri = l.uri;

-- name: discard_gone
-- Of documents that no source lists any more, those that a source brought.
delete from rotina.document
where collection_id = %(collection_id)s and uri = any(%(uris)s::text[]) and from_source;

-- name: forget_items
-- What is gone.
delete from rotina.source_item where source_id = %(source_id)s and uri = any(%(uris)s::text[]);

-- name: count_items
-- What a run did; what it did not try has not changed, and may be failed still.
select case when outcome = 'failed' or tried_by = %(run_id)s then outcome else 'unchanged' end
    as outcome, count(*) as items
from rotina.source_item where source_id = %(source_id)s and seen_at >= %(began)s
group by 1;

-- name: failed_items
-- With the reasons, in order.
select uri, error from rotina.source_item
where source_id = %(source_id)s and outcome = 'failed' order by uri limit %(limit)s;

-- name: mark_synced
-- The run has ended.
update rotina.source set synced_at = now() where id = %(source_id)s;

-- name: limit_time
-- A query must not hold somebody's database for ever.
select set_config('statement_timeout', %(milliseconds)s, false);

-- name: list_rows
-- Every row by its id, with a hash of all that it holds.
select q.id::text as id, md5(to_jsonb(q)::text) as hash,
    to_jsonb(q) - 'id' - 'text' - 'title' as metadata
from ({query}) q;

-- name: get_row
-- One of them.
select to_jsonb(q) ->> 'text' as text, to_jsonb(q) ->> 'title' as title
from ({query}) q where q.id::text = %(id)s;
