-- name: insert_schedule
-- A name is taken once in a tenant; the caller compares when it was taken already.
insert into rotina.schedule (
    id, tenant, name, workflow, input, cron, time_zone, catch_up, next_fire_at
) values (
    %(id)s, %(tenant)s, %(name)s, %(workflow)s, %(input)s, %(cron)s, %(time_zone)s, %(catch_up)s,
    %(next_fire_at)s
)
on conflict (tenant, name) do nothing
returning *;

-- name: get_schedule
-- One schedule by its name.
select * from rotina.schedule where tenant = %(tenant)s and name = %(name)s;

-- name: list_schedules
-- By name, as a person looks for one.
select * from rotina.schedule where tenant = %(tenant)s order by name;

-- name: remove_schedule
-- With its fires; the runs it started stay.
delete from rotina.schedule where tenant = %(tenant)s and name = %(name)s returning id;

-- name: pause_schedule
-- What it would have fired meanwhile is not made up for.
update rotina.schedule set enabled = false
where tenant = %(tenant)s and name = %(name)s returning *;

-- name: resume_schedule
-- Goes on with the next time from now; one that is not paused stays as it is.
update rotina.schedule
set enabled = true,
    next_fire_at = case when enabled and next_fire_at is not null then next_fire_at
                        else %(next_fire_at)s end
where tenant = %(tenant)s and name = %(name)s returning *;

-- name: list_fires
-- What a schedule did, latest first.
select schedule.name as schedule, fire_time, run_id, error, at
from rotina.schedule_fire join rotina.schedule on schedule.id = schedule_fire.schedule_id
where schedule.tenant = %(tenant)s and (%(name)s::text is null or schedule.name = %(name)s)
order by fire_time desc, schedule.name limit %(limit)s;

-- name: claim_schedule
-- One that is due and that no other process is firing. The lock ends with the transaction, and a
-- host that is lost in the middle of it must not keep it until TCP gives up.
select schedule.*, clock_timestamp() as claimed_at,
       set_config('idle_in_transaction_session_timeout', '30s', true)
from rotina.schedule
where enabled and next_fire_at <= clock_timestamp()
order by next_fire_at limit 1
for update skip locked;

-- name: insert_fire
-- The second one to fire a time changes nothing.
insert into rotina.schedule_fire (schedule_id, fire_time, run_id, error)
values (%(schedule_id)s, %(fire_time)s, %(run_id)s, %(error)s)
on conflict (schedule_id, fire_time) do nothing;

-- name: advance_schedule
-- In the transaction of the fires themselves.
update rotina.schedule set next_fire_at = %(next_fire_at)s where id = %(id)s;

-- name: insert_rejected
-- A message that is delivered again is refused again, in one row.
insert into rotina.rejected (tenant, source, reference, payload, reason)
values (%(tenant)s, %(source)s, %(reference)s, %(payload)s, %(reason)s)
on conflict (source, reference) do nothing;

-- name: list_rejected
-- Latest first; `before` pages on from the last id seen.
select * from rotina.rejected
where tenant = %(tenant)s and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(limit)s;
