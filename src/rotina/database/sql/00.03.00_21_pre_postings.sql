-- Words of a settled collection are looked up in postings: for each lexeme, which chunks hold it
-- and how often. A GIN index says only which, so that each of them had to be read to be scored.
-- Postings are written by the thousand chunks, in segments that are merged as they grow; the
-- chunks after the last segment, the tail, are read one by one as those of the pool are.

alter table rotina.collection
    -- The number of the last chunk that was inserted, and of the last one in postings.
    add column numbered integer not null default 0,
    add column posted integer not null default 0,
    -- The first number of each segment, in order.
    add column segments integer[] not null default '{}',
    -- Of the chunks up to there, those that are no more: postings may still name them.
    add column dead integer not null default 0;

-- Counts from 1 within a collection, in the order of insertion.
alter table rotina.chunk add column number integer not null default 0;

-- Code from before numbers none.
create function rotina.number_chunk() returns trigger
language plpgsql as $$
begin
    update rotina.collection set numbered = numbered + 1 where id = new.collection_id
    returning numbered into new.number;
    return new;
end
$$;
create trigger chunk_numbered before insert on rotina.chunk
    for each row when (new.number = 0) execute function rotina.number_chunk();

-- It has no policy and no grants: only functions of the owner read and write it.
create table rotina.posting (
    home uuid not null,
    lexeme text not null,
    segment integer not null,
    -- How many entries; an entry holds number << 32 | words of the chunk << 12 | times.
    held integer not null,
    entries bigint[] not null,
    primary key (home, lexeme, segment)
);

create function rotina.count_dead_chunks() returns trigger
language plpgsql as $$
begin
    update rotina.collection c set dead = c.dead + d.chunks
    from (
        select o.id, count(*)::integer as chunks
        from gone g join rotina.collection o on o.id = g.home and g.number <= o.posted
        group by o.id
    ) d where c.id = d.id;
    return null;
end
$$;
create trigger chunks_deleted after delete on rotina.chunk
    referencing old table as gone for each statement execute function rotina.count_dead_chunks();

-- Bring the tail into postings once it has `most` chunks, or all anew when a tenth is dead.
-- Segments that are at most four times as large as what follows them are written again with it, so
-- there are few of them, and a chunk is written a few times in its life. True when anything was
-- done. Whoever calls it has locked the collection.
create function rotina.post_words(collection uuid, most integer) returns boolean
language plpgsql security definer set search_path = public, pg_temp
set work_mem = '256MB' as $$
declare
    own rotina.collection := rotina.own_collection(collection);
    kept integer[] := own.segments;
    first integer := own.posted + 1;
    missed integer;
begin
    if own.home = rotina.pool() then
        return false;
    end if;
    if own.dead > greatest(most, own.posted / 10) then
        kept := '{}';
        first := 1;
    elsif own.numbered - own.posted < most then
        return false;
    end if;
    while cardinality(kept) > 0
        and first - kept[cardinality(kept)] <= 4 * (own.numbered - first + 1)
    loop
        first := kept[cardinality(kept)];
        kept := kept[: cardinality(kept) - 1];
    end loop;
    delete from rotina.posting where home = own.home and segment >= first;
    execute format(
        'insert into rotina.posting (home, lexeme, segment, held, entries) '
        'select $1, w.lexeme, $2, count(*), array_agg((c.number::bigint << 32) '
        '| (least(c.length, 1048575) << 12) | cardinality(w.positions) order by c.number) '
        'from rotina.%I c, unnest(c.words) w where c.number >= $2 group by w.lexeme',
        rotina.table_of('chunk', own.home)
    ) using own.home, first;
    execute format(
        'select $1 - count(*) from rotina.%I where number <= $1', rotina.table_of('chunk', own.home)
    ) into missed using first - 1;
    update rotina.collection
    set posted = own.numbered, segments = kept || first, dead = missed where id = own.id;
    return true;
end
$$;

-- What stands for words in postings and chunks. Words are numbered as they were asked.
create type rotina.term as (word integer, lexeme text, likeness real);

