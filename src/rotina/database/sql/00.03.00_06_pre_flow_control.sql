-- Flow control: which of the runs that are due is next. Tenants take turns; within a tenant the
-- higher priority goes first, then who is due longest; and what shares a limit waits for room.

alter table rotina.run
    add column priority smallint not null default 0,
    -- What shares the limits below, within the tenant; null: nothing limits this run.
    add column limit_key text,
    add column max_running integer check (max_running > 0),
    add column max_starts integer check (max_starts > 0),
    add column period interval check (period > interval '0'),
    -- Out of the way until its key has room: then no claim has to step over it.
    add column parked boolean not null default false,
    -- How often its worker was lost while it drove this run.
    add column crashes integer not null default 0,
    add check (limit_key is not null or max_running is null and max_starts is null),
    add check ((max_starts is null) = (period is null));

drop index rotina.run_queued;
create index run_queued on rotina.run (available_at)
    where state = 'queued' and not parked and paused_at is null;
create index run_next on rotina.run (queue, tenant, priority desc, available_at, id)
    where state = 'queued' and not parked and paused_at is null;
create index run_limited on rotina.run (tenant, limit_key, state, parked)
    where limit_key is not null and state in ('queued', 'running');
create index run_starts on rotina.run (tenant, limit_key, started_at)
    where max_starts is not null and started_at is not null;
create index run_parked on rotina.run (hinted_at) where state = 'queued' and parked;

create index run_suspect on rotina.run (worker_id) where state = 'running' and crashes > 0;

-- When a tenant was last served; written only while several wait.
create unlogged table rotina.turn (
    queue text not null,
    tenant text not null,
    served_at timestamptz not null,
    primary key (queue, tenant)
);

-- The keys of starts that debounce made part of another run.
create table rotina.debounced (
    tenant text not null,
    workflow text not null,
    idempotency_key text not null,
    run_id uuid not null references rotina.run on delete cascade,
    input_hash text not null,
    primary key (tenant, workflow, idempotency_key)
);
alter table rotina.debounced enable row level security;
create policy tenant on rotina.debounced using (tenant = rotina.current_tenant());
grant select, insert on rotina.debounced to rotina_tenant;

-- One at a time looks whether a key has room, until its transaction ends.
create function rotina.lock_limit(of_tenant text, of_key text) returns void
language sql
return pg_advisory_xact_lock(hashtextextended('limit ' || of_tenant || ' ' || of_key, 0));

-- When a run that is due may be driven: null at once, 'infinity' when one of its key ends.
-- Under the lock of its key.
create function rotina.room_at(due rotina.run) returns timestamptz
language plpgsql as $$
begin
    if due.max_running is not null and due.max_running <= (
        select count(*) from rotina.run r
        where r.tenant = due.tenant and r.limit_key = due.limit_key and r.state = 'running'
    ) then
        return 'infinity';
    end if;
    -- A run that goes on has started already.
    if due.max_starts is null or due.started_at is not null then
        return null;
    end if;
    return (
        select r.started_at + due.period from rotina.run r
        where r.tenant = due.tenant and r.limit_key = due.limit_key
          and r.max_starts is not null and r.started_at > now() - due.period
        order by r.started_at desc offset due.max_starts - 1 limit 1
    );
end
$$;

-- Let as many parked runs of a key come forward as there is room for. What has begun goes first.
-- One too many is parked again by the claim.
create function rotina.unpark(of_tenant text, of_key text) returns void
language plpgsql as $$
declare
    first rotina.run;
    room integer;
begin
    perform rotina.lock_limit(of_tenant, of_key);
    select * into first from rotina.run r
    where r.tenant = of_tenant and r.limit_key = of_key and r.state = 'queued' and r.parked
    order by r.started_at is null limit 1;
    if not found or rotina.room_at(first) is not null then
        return;
    end if;
    room := coalesce(first.max_running, first.max_starts) - (
        select count(*) from rotina.run r
        where r.tenant = of_tenant and r.limit_key = of_key
          and (r.state = 'running' and first.max_running is not null
               or r.state = 'queued' and not r.parked and r.paused_at is null)
    );
    update rotina.run set parked = false, hinted_at = null, hints = 0
    where id = any(array(
        select r.id from rotina.run r
        where r.tenant = of_tenant and r.limit_key = of_key and r.state = 'queued' and r.parked
          and r.paused_at is null
        order by r.started_at is null, r.priority desc, r.available_at, r.id
        limit greatest(room, 0)
        for update skip locked
    ));
