-- name: insert_collection
-- Nothing when the name is taken.
insert into rotina.collection (id, tenant, name, language, chunk_limit, chunk_overlap)
values (%(id)s, %(tenant)s, %(name)s, %(language)s, %(chunk_limit)s, %(chunk_overlap)s)
on conflict (tenant, name) do nothing
returning id;

-- name: insert_space
-- Another embedding of the collection; nothing while one is being built or has the route.
insert into rotina.space (id, tenant, collection_id, route, state)
values (%(id)s, %(tenant)s, %(collection_id)s, %(route)s, %(state)s)
on conflict do nothing
returning id;

-- name: list_collections
-- One by name, or all of the tenant when that is null; each with its spaces, the current one first.
select c.id, c.name, c.language, c.created_at, c.documents, c.chunks, c.words, c.english,
    c.portuguese, c.restricted, c.home, c.generation, c.chunk_limit, c.chunk_overlap,
    c.numbered - c.posted as unposted, c.dead,
    (
        select json_agg(s order by s.state <> 'current', s.created_at, s.id)
        from rotina.space s where s.collection_id = c.id
    ) as spaces
from rotina.collection c
where %(name)s::text is null or c.name = %(name)s
order by c.name;

-- name: lock_collection
-- Whoever stores first decides dimension and model, and nobody deletes or moves it meanwhile.
select id, home, generation, chunks from rotina.collection where id = %(id)s for update;

-- name: lock_spaces
-- All that a document is embedded in.
select id, route, model, dimension, home, indexed, state from rotina.space
where collection_id = %(id)s and state <> 'building' order by state <> 'current', created_at, id;

-- name: set_embedding
-- With the first vector of a space.
update rotina.space set dimension = %(dimension)s, model = %(model)s where id = %(id)s;

-- name: bump_generation
-- What other processes remember of the collection is stale from now on.
update rotina.collection set generation = generation + 1 where id = %(id)s;

-- name: hand_over_vectors
-- What the cache has of a copy's chunks outlives the copy, but no change of what it is a copy of.
update rotina.embedding_cache set collection_id = %(collection_id)s
where tenant = rotina.current_tenant() and text = any(array(
    select rotina.embedded_hash(c.context, c.text) from rotina.chunk c
    where c.home = %(home)s and c.collection_id = %(copy_id)s
));

-- name: forget_model
-- What the cache has of a model that a server had; reads all that the tenant has there.
delete from rotina.embedding_cache
where tenant = rotina.current_tenant() and named = %(model)s::text;

-- name: empty_collection
-- Chunks and vectors go first: their tables are known only to their owner.
select rotina.empty_collection(%(id)s);

-- name: delete_documents
-- Of a collection whose chunks are gone.
delete from rotina.document where collection_id = %(id)s;

-- name: delete_collection
-- Spaces and words go with it.
delete from rotina.collection where id = %(id)s;

-- name: settle_collection
-- Out of the pool, into tables of its own; harmless when it is there.
select rotina.settle_collection(%(id)s);

-- name: post_words
-- What was inserted since the last time is looked up like the rest; false when it is too little.
select rotina.post_words(%(id)s, %(most)s) as posted;

-- name: settle_space
-- A table of its own, if the collection has.
select rotina.settle_space(%(id)s);

-- name: index_space
-- HNSW; the collection stays readable, writers wait.
select rotina.index_space(%(id)s) as indexed;

-- name: empty_space
-- Its vectors, before its row.
select rotina.empty_space(%(id)s);

-- name: delete_space
-- A space whose vectors are gone.
delete from rotina.space where id = %(id)s;

-- name: set_space_state
-- One space is current at a time.
update rotina.space set state = %(state)s where id = %(id)s;

-- name: chunks_without_vector
-- What a space that is being built still lacks.
select c.id, c.document_id, c.context, c.text
from rotina.chunk c
where c.home = %(chunk_home)s and c.collection_id = %(collection_id)s and not exists (
    select from rotina.embedding v
    where v.home = %(vector_home)s and v.space_id = %(space_id)s and v.chunk_id = c.id
)
order by c.id limit %(limit)s;

