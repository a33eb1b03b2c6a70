-- name: put_file
-- Content-addressed: the same bytes are stored once a tenant.
insert into rotina.file (tenant, sha256, size, content)
values (%(tenant)s, %(sha256)s, %(size)s, %(content)s)
on conflict do nothing;

-- name: get_file
-- The bytes of a file, of this tenant only.
select content from rotina.file where tenant = %(tenant)s and sha256 = %(sha256)s;

-- name: insert_run
-- Accepting a run. One whose key has others waiting for room waits behind them.
insert into rotina.run (
    id, tenant, workflow, queue, input, input_hash, idempotency_key, max_attempts, priority,
    limit_key, max_running, max_starts, period, available_at, parked
) values (
    %(id)s, %(tenant)s, %(workflow)s, %(queue)s, %(input)s, %(input_hash)s, %(idempotency_key)s,
    %(max_attempts)s, %(priority)s, %(limit_key)s, %(max_running)s, %(max_starts)s, %(period)s,
    now() + coalesce(%(debounce)s::interval, interval '0'),
    %(limit_key)s::text is not null and %(debounce)s::interval is null and exists (
        select from rotina.run waiting
        where waiting.tenant = %(tenant)s and waiting.limit_key = %(limit_key)s
          and waiting.state = 'queued' and (
              waiting.parked
              or waiting.max_starts is not null and waiting.started_at is null
                 and waiting.available_at > now()
          )
    )
)
on conflict (tenant, workflow, idempotency_key) do nothing
returning id;

-- name: lock_limit
-- Whoever accepts runs of a key, claims or ends them looks after the other.
select rotina.lock_limit(%(tenant)s, %(limit_key)s);

-- name: debounce_run
-- A start soon after another one of its key takes its place, and puts it off.
update rotina.run
set input = %(input)s, input_hash = %(input_hash)s, priority = greatest(priority, %(priority)s),
    available_at = least(now() + %(debounce)s, created_at + %(at_most)s::interval)
where id = (
    select id from rotina.run
    where tenant = %(tenant)s and workflow = %(workflow)s and limit_key = %(limit_key)s
      and state = 'queued' and started_at is null and paused_at is null and available_at > now()
    order by id desc limit 1
    for update
)
returning id;

-- name: insert_debounced
-- The key of a start that became part of another run names that run.
insert into rotina.debounced (tenant, workflow, idempotency_key, run_id, input_hash)
values (%(tenant)s, %(workflow)s, %(idempotency_key)s, %(run_id)s, %(input_hash)s)
on conflict do nothing;

-- name: insert_children
-- Runs that a run starts, accepted with the effect that says so.
with started as (
    insert into rotina.run (
        id, tenant, workflow, queue, input, input_hash, max_attempts, priority, limit_key,
        max_running, max_starts, period, parent_id, child_group, child_index, parked
    )
    select id, %(tenant)s, %(workflow)s, %(queue)s, input, input_hash, %(max_attempts)s,
           %(priority)s, limit_key, %(max_running)s, %(max_starts)s, %(period)s, %(parent_id)s,
           %(group)s, index, parked
    from jsonb_to_recordset(%(rows)s) as each (
        id uuid, input jsonb, input_hash text, index integer, limit_key text, parked boolean
    )
    returning id
)
insert into rotina.run_event (run_id, kind, data)
select id, 'accepted', jsonb_build_object('parent', %(parent_id)s::uuid) from started;

-- name: group_under_way
-- Whether a group has to be waited for.
select exists (
    select from rotina.run
    where parent_id = %(run_id)s and child_group = %(group)s and finished_at is null
) as under_way;

-- name: list_children
-- What became of a group, in the order of its inputs.
select id, child_index as index, state, result, error from rotina.run
where parent_id = %(run_id)s and child_group = %(group)s order by child_index;

-- name: retry_children
-- With a run that is retried, what failed of the groups it waits for.
with retried as (
    update rotina.run
    set state = 'queued', attempts = 0, crashes = 0, error = null, finished_at = null,
        available_at = now(),
        cancel_requested_at = null, paused_at = null
    where parent_id = %(id)s and child_group is not null and state in ('failed', 'cancelled')
    returning id
), line as (
    insert into rotina.run_event (run_id, kind, data)
    select id, 'retried', jsonb_build_object('by', 'parent') from retried
)
select rotina.forget_unfinished(id) from retried;