end
$$;

-- Room that nobody noticed, as when a run that had come forward was cancelled or paused.
create function rotina.unpark_forgotten(patience double precision, at_most integer) returns void
language plpgsql as $$
declare
    keys jsonb;
    each record;
begin
    with seen as (
        update rotina.run set hinted_at = now()
        where id = any(array(
            select id from rotina.run
            where state = 'queued' and parked and hinted_at < now() - make_interval(secs => patience)
            order by hinted_at limit at_most
            for update skip locked
        ))
        returning tenant, limit_key
    )
    select jsonb_agg(distinct jsonb_build_object('tenant', tenant, 'limit_key', limit_key))
    into keys from seen;
    for each in select * from jsonb_to_recordset(keys) as k (tenant text, limit_key text)
        order by tenant, limit_key
    loop
        perform rotina.unpark(each.tenant, each.limit_key);
    end loop;
end
$$;

create function rotina.make_room() returns trigger
language plpgsql as $$
begin
    perform rotina.unpark(old.tenant, old.limit_key);
    return null;
end
$$;
create trigger make_room after update of state on rotina.run
    for each row when (old.state = 'running' and new.state <> 'running'
                       and old.limit_key is not null)
    execute function rotina.make_room();

create or replace function rotina.check_transition() returns trigger
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
    new.parked := false;
    if new.state = 'cancelled' then
        update rotina.review set state = 'withdrawn' where run_id = new.id and state = 'open';
        update rotina.wait set state = 'withdrawn', ended_at = now()
        where run_id = new.id and state = 'open';
    end if;
    return new;
end
$$;

-- The tenants with a run for that queue, whose turn it is first. Each is found by one step into the
-- index, however much it has queued.
create function rotina.turns(from_queue text) returns setof text
language sql stable as $$
    with recursive waiting (tenant) as (
        (
            select r.tenant from rotina.run r
            where r.queue = from_queue
              and r.state = 'queued' and not r.parked and r.paused_at is null
            order by r.tenant limit 1
        )
        union all
        select (
            select r.tenant from rotina.run r
            where r.queue = from_queue and r.tenant > w.tenant
              and r.state = 'queued' and not r.parked and r.paused_at is null
            order by r.tenant limit 1
        ) from waiting w where w.tenant is not null
    )
    select w.tenant from waiting w
    left join rotina.turn t on t.queue = from_queue and t.tenant = w.tenant
    where w.tenant is not null order by t.served_at nulls first, w.tenant
$$;

-- Who was served is last in the next round; of two at once, one has written that for both.
create function rotina.take_turn(of_queue text, of_tenant text) returns void
language plpgsql as $$
begin
    perform from rotina.turn t where t.queue = of_queue and t.tenant = of_tenant;
    if found then
        update rotina.turn set served_at = clock_timestamp()
        where (queue, tenant) in (
            select t.queue, t.tenant from rotina.turn t
            where t.queue = of_queue and t.tenant = of_tenant for update skip locked
        );
    else
        insert into rotina.turn (queue, tenant, served_at)
        values (of_queue, of_tenant, clock_timestamp()) on conflict do nothing;
    end if;
end
$$;

-- How many suspects a worker drives at once, by the attempts that one of them has left.
create function rotina.company(attempts_left integer) returns integer
language sql immutable
return case when attempts_left > 3 then 1000000 when attempts_left = 3 then 16
    when attempts_left = 2 then 4 else 1 end;

-- Whether a worker may take a run, as far as it is suspected of killing workers. All that a worker
-- drove when it was lost are suspects. The fewer attempts one has left, the fewer of them a worker
-- drives at once, the last time one: so a run that kills its worker is found alone, and its
-- neighbours do not end with it.
create function rotina.is_safe(due rotina.run, for_worker uuid) returns boolean
language sql stable
return due.crashes = 0 or (
    select count(*) < least(
        rotina.company(due.max_attempts - due.attempts),
        min(rotina.company(r.max_attempts - r.attempts + 1))
    )
    from rotina.run r
    where r.worker_id = for_worker and r.state = 'running' and r.crashes > 0
);

