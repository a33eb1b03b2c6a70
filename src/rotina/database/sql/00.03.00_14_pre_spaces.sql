-- Chunks and their vectors part: a chunk has a vector in each space (an embedding model) of its
-- collection. Small collections share a table, the pool, and are searched exactly; a large one has
-- tables and indexes of its own, its home.

create extension if not exists pg_trgm;
create extension if not exists btree_gin;

-- The migration's role is under the policies too, and it moves every tenant's rows.
alter table rotina.collection no force row level security;
alter table rotina.document no force row level security;
alter table rotina.chunk no force row level security;
alter table rotina.document rename to old_document;
alter table rotina.chunk rename to old_chunk;

-- The pool's home; other homes are the ids of what lives there.
create function rotina.pool() returns uuid
language sql immutable parallel safe
return '00000000-0000-0000-0000-000000000000'::uuid;

alter table rotina.collection
    add column home uuid not null default rotina.pool(),
    -- Grows whenever rows move or another space answers: what a process remembers is stale then.
    add column generation bigint not null default 1,
    -- Sums over its documents, which triggers keep: BM25 and the planner ask at every search.
    add column documents bigint not null default 0,
    add column chunks bigint not null default 0,
    add column words bigint not null default 0,
    add column english bigint not null default 0,
    add column portuguese bigint not null default 0,
    -- Documents with access labels or a time of validity.
    add column restricted bigint not null default 0;

create table rotina.space (
    id uuid primary key,
    tenant text not null,
    collection_id uuid not null,
    -- The gateway's route that embeds documents and questions.
    route text not null,
    -- Both are known once the first vector is in.
    model text,
    dimension integer,
    home uuid not null default rotina.pool(),
    -- Whether it has an HNSW index.
    indexed boolean not null default false,
    -- building: chunks are still without a vector. current: the one that answers unless told.
    state text not null check (state in ('building', 'ready', 'current')),
    created_at timestamptz not null default now(),
    foreign key (collection_id, tenant) references rotina.collection (id, tenant) on delete cascade
);
create unique index space_current on rotina.space (collection_id) where state = 'current';
create unique index space_building on rotina.space (collection_id) where state = 'building';
create unique index space_route on rotina.space (collection_id, route) where state <> 'building';

insert into rotina.space (id, tenant, collection_id, route, model, dimension, state)
select gen_random_uuid(), tenant, id, route, model, dimension, 'current' from rotina.collection;
alter table rotina.collection drop column route, drop column model, drop column dimension;

-- Partitioned into one part, which has no policy and which tenants have no rights on: `@@` is not
-- leakproof, so behind a policy PostgreSQL would not use the index over metadata.
create table rotina.document (
    id uuid not null,
    tenant text not null,
    collection_id uuid not null,
    uri text not null,
    version integer not null default 1,
    name text not null,
    title text,
    media_type text not null,
    language text not null check (language in ('en', 'pt')),
    -- Of the file's bytes, and of everything that decides how the chunks come out.
    sha256 text not null,
    content_hash text not null,
    text text not null,
    pages jsonb not null,
    metadata jsonb not null,
    -- Who may see it: who has one of these labels. Empty: everybody of the tenant.
    access text[] not null default '{}',
    -- [valid_from, valid_to): when it holds; null is no bound.
    valid_from timestamptz,
    valid_to timestamptz,
    chunks integer not null,
    words bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (valid_from < valid_to),
    primary key (collection_id, id),
    unique (collection_id, uri),
    foreign key (collection_id, tenant) references rotina.collection (id, tenant) on delete cascade
) partition by list (collection_id);
create table rotina.document_part partition of rotina.document default;
create index document_id on rotina.document (id);
-- Without a list of what is pending, which every search would read from end to end.
create index document_metadata on rotina.document
    using gin (collection_id, metadata jsonb_path_ops) with (fastupdate = off);

create table rotina.chunk (
    home uuid not null,
    id uuid not null,
    tenant text not null,
    collection_id uuid not null,
    document_id uuid not null,
    index integer not null,
    -- Code points of the document's text: text[span_start:span_end] is the chunk's.
    span_start integer not null,
    span_end integer not null,
    page integer,
    -- The headings above it, and these with the title: what is searched and embedded with it.
    section text not null,
    context text not null,
    text text not null,
    length integer not null,
    words tsvector not null,
    primary key (home, id)
) partition by list (home);
create table rotina.chunk_pool partition of rotina.chunk
    for values in ('00000000-0000-0000-0000-000000000000');