-- name: end_children_wait
-- The group may have ended before anybody waited for it.
update rotina.wait set state = 'ended', ended_at = now()
where id = %(id)s and rotina.group_ended(run_id, name);

-- name: count_wait
-- How often a node has waited for a group: LangGraph tells it the answers again in that order.
update rotina.effect set holds = holds + 1 where run_id = %(run_id)s and name = %(name)s;

-- name: find_by_key
-- The run that an idempotency key names already.
select id, input_hash from rotina.run
where tenant = %(tenant)s and workflow = %(workflow)s and idempotency_key = %(idempotency_key)s
union all
select run_id, input_hash from rotina.debounced
where tenant = %(tenant)s and workflow = %(workflow)s and idempotency_key = %(idempotency_key)s
limit 1;

-- name: get_run
-- One run, of this tenant only.
select * from rotina.run where tenant = %(tenant)s and id = %(id)s;

-- name: list_runs
-- Newest first, without the large columns; ids are UUIDv7, in the order of acceptance.
select id, tenant, workflow, queue, state, idempotency_key, priority, parked, error, attempts,
       max_attempts, created_at, started_at, finished_at
from rotina.run
where tenant = %(tenant)s
  and (%(workflow)s::text is null or workflow = %(workflow)s)
  and (%(state)s::text is null or state = %(state)s)
  and (%(before)s::uuid is null or id < %(before)s)
order by id desc limit %(limit)s;

-- name: find_runs
-- Runs whose id begins with what a person typed.
select * from rotina.run where tenant = %(tenant)s and id::text like %(prefix)s || '%%'
order by id desc limit 2;

-- name: list_events
-- The timeline of a run after what the reader has seen, oldest first.
select id, kind, data, at from rotina.run_event
where run_id = %(run_id)s and id > %(after)s order by id;

-- name: list_model_calls
-- What a run asked of models, oldest first.
select node, route, deployment, model, kind, outcome, prompt_tokens, completion_tokens,
       cached_tokens, cost_usd, latency_ms, attempts, started_at
from rotina.model_call where run_id = %(run_id)s and tenant = %(tenant)s order by started_at, id;

-- name: insert_event
-- One line of the timeline.
insert into rotina.run_event (run_id, kind, data) values (%(run_id)s, %(kind)s, %(data)s);

-- name: beat_worker
-- A worker process is alive: one row for the process, however many runs it drives.
insert into rotina.worker (id, name, expires_at)
values (%(id)s, %(name)s, now() + make_interval(secs => %(lease_seconds)s))
on conflict (id) do update set expires_at = excluded.expires_at;

-- name: remove_worker
-- A worker process ended in order and drives nothing any more.
delete from rotina.worker where id = %(id)s;

-- name: remove_dead_workers
-- Rows of processes that ended without a word an hour ago.
delete from rotina.worker where expires_at < now() - interval '1 hour';

-- name: list_workers
-- Worker processes that are alive.
select id, name, started_at, expires_at from rotina.worker where expires_at > now();

-- name: claim_run
-- Take the lease on a run, so that a second hint finds nothing to do.
select (taken.claimed).*, taken.resumes
from rotina.claim(
    %(queue)s, %(run_id)s, %(worker_id)s, %(worker)s, %(versions)s, %(ceilings)s
) as taken;

-- name: stranded_runs
-- Unfinished runs that code with these `versions` does not go on with.
select workflow, version, count(*) as runs from rotina.run
where state in ('queued', 'running', 'waiting') and (
    not %(versions)s::jsonb ? workflow
    or version is not null and not %(versions)s::jsonb -> workflow @> to_jsonb(version)
       and exists (select from rotina.checkpoint where thread_id = run.id::text)
)
group by workflow, version order by workflow, version;

-- name: recorded_answer
-- What an earlier attempt was told at the same place.
select answer from rotina.recorded
where run_id = %(run_id)s and task = %(task)s and kind = %(kind)s and digest = %(digest)s
  and nth = %(nth)s;

-- name: record_told
-- What a run was told, in that order.
select node, kind, digest, request, answer from rotina.recorded
where run_id = %(run_id)s order by id;

-- name: record_done
-- The effects of a run, with their receipts.
select name, receipt from rotina.effect
where run_id = %(run_id)s and state = 'done' order by name;

-- name: record_decided
-- What people answered a run.
select question, form, data, assignee, answer from rotina.review
where run_id = %(run_id)s and state = 'answered' order by id;

