-- name: insert_collection
-- Nothing when the name is taken.
insert into rotina.collection (id, tenant, name, route, language)
values (%(id)s, %(tenant)s, %(name)s, %(route)s, %(language)s)
on conflict (tenant, name) do nothing
returning id, name, route, language, dimension, model, created_at;

-- name: create_chunks
-- The collection's own partition.
select rotina.create_chunks(%(id)s);

-- name: get_collection
-- By name; row-level security leaves this tenant's.
select id, name, route, language, dimension, model, created_at
from rotina.collection where name = %(name)s;

-- name: lock_collection
-- Whoever stores first decides dimension and model, and nobody deletes it meanwhile.
select id, name, route, language, dimension, model, created_at
from rotina.collection where id = %(id)s for update;

-- name: list_collections
-- All of the tenant.
select id, name, route, language, dimension, model, created_at
from rotina.collection order by name;

-- name: set_embedding
-- With the first document.
update rotina.collection set dimension = %(dimension)s, model = %(model)s where id = %(id)s;

-- name: delete_collection
-- Documents go with it.
delete from rotina.collection where id = %(id)s;

-- name: drop_chunks
-- Before the collection's row: the partition's name is told only to its owner.
select rotina.drop_chunks(%(id)s);

-- name: index_chunks
-- HNSW; the collection stays readable, writers wait.
select rotina.index_chunks(%(id)s);

-- name: is_indexed
-- Whether the collection's HNSW index is there.
select to_regclass(
    'rotina.chunk_' || replace(%(id)s::text, '-', '') || '_hnsw'
) is not null as indexed;

-- name: get_document
-- What is stored under a URI.
select id, version, sha256, content_hash, metadata, chunks, language
from rotina.document where collection_id = %(collection_id)s and uri = %(uri)s;

-- name: keep_document
-- The content is the same: nothing is embedded again, and the metadata is taken over.
update rotina.document set metadata = %(metadata)s,
    updated_at = case when metadata = %(metadata)s then updated_at else now() end
where collection_id = %(collection_id)s and uri = %(uri)s and content_hash = %(content_hash)s
returning id as document_id, chunks, version;

-- name: put_document
-- A new document, or the next version of the one with this URI; the row stays locked.
insert into rotina.document (
    id, tenant, collection_id, uri, name, title, media_type, language, sha256, content_hash,
    text, pages, metadata, chunks, words
) values (
    %(id)s, %(tenant)s, %(collection_id)s, %(uri)s, %(name)s, %(title)s, %(media_type)s,
    %(language)s, %(sha256)s, %(content_hash)s, %(text)s, %(pages)s, %(metadata)s,
    %(chunks)s, %(words)s
)
on conflict (collection_id, uri) do update set
    version = document.version + 1, name = excluded.name, title = excluded.title,
    media_type = excluded.media_type, language = excluded.language, sha256 = excluded.sha256,
    content_hash = excluded.content_hash, text = excluded.text, pages = excluded.pages,
    metadata = excluded.metadata, chunks = excluded.chunks, words = excluded.words,
    updated_at = now()
returning id, version;

-- name: delete_chunks
-- Of the version before.
delete from rotina.chunk
where collection_id = %(collection_id)s and document_id = %(document_id)s;

-- name: insert_chunk
-- One chunk; its words arrive folded (lower case, no accents), and PostgreSQL stems them.
insert into rotina.chunk (
    id, tenant, collection_id, document_id, index, span_start, span_end, page, context, text,
    length, words, embedding
) values (
    %(id)s, %(tenant)s, %(collection_id)s, %(document_id)s, %(index)s, %(start)s, %(end)s,
    %(page)s, %(context)s, %(text)s, %(length)s,
    to_tsvector(%(configuration)s::regconfig, %(words)s), %(embedding)s::halfvec
);

-- name: delete_document
-- Its chunks go with it.
delete from rotina.document where collection_id = %(collection_id)s and uri = %(uri)s returning id;

-- name: list_documents
-- By URI.
select id, uri, version, name, title, language, sha256, metadata, chunks, length(text) as characters
from rotina.document where collection_id = %(collection_id)s order by uri;

-- name: document_text
-- What every span of the document's chunks counts in.
select text from rotina.document where id = %(id)s;

