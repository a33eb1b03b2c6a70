-- What agents remember between runs: JSON values under a namespace and a key, for a time.

create table rotina.memory (
    tenant text not null,
    namespace text[] not null check (cardinality(namespace) > 0),
    key text not null,
    value jsonb not null,
    -- Minutes that it lives after it was written, or read by who refreshes it; null is for ever.
    ttl double precision check (ttl > 0),
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((ttl is null) = (expires_at is null)),
    primary key (tenant, namespace, key)
);
create index memory_expires on rotina.memory (expires_at) where expires_at is not null;

-- A vector for each text of a value that is found by meaning.
create table rotina.memory_embedding (
    tenant text not null,
    namespace text[] not null,
    key text not null,
    path text not null,
    model text not null,
    dimension integer not null,
    embedding halfvec not null,
    primary key (tenant, namespace, key, path),
    foreign key (tenant, namespace, key) references rotina.memory on delete cascade
);

-- Bytes under a key, as LangChain's stores keep them.
create table rotina.keyed_bytes (
    tenant text not null,
    collection text not null,
    key text not null,
    value bytea not null,
    primary key (tenant, collection, key)
);

alter table rotina.memory enable row level security;
alter table rotina.memory force row level security;
create policy tenant on rotina.memory using (tenant = (select rotina.current_tenant()));
alter table rotina.memory_embedding enable row level security;
alter table rotina.memory_embedding force row level security;
create policy tenant on rotina.memory_embedding using (tenant = (select rotina.current_tenant()));
alter table rotina.keyed_bytes enable row level security;
alter table rotina.keyed_bytes force row level security;
create policy tenant on rotina.keyed_bytes using (tenant = (select rotina.current_tenant()));
grant select, insert, update, delete
    on rotina.memory, rotina.memory_embedding, rotina.keyed_bytes to rotina_tenant;

-- Nobody sees what has expired; it goes when it is swept, by whoever works for all tenants.
create policy sweeper on rotina.memory for all to current_user
    using (expires_at <= now());
