-- name: get_items
-- Those of some places that have not expired; who refreshes them prolongs their lives.
with asked as (
    select n, array(select jsonb_array_elements_text(namespace)) as namespace, key, refresh
    from unnest(%(namespaces)s::jsonb[], %(keys)s::text[], %(refresh)s::boolean[])
        with ordinality as a (namespace, key, refresh, n)
), prolonged as (
    update rotina.memory m set expires_at = now() + make_interval(secs => m.ttl * 60)
    from asked a
    where m.namespace = a.namespace and m.key = a.key and a.refresh and m.expires_at > now()
)
select a.n::integer - 1 as n, m.namespace, m.key, m.value, m.created_at, m.updated_at
from asked a join rotina.memory m on m.namespace = a.namespace and m.key = a.key
where m.expires_at is null or m.expires_at > now();

-- name: search_items
-- Under a prefix and behind a filter: by meaning where there is a question, those without a
-- comparable vector last; else by place.
with scoped as (
    select m.namespace, m.key, m.value, m.created_at, m.updated_at
    from rotina.memory m
    where m.namespace[1 : %(depth)s] = %(prefix)s::text[]
        and (m.expires_at is null or m.expires_at > now())
        and (%(filter)s::jsonpath is null or m.value @@ %(filter)s::jsonpath)
        and m.value @> %(equal)s
), scored as (
    select s.*, (
        select 1 - min(e.embedding <=> %(vector)s::halfvec)
        from rotina.memory_embedding e
        where e.namespace = s.namespace and e.key = s.key and e.model = %(model)s
            and e.dimension = %(dimension)s
    ) as score
    from scoped s
)
select namespace, key, value, created_at, updated_at, score from scored
order by score desc nulls last, namespace, key limit %(limit)s offset %(offset)s;

-- name: prolong
-- What a search found lives on.
update rotina.memory m set expires_at = now() + make_interval(secs => m.ttl * 60)
from unnest(%(namespaces)s::jsonb[], %(keys)s::text[]) as a (namespace, key)
where m.namespace = array(select jsonb_array_elements_text(a.namespace)) and m.key = a.key
    and m.ttl is not null;

-- name: put_item
-- A new value in the place of the old one, which keeps its first moment unless it had expired.
insert into rotina.memory (tenant, namespace, key, value, ttl, expires_at)
values (
    %(tenant)s, %(namespace)s, %(key)s, %(value)s, %(ttl)s,
    now() + make_interval(secs => %(ttl)s::double precision * 60)
)
on conflict (tenant, namespace, key) do update set
    value = excluded.value, ttl = excluded.ttl, expires_at = excluded.expires_at,
    created_at = case when memory.expires_at <= now() then now() else memory.created_at end,
    updated_at = now();

-- name: delete_embeddings
-- Of the value before.
delete from rotina.memory_embedding where namespace = %(namespace)s and key = %(key)s;

-- name: put_embedding
-- One text of a value.
insert into rotina.memory_embedding (tenant, namespace, key, path, model, dimension, embedding)
values (
    %(tenant)s, %(namespace)s, %(key)s, %(path)s, %(model)s, %(dimension)s,
    %(embedding)s::halfvec
);

-- name: delete_item
-- Its vectors go with it.
delete from rotina.memory where namespace = %(namespace)s and key = %(key)s;

-- name: list_namespaces
-- All that hold something.
select distinct namespace from rotina.memory where expires_at is null or expires_at > now()
order by namespace;

-- name: sweep_memory
-- What has expired, of all tenants: the owner's policy shows it nothing else.
delete from rotina.memory where ctid = any(array(
    select ctid from rotina.memory where expires_at <= now() limit %(limit)s
    for update skip locked
));

-- name: get_bytes
-- Of some keys.
select key, value from rotina.keyed_bytes
where collection = %(collection)s and key = any(%(keys)s::text[]);

-- name: put_bytes
-- In the place of what was there; in order, so that two writers never wait in a circle.
insert into rotina.keyed_bytes (tenant, collection, key, value)
select %(tenant)s, %(collection)s, key, value
from unnest(%(keys)s::text[], %(values)s::bytea[]) as p (key, value) order by key
on conflict (tenant, collection, key) do update set value = excluded.value;

-- name: delete_bytes
-- Keys that are not there are left alone.
delete from rotina.keyed_bytes where collection = %(collection)s and key = any(%(keys)s::text[]);

-- name: list_bytes
-- By key, a page after another.
select key from rotina.keyed_bytes
where collection = %(collection)s and key > %(after)s and starts_with(key, %(prefix)s)
order by key limit %(limit)s;
