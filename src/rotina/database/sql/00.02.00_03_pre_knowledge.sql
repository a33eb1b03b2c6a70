-- The knowledge base: tenant → collection → document → chunk. Each collection's chunks are a
-- partition of their own, so that its indexes have its own vector dimension, its neighbours cost
-- it neither recall nor time, and deleting it is dropping a table.

create table rotina.collection (
    id uuid primary key,
    tenant text not null,
    name text not null,
    route text not null,
    language text check (language in ('en', 'pt')),
    -- Of the vectors; both are known once the first document is in.
    dimension integer,
    model text,
    created_at timestamptz not null default now(),
    unique (tenant, name),
    unique (id, tenant)
);

create table rotina.document (
    id uuid primary key,
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
    -- Sums over its chunks: what BM25 needs to know of a collection without reading it.
    chunks integer not null,
    words bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (collection_id, uri),
    unique (id, collection_id, tenant),
    foreign key (collection_id, tenant) references rotina.collection (id, tenant) on delete cascade
);

create table rotina.chunk (
    id uuid not null,
    tenant text not null,
    collection_id uuid not null,
    document_id uuid not null,
    index integer not null,
    -- Code points of the document's text: text[span_start:span_end] is the chunk's.
    span_start integer not null,
    span_end integer not null,
    page integer,
    -- Title and headings above the chunk, which are searched and embedded with it.
    context text not null,
    text text not null,
    length integer not null,
    words tsvector not null,
    -- Without a dimension: partitions have their collection's.
    embedding halfvec not null,
    primary key (collection_id, id),
    foreign key (document_id, collection_id, tenant)
        references rotina.document (id, collection_id, tenant) on delete cascade
) partition by list (collection_id);
create index chunk_document on rotina.chunk (document_id);
create index chunk_words on rotina.chunk using gin (words);

-- `(select …)`: the tenant is looked up once a statement, not once a row.
alter table rotina.collection enable row level security;
alter table rotina.collection force row level security;
create policy tenant on rotina.collection using (tenant = (select rotina.current_tenant()));
alter table rotina.document enable row level security;
alter table rotina.document force row level security;
create policy tenant on rotina.document using (tenant = (select rotina.current_tenant()));
alter table rotina.chunk enable row level security;
alter table rotina.chunk force row level security;
create policy tenant on rotina.chunk using (tenant = (select rotina.current_tenant()));
grant select, insert, update, delete on rotina.collection, rotina.document, rotina.chunk
    to rotina_tenant;

-- A partition's name, for a collection of the current tenant; an exception for any other.
create function rotina.chunk_partition(collection uuid) returns text
language plpgsql stable as $$
begin
    if not exists (
        select from rotina.collection c
        where c.id = collection and c.tenant = rotina.current_tenant()
    ) then
        raise exception 'no collection % of this tenant', collection
            using errcode = 'insufficient_privilege';
    end if;
    return 'chunk_' || replace(collection::text, '-', '');
end
$$;

-- The next four run as the owner. They take nothing but a collection, which must be the tenant's.

create function rotina.create_chunks(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := rotina.chunk_partition(collection);
begin
    -- Attaching does not wait for those who read other collections; `partition of` would.
    execute format('create table rotina.%I (like rotina.chunk including all)', partition);
    execute format(
        'alter table rotina.%I add check (collection_id = %L)', partition, collection);
    execute format(
        'alter table rotina.chunk attach partition rotina.%I for values in (%L)',
        partition, collection);
end
$$;

create function rotina.drop_chunks(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    execute format('drop table if exists rotina.%I', rotina.chunk_partition(collection));
end
$$;

-- The HNSW index of a collection that has outgrown exact search; harmless when it is there.
create function rotina.index_chunks(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp
-- A graph that does not fit takes many times as long.
set maintenance_work_mem = '256MB' as $$
declare
    partition text := rotina.chunk_partition(collection);
    dimension integer := (select c.dimension from rotina.collection c where c.id = collection);
begin
    execute format(
        'create index if not exists %I on rotina.%I '
        'using hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
        partition || '_hnsw', partition, dimension);
end
$$;

-- Which chunks hold which of the lexemes, and how often, as ts_rank tells it. It reads the
-- partition itself because `@@` is not leakproof: behind row-level security PostgreSQL would not
-- use the GIN index for it.
create function rotina.chunk_hits(collection uuid, lexemes text[])
returns table (id uuid, document_id uuid, length integer, lexeme text, rank real)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    terms tsquery[] := array(
        select ('''' || replace(replace(l, '\', '\\'), '''', '''''') || '''')::tsquery
        from unnest(lexemes) with ordinality as u (l, n) order by n
    );
    any_term tsquery := (select string_agg(t::text, ' | ')::tsquery from unnest(terms) as u (t));
begin
    if any_term is null then
        return;
    end if;
    return query execute format(
        'select c.id, c.document_id, c.length, l.lexeme, ts_rank(%L, c.words, l.term) '
        'from rotina.%I c join unnest($1, $2) as l (lexeme, term) on c.words @@ l.term '
        'where c.words @@ $3',
        '{1,1,1,1}', rotina.chunk_partition(collection)
    ) using lexemes, terms, any_term;
end
$$;

revoke all on function rotina.create_chunks(uuid), rotina.drop_chunks(uuid),
    rotina.index_chunks(uuid), rotina.chunk_hits(uuid, text[]) from public;
grant execute on function rotina.create_chunks(uuid), rotina.drop_chunks(uuid),
    rotina.index_chunks(uuid), rotina.chunk_hits(uuid, text[]) to rotina_tenant;
