-- Triggers: schedules, the times they fired, and messages that nobody could make a run of.

create table rotina.schedule (
    id uuid primary key,
    tenant text not null,
    name text not null,
    workflow text not null,
    input jsonb not null,
    cron text not null,
    time_zone text not null,
    catch_up text not null check (catch_up in ('latest', 'all', 'skip')),
    enabled boolean not null default true,
    -- Null: no further time is known, so it does not fire.
    next_fire_at timestamptz,
    created_at timestamptz not null default now(),
    unique (tenant, name)
);
create index schedule_due on rotina.schedule (next_fire_at) where enabled;
alter table rotina.schedule enable row level security;
create policy tenant on rotina.schedule using (tenant = rotina.current_tenant());
grant select, insert, update, delete on rotina.schedule to rotina_tenant;

create table rotina.schedule_fire (
    schedule_id uuid not null references rotina.schedule on delete cascade,
    fire_time timestamptz not null,
    run_id uuid references rotina.run on delete cascade,
    error jsonb,
    at timestamptz not null default now(),
    -- However many processes fire, and however often: one row for each time.
    unique (schedule_id, fire_time),
    check ((run_id is null) = (error is not null))
);
create index schedule_fire_run on rotina.schedule_fire (run_id) where run_id is not null;
alter table rotina.schedule_fire enable row level security;
create policy tenant on rotina.schedule_fire using (
    exists (select from rotina.schedule where schedule.id = schedule_fire.schedule_id)
);
grant select on rotina.schedule_fire to rotina_tenant;

create table rotina.rejected (
    id bigint generated always as identity primary key,
    tenant text not null,
    source text not null,
    reference text not null,
    -- Text, not jsonb: what was refused may be what jsonb refuses.
    payload text not null,
    reason text not null,
    at timestamptz not null default now(),
    -- The same message delivered twice is one row.
    unique (source, reference)
);
create index rejected_listed on rotina.rejected (tenant, id desc);
alter table rotina.rejected enable row level security;
create policy tenant on rotina.rejected using (tenant = rotina.current_tenant());
grant select on rotina.rejected to rotina_tenant;
