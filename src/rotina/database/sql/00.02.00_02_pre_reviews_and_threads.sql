-- Reviews: a run waits for a person. Threads: a conversation, each message of it a run.

create table rotina.review (
    id uuid primary key,
    tenant text not null,
    run_id uuid not null references rotina.run on delete cascade,
    interrupt_id text not null,
    question text not null,
    form jsonb not null,
    data jsonb not null,
    assignee text,
    state text not null default 'open' check (state in ('open', 'answered')),
    answer jsonb,
    answered_by text,
    created_at timestamptz not null default now(),
    answered_at timestamptz,
    -- The run has gone on past the answer: LangGraph's checkpoint holds it.
    delivered boolean not null default false,
    check ((state = 'answered') = (answer is not null and answered_by is not null))
);
-- The same question of the same node is asked once, however often the run is resumed.
create unique index review_asked on rotina.review (run_id, interrupt_id) where not delivered;
create index review_open on rotina.review (tenant, id) where state = 'open';
alter table rotina.review enable row level security;
create policy tenant on rotina.review using (tenant = rotina.current_tenant());
grant select, update on rotina.review to rotina_tenant;

create table rotina.thread (
    id uuid primary key,
    tenant text not null,
    workflow text not null,
    customer text,
    state jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create index thread_listed on rotina.thread (tenant, id desc);
alter table rotina.thread enable row level security;
create policy tenant on rotina.thread using (tenant = rotina.current_tenant());
grant select, insert, update on rotina.thread to rotina_tenant;

create table rotina.message (
    id bigint generated always as identity primary key,
    thread_id uuid not null references rotina.thread on delete cascade,
    run_id uuid not null references rotina.run on delete cascade,
    role text not null check (role in ('user', 'assistant')),
    text text not null,
    data jsonb not null default '{}',
    created_at timestamptz not null default now(),
    unique (run_id, role)
);
create index message_thread on rotina.message (thread_id, id);
alter table rotina.message enable row level security;
create policy tenant on rotina.message using (
    exists (select from rotina.thread where thread.id = message.thread_id)
);
grant select, insert on rotina.message to rotina_tenant;
