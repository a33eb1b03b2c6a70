-- What models and steps answered a run. A run that is resumed does not ask again, and one that has
-- ended can be replayed from here.

create table rotina.recorded (
    run_id uuid not null references rotina.run on delete cascade,
    -- LangGraph's task, as its checkpoint namespace: the same one when the run is resumed.
    task text not null,
    kind text not null,
    -- SHA-256 of the request, and which of several equal requests of the task it was.
    digest bytea not null,
    nth integer not null,
    id bigint generated always as identity,
    -- The names of the nodes, outermost first: the same in a replay.
    node text not null,
    -- JSON: text may hold what jsonb refuses.
    request bytea not null,
    answer bytea not null,
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, task, kind, digest, nth)
);
alter table rotina.recorded enable row level security;
create policy tenant on rotina.recorded using (
    exists (select from rotina.run where run.id = recorded.run_id)
);
grant select on rotina.recorded to rotina_tenant;