-- name: record_waited
-- What came for a run that waited.
select kind, name, key, answer from rotina.wait
where run_id = %(run_id)s and state = 'ended' and kind <> 'children' order by id;

-- name: record_children
-- What became of the runs that a run waited for.
select child_group as name, id, child_index as index, state, result, error from rotina.run
where parent_id = %(run_id)s and child_group is not null and finished_at is not null
order by child_group, child_index;

-- name: purge_recorded
-- What runs that have ended were told, once it is old enough.
delete from rotina.recorded where ctid = any(array(
    select old.ctid from rotina.recorded old join rotina.run on run.id = old.run_id
    where old.at < now() - make_interval(days => %(days)s) and run.finished_at is not null
    order by old.at limit %(limit)s
    for update of old skip locked
));

-- name: hold_lease
-- The fence: in the transaction of every write of a run. A share lock keeps the sweeper from
-- taking the run away before that transaction ends; a host that is lost in the middle of it
-- must not keep that lock until TCP gives up.
select set_config('idle_in_transaction_session_timeout', '10s', true) from rotina.run
where id = %(run_id)s and lease_token = %(token)s and state = 'running' for share;

-- name: keep_progress
-- What a run did since its last commit, in one statement under its fence.
select rotina.keep_progress(
    %(run_id)s, %(token)s, %(heads)s, %(writes)s, %(recorded)s, %(lines)s
) as kept;

-- name: finish_run
-- Terminal state, result and the last lines in one write; refused without the lease.
with ended as (
    update rotina.run
    set state = %(state)s, result = %(result)s, error = %(error)s, finished_at = now(),
        worker_id = null, lease_token = null
    where id = %(run_id)s and lease_token = %(token)s and state = 'running'
    returning id
), line as (
    insert into rotina.run_event (run_id, kind, data)
    select ended.id, each.kind, each.data
    from ended, jsonb_to_recordset(%(lines)s) as each (kind text, data jsonb)
), writes as (
    delete from rotina.checkpoint_write using ended
    where %(forget)s and thread_id = ended.id::text
), heads as (
    delete from rotina.checkpoint using ended where %(forget)s and thread_id = ended.id::text
)
select id from ended;

-- name: release_run
-- Hand a run back for another attempt; a drained one does not count as an attempt.
with released as (
    update rotina.run
    set state = 'queued', worker_id = null, lease_token = null,
        attempts = attempts - %(refund)s, error = %(error)s,
        available_at = now() + make_interval(secs => %(delay)s)
    where id = %(run_id)s and lease_token = %(token)s and state = 'running'
    returning id
), line as (
    insert into rotina.run_event (run_id, kind, data)
    select released.id, each.kind, each.data
    from released, jsonb_to_recordset(%(lines)s) as each (kind text, data jsonb)
)
select id from released;

-- name: suspend_run
-- Give the lease up until somebody answers; a wait is no attempt. What was answered while the run
-- was driven, and not told it, lets it go on at once.
update rotina.run
set state = case when exists (
        select from rotina.review
        where run_id = run.id and state = 'answered' and not delivered
        union all
        select from rotina.wait where run_id = run.id and state = 'ended' and not delivered
    ) then 'queued' else 'waiting' end,
    worker_id = null, lease_token = null, attempts = attempts - 1
where id = %(run_id)s and lease_token = %(token)s and state = 'running'
returning id;

-- name: insert_review
-- A question that was asked before, and answered or not, is not asked again.
insert into rotina.review (
    id, tenant, run_id, interrupt_id, question, form, data, assignee, due_at, otherwise
)
select %(id)s, run.tenant, run.id, %(interrupt_id)s, %(question)s, %(form)s, %(data)s, %(assignee)s,
       now() + make_interval(secs => %(seconds)s), %(otherwise)s
from rotina.run where run.id = %(run_id)s
on conflict (run_id, interrupt_id) where not delivered do nothing
returning id, due_at;

-- name: insert_wait
-- A moment or an event that is waited for already is not waited for anew.
insert into rotina.wait (id, tenant, run_id, interrupt_id, kind, name, key, due_at)
select %(id)s, run.tenant, run.id, %(interrupt_id)s, %(kind)s, %(name)s, %(key)s,
       coalesce(%(until)s, now() + make_interval(secs => %(seconds)s))
