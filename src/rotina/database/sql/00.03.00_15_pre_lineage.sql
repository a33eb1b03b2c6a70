-- Which runs stand on which documents: what an answer cites, and the file that was read.

-- Versions that are no more. The present one is in the document's row.
create table rotina.document_version (
    tenant text not null,
    collection_id uuid not null,
    document_id uuid not null,
    version integer not null,
    uri text not null,
    sha256 text not null,
    ended_at timestamptz not null default now(),
    primary key (document_id, version),
    foreign key (collection_id, tenant) references rotina.collection (id, tenant) on delete cascade
);
create index document_version_uri on rotina.document_version (collection_id, uri);
alter table rotina.document_version enable row level security;
alter table rotina.document_version force row level security;
create policy tenant on rotina.document_version
    using (tenant = (select rotina.current_tenant()));
grant select, insert, delete on rotina.document_version to rotina_tenant;

create function rotina.keep_version() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        insert into rotina.document_version (
            tenant, collection_id, document_id, version, uri, sha256
        )
        select g.tenant, g.collection_id, g.id, g.version, g.uri, g.sha256
        from gone g join come c on c.collection_id = g.collection_id and c.id = g.id
        where c.version <> g.version
        on conflict do nothing;
    else
        insert into rotina.document_version (
            tenant, collection_id, document_id, version, uri, sha256
        )
        select g.tenant, g.collection_id, g.id, g.version, g.uri, g.sha256 from gone g
        on conflict do nothing;
    end if;
    return null;
end
$$;
create trigger version_replaced after update on rotina.document
    referencing old table as gone new table as come
    for each statement execute function rotina.keep_version();
create trigger version_deleted after delete on rotina.document
    referencing old table as gone for each statement execute function rotina.keep_version();

create table rotina.citation (
    tenant text not null,
    run_id uuid not null references rotina.run on delete cascade,
    -- What the run's result quotes, …
    document_id uuid,
    version integer,
    -- … or the file it was started with.
    sha256 text,
    check ((document_id is null) = (version is null)),
    check ((document_id is null) <> (sha256 is null))
);
create index citation_run on rotina.citation (run_id);
create index citation_document on rotina.citation (document_id) where document_id is not null;
create index citation_file on rotina.citation (sha256) where sha256 is not null;
alter table rotina.citation enable row level security;
alter table rotina.citation force row level security;
create policy tenant on rotina.citation using (tenant = (select rotina.current_tenant()));
grant select, insert on rotina.citation to rotina_tenant;

-- Whatever the workflow: citations are found in its result by their form.
create function rotina.keep_citations() returns trigger
language plpgsql as $$
declare
    before text := current_setting('rotina.tenant', true);
begin
    -- Workers serve all tenants, and have to be this one to write its rows.
    perform set_config('rotina.tenant', new.tenant, true);
    insert into rotina.citation (tenant, run_id, document_id, version)
    select distinct new.tenant, new.id, (c ->> 'document_id')::uuid, (c ->> 'version')::integer
    from jsonb_path_query(
        new.result,
        '$.**.citations[*] ? (@.document_id like_regex "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"'
        ' && @.version > 0 && @.version < 2000000000)'
    ) c;
    insert into rotina.citation (tenant, run_id, sha256)
    select distinct new.tenant, new.id, s #>> '{}'
    from jsonb_path_query(
        new.input, '$.**.sha256 ? (@ like_regex "^[0-9a-f]{64}$")'
    ) s;
    perform set_config('rotina.tenant', coalesce(before, ''), true);
    return null;
end
$$;
create trigger keep_citations after update of state on rotina.run
    for each row when (
        old.state is distinct from new.state and new.state = 'succeeded' and (
            new.result @? '$.**.citations[*]' or new.input @? '$.**.sha256'
        )
    )
    execute function rotina.keep_citations();

-- What was said of documents that are to be forgotten: results, replies, records and cached answers
-- of the runs that cite them. The runs stay, without what they said.
create function rotina.forget_answers(runs uuid[]) returns bigint
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
    insert into rotina.run_event (run_id, kind, data)
    select id, 'answer_forgotten', '{}' from unnest(own) as u (id);
    return cardinality(own);
end
$$;
revoke all on function rotina.forget_answers(uuid[]) from public;
grant execute on function rotina.forget_answers(uuid[]) to rotina_tenant;