-- name: count_without_vector
-- How many chunks a space lacks.
select count(*) as lacking
from rotina.chunk c
where c.home = %(chunk_home)s and c.collection_id = %(collection_id)s and not exists (
    select from rotina.embedding v
    where v.home = %(vector_home)s and v.space_id = %(space_id)s and v.chunk_id = c.id
);

-- name: get_document
-- What is stored under a URI.
select id, version, sha256, content_hash, metadata, chunks, language
from rotina.document where collection_id = %(collection_id)s and uri = %(uri)s;

-- name: read_documents
-- Their content, by URI, after one of them.
select uri, name, title, media_type, language, sha256, text, pages, headings, metadata, access,
    valid_from, valid_to
from rotina.document where collection_id = %(collection_id)s and uri > %(after)s
order by uri limit %(limit)s;

-- name: keep_document
-- The content is the same: nothing is embedded again, and what is said of it is taken over. A
-- person who adds what a source has brought makes it theirs; a source takes nothing from a person.
update rotina.document set metadata = %(metadata)s, access = %(access)s,
    valid_from = %(valid_from)s, valid_to = %(valid_to)s,
    from_source = from_source and %(from_source)s,
    updated_at = case when (metadata, access, valid_from, valid_to) is not distinct from
        (%(metadata)s::jsonb, %(access)s::text[], %(valid_from)s::timestamptz,
            %(valid_to)s::timestamptz) then updated_at else now() end
where collection_id = %(collection_id)s and uri = %(uri)s and content_hash = %(content_hash)s
returning id as document_id, chunks, version;

-- name: put_documents
-- New documents, or the next versions of those with these URIs; the rows stay locked. What another
-- has stored meanwhile with the same content is no next version.
insert into rotina.document (
    id, tenant, collection_id, uri, name, title, media_type, language, sha256, content_hash,
    text, pages, headings, metadata, access, valid_from, valid_to, from_source, chunks, words
)
select id, %(tenant)s, %(collection_id)s, uri, name, title, media_type, language, sha256,
    content_hash, text, pages::jsonb, headings::jsonb, metadata::jsonb,
    case when access = '[]' then '{}' else array(
        select jsonb_array_elements_text(access::jsonb)
    ) end, valid_from, valid_to, from_source, chunks, words
from unnest(
    %(ids)b::uuid[], %(uris)b::text[], %(names)b::text[], %(titles)b::text[],
    %(media_types)b::text[], %(languages)b::text[], %(hashes)b::text[],
    %(content_hashes)b::text[], %(texts)b::text[], %(pages)b::text[], %(headings)b::text[],
    %(metadata)b::text[], %(access)b::text[], %(valid_from)b::timestamptz[],
    %(valid_to)b::timestamptz[], %(from_source)b::boolean[], %(chunks)b::integer[],
    %(words)b::integer[]
) as d (
    id, uri, name, title, media_type, language, sha256, content_hash, text, pages, headings,
    metadata, access, valid_from, valid_to, from_source, chunks, words
)
on conflict (collection_id, uri) do update set
    version = document.version
        + (document.content_hash is distinct from excluded.content_hash)::integer,
    name = excluded.name, title = excluded.title,
    media_type = excluded.media_type, language = excluded.language, sha256 = excluded.sha256,
    content_hash = excluded.content_hash, text = excluded.text, pages = excluded.pages,
    headings = excluded.headings,
    metadata = excluded.metadata, access = excluded.access, valid_from = excluded.valid_from,
    valid_to = excluded.valid_to, chunks = excluded.chunks, words = excluded.words,
    from_source = excluded.from_source
        and (document.from_source or document.content_hash is distinct from excluded.content_hash),
    updated_at = now()
returning id, uri, version;

-- name: list_chunks
-- Of a document as it is stored, with what each was embedded from.
select id, context, text from rotina.chunk
where home = %(home)s and document_id = %(document_id)s order by index;

-- name: move_chunks
-- Chunks whose text and context stayed: only their places are new.
update rotina.chunk c set index = m.index, span_start = m.span_start, span_end = m.span_end,
    page = m.page, section = m.section