-- Their lexemes in each language; a word that is a stop word in any of them stands for nothing.
create function rotina.terms_of(asked text[], configurations regconfig[]) returns rotina.term[]
language sql stable as $$
    select coalesce(array_agg((s.word, s.lexeme, 1)::rotina.term), '{}')
    from (
        select min(t.word)::integer as word, t.lexeme
        from (
            select w.n as word, l.lexeme,
                bool_and(l.lexeme is not null) over (partition by w.n) as told
            from unnest(asked) with ordinality as w (word, n)
            cross join unnest(configurations) as c (configuration)
            left join lateral unnest(
                tsvector_to_array(to_tsvector(c.configuration, w.word))
            ) as l (lexeme) on true
        ) t
        where t.told group by t.lexeme
    ) s
$$;

-- Lexemes of the collection's words that look like one of these, and how much: 1 is equal. `asked`
-- is the whole question, `lacking` the numbers of its words that no chunk has.
create function rotina.terms_like(
    collection uuid, asked text[], lacking integer[], configurations regconfig[], at_least real,
    least_letters integer
) returns rotina.term[]
language plpgsql stable as $$
begin
    perform set_config('pg_trgm.similarity_threshold', at_least::text, true);
    return (
        select coalesce(array_agg((s.n, s.lexeme, s.likeness)::rotina.term), '{}')
        from (
            select u.n, l.lexeme, max(similarity(asked[u.n], w.word)) as likeness
            from unnest(lacking) as u (n)
            join rotina.word w on w.collection_id = collection and w.word % asked[u.n]
            cross join unnest(configurations) as c (configuration)
            cross join lateral unnest(
                tsvector_to_array(to_tsvector(c.configuration, w.word))
            ) as l (lexeme)
            where length(asked[u.n]) >= least_letters
            group by u.n, l.lexeme
        ) s
    );
end
$$;

-- One lexeme, whatever its characters.
create function rotina.query_of(lexeme text) returns tsquery
language sql immutable
return ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery;

-- How often words hold a lexeme. ts_rank with all weights 1 is the sum of 1/n² to the frequency,
-- over π²/6, from which it is won back: exactly up to 9, closely beyond.
create function rotina.times_of(words tsvector, query tsquery) returns float8
language sql immutable parallel safe
return round(
    0.644934 * (1.000001 / (1.000001 - ts_rank('{1,1,1,1}', words, query)::float8) - 1));

-- Which chunks hold which of the terms (by place), and how much of its weight each brings: BM25's
-- f / (f + k1 * (1 - b + b * length / mean)). It reads the chunks, in the order of nothing: those
-- of some documents, or after a number, where these are not null. The partition itself is read:
-- `@@` is not leakproof, and so would be judged after a policy.
create function rotina.read_hits(
    own rotina.collection, terms rotina.term[], documents uuid[], after integer, k1 float8, b float8
) returns table (id uuid, number integer, place bigint, part float8)
language plpgsql stable as $$
declare
    queries tsquery[] := array(
        select rotina.query_of(t.lexeme)
        from unnest(terms) as t
    );
    looked_for tsquery;
    query tsquery;
begin
    foreach query in array queries loop
        looked_for := case when looked_for is null then query else looked_for || query end;
    end loop;
    if looked_for is null then
        return;
    end if;
    -- Each chunk is read once, not once a term.
    return query execute format(
        'select c.id, c.number, q.place, f.times / (f.times + $6 + $7 * c.length) from ('
        'select c.id, c.number, c.length, c.words from rotina.%I c '
        'where c.collection_id = $3 and c.words @@ $2 %s %s offset 0'
        ') c join unnest($1) with ordinality as q (term, place) on c.words @@ q.term, '
        'lateral (select rotina.times_of(c.words, q.term) as times) f',
        rotina.table_of('chunk', own.home),
        case when documents is null then '' else 'and c.document_id = any($4)' end,
        case when after is null then '' else 'and c.number > $5' end
    ) using queries, looked_for, own.id, documents, after, k1 * (1 - b),
        k1 * b / greatest(1, own.words::float8 / greatest(own.chunks, 1));
end
$$;

create function rotina.idf(chunks bigint, held bigint) returns float8
language sql immutable
return ln(1 + (chunks - least(chunks, held) + 0.5) / (least(chunks, held) + 0.5));

