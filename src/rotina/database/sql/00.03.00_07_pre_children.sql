-- Runs that a run starts. Those of a group are waited for together, and end with their parent when
-- that is cancelled; one without a group goes its own way.

alter table rotina.run
    add column parent_id uuid references rotina.run on delete set null,
    add column child_group text,
    add column child_index integer,
    add check ((child_group is null) = (child_index is null));
create unique index run_children on rotina.run (parent_id, child_group, child_index)
    where child_group is not null;
create index run_children_under_way on rotina.run (parent_id, child_group)
    where child_group is not null and finished_at is null;
create index run_parent on rotina.run (parent_id) where parent_id is not null;

alter table rotina.wait
    drop constraint wait_kind_check,
    drop constraint wait_check,
    drop constraint wait_check1,
    add constraint wait_kind check (kind in ('timer', 'event', 'children')),
    add constraint wait_name check (
        case kind when 'timer' then name is null and key is null and due_at is not null
            when 'event' then name is not null and key is not null
            else name is not null and key is null end
    );
create index wait_children on rotina.wait (run_id, name) where state = 'open' and kind = 'children';

-- The last child and the parent that is about to wait look after each other, never past each other.
-- Tells whether the group has ended.
create function rotina.group_ended(parent uuid, of_group text) returns boolean
language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('children ' || parent || ' ' || of_group, 0));
    return not exists (
        select from rotina.run r
        where r.parent_id = parent and r.child_group = of_group and r.finished_at is null
    );
end
$$;

create function rotina.tell_parent() returns trigger
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
        update rotina.run set state = 'queued', available_at = now(), hinted_at = null, hints = 0
        where id in (select run_id from ended) and state = 'waiting'
        returning id
    )
    insert into rotina.run_event (run_id, kind, data)
    select id, 'woken', jsonb_build_object('by', 'children', 'name', new.child_group) from woken;
    return null;
end
$$;
create trigger tell_parent after update of state on rotina.run
    for each row when (new.child_group is not null and new.finished_at is not null
                       and old.finished_at is null)
    execute function rotina.tell_parent();

create function rotina.cancel_children() returns trigger
language plpgsql as $$
begin
    with asked as (
        update rotina.run
        set cancel_requested_at = coalesce(cancel_requested_at, now()),
            state = case state when 'running' then state else 'cancelled' end,
            finished_at = case state when 'running' then null else now() end
        where parent_id = new.id and child_group is not null and finished_at is null
        returning id, state
    )
    insert into rotina.run_event (run_id, kind, data)
    select id, case state when 'running' then 'cancel_requested' else 'cancelled' end,
           jsonb_build_object('by', 'parent')
    from asked;
    return null;
end
$$;
create trigger cancel_children after update of state on rotina.run
    for each row when (new.state = 'cancelled' and old.state <> 'cancelled')
    execute function rotina.cancel_children();