from unnest(
    %(ids)s::uuid[], %(indexes)s::integer[], %(starts)s::integer[], %(ends)s::integer[],
    %(pages)s::integer[], %(sections)s::text[]
) as m (id, index, span_start, span_end, page, section)
where c.home = %(home)s and c.id = m.id;

-- name: delete_chunks
-- Of a document, all but those that stayed.
with gone as (
    delete from rotina.chunk
    where home = %(home)s and document_id = %(document_id)s and id <> all(%(kept)s::uuid[])
    returning id
)
delete from rotina.embedding where document_id = %(document_id)s and chunk_id in (select id from gone);

-- name: insert_chunks
-- Their words arrive folded (lower case, no accents), and PostgreSQL stems them.
with numbered as (
    update rotina.collection set numbered = numbered + cardinality(%(ids)b::uuid[])
    where id = %(collection_id)s returning numbered - cardinality(%(ids)b::uuid[]) as before
)
insert into rotina.chunk (
    home, id, tenant, collection_id, document_id, number, index, span_start, span_end, page, section,
    context, text, length, words
)
select %(home)s, c.id, %(tenant)s, %(collection_id)s, document_id, numbered.before + n, index,
    span_start, span_end, page, section, context, text, length,
    to_tsvector(configuration::regconfig, words)
from numbered, unnest(
    %(ids)b::uuid[], %(documents)b::uuid[], %(indexes)b::integer[], %(starts)b::integer[],
    %(ends)b::integer[], %(pages)b::integer[], %(sections)b::text[], %(contexts)b::text[],
    %(texts)b::text[], %(lengths)b::integer[], %(words)b::text[], %(configurations)b::text[]
) with ordinality as c (
    id, document_id, index, span_start, span_end, page, section, context, text, length, words,
    configuration, n
);

-- name: insert_vectors
-- `values` holds one vector after the other.
insert into rotina.embedding (home, space_id, chunk_id, tenant, document_id, embedding)
select %(home)s, %(space_id)s, chunk_id, %(tenant)s, document_id,
    (%(values)s::real[])[(n - 1) * %(dimension)s + 1 : n * %(dimension)s]::halfvec
from unnest(%(chunks)b::uuid[], %(documents)b::uuid[])
    with ordinality as c (chunk_id, document_id, n)
on conflict do nothing;

-- name: insert_late_vectors
-- Of chunks that are still there.
insert into rotina.embedding (home, space_id, chunk_id, tenant, document_id, embedding)
select %(home)s, %(space_id)s, c.id, %(tenant)s, c.document_id,
    (%(values)s::real[])[(n - 1) * %(dimension)s + 1 : n * %(dimension)s]::halfvec
from unnest(%(chunks)s::uuid[]) with ordinality as w (chunk_id, n)
    join rotina.chunk c on c.home = %(chunk_home)s and c.id = w.chunk_id
on conflict do nothing;

-- name: insert_words
-- The collection's vocabulary grows; a word that no chunk has any more finds none.
insert into rotina.word (collection_id, word)
select %(collection_id)s, word from unnest(%(words)b::text[]) as w (word)
on conflict do nothing;

-- name: delete_document
-- Its chunks and vectors go with it.
delete from rotina.document where collection_id = %(collection_id)s and uri = %(uri)s returning id;

-- name: discard_documents
-- Those of some URIs, or all when that is null.
delete from rotina.document where collection_id = %(collection_id)s
    and (%(uris)s::text[] is null or uri = any(%(uris)s::text[]));

-- name: document_texts
-- What some URIs stand for.
select uri, text, metadata from rotina.document
where collection_id = %(collection_id)s and uri = any(%(uris)s::text[]);

-- name: list_documents
-- By URI.
select id, uri, version, name, title, language, sha256, metadata, access, valid_from, valid_to,
    chunks, length(text) as characters
from rotina.document where collection_id = %(collection_id)s order by uri;

-- name: document_text
-- What every span of the document's chunks counts in.
select text from rotina.document where id = %(id)s;

