-- name: insert_key
-- A new key; its secret is not among what is stored.
insert into rotina.api_key (prefix, name, tenant, digest)
values (%(prefix)s, %(name)s, %(tenant)s, %(digest)s)
returning *;

-- name: get_key
-- The key a caller names. `unnoted`: its last use was noted more than a minute ago, or never.
select *, coalesce(last_used_at < now() - interval '1 minute', true) as unnoted
from rotina.api_key where prefix = %(prefix)s;

-- name: note_use
-- Once a minute, not once a request: a write for each would cost more than the request.
update rotina.api_key set last_used_at = now()
where prefix = %(prefix)s
  and coalesce(last_used_at < now() - interval '1 minute', true);

-- name: list_keys
-- Oldest first.
select * from rotina.api_key order by created_at, prefix;

-- name: revoke_key
-- The moment of the first revocation stays.
update rotina.api_key set revoked_at = coalesce(revoked_at, now())
where prefix = %(prefix)s returning *;

-- name: count_keys
-- Whether anybody could call at all.
select count(*) as keys from rotina.api_key where revoked_at is null;

-- name: poll_events
-- What is new on a run's timeline and whether the run is over, in one look. One row without an
-- event when nothing is new, no row when the tenant has no such run.
select run.state, event.id, event.kind, event.data, event.at
from rotina.run
left join rotina.run_event event on event.run_id = run.id and event.id > %(after)s
where run.id = %(run_id)s
order by event.id limit 1000;
