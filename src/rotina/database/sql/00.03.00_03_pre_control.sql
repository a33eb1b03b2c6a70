-- The states of a run and what moves it: the one place where a transition is allowed or refused.

alter table rotina.run
    add column cancel_requested_at timestamptz,
    add column paused_at timestamptz;
create index run_stopping on rotina.run (worker_id)
    where state = 'running' and (cancel_requested_at is not null or paused_at is not null);

create function rotina.check_transition() returns trigger
language plpgsql as $$
begin
    -- Asked for while a worker drove it: the run ends where it would have gone on.
    if new.cancel_requested_at is not null and new.state in ('queued', 'waiting') then
        new.state := 'cancelled';
        new.finished_at := now();
    end if;
    if (old.state, new.state) not in (
        ('queued', 'running'), ('queued', 'cancelled'),
        ('running', 'queued'), ('running', 'waiting'), ('running', 'succeeded'),
        ('running', 'failed'), ('running', 'cancelled'),
        ('waiting', 'queued'), ('waiting', 'cancelled'),
        ('failed', 'queued'), ('cancelled', 'queued')
    ) then
        raise exception 'run % cannot go from % to %', old.id, old.state, new.state
            using errcode = 'check_violation';
    end if;
    if new.state = 'cancelled' then
        update rotina.review set state = 'withdrawn' where run_id = new.id and state = 'open';
        update rotina.wait set state = 'withdrawn', ended_at = now()
        where run_id = new.id and state = 'open';
    end if;
    return new;
end
$$;
create trigger check_transition before update of state on rotina.run
    for each row when (old.state is distinct from new.state)
    execute function rotina.check_transition();

-- The last line of a run that was cancelled while it was driven, after all that its worker says.
create function rotina.note_cancelled() returns trigger
language plpgsql as $$
begin
    insert into rotina.run_event (run_id, kind) values (new.id, 'cancelled');
    return null;
end
$$;
create trigger note_cancelled after update of state on rotina.run
    for each row when (old.state = 'running' and new.state = 'cancelled')
    execute function rotina.note_cancelled();

-- Reviews with a deadline.
alter table rotina.review
    drop constraint review_state_check,
    add constraint review_state_check check (state in ('open', 'answered', 'withdrawn')),
    add column due_at timestamptz,
    -- The answer that counts when nobody has answered by then; null: the node is told so.
    add column otherwise jsonb;
create index review_due on rotina.review (due_at) where state = 'open' and due_at is not null;

-- What a run waits for besides people: a moment, or an event from outside.
create table rotina.wait (
    id uuid primary key,
    tenant text not null,
    run_id uuid not null references rotina.run on delete cascade,
    interrupt_id text not null,
    kind text not null check (kind in ('timer', 'event')),
    name text,
    key text,
    due_at timestamptz,
    state text not null default 'open' check (state in ('open', 'ended', 'withdrawn')),
    -- An event's payload; null when the time ran out.
    answer jsonb,
    delivered boolean not null default false,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    check ((kind = 'event') = (name is not null and key is not null)),
    check (kind = 'event' or due_at is not null)
);
create unique index wait_asked on rotina.wait (run_id, interrupt_id) where not delivered;
create index wait_due on rotina.wait (due_at) where state = 'open' and due_at is not null;
create index wait_event on rotina.wait (tenant, name, key) where state = 'open' and kind = 'event';
alter table rotina.wait enable row level security;
create policy tenant on rotina.wait using (tenant = rotina.current_tenant());
grant select, update on rotina.wait to rotina_tenant;

-- Events that nobody waited for when they came: the first run that does takes the oldest.
create table rotina.signal (
    id bigint generated always as identity primary key,
    tenant text not null,
    name text not null,
    key text not null,
    payload jsonb not null,
    created_at timestamptz not null default now(),
    taken_by uuid references rotina.run on delete set null,
    taken_at timestamptz
);
create index signal_untaken on rotina.signal (tenant, name, key, id) where taken_at is null;
alter table rotina.signal enable row level security;
create policy tenant on rotina.signal using (tenant = rotina.current_tenant());
grant select, insert on rotina.signal to rotina_tenant;

-- A retry asks anew what the node that failed was told: the answer may be why it failed. Runs as
-- the owner, hence looks at the tenant itself.
create function rotina.forget_unfinished(retried uuid) returns void
language sql security definer set search_path = public, pg_temp
begin atomic
    delete from rotina.recorded r
    where r.run_id = retried
      and exists (
          select from rotina.run where id = retried and tenant = rotina.current_tenant()
      )
      and r.at > coalesce(
          (select max(c.at) from rotina.checkpoint c where c.thread_id = retried::text),
          '-infinity'
      );
end;

-- Effects whose receiver is outside this PostgreSQL: what was intended, before it is done.
alter table rotina.effect
    alter column receipt drop not null,
    add column state text not null default 'done' check (state in ('intent', 'clear', 'done')),
    -- How often a person decided what became of it.
    add column holds integer not null default 0,
    add check ((state = 'done') = (receipt is not null));
