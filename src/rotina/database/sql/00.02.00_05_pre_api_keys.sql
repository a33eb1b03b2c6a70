-- API keys: who calls over HTTP, and for which tenant. Read before the tenant is known, hence by
-- the owner only: rotina_tenant is granted nothing here.

create table rotina.api_key (
    prefix text primary key,
    name text not null,
    tenant text not null,
    -- SHA-256 of the secret, which has 256 random bits: nothing to guess, so no slow hash.
    digest bytea not null check (octet_length(digest) = 32),
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);