-- The best chunks by BM25, as the share of the question's information (idf) that they hold. All
-- chunks of the collection are read, or those of some documents.
create function rotina.text_by_reading(
    own rotina.collection, asked text[], configurations regconfig[], documents uuid[],
    wanted integer, k1 float8, b float8, at_least real, least_letters integer
) returns table (id uuid, score float8)
language plpgsql stable as $$
declare
    terms rotina.term[] := rotina.terms_of(asked, configurations);
    alike rotina.term[];
    ids uuid[];
    places bigint[];
    parts float8[];
    more record;
begin
    select coalesce(array_agg(h.id), '{}'), coalesce(array_agg(h.place), '{}'), array_agg(h.part)
    into ids, places, parts
    from rotina.read_hits(own, terms, documents, null, k1, b) h;
    alike := rotina.terms_like(own.id, asked, array(
        select distinct t.word from unnest(terms) as t
        except select t.word from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
            where t.place = any(places)
    ), configurations, at_least, least_letters);
    if cardinality(alike) > 0 then
        select array_agg(h.id) as ids, array_agg(h.place + cardinality(terms)) as places,
            array_agg(h.part) as parts
        into more from rotina.read_hits(own, alike, documents, null, k1, b) h;
        ids := ids || more.ids;
        places := places || more.places;
        parts := parts || more.parts;
    end if;
    return query
        with term as (
            select *
            from unnest(terms || alike) with ordinality as t (word, lexeme, likeness, place)
        ), hit as (
            select h.id, t.word, max(h.part * t.likeness) as part
            from unnest(ids, places, parts) as h (id, place, part) join term t using (place)
            group by h.id, t.word
        ), weight as (
            select w.word, rotina.idf(own.chunks, coalesce(h.held, 0)) as idf
            from (select distinct t.word from term t) w
            left join (select hit.word, count(*) as held from hit group by hit.word) h using (word)
        )
        select h.id, sum(h.part * w.idf) / (select sum(weight.idf) from weight) as score
        from hit h join weight w using (word)
        group by h.id order by score desc, h.id limit wanted;
end
$$;

-- What each entry of the terms that are taken brings, and each chunk of the tail.
create function rotina.parts_of(
    home uuid, terms rotina.term[], weights float8[], taken boolean[], least_part float8,
    by_length float8, late_numbers integer[], late_places bigint[], late_parts float8[]
) returns table (number bigint, word integer, part float8)
language sql stable as $$
    select e.entry >> 32, t.word, weights[t.place] * (e.entry & 4095)::float8
        / ((e.entry & 4095)::float8 + least_part + by_length * ((e.entry >> 12) & 1048575)::float8)
    from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
    join rotina.posting p on p.home = parts_of.home and p.lexeme = t.lexeme,
        unnest(p.entries) as e (entry)
    where taken[t.place]
    union all
    select l.number, (terms[l.place]).word, weights[l.place] * l.part
    from unnest(late_numbers, late_places, late_parts) as l (number, place, part)
    where taken[l.place]
$$;