-- name: scope
-- How much there is to search behind a filter: BM25's statistics, and what chooses the plan.
select count(*) as documents, coalesce(sum(d.chunks), 0)::bigint as chunks,
    coalesce(sum(d.words), 0)::bigint as words,
    coalesce(array_agg(distinct d.language), '{{}}') as languages
from rotina.document d where d.collection_id = %(collection_id)s and {filter};

-- name: count_characters
-- Reads every text: only for who asks.
select coalesce(sum(length(text)), 0)::bigint as characters
from rotina.document where collection_id = %(id)s;

-- name: search
-- BM25 over the lexemes and cosine over the vectors, each for its best candidates; both scores of
-- every candidate, weighted. A word's stems (one a language) count as one term; one that is a stop
-- word in any of the collection's languages counts in none. ts_rank with all
-- weights 1 is the sum of 1/n² to the lexeme's frequency over π²/6, from which the frequency is
-- won back (exactly for 1, closely for others). The text's score is the share of the question's
-- information (idf) that a chunk holds: in [0, 1), and small where only stray words match.
with scope as (
    select d.id from rotina.document d
    where d.collection_id = %(collection_id)s and {filter}
), term as (
    select min(s.word) as word, s.lexeme
    from (
        select w.word, l.lexeme, bool_and(l.lexeme is not null) over (partition by w.word) as told
        from unnest(%(words)s::text[]) as w (word)
        cross join unnest(%(configurations)s::regconfig[]) as c (configuration)
        left join lateral unnest(
            tsvector_to_array(to_tsvector(c.configuration, w.word))
        ) as l (lexeme) on true
    ) s
    where s.told
    group by s.lexeme
), hit as materialized (
    select h.id, t.word, min(h.length) as length, max(h.rank) as rank
    from rotina.chunk_hits(%(collection_id)s, array(select lexeme from term)) h
    join term t using (lexeme)
    where {hit_filter}
    group by h.id, t.word
), weighed as (
    select w.word,
        ln(1 + (%(chunks)s::float8 - count(h.id) + 0.5) / (count(h.id) + 0.5)) as idf
    from (select distinct word from term) w left join hit h using (word)
    group by w.word
), told as (
    select h.id, sum(
        w.idf * f.frequency
        / (f.frequency + %(k1)s * (1 - %(b)s + %(b)s * h.length / %(mean_length)s))
    ) / (select sum(idf) from weighed) as score
    from hit h join weighed w using (word),
        lateral (select 0.644934 * h.rank / (1.000001 - h.rank) as frequency) f
    group by h.id order by score desc, h.id limit %(text_candidates)s
), near as (
    select c.id from rotina.chunk c
    where c.collection_id = %(collection_id)s and {near_filter}
    order by {distance} limit %(vector_candidates)s
), scored as (
    select c.id, c.document_id, c.span_start, c.span_end, c.page, c.text,
        coalesce(t.score, 0)::float8 as text_score,
        coalesce(nullif(1 - (c.embedding <=> %(vector)s::halfvec), 'NaN'), 0) as vector_score
    from (select id from told union select id from near) found
    join rotina.chunk c on c.collection_id = %(collection_id)s and c.id = found.id
    left join told t on t.id = c.id
), best as (
    select s.*, %(text_weight)s * s.text_score + %(vector_weight)s * s.vector_score as score
    from scored s order by score desc, s.id limit %(k)s
)
select b.id as chunk_id, b.document_id, d.name as document, d.uri, d.title, b.text,
    b.span_start as start, b.span_end as "end", b.page, d.metadata,
    b.text_score, b.vector_score, b.score
from best b join rotina.document d on d.id = b.document_id
order by b.score desc, b.id;

-- name: tune_scan
-- For one transaction: HNSW looks at enough neighbours, and goes on while a filter rejects them.
select set_config('hnsw.ef_search', %(candidates)s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', '200000', true);

-- name: vectors
-- Every chunk behind a filter with its vector.
select c.id, c.text, c.embedding::real[] as embedding, d.name as document, d.metadata
from rotina.chunk c join rotina.document d on d.id = c.document_id
where c.collection_id = %(collection_id)s and {filter}
order by d.uri, c.index;