-- The next run of one tenant that is due, whose checkpoints the worker's code goes on with and
-- whose key has room; those that met a full one are out of the way afterwards.
create function rotina.next_run(
    from_queue text, of_tenant text, only_run uuid, for_worker uuid, versions jsonb
) returns rotina.run
language plpgsql as $$
declare
    due rotina.run;
    opens timestamptz;
begin
    loop
        select * into due from rotina.run r
        where r.queue = from_queue and r.tenant = of_tenant
          and r.state = 'queued' and not r.parked and r.paused_at is null
          and r.available_at <= now() and (only_run is null or r.id = only_run)
          and (r.crashes = 0 or rotina.is_safe(r, for_worker))
          and (versions is null or versions ? r.workflow and (
              r.version is null or versions -> r.workflow @> to_jsonb(r.version)
              or not exists (select from rotina.checkpoint c where c.thread_id = r.id::text)
          ))
        order by r.priority desc, r.available_at, r.id limit 1
        for update skip locked;
        if not found then
            return null;
        end if;
        if due.crashes > 0 then
            -- Of several claims of this worker at once, the next one sees what this one takes.
            perform pg_advisory_xact_lock(hashtextextended('suspects ' || for_worker, 0));
            continue when not rotina.is_safe(due, for_worker);
        end if;
        if due.limit_key is null then
            return due;
        end if;
        perform rotina.lock_limit(due.tenant, due.limit_key);
        opens := rotina.room_at(due);
        if opens is null then
            return due;
        end if;
        -- Of those that wait for a period's end one stays, for when it is over.
        if opens < 'infinity' then
            update rotina.run set available_at = opens, hinted_at = null where id = due.id;
        end if;
        update rotina.run set parked = true, hinted_at = now()
        where id = any(array(
            select r.id from rotina.run r
            where r.tenant = due.tenant and r.limit_key = due.limit_key
              and r.state = 'queued' and not r.parked
              and (opens = 'infinity' or r.started_at is null and r.id <> due.id)
            for update skip locked
        ));
    end loop;
end
$$;

-- Take the lease on the next run of a queue, or on a certain one. `versions` maps each workflow of
-- the worker's code to the versions it takes, its own first; null takes any. `ceilings` maps
-- tenants, or '*' for all others, to how many runs they may have under way. `resumes`: an earlier
-- attempt left something.
create function rotina.claim(
    from_queue text, only_run uuid, by_worker uuid, by_name text, versions jsonb, ceilings jsonb
) returns table (claimed rotina.run, resumes boolean)
language plpgsql as $$
declare
    tenants text[];
    served text;
    ceiling integer;
    due rotina.run;
    stands boolean;
begin
    if not exists (
        select from rotina.worker w where w.id = by_worker and w.expires_at > now()
    ) then
        return;
    end if;
    if only_run is null then
        tenants := array(select rotina.turns(from_queue));
    else
        select array[r.tenant], r.queue into tenants, from_queue from rotina.run r
        where r.id = only_run;
    end if;
    foreach served in array coalesce(tenants, '{}') loop
        ceiling := coalesce(ceilings -> served, ceilings -> '*')::integer;
        if ceiling is not null then
            perform pg_advisory_xact_lock(hashtextextended('tenant ' || served, 0));
            continue when ceiling <= (
                select count(*) from rotina.run r where r.state = 'running' and r.tenant = served
            );
        end if;
        due := rotina.next_run(from_queue, served, only_run, by_worker, versions);
        continue when due.id is null;
        stands := exists (select from rotina.checkpoint c where c.thread_id = due.id::text);
        resumes := stands or exists (select from rotina.recorded t where t.run_id = due.id);
        update rotina.run r
        set state = 'running', attempts = r.attempts + 1, worker_id = by_worker,
            lease_token = nextval('rotina.lease_token'),
            started_at = coalesce(r.started_at, now()),
            version = case when stands then r.version
                else (versions -> r.workflow ->> 0)::integer end
        where r.id = due.id
        returning r.* into claimed;
        insert into rotina.run_event (run_id, kind, data)
        values (due.id, 'started', jsonb_build_object(
            'attempt', due.attempts + 1, 'worker', by_name));
        if cardinality(tenants) > 1 then
            perform rotina.take_turn(from_queue, served);
        end if;
        if due.max_starts is not null then
            perform rotina.unpark(served, due.limit_key);
        end if;
        return next;
        return;
    end loop;
end
$$;