-- The same from postings, with the tail. Words are taken from the rarest on until they have
-- `enough` chunks; a commoner one, held by more than `rare`, brings in no chunks of its own (after
-- the idea of Turtle & Flood's MaxScore, 1995): chunks that hold nothing else would be last, and
-- most of the work. It still counts where it occurs in the best of the others. Filter, labels and
-- moment leave documents out: see `documents_statement`.
create function rotina.text_by_postings(
    own rotina.collection, asked text[], configurations regconfig[], filter jsonpath, labels text[],
    moment timestamptz, wanted integer, enough integer, rare integer, k1 float8, b float8,
    at_least real, least_letters integer
) returns table (id uuid, score float8)
language plpgsql stable
-- Best first, one chunk after the other until there are enough: what a hash would spoil.
set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    judged boolean := num_nonnulls(filter, labels, moment) > 0;
    least_part float8 := k1 * (1 - b);
    by_length float8 := k1 * b / greatest(1, own.words::float8 / greatest(own.chunks, 1));
    alive float8 := 1 - own.dead::float8 / greatest(1, own.posted);
    terms rotina.term[] := '{}';
    fresh rotina.term[] := rotina.terms_of(asked, configurations);
    held bigint[] := '{}';
    late_numbers integer[] := '{}';
    late_places bigint[] := '{}';
    late_parts float8[] := '{}';
    late record;
    -- Of each term: what it weighs, and whether it brings in chunks.
    weights float8[];
    taken boolean[];
    total float8;
    plural boolean;
    numbers bigint[];
    scores float8[];
    picked integer;
begin
    -- First as they are asked, then what looks like those that no chunk has.
    loop
        if own.numbered > own.posted then
            select coalesce(array_agg(h.number), '{}') as numbers,
                coalesce(array_agg(h.place + cardinality(terms)), '{}') as places,
                coalesce(array_agg(h.part), '{}') as parts
            into late from rotina.read_hits(own, fresh, null, own.posted, k1, b) h;
            late_numbers := late_numbers || late.numbers;
            late_places := late_places || late.places;
            late_parts := late_parts || late.parts;
        end if;
        held := held || (
            -- Of those that are no more each word is taken to have had its share.
            select coalesce(array_agg((
                select coalesce(ceil(sum(p.held) * alive), 0)::bigint from rotina.posting p
                where p.home = own.home and p.lexeme = t.lexeme
            ) + (
                select count(*) from unnest(late_places) as l (place)
                where l.place = t.place + cardinality(terms)
            ) order by t.place), '{}')
            from unnest(fresh) with ordinality as t (word, lexeme, likeness, place)
        );
        exit when cardinality(terms) > 0;
        terms := fresh;
        fresh := rotina.terms_like(own.id, asked, array(
            select t.word from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
            group by t.word having sum(held[t.place]) = 0
        ), configurations, at_least, least_letters);
        exit when cardinality(fresh) = 0;
    end loop;
    terms := terms || fresh;
    select array_agg(w.idf * t.likeness order by t.place),
        array_agg(w.before < enough or w.held <= rare order by t.place),
        sum(w.idf) filter (where t.place = w.place), bool_or(t.place <> w.place)
    into weights, taken, total, plural
    from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
    join (
        select s.word, s.held, s.place, rotina.idf(own.chunks, s.held) as idf,
            sum(s.held) over (order by s.held, s.word) - s.held as before
        from (
            select t.word, min(t.place) as place, sum(held[t.place])::bigint as held
            from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
            group by t.word
        ) s
    ) w using (word);
    -- Those that are picked are put in order again where commoner words count as well.
    picked := case when false = any(taken) then 2 * wanted else wanted end;
    select array_agg(s.number order by s.score desc, s.number),
        array_agg(s.score order by s.score desc, s.number)
    into numbers, scores
    from (
        select p.number, sum(p.part) as score
        from rotina.parts_of(own.home, terms, weights, taken, least_part, by_length, late_numbers,
            late_places, late_parts) p
        where not plural
        group by p.number
        union all
        -- A word of several lexemes counts by the best of them.
        select p.number, sum(p.part)
        from (
            select o.number, max(o.part) as part
            from rotina.parts_of(own.home, terms, weights, taken, least_part, by_length,
                late_numbers, late_places, late_parts) o
            where plural
            group by o.number, o.word
        ) p
        group by p.number
        order by score desc, number
        -- Who is judged, or dead, is known later.
        limit case when not judged then own.dead + picked end
    ) s;
    return query execute format(
        'select b.id, (b.score + %s) / $7 as score '
        'from ('
        'select c.id, c.words, c.length, s.score '
        'from unnest($5, $6) as s (number, score) join rotina.%I c on c.number = s.number '
        '%s limit $13) b '
        'order by score desc, b.id limit $8',
        case when false = any(taken) then rotina.commoner_parts() else '0' end,
        rotina.table_of('chunk', own.home),
        case when judged then format(
            'where (%s and d.id = c.document_id) is not null',
            rotina.documents_statement(filter, labels, moment)
        ) else '' end
    ) using own.id, filter, labels, moment, numbers, scores, total, wanted,
        array(
            select rotina.query_of(t.lexeme)
            from unnest(terms) with ordinality as t (word, lexeme, likeness, place)
            where not taken[t.place] order by t.place
        ),
        array(
            select w.weight
            from unnest(weights, taken) with ordinality as w (weight, taken, place)
            where not w.taken order by w.place
        ),
        least_part, by_length, picked;
end
$$;

-- What the terms that were not taken ($9, weights $10) add to a chunk `b`.
create function rotina.commoner_parts() returns text
language sql immutable
return '(select coalesce(sum(f.times / (f.times + $11 + $12 * b.length) * q.weight), 0) '
    'from unnest($9, $10) as q (term, weight), '
    'lateral (select rotina.times_of(b.words, q.term) as times) f '
    'where b.words @@ q.term)';

-- The best chunks of a collection by their words. `documents` are those in scope, where they are
-- listed; filter, labels and moment say which are, where each is judged when it is found.
create function rotina.text_candidates(
    collection uuid, asked text[], configurations regconfig[], documents uuid[], filter jsonpath,
    labels text[], moment timestamptz, wanted integer, enough integer, rare integer, k1 float8,
    b float8, at_least real, least_letters integer
) returns table (id uuid, score float8)
language plpgsql stable security definer rows 100 set search_path = public, pg_temp as $$
declare
    own rotina.collection := rotina.own_collection(collection);
begin
    if own.home = rotina.pool() or documents is not null then
        return query select * from rotina.text_by_reading(
            own, asked, configurations, documents, wanted, k1, b, at_least, least_letters);
    else
        return query select * from rotina.text_by_postings(
            own, asked, configurations, filter, labels, moment, wanted, enough, rare, k1, b,
            at_least, least_letters);
    end if;
end
$$;

create or replace function rotina.settle_collection(collection uuid) returns void
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
        'insert into rotina.%I (home, id, tenant, collection_id, document_id, number, index, '
        'span_start, span_end, page, section, context, text, length, words) '
        'select $1, id, tenant, collection_id, document_id, number, index, span_start, span_end, '
        'page, section, context, text, length, words from moved',
        rotina.table_of('chunk', own.id)
    ) using own.id;
    execute format(
        'create index on rotina.%I (number)', rotina.table_of('chunk', own.id));
    for settled in select s.id from rotina.space s where s.collection_id = own.id loop
        perform rotina.create_home('embedding', settled.id);
        execute format(
            'with moved as (delete from rotina.embedding_pool where space_id = $1 returning *) '
            'insert into rotina.%I (home, space_id, chunk_id, tenant, document_id, embedding) '
            'select $1, space_id, chunk_id, tenant, document_id, embedding from moved',
            rotina.table_of('embedding', settled.id)
        ) using settled.id;
        update rotina.space set home = id where id = settled.id;
        execute format('analyze rotina.%I', rotina.table_of('embedding', settled.id));
    end loop;
    execute format('analyze rotina.%I', rotina.table_of('chunk', own.id));
    -- What chooses between an index and exact search are PostgreSQL's statistics of metadata.
    analyze rotina.document_part;
    update rotina.collection set home = id, generation = generation + 1 where id = own.id;
    perform rotina.post_words(own.id, 0);