from rotina.run where run.id = %(run_id)s
on conflict (run_id, interrupt_id) where not delivered do nothing
returning id, due_at;

-- name: lock_event
-- Who waits for an event and who sends it look after each other, never past each other.
select pg_advisory_xact_lock(hashtextextended(%(tenant)s || ' ' || %(name)s || ' ' || %(key)s, 0));

-- name: take_signal
-- An event that came before anybody waited for it.
with taken as (
    update rotina.signal set taken_by = %(run_id)s, taken_at = now()
    where id = (
        select id from rotina.signal
        where tenant = %(tenant)s and name = %(name)s and key = %(key)s and taken_at is null
        order by id limit 1
    )
    returning payload
)
update rotina.wait set state = 'ended', answer = taken.payload, ended_at = now()
from taken where wait.id = %(id)s;

-- name: end_event_waits
-- Everybody who waits for this event now is told of it.
update rotina.wait set state = 'ended', answer = %(payload)s, ended_at = now()
where tenant = %(tenant)s and name = %(name)s and key = %(key)s and kind = 'event'
  and state = 'open'
returning run_id;

-- name: keep_signal
-- Nobody waits: the first who will is told.
insert into rotina.signal (tenant, name, key, payload)
values (%(tenant)s, %(name)s, %(key)s, %(payload)s);

-- name: wake_waiting
-- The runs that something has come for. One that is driven finds it when it suspends.
with woken as (
    update rotina.run set state = 'queued', available_at = now()
    where id = any(%(run_ids)s) and state = 'waiting'
    returning id, queue
), line as (
    insert into rotina.run_event (run_id, kind, data) select id, 'woken', %(data)s from woken
)
select id, queue from woken;

-- name: end_due_waits
-- Timers that have run out, and events that did not come in time. The run is locked first, as by
-- everybody else.
with due as materialized (
    select run.id from rotina.run
    where run.state = 'waiting' and run.id in (
        select run_id from rotina.wait where state = 'open' and due_at <= now()
    )
    for update skip locked
), ended as (
    update rotina.wait set state = 'ended', ended_at = now()
    from due where wait.run_id = due.id and wait.state = 'open' and wait.due_at <= now()
    returning wait.run_id, wait.kind
), woken as (
    update rotina.run set state = 'queued', available_at = now()
    where id in (select run_id from ended)
    returning id
)
insert into rotina.run_event (run_id, kind, data)
select run_id, 'woken', jsonb_build_object('by', case kind when 'event' then 'timeout' else kind end)
from ended;

-- name: end_due_reviews
-- Reviews whose deadline has passed: the answer that was to count then, or none.
with due as materialized (
    select run.id from rotina.run
    where run.id in (select run_id from rotina.review where state = 'open' and due_at <= now())
    for update skip locked
), ended as (
    update rotina.review
    set state = 'answered', answer = coalesce(otherwise, '{"__deadline__": true}'),
        answered_by = 'deadline', answered_at = now()
    from due where review.run_id = due.id and review.state = 'open' and review.due_at <= now()
    returning review.run_id, review.id
), line as (
    insert into rotina.run_event (run_id, kind, data)
    select run_id, 'answered', jsonb_build_object('review', id, 'by', 'deadline') from ended
)
update rotina.run set state = 'queued', available_at = now()
where state = 'waiting' and id in (select run_id from ended);

-- name: deliver_answers
-- A run that stops again has what it was told in its checkpoints.
with waits as (update rotina.wait set delivered = true where id = any(%(given)s))
update rotina.review set delivered = true where id = any(%(given)s);

-- name: answers
-- What a run that goes on was told.
select id, interrupt_id, answer from rotina.review
where run_id = %(run_id)s and state = 'answered' and not delivered
union all
select id, interrupt_id, jsonb_build_object('event', answer) from rotina.wait
where run_id = %(run_id)s and state = 'ended' and not delivered;

-- name: get_review
-- One review with its run's workflow.
select review.*, run.workflow from rotina.review join rotina.run on run.id = review.run_id
where review.id = %(id)s;

-- name: find_reviews
-- Reviews whose id begins with what a person typed.
select review.*, run.workflow from rotina.review join rotina.run on run.id = review.run_id
where review.id::text like %(prefix)s || '%%' order by review.id desc limit 2;