create index chunk_of_document on rotina.chunk (document_id);
-- A pooled collection's words are read chunk by chunk: an index over all tenants' words would make
-- a small collection wait for its neighbours.
create index chunk_pool_collection on rotina.chunk_pool (collection_id);

create table rotina.embedding (
    home uuid not null,
    space_id uuid not null,
    chunk_id uuid not null,
    tenant text not null,
    document_id uuid not null,
    -- Without a dimension; of length 1.
    embedding halfvec not null,
    primary key (home, space_id, chunk_id)
) partition by list (home);
-- Compressing half floats costs time and saves nothing.
alter table rotina.embedding alter column embedding set storage external;
create table rotina.embedding_pool partition of rotina.embedding
    for values in ('00000000-0000-0000-0000-000000000000');
create index embedding_of_document on rotina.embedding (document_id);

-- The different words of a collection: what a misspelt word or half a code is likened to.
create table rotina.word (
    collection_id uuid not null references rotina.collection (id) on delete cascade,
    word text not null,
    primary key (collection_id, word)
);
create index word_trigrams on rotina.word using gin (collection_id, word gin_trgm_ops);

insert into rotina.document (
    id, tenant, collection_id, uri, version, name, title, media_type, language, sha256,
    content_hash, text, pages, metadata, chunks, words, created_at, updated_at
)
select id, tenant, collection_id, uri, version, name, title, media_type, language, sha256,
    content_hash, text, pages, metadata, chunks, words, created_at, updated_at
from rotina.old_document;
insert into rotina.chunk (
    home, id, tenant, collection_id, document_id, index, span_start, span_end, page, section,
    context, text, length, words
)
select rotina.pool(), id, tenant, collection_id, document_id, index, span_start, span_end, page,
    '', context, text, length, words
from rotina.old_chunk;
insert into rotina.embedding (home, space_id, chunk_id, tenant, document_id, embedding)
select rotina.pool(), s.id, c.id, c.tenant, c.document_id, c.embedding
from rotina.old_chunk c join rotina.space s using (collection_id);
drop table rotina.old_chunk, rotina.old_document;
update rotina.collection c set documents = d.documents, chunks = d.chunks, words = d.words,
    english = d.english, portuguese = d.portuguese
from (
    select collection_id, count(*) as documents, sum(chunks) as chunks, sum(words) as words,
        count(*) filter (where language = 'en') as english,
        count(*) filter (where language = 'pt') as portuguese
    from rotina.document group by collection_id
) d where d.collection_id = c.id;

alter table rotina.collection force row level security;
alter table rotina.space enable row level security;
alter table rotina.space force row level security;
create policy tenant on rotina.space using (tenant = (select rotina.current_tenant()));
alter table rotina.document enable row level security;
alter table rotina.document force row level security;
create policy tenant on rotina.document using (tenant = (select rotina.current_tenant()));
alter table rotina.chunk enable row level security;
alter table rotina.chunk force row level security;
create policy tenant on rotina.chunk using (tenant = (select rotina.current_tenant()));
alter table rotina.embedding enable row level security;
alter table rotina.embedding force row level security;
create policy tenant on rotina.embedding using (tenant = (select rotina.current_tenant()));
alter table rotina.word enable row level security;
alter table rotina.word force row level security;
create policy tenant on rotina.word using (collection_id in (select id from rotina.collection));
grant select, insert, update, delete
    on rotina.space, rotina.document, rotina.chunk, rotina.embedding, rotina.word to rotina_tenant;

-- Nothing else keeps a collection's sums, and nothing else deletes chunks and vectors: a foreign
-- key would be checked row by row.

create function rotina.count_documents(
    collection uuid, sign integer, documents bigint, chunks bigint, words bigint, english bigint,
    portuguese bigint, restricted bigint
) returns void
language sql as $$
    update rotina.collection c set
        documents = c.documents + sign * $3, chunks = c.chunks + sign * $4,
        words = c.words + sign * $5, english = c.english + sign * $6,
        portuguese = c.portuguese + sign * $7, restricted = c.restricted + sign * $8
    where c.id = $1