end
$$;

revoke all on function
    rotina.post_words(uuid, integer),
    rotina.text_candidates(uuid, text[], regconfig[], uuid[], jsonpath, text[], timestamptz,
        integer, integer, integer, float8, float8, real, integer)
    from public;
grant execute on function
    rotina.post_words(uuid, integer),
    rotina.text_candidates(uuid, text[], regconfig[], uuid[], jsonpath, text[], timestamptz,
        integer, integer, integer, float8, float8, real, integer)
    to rotina_tenant;

-- What is there: the migration's role is under the policies too, and it numbers every tenant's
-- rows.
alter table rotina.collection no force row level security;
alter table rotina.chunk no force row level security;
update rotina.chunk c set number = n.number
from (
    select home, id, row_number() over (partition by collection_id order by id) as number
    from rotina.chunk
) n where c.home = n.home and c.id = n.id;
update rotina.collection c set numbered = n.number
from (select collection_id, max(number) as number from rotina.chunk group by collection_id) n
where n.collection_id = c.id;
do $$
declare
    settled rotina.collection;
    own text;
begin
    for settled in select * from rotina.collection c where c.home <> rotina.pool() loop
        own := rotina.table_of('chunk', settled.home);
        execute format('drop index rotina.%I', own || '_words_idx');
        execute format('create index on rotina.%I (number)', own);
        perform set_config('rotina.tenant', settled.tenant, true);
        perform rotina.post_words(settled.id, 0);
    end loop;
    perform set_config('rotina.tenant', '', true);
end
$$;
alter table rotina.collection force row level security;
alter table rotina.chunk force row level security;
