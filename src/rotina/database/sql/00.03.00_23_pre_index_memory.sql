-- A graph that does not fit into memory takes many times as long to build; one that fits needs no
-- more than it has vectors for: each with its neighbours, and a fifth for what surrounds them.

create or replace function rotina.index_space(wanted uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    indexed rotina.space;
    own rotina.collection;
    place text;
    needed bigint;
begin
    select * into strict indexed from rotina.space s where s.id = wanted;
    own := rotina.own_collection(indexed.collection_id);
    if indexed.home = rotina.pool() then
        return false;
    end if;
    place := rotina.table_of('embedding', wanted);
    needed := own.chunks * (2 * indexed.dimension + 800) * 6 / 5 / 1024;
    perform set_config(
        'maintenance_work_mem', least(greatest(needed, 65536), 1835008) || 'kB', true);
    execute format(
        'create index if not exists %I on rotina.%I '
        'using hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)',
        place || '_hnsw', place, indexed.dimension);
    execute format('analyze rotina.%I', place);
    analyze rotina.document_part;
    update rotina.space set indexed = true where id = wanted;
    update rotina.collection set generation = generation + 1 where id = indexed.collection_id;
    return true;
end
$$;