-- name: list_reviews
-- Open questions, oldest first.
select review.*, run.workflow from rotina.review join rotina.run on run.id = review.run_id
where review.state = 'open' and (%(assignee)s::text is null or assignee = %(assignee)s)
  and (%(run_id)s::uuid is null or review.run_id = %(run_id)s)
order by review.id limit %(limit)s;

-- name: answer_review
-- One person wins; the row lock makes the other see `answered`.
update rotina.review
set state = 'answered', answer = %(answer)s, answered_by = %(by)s, answered_at = now()
where id = %(id)s and state = 'open'
returning run_id;

-- name: wake_run
-- A waiting run goes on once nothing is left to answer.
update rotina.run
set state = 'queued', available_at = now()
where id = %(run_id)s and state = 'waiting' and not exists (
    select from rotina.review where review.run_id = run.id and review.state = 'open'
)
returning id, queue;

-- name: lock_run
-- Two reviews of one run answered at once: the second one must see the first one's answer.
select id from rotina.run where id = %(run_id)s for update;

-- name: insert_thread
-- A conversation; its messages are runs of `workflow`.
insert into rotina.thread (id, tenant, workflow, customer)
values (%(id)s, %(tenant)s, %(workflow)s, %(customer)s) returning *;

-- name: get_thread
-- One thread.
select * from rotina.thread where id = %(id)s and tenant = %(tenant)s;

-- name: lock_thread
-- A message is added: the next one gets its number after this one has committed.
select workflow from rotina.thread where id = %(id)s and tenant = %(tenant)s for update;

-- name: list_threads
-- Newest first.
select * from rotina.thread
where tenant = %(tenant)s and (%(before)s::uuid is null or id < %(before)s)
order by id desc limit %(limit)s;

-- name: list_messages
-- What was said after what the reader has seen, oldest first.
select * from rotina.message where thread_id = %(thread_id)s and id > %(after)s order by id;

-- name: insert_message
-- One line of a conversation; a run has one message of each role.
insert into rotina.message (thread_id, run_id, role, text, data)
values (%(thread_id)s, %(run_id)s, %(role)s, %(text)s, %(data)s);

-- name: update_thread_state
-- What the agent remembers, in the transaction of its reply.
update rotina.thread set state = %(state)s where id = %(id)s;

-- name: unanswered_message
-- Whether an earlier message of the thread is still being answered: messages are taken in turn.
select earlier.id from rotina.message own
join rotina.message earlier on earlier.thread_id = own.thread_id and earlier.id < own.id
join rotina.run on run.id = earlier.run_id
where own.run_id = %(run_id)s and own.role = 'user' and earlier.role = 'user'
  and run.state not in ('succeeded', 'failed', 'cancelled')
limit 1;

-- name: earlier_messages
-- The conversation before this run's own message.
select earlier.* from rotina.message own
join rotina.message earlier on earlier.thread_id = own.thread_id and earlier.id < own.id
where own.run_id = %(run_id)s and own.role = 'user' order by earlier.id;

-- name: cancel_run
-- At once where nobody drives it; a worker that does is told within a second.
update rotina.run
set cancel_requested_at = coalesce(cancel_requested_at, now()),
    state = case state when 'running' then state else 'cancelled' end,
    finished_at = case state when 'running' then null else now() end
where id = %(id)s and tenant = %(tenant)s and state in ('queued', 'running', 'waiting')
returning id, state, queue;

-- name: pause_run
-- Nobody claims it; a worker that drives it stops after the step under way.
update rotina.run set paused_at = coalesce(paused_at, now())
where id = %(id)s and tenant = %(tenant)s and state in ('queued', 'running', 'waiting')
returning id, state, queue;

-- name: resume_run
-- It may be claimed again.
update rotina.run set paused_at = null
where id = %(id)s and tenant = %(tenant)s and state in ('queued', 'running', 'waiting')
returning id, state, queue;

-- name: retry_run
-- Another set of attempts, from the last checkpoint.
update rotina.run
set state = 'queued', attempts = 0, crashes = 0, error = null, finished_at = null,
    available_at = now(),
    cancel_requested_at = null, paused_at = null
where id = %(id)s and tenant = %(tenant)s and state in ('failed', 'cancelled')
returning id, state, queue;

-- name: forget_unfinished
-- What the node that did not finish was told.
select rotina.forget_unfinished(%(id)s);