$$;

create function rotina.documents_changed() returns trigger
language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        perform rotina.count_documents(collection_id, -1, count(*), sum(chunks), sum(words)::bigint,
            count(*) filter (where language = 'en'), count(*) filter (where language = 'pt'),
            count(*) filter (where access <> '{}' or valid_from is not null
                or valid_to is not null))
        from gone group by collection_id;
    end if;
    if tg_op <> 'DELETE' then
        perform rotina.count_documents(collection_id, 1, count(*), sum(chunks), sum(words)::bigint,
            count(*) filter (where language = 'en'), count(*) filter (where language = 'pt'),
            count(*) filter (where access <> '{}' or valid_from is not null
                or valid_to is not null))
        from come group by collection_id;
    end if;
    if tg_op = 'DELETE' then
        delete from rotina.chunk where document_id in (select id from gone);
        delete from rotina.embedding where document_id in (select id from gone);
    end if;
    return null;
end
$$;
create trigger documents_inserted after insert on rotina.document
    referencing new table as come for each statement execute function rotina.documents_changed();
create trigger documents_updated after update on rotina.document
    referencing old table as gone new table as come
    for each statement execute function rotina.documents_changed();
create trigger documents_deleted after delete on rotina.document
    referencing old table as gone for each statement execute function rotina.documents_changed();

-- The functions below run as the owner. They take nothing but a collection or a space, which must
-- be the tenant's, and values.
drop function rotina.create_chunks(uuid);
drop function rotina.drop_chunks(uuid);
drop function rotina.index_chunks(uuid);
drop function rotina.chunk_hits(uuid, text[]);
drop function rotina.chunk_partition(uuid);

-- The collection, if it is the current tenant's; an exception for any other.
create function rotina.own_collection(collection uuid) returns rotina.collection
language plpgsql stable as $$
declare
    found rotina.collection;
begin
    select * into found from rotina.collection c
    where c.id = collection and c.tenant = rotina.current_tenant();
    if found.id is null then
        raise exception 'no collection % of this tenant', collection
            using errcode = 'insufficient_privilege';
    end if;
    return found;
end
$$;

create function rotina.table_of(kind text, home uuid) returns text
language sql immutable
return kind || '_' || case when home = rotina.pool() then 'pool' else replace(home::text, '-', '') end;

-- A table of its own for the rows of a home; attaching does not wait for those who read others.
create function rotina.create_home(kind text, home uuid) returns void
language plpgsql as $$
declare
    own text := rotina.table_of(kind, home);
begin
    execute format('create table rotina.%I (like rotina.%I including all)', own, kind);
    execute format('alter table rotina.%I add check (home = %L)', own, home);
    execute format(
        'alter table rotina.%I attach partition rotina.%I for values in (%L)', kind, own, home);
end
$$;

