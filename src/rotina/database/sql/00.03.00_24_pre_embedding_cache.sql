-- The exact cache of vectors, by tenant, model and text; what is lost in a crash is embedded again.

create unlogged table rotina.embedding_cache (
    tenant text not null,
    -- SHA-256 of the text, by which a deleted chunk finds what was embedded for it.
    text bytea not null,
    -- SHA-256 of all else that the vector depends on.
    model bytea not null,
    -- What the server calls its model.
    named text not null,
    -- 32-bit floats, little-endian, as the server gave them.
    vector bytea not null,
    -- The collection whose text it is, where no chunk has just that text: it goes when anything does
    -- there.
    collection_id uuid,
    expires_at timestamptz not null,
    primary key (tenant, text, model)
);
-- Compressing floats costs time and saves nothing.
alter table rotina.embedding_cache alter column vector set storage external;
create index embedding_cache_expires on rotina.embedding_cache (expires_at);
create index embedding_cache_collection on rotina.embedding_cache (collection_id)
    where collection_id is not null;
alter table rotina.embedding_cache enable row level security;
alter table rotina.embedding_cache force row level security;
create policy tenant on rotina.embedding_cache using (tenant = (select rotina.current_tenant()));
-- Nobody is given what has expired; it goes when it is swept, by whoever works for all tenants.
create policy sweeper on rotina.embedding_cache for all to current_user using (expires_at <= now());
grant select, insert, update, delete on rotina.embedding_cache to rotina_tenant;

-- The hash of what was embedded for a chunk: its text under what stands above it.
create function rotina.embedded_hash(context text, text text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(case when context = '' then text else context || E'\n' || text end, 'UTF8'));

-- Deleting a chunk deletes what the cache has of it, whichever statement it is. Moving one between
-- tables names the tables themselves, which have no such trigger. Arrays, because PostgreSQL would
-- read all that the tenant has where it does not know how few rows a subquery gives.
create function rotina.forget_embedded() returns trigger
language plpgsql as $$
begin
    delete from rotina.embedding_cache where tenant = rotina.current_tenant()
        and text = any(array(select rotina.embedded_hash(g.context, g.text) from gone g));
    delete from rotina.embedding_cache where tenant = rotina.current_tenant()
        and collection_id = any(array(select distinct g.collection_id from gone g));
    return null;
end
$$;
create trigger chunks_forgotten after delete on rotina.chunk
    referencing old table as gone for each statement execute function rotina.forget_embedded();

-- As before, and what the cache has of the chunks: their tables are emptied without the trigger.
create or replace function rotina.empty_collection(collection uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    own rotina.collection := rotina.own_collection(collection);
    space uuid;
begin
    delete from rotina.embedding_cache where tenant = rotina.current_tenant()
        and collection_id is null and text = any(array(
            select rotina.embedded_hash(c.context, c.text) from rotina.chunk c
            where c.home = own.home and c.collection_id = own.id
        ));
    delete from rotina.embedding_cache
    where tenant = rotina.current_tenant() and collection_id = own.id;
    for space in select s.id from rotina.space s where s.collection_id = own.id loop
        perform rotina.empty_space(space);
    end loop;
    if own.home = rotina.pool() then
        delete from rotina.chunk_pool where collection_id = own.id;
    else
        delete from rotina.posting where home = own.home;
        execute format('drop table rotina.%I', rotina.table_of('chunk', own.id));
    end if;
end
$$;

-- As before, and the vectors of what was asked.
create or replace function rotina.forget_answers(runs uuid[]) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    own uuid[] := array(
        select r.id from rotina.run r
        where r.id = any(runs) and r.tenant = rotina.current_tenant()
            and r.finished_at is not null
    );
begin
    update rotina.run set result = null where id = any(own) and result is not null;
    update rotina.message set text = '', data = '{}'
    where run_id = any(own) and role = 'assistant';
    delete from rotina.recorded where run_id = any(own);
    delete from rotina.model_call_content where id in (
        select m.id from rotina.model_call m where m.run_id = any(own)
    );
    delete from rotina.answer_cache where tenant = rotina.current_tenant();
    delete from rotina.similar_answer where tenant = rotina.current_tenant();
    delete from rotina.embedding_cache where tenant = rotina.current_tenant();
    insert into rotina.run_event (run_id, kind, data)
    select id, 'answer_forgotten', '{}' from unnest(own) as u (id);
    return cardinality(own);
end
$$;