-- name: locate_passage
-- Documents that hold these characters, where, and whether a second time.
select uri, strpos(text, %(passage)s) - 1 as start,
    strpos(substr(text, strpos(text, %(passage)s) + 1), %(passage)s) > 0 as again
from rotina.document
where collection_id = %(collection_id)s and strpos(text, %(passage)s) > 0
    and (%(uri)s::text is null or uri = %(uri)s)
limit 2;

-- name: count_characters
-- Reads every text: only for who asks.
select coalesce(sum(length(text)), 0)::bigint as characters
from rotina.document where collection_id = %(id)s;

-- name: enter_search
-- As `enter_tenant`, and for HNSW: look at enough neighbours, go on while a filter rejects them.
-- Compiling a plan to machine code takes longer than running it; so does planning again: ids and
-- limits stand in the statement's text, and it is the same plan whatever is asked and filtered.
select set_config('role', 'rotina_tenant', true), set_config('rotina.tenant', %(tenant)s, true),
    set_config('hnsw.ef_search', %(candidates)s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', '200000', true), set_config('jit', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true);

-- name: estimate_documents
-- How many PostgreSQL expects behind a filter.
select rotina.estimate_documents(
    %(collection_id)s, %(filter)s::jsonpath, %(access)s::text[], %(moment)s::timestamptz
) as documents;

-- name: scope
-- Documents behind a filter, for whom and when.
scope as materialized (
    select id from rotina.documents_where(
        %(collection_id)s, %(filter)s::jsonpath, %(access)s::text[], %(moment)s::timestamptz
    ) as id
),

-- name: is_in_scope
-- One document, by the same conditions.
select (%(filter)s::jsonpath is null or d.metadata @@ %(filter)s::jsonpath)
    and (%(access)s::text[] is null or d.access = '{{}}' or d.access && %(access)s::text[])
    and (
        %(moment)s::timestamptz is null
        or (d.valid_from is null or d.valid_from <= %(moment)s::timestamptz)
        and (d.valid_to is null or d.valid_to > %(moment)s::timestamptz)
    )
from rotina.document d where d.collection_id = %(collection_id)s and d.id = {document}

-- name: text_half
-- BM25, for the best candidates. A word's stems (one a language) count as one term; one that is a
-- stop word in any of the collection's languages counts in none. A term that no chunk has is likened
-- by trigrams to words of the collection, and counts less. The score is the share of the question's
-- information (idf) that a chunk holds: in [0, 1), and small where only stray words match.
told as materialized (
    select t.id, t.score from rotina.text_candidates(
        %(collection_id)s, %(words)s::text[], %(configurations)s::regconfig[], {documents},
        {judgement}, {candidates}, %(enough)s, %(rare)s, %(k1)s, %(b)s, %(likeness)s::real,
        %(least_letters)s
    ) t
),

-- name: vector_half
-- Cosine, for the best candidates.
near as materialized (
    select v.chunk_id as id, {distance} as distance
    from rotina.embedding v
    where v.home = {vector_home} and v.space_id = {space} and {near_filter}
    order by distance limit {candidates}
),

-- name: fuse_text
-- Words alone.
found as (
    select t.id, t.score::float8 as text_score, 0::float8 as vector_score,
        (%(text_weight)s * {text_part})::float8 as score
    from (select *, row_number() over (order by score desc, id) as rank from told) t
    order by score desc, t.id limit {k}
)

-- name: fuse_vectors
-- Vectors alone.
found as (
    select n.id, 0::float8 as text_score, n.cosine as vector_score,
        (%(vector_weight)s * {vector_part})::float8 as score
    from (
        select id, coalesce(nullif(1 - distance, 'NaN'), 0) as cosine,
            row_number() over (order by distance, id) as rank
        from near
    ) n
    order by score desc, n.id limit {k}
)

-- name: fuse_both
-- Both scores of every candidate, weighted; or both ranks of those that have one.
scored as (
    select n.id, coalesce(t.score, 0)::float8 as text_score,
        coalesce(nullif(1 - n.distance, 'NaN'), 0) as cosine,
        t.id is not null as in_text, true as in_vectors
    from near n left join told t using (id)
    union all
    -- One by one: a join could be planned as reading all of them.
    select t.id, t.score, coalesce(nullif(1 - (
        select v.embedding <=> %(vector)s::halfvec from rotina.embedding v
        where v.home = {vector_home} and v.space_id = {space} and v.chunk_id = t.id
    ), 'NaN'), 0), true, false
    from told t where t.id not in (select id from near)
), ranked as (
    select *, row_number() over (order by text_score desc, id) as text_rank,
        row_number() over (order by cosine desc, id) as vector_rank
    from scored
), found as (
    select id, text_score, cosine as vector_score,
        (%(text_weight)s * {text_part} + %(vector_weight)s * {vector_part})::float8 as score
    from ranked order by score desc, id limit {k}
)

-- name: search
-- One statement. No row: what was remembered of the collection is stale, or it is gone. A row
-- without a chunk: nothing was found.
with own as (
    select from rotina.collection c
    where c.id = %(collection_id)s and c.generation = %(generation)s
        and (c.restricted > 0, c.english > 0, c.portuguese > 0)
            = (%(restricted)s, %(english)s, %(portuguese)s)
), {halves}
select c.id as chunk_id, d.id as document_id, d.name as document, d.uri, d.version, d.title,
    c.section, c.text, c.span_start as start, c.span_end as "end", c.page, c.index, d.metadata,
    f.text_score, f.vector_score, f.score
from own left join (
    found f join rotina.chunk c on c.home = {chunk_home} and c.id = f.id
    join rotina.document d on d.collection_id = %(collection_id)s and d.id = c.document_id
) on true
order by f.score desc, c.id;

-- name: chunk_vectors
-- Of some chunks.
select chunk_id, embedding from rotina.embedding
where home = %(home)s and space_id = %(space_id)s and chunk_id = any(%(ids)s::uuid[]);

-- name: neighbours
-- The chunks beside each of these, up to `reach` before and after.
select c.document_id, c.index, c.span_start as start, c.span_end as "end", c.section, c.page
from rotina.chunk c join unnest(%(documents)s::uuid[], %(indexes)s::integer[]) as w (id, index)
    on c.document_id = w.id and c.index between w.index - %(reach)s and w.index + %(reach)s
where c.home = %(home)s
order by c.document_id, c.index;

-- name: spans
-- Characters of documents.
select w.n, substr(d.text, w.first + 1, w.last - w.first) as text
from unnest(%(documents)s::uuid[], %(firsts)s::integer[], %(lasts)s::integer[])
    with ordinality as w (id, first, last, n)
join rotina.document d on d.collection_id = %(collection_id)s and d.id = w.id;

-- name: cited_by
-- Runs that cite a document, in any version or one, the latest first.
with known as (
    select id as document_id, version, sha256, true as present from rotina.document
    where collection_id = %(collection_id)s and uri = %(uri)s
    union all
    select document_id, version, sha256, false from rotina.document_version
    where collection_id = %(collection_id)s and uri = %(uri)s
)
select r.id as run_id, r.workflow, r.finished_at, k.document_id, max(k.version) as version,
    bool_or(k.present) as present, bool_or(c.document_id is not null) as quoted
from known k
    join rotina.citation c
        on (c.document_id = k.document_id and c.version = k.version) or c.sha256 = k.sha256
    join rotina.run r on r.id = c.run_id
where %(version)s::integer is null or k.version = %(version)s
group by r.id, r.workflow, r.finished_at, k.document_id
order by r.finished_at desc, r.id;

-- name: forget_answers
-- What these runs said.
select rotina.forget_answers(%(runs)s::uuid[]) as forgotten;

-- name: vectors
-- Every chunk behind a filter with its vector.
select c.id, c.text, v.embedding, d.name as document, d.metadata
from rotina.embedding v join rotina.chunk c on c.home = %(chunk_home)s and c.id = v.chunk_id
    join rotina.document d on d.collection_id = %(collection_id)s and d.id = c.document_id
where v.home = %(vector_home)s and v.space_id = %(space_id)s
    and (%(filter)s::jsonpath is null or d.metadata @@ %(filter)s::jsonpath)
order by d.uri, c.index;