-- Move a collection that has outgrown the pool into tables of its own. Readers of it wait for the
-- end, nobody else does. Whoever calls it has locked the collection.
create function rotina.settle_collection(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    own rotina.collection := rotina.own_collection(collection);
    settled record;
begin
    if own.home <> rotina.pool() then
        return;
    end if;
    perform rotina.create_home('chunk', own.id);
    execute format(
        'with moved as (delete from rotina.chunk_pool where collection_id = $1 returning *) '
        'insert into rotina.%I (home, id, tenant, collection_id, document_id, index, span_start, '
        'span_end, page, section, context, text, length, words) '
        'select $1, id, tenant, collection_id, document_id, index, span_start, span_end, page, '
        'section, context, text, length, words from moved',
        rotina.table_of('chunk', own.id)
    ) using own.id;
    execute format(
        'create index on rotina.%I using gin (words)', rotina.table_of('chunk', own.id));
    for settled in select s.id from rotina.space s where s.collection_id = own.id loop
        perform rotina.create_home('embedding', settled.id);
        execute format(
            'with moved as (delete from rotina.embedding_pool where space_id = $1 returning *) '
            'insert into rotina.%I (home, space_id, chunk_id, tenant, document_id, embedding) '
            'select $1, space_id, chunk_id, tenant, document_id, embedding from moved',
            rotina.table_of('embedding', settled.id)
        ) using settled.id;
        update rotina.space set home = id where id = settled.id;
    end loop;
    execute format('analyze rotina.%I', rotina.table_of('chunk', own.id));
    -- What chooses between an index and exact search are PostgreSQL's statistics of metadata.
    analyze rotina.document_part;
    update rotina.collection set home = id, generation = generation + 1 where id = own.id;
end
$$;

-- A table of its own for a space that joins a settled collection.
create function rotina.settle_space(wanted uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    joined rotina.space;
    own rotina.collection;
begin
    select * into strict joined from rotina.space s where s.id = wanted;
    own := rotina.own_collection(joined.collection_id);
    if own.home <> rotina.pool() and joined.home = rotina.pool() then
        perform rotina.create_home('embedding', wanted);
        update rotina.space set home = id where id = wanted;
    end if;
end
$$;

-- Vectors of a space, before its row goes.
create function rotina.empty_space(wanted uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    emptied rotina.space;
begin
    select * into strict emptied from rotina.space s where s.id = wanted;
    perform rotina.own_collection(emptied.collection_id);
    if emptied.home = rotina.pool() then
        delete from rotina.embedding_pool where space_id = wanted;
    else
        execute format('drop table rotina.%I', rotina.table_of('embedding', wanted));
    end if;
end
$$;

-- Chunks and vectors of a collection, before its row goes.
create function rotina.empty_collection(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    own rotina.collection := rotina.own_collection(collection);
    space uuid;
begin
    for space in select s.id from rotina.space s where s.collection_id = own.id loop
        perform rotina.empty_space(space);
    end loop;
    if own.home = rotina.pool() then
        delete from rotina.chunk_pool where collection_id = own.id;
    else
        execute format('drop table rotina.%I', rotina.table_of('chunk', own.id));
    end if;
end
$$;

-- The HNSW index of a space with tables of its own; harmless when it is there. False in the pool.
create function rotina.index_space(wanted uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp
-- A graph that does not fit takes many times as long.
set maintenance_work_mem = '512MB' as $$
declare
    indexed rotina.space;
    own text;
begin
    select * into strict indexed from rotina.space s where s.id = wanted;
    perform rotina.own_collection(indexed.collection_id);
    if indexed.home = rotina.pool() then
        return false;
    end if;
    own := rotina.table_of('embedding', wanted);
    execute format(
        'create index if not exists %I on rotina.%I '
        'using hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
        own || '_hnsw', own, indexed.dimension);
    execute format('analyze rotina.%I', own);
    analyze rotina.document_part;
    update rotina.space set indexed = true where id = wanted;
    update rotina.collection set generation = generation + 1 where id = indexed.collection_id;
    return true;
end
$$;

-- The documents behind a filter, for whom and when; null is no condition. It reads the part itself:
-- see there.
create function rotina.documents_where(
    collection uuid, filter jsonpath, labels text[], moment timestamptz
) returns setof uuid
language plpgsql stable security definer rows 1000 set search_path = public, pg_temp as $$
begin
    perform rotina.own_collection(collection);
    return query execute rotina.documents_statement(filter, labels, moment)
        using collection, filter, labels, moment;
end
$$;

create function rotina.documents_statement(filter jsonpath, labels text[], moment timestamptz)
returns text
language sql immutable
return 'select d.id from rotina.document_part d where d.collection_id = $1'
    || case when filter is null then '' else ' and d.metadata @@ $2' end
    || case when labels is null then '' else ' and (d.access = ''{}'' or d.access && $3)' end
    || case when moment is null then '' else
        ' and (d.valid_from is null or d.valid_from <= $4)'
        ' and (d.valid_to is null or d.valid_to > $4)' end;

-- How many documents PostgreSQL expects there.
create function rotina.estimate_documents(
    collection uuid, filter jsonpath, labels text[], moment timestamptz
) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told json;
begin
    perform rotina.own_collection(collection);
    execute 'explain (format json) ' || rotina.documents_statement(filter, labels, moment)
        into told using collection, filter, labels, moment;
    return (told -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end
$$;

-- How many of a collection's chunks hold a lexeme that many hold, by PostgreSQL's statistics; one
-- that is not in them is rare.
create function rotina.common_lexemes(chunk_home uuid)
returns table (lexeme text, share real)
language sql stable as $$
    select e.lexeme, e.share
    from pg_stats s, unnest(
        s.most_common_elems::text::text[],
        s.most_common_elem_freqs[1 : cardinality(s.most_common_elems::text::text[])]
    ) as e (lexeme, share)
    where s.schemaname = 'rotina' and s.attname = 'words'
        and s.tablename = rotina.table_of('chunk', chunk_home)
$$;

-- Which chunks hold which of the lexemes, and how often, as ts_rank tells it; `documents` null is
-- all. It reads the partition itself because `@@` is not leakproof: behind row-level security
-- PostgreSQL would not use the GIN index for it.
-- Where the rarer lexemes find enough chunks, those that hold nothing but common ones are left out:
-- they would be last, and most of the work. `total` is then how many chunks hold the lexeme.
create function rotina.chunk_hits(
    collection uuid, lexemes text[], documents uuid[], enough integer, rare real
) returns table (
    id uuid, document_id uuid, length integer, lexeme text, rank real, total bigint
)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    own rotina.collection := rotina.own_collection(collection);
    asked record;
    names text[] := '{}';
    terms tsquery[] := '{}';
    totals bigint[] := '{}';
    looked_for tsquery;
    expected real := 0;
begin
    for asked in
        select l.name, coalesce(c.share, 0) as share,
            ('''' || replace(replace(l.name, '\', '\\'), '''', '''''') || '''')::tsquery as term
        from unnest(lexemes) as l (name) left join rotina.common_lexemes(own.home) c
            on documents is null and c.lexeme = l.name
        order by 2, 1
    loop
        names := names || asked.name;
        terms := terms || asked.term;
        if expected >= enough and asked.share > rare then
            totals := totals || (asked.share * own.chunks)::bigint;
        else
            totals := totals || null::bigint;
            looked_for := case
                when looked_for is null then asked.term else looked_for || asked.term end;
            expected := expected + asked.share * own.chunks;
        end if;
    end loop;
    if looked_for is null then
        return;
    end if;
    return query execute format(
        'select c.id, c.document_id, c.length, l.lexeme, ts_rank(%L, c.words, l.term), l.total '
        'from rotina.%I c join unnest($1, $2, $6) as l (lexeme, term, total) on c.words @@ l.term '
        'where c.collection_id = $4 and c.words @@ $3 %s',
        '{1,1,1,1}', rotina.table_of('chunk', own.home),
        case when documents is null then '' else 'and c.document_id = any($5)' end
    ) using names, terms, looked_for, own.id, documents, totals;
end
$$;

-- Words of the collection that look like one of these, and how much: 1 is equal.
create function rotina.words_like(collection uuid, asked text[], at_least real)
returns table (asked_word text, word text, likeness real)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    perform rotina.own_collection(collection);
    perform set_config('pg_trgm.similarity_threshold', at_least::text, true);
    return query
        select a.word, w.word, similarity(a.word, w.word)
        from unnest(asked) as a (word) join rotina.word w
            on w.collection_id = collection and w.word % a.word;
end
$$;

revoke all on function
    rotina.settle_collection(uuid), rotina.settle_space(uuid), rotina.empty_space(uuid),
    rotina.empty_collection(uuid), rotina.index_space(uuid),
    rotina.documents_where(uuid, jsonpath, text[], timestamptz),
    rotina.estimate_documents(uuid, jsonpath, text[], timestamptz),
    rotina.chunk_hits(uuid, text[], uuid[], integer, real), rotina.words_like(uuid, text[], real),
    rotina.create_home(text, uuid)
    from public;
grant execute on function
    rotina.settle_collection(uuid), rotina.settle_space(uuid), rotina.empty_space(uuid),
    rotina.empty_collection(uuid), rotina.index_space(uuid),
    rotina.documents_where(uuid, jsonpath, text[], timestamptz),
    rotina.estimate_documents(uuid, jsonpath, text[], timestamptz),
    rotina.chunk_hits(uuid, text[], uuid[], integer, real), rotina.words_like(uuid, text[], real)
    to rotina_tenant;
