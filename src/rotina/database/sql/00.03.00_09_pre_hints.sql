-- A queue is told that there is something to do, never of which run: no row says who was told.

drop index rotina.run_parked;
alter table rotina.run drop column hints;
-- Of a parked run: when its key was last looked at for room.
alter table rotina.run rename column hinted_at to parked_at;
alter table rotina.run alter column parked_at set default now();
create index run_parked on rotina.run (parked_at) where state = 'queued' and parked;

drop index rotina.run_queued;
create index run_due on rotina.run (queue, available_at)
    where state = 'queued' and not parked and paused_at is null;

-- Let as many parked runs of a key come forward as there is room for. What has begun goes first.
-- One too many is parked again by the claim.
create or replace function rotina.unpark(of_tenant text, of_key text) returns void
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
    update rotina.run set parked = false
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
create or replace function rotina.unpark_forgotten(patience double precision, at_most integer) returns void
language plpgsql as $$
declare
    keys jsonb;
    each record;
begin
    with seen as (
        update rotina.run set parked_at = now()
        where id = any(array(
            select id from rotina.run
            where state = 'queued' and parked and parked_at < now() - make_interval(secs => patience)
            order by parked_at limit at_most
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

-- The next run of one tenant that is due, whose checkpoints the worker's code goes on with and
-- whose key has room; those that met a full one are out of the way afterwards.
create or replace function rotina.next_run(
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
            update rotina.run set available_at = opens where id = due.id;
        end if;
        update rotina.run set parked = true, parked_at = now()
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

create or replace function rotina.tell_parent() returns trigger
language plpgsql as $$
begin
    if not rotina.group_ended(new.parent_id, new.child_group) then
        return null;
    end if;
    with ended as (
        update rotina.wait set state = 'ended', ended_at = now()
        where run_id = new.parent_id and name = new.child_group and kind = 'children'
          and state = 'open'
        returning run_id
    ), woken as (
        update rotina.run set state = 'queued', available_at = now()
        where id in (select run_id from ended) and state = 'waiting'
        returning id
    )
    insert into rotina.run_event (run_id, kind, data)
    select id, 'woken', jsonb_build_object('by', 'children', 'name', new.child_group) from woken;
    return null;
end
$$;
