-- The exact cache of answers; what is lost in a crash is asked again.

create unlogged table rotina.answer_cache (
    tenant text not null,
    key bytea not null,
    answer bytea not null,
    expires_at timestamptz not null,
    primary key (tenant, key)
);
create index answer_cache_expires on rotina.answer_cache (expires_at);