-- name: runs_to_stop
-- Which of a worker's runs are to be cancelled or paused.
select id, cancel_requested_at is not null as cancel from rotina.run
where worker_id = %(worker_id)s and state = 'running'
  and (cancel_requested_at is not null or paused_at is not null);

-- name: own_running
-- What the ledger says this worker drives.
select id, lease_token from rotina.run where worker_id = %(id)s and state = 'running';

-- name: requeue_orphans
-- Runs that this live worker claimed but does not drive: the database went away in the middle of
-- the claim or of the last write. Without this they would stay `running` for ever.
with moved as (
    update rotina.run
    set state = case when attempts >= max_attempts then 'failed' else 'queued' end,
        error = case when attempts >= max_attempts then jsonb_build_object(
            'type', 'WorkerLostError',
            'message', 'The end of the last of ' || attempts || ' attempts could not be written. '
                'See the worker''s log, then start the run again.') end,
        finished_at = case when attempts >= max_attempts then now() end,
        worker_id = null, lease_token = null, available_at = now()
    where id = any(%(ids)s) and lease_token = any(%(tokens)s) and state = 'running'
    returning id, attempts, state
)
insert into rotina.run_event (run_id, kind, data)
select id, case state when 'failed' then 'failed' else 'orphaned' end,
       jsonb_build_object('attempt', attempts) from moved;

-- name: lock_sweep
-- One sweep at a time in the whole deployment; the others have nothing to do.
select pg_try_advisory_xact_lock(hashtext('rotina.sweep')) as locked,
       set_config('idle_in_transaction_session_timeout', '10s', true);

-- name: requeue_lost_runs
-- Runs whose worker is dead go back to the queue, or end failed when they killed too many.
with lost as (
    select run.id, run.worker_id from rotina.run
    where run.state = 'running' and not exists (
        select from rotina.worker
        where worker.id = run.worker_id and worker.expires_at > now()
    )
    for update of run skip locked
), moved as (
    update rotina.run
    set state = case when attempts >= max_attempts then 'failed' else 'queued' end,
        error = case when attempts >= max_attempts then jsonb_build_object(
            'type', 'WorkerLostError',
            'message', 'The worker died in the last of ' || attempts || ' attempts; the run may be '
                'what kills it. See the worker''s log, then start the run again.') end,
        finished_at = case when attempts >= max_attempts then now() end,
        worker_id = null, lease_token = null, available_at = now(),
        crashes = crashes + 1
    from lost where run.id = lost.id
    returning run.id, run.state, run.attempts, lost.worker_id
)
insert into rotina.run_event (run_id, kind, data)
select id, case state when 'failed' then 'failed' else 'worker_lost' end,
       jsonb_build_object('attempt', attempts, 'worker', worker_id) from moved
returning run_id, kind;

-- name: unpark_forgotten
-- Room that nobody noticed.
select rotina.unpark_forgotten(%(patience)s, %(limit)s);

-- name: due_queues
-- The queues with runs that are due, and how many, up to a limit.
select queue, count(*) as due from unnest(%(queues)s::text[]) as named (queue), lateral (
    select from rotina.run
    where run.queue = named.queue
      and state = 'queued' and not parked and paused_at is null and available_at <= now()
    limit %(limit)s
) as found group by queue;

-- name: done_effect
-- The receipt of an effect this run already had.
select receipt from rotina.effect
where run_id = %(run_id)s and name = %(name)s and state = 'done';

-- name: insert_effect
-- In the transaction of the effect itself.
insert into rotina.effect (run_id, name, receipt) values (%(run_id)s, %(name)s, %(receipt)s);

-- name: get_effect
-- What is known of an effect.
select state, receipt, holds from rotina.effect where run_id = %(run_id)s and name = %(name)s;

-- name: intend_effect
-- Before the world is changed: whoever finds this row later does not know what came of it.
insert into rotina.effect (run_id, name, state) values (%(run_id)s, %(name)s, 'intent')
on conflict (run_id, name) do update set state = 'intent' where effect.state = 'clear';

-- name: settle_effect
-- What came of an effect: its receipt, or that it did not happen.
update rotina.effect
set state = %(state)s, receipt = %(receipt)s, holds = holds + %(decided)s, done_at = now()
where run_id = %(run_id)s and name = %(name)s and state <> 'done';

-- name: thread_checkpoints
-- Every checkpoint of a run that is resumed; mostly one a graph.
select * from rotina.checkpoint where thread_id = %(thread_id)s order by id;

