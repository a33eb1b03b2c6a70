-- The foundation: runs, what drives them, what they produced, and what every model call cost.

create extension if not exists vector;

create table rotina.file (
    tenant text not null,
    sha256 text not null,
    size bigint not null,
    content bytea not null,
    created_at timestamptz not null default now(),
    primary key (tenant, sha256)
);
-- Documents are compressed formats already.
alter table rotina.file alter column content set storage external;

create table rotina.worker (
    id uuid primary key,
    name text not null,
    started_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create sequence rotina.lease_token;

create table rotina.run (
    id uuid primary key,
    tenant text not null,
    workflow text not null,
    queue text not null,
    state text not null default 'queued'
        check (state in ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    input jsonb not null,
    input_hash text not null,
    idempotency_key text,
    result jsonb,
    error jsonb,
    attempts integer not null default 0,
    max_attempts integer not null,
    worker_id uuid,
    lease_token bigint,
    available_at timestamptz not null default now(),
    hinted_at timestamptz,
    hints integer not null default 0,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    unique (tenant, workflow, idempotency_key),
    check ((state = 'running') = (lease_token is not null)),
    check ((state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null))
);
create index run_queued on rotina.run (available_at) where state = 'queued';
create index run_running on rotina.run (worker_id) where state = 'running';
create index run_listed on rotina.run (tenant, id desc);

-- The timeline.
create table rotina.run_event (
    run_id uuid not null references rotina.run on delete cascade,
    id bigint generated always as identity,
    kind text not null,
    data jsonb not null default '{}',
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, id)
);

create table rotina.checkpoint (
    thread_id text not null,
    namespace text not null,
    id text not null,
    parent_id text,
    encoding text not null,
    checkpoint bytea not null,
    metadata jsonb not null,
    primary key (thread_id, namespace, id)
);

create table rotina.checkpoint_write (
    thread_id text not null,
    namespace text not null,
    checkpoint_id text not null,
    task_id text not null,
    index integer not null,
    task_path text not null,
    channel text not null,
    encoding text not null,
    value bytea not null,
    primary key (thread_id, namespace, checkpoint_id, task_id, index)
);

create table rotina.effect (
    run_id uuid not null references rotina.run on delete cascade,
    name text not null,
    receipt jsonb not null,
    done_at timestamptz not null default now(),
    primary key (run_id, name)
);

create table rotina.model_call (
    id uuid primary key,
    tenant text not null,
    run_id uuid,
    node text,
    route text not null,
    deployment text not null,
    model text not null,
    kind text not null check (kind in ('chat', 'embedding')),
    outcome text not null,
    prompt_tokens integer,
    completion_tokens integer,
    cached_tokens integer,
    cost_usd numeric(16, 9),
    latency_ms integer not null,
    attempts integer not null,
    started_at timestamptz not null
);
create index model_call_run on rotina.model_call (run_id) where run_id is not null;
