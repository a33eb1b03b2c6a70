-- What collections follow: where documents come from, and what is known of each of them.

create table rotina.source (
    id uuid primary key,
    tenant text not null,
    collection_id uuid not null,
    name text not null,
    kind text not null,
    settings jsonb not null,
    -- What becomes of documents whose original is gone.
    gone text not null check (gone in ('delete', 'keep')),
    created_at timestamptz not null default now(),
    synced_at timestamptz,
    unique (collection_id, name),
    unique (id, tenant),
    foreign key (collection_id, tenant) references rotina.collection (id, tenant) on delete cascade
);

create table rotina.source_item (
    source_id uuid not null,
    tenant text not null,
    uri text not null,
    -- As the source tells it, without the content: changes when the content does.
    fingerprint text not null,
    -- The one that was last tried to be stored, and what came of it.
    tried text,
    outcome text check (outcome in ('added', 'changed', 'unchanged', 'failed')),
    error jsonb,
    metadata jsonb not null,
    -- The runs that saw it last, and that tried it last.
    seen_by uuid not null,
    tried_by uuid,
    primary key (source_id, uri),
    foreign key (source_id, tenant) references rotina.source (id, tenant) on delete cascade
);
create index source_item_due on rotina.source_item (source_id, uri)
    where tried is distinct from fingerprint;

alter table rotina.source enable row level security;
alter table rotina.source force row level security;
create policy tenant on rotina.source using (tenant = (select rotina.current_tenant()));
alter table rotina.source_item enable row level security;
alter table rotina.source_item force row level security;
create policy tenant on rotina.source_item using (tenant = (select rotina.current_tenant()));
grant select, insert, update, delete on rotina.source, rotina.source_item to rotina_tenant;