-- name: latest_checkpoint
-- The head of a thread.
select * from rotina.checkpoint
where thread_id = %(thread_id)s and namespace = %(namespace)s order by id desc limit 1;

-- name: exact_checkpoint
-- One checkpoint by its id.
select * from rotina.checkpoint
where thread_id = %(thread_id)s and namespace = %(namespace)s and id = %(id)s;

-- name: list_checkpoints
-- Newest first, as LangGraph's `list` asks for it.
select * from rotina.checkpoint
where (%(thread_id)s::text is null or thread_id = %(thread_id)s)
  and (%(namespace)s::text is null or namespace = %(namespace)s)
  and (%(id)s::text is null or id = %(id)s)
  and (%(before)s::text is null or id < %(before)s)
  and metadata @> %(filter)s
order by id desc limit %(limit)s;

-- name: checkpoint_writes
-- What the tasks of a checkpoint wrote before the next one.
select task_id, channel, encoding, value from rotina.checkpoint_write
where thread_id = %(thread_id)s and namespace = %(namespace)s and checkpoint_id = %(id)s
order by task_path, task_id, index;

-- name: put_checkpoint
-- One row a superstep.
insert into rotina.checkpoint (
    thread_id, namespace, id, parent_id, encoding, checkpoint, metadata
) values (
    %(thread_id)s, %(namespace)s, %(id)s, %(parent_id)s, %(encoding)s, %(checkpoint)s, %(metadata)s
)
on conflict (thread_id, namespace, id) do update
set encoding = excluded.encoding, checkpoint = excluded.checkpoint, metadata = excluded.metadata;

-- name: put_write
-- A task's write; the first one counts, a repeated task changes nothing.
insert into rotina.checkpoint_write (
    thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding, value
) values (
    %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(task_id)s, %(index)s, %(task_path)s,
    %(channel)s, %(encoding)s, %(value)s
)
on conflict do nothing;

-- name: replace_write
-- A special write (error, interrupt, resume): the last one counts.
insert into rotina.checkpoint_write (
    thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding, value
) values (
    %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(task_id)s, %(index)s, %(task_path)s,
    %(channel)s, %(encoding)s, %(value)s
)
on conflict (thread_id, namespace, checkpoint_id, task_id, index) do update
set channel = excluded.channel, encoding = excluded.encoding, value = excluded.value;

-- name: delete_thread
-- All checkpoints of a thread.
with writes as (delete from rotina.checkpoint_write where thread_id = %(thread_id)s)
delete from rotina.checkpoint where thread_id = %(thread_id)s;

-- name: delete_for_runs
-- The checkpoints that some of LangGraph's own runs made, with their writes.
with gone as (
    delete from rotina.checkpoint where metadata ->> 'run_id' = any(%(run_ids)s::text[])
    returning thread_id, namespace, id
)
delete from rotina.checkpoint_write as written using gone
where written.thread_id = gone.thread_id and written.namespace = gone.namespace
  and written.checkpoint_id = gone.id;

-- name: copy_checkpoints
-- A thread's checkpoints under another name.
insert into rotina.checkpoint (
    thread_id, namespace, id, parent_id, encoding, checkpoint, metadata
)
select %(target)s, namespace, id, parent_id, encoding, checkpoint, metadata
from rotina.checkpoint where thread_id = %(source)s
on conflict do nothing;

-- name: copy_writes
-- A thread's writes under another name.
insert into rotina.checkpoint_write (
    thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding, value
)
select %(target)s, namespace, checkpoint_id, task_id, index, task_path, channel, encoding, value
from rotina.checkpoint_write where thread_id = %(source)s
on conflict do nothing;

-- name: prune_threads
-- Heads only, but for the namespaces whose head cannot be read without its history.
with head as (
    select distinct on (thread_id, namespace) thread_id, namespace, id, metadata
    from rotina.checkpoint where thread_id = any(%(thread_ids)s::text[])
    order by thread_id, namespace, id desc
), gone as (
    delete from rotina.checkpoint as stored using head
    where stored.thread_id = head.thread_id and stored.namespace = head.namespace
      and stored.id <> head.id and not head.metadata ? %(deltas)s
    returning stored.thread_id, stored.namespace, stored.id
)
delete from rotina.checkpoint_write as written using gone
where written.thread_id = gone.thread_id and written.namespace = gone.namespace
  and written.checkpoint_id = gone.id;
