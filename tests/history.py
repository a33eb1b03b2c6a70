"""A ledger with a past: rows of runs that ended long ago, written by PostgreSQL itself."""

import psycopg

TABLES = (
    "run", "run_event", "recorded", "effect", "checkpoint", "checkpoint_write", "model_call",
    "review", "wait", "signal",
)  # fmt: skip

HISTORY = """
insert into rotina.run (
    id, tenant, workflow, queue, state, input, input_hash, idempotency_key, max_attempts,
    attempts, result, created_at, started_at, finished_at
)
select (lpad(to_hex((extract(epoch from now() - interval '1 day') * 1000)::bigint + n), 12, '0')
        || '7' || left(md5(n::text), 3) || '8' || right(md5(n::text), 15))::uuid,
       'acme', 'old', 'io', 'succeeded', '{"number": 1}', md5(n::text),
       'old ' || n, 5, 1, '{"number": 2}', now() - interval '1 day', now() - interval '1 day',
       now() - interval '1 day'
from generate_series(1, %(runs)s) n;

insert into rotina.run_event (run_id, kind)
select id, kind from rotina.run, unnest(array['accepted', 'started', 'succeeded']) kind;
"""

DETAILS = """
insert into rotina.recorded (run_id, task, kind, digest, nth, node, request, answer, at)
select id, 't', 'chat', '\\x00', 0, 'n', '\\x00', '\\x00', now() from rotina.run;
insert into rotina.effect (run_id, name, receipt) select id, 'pay', '{}' from rotina.run;
insert into rotina.checkpoint (thread_id, namespace, id, encoding, checkpoint, metadata)
select id::text, '', '1', 'msgpack', '\\x00', '{}' from rotina.run;
insert into rotina.checkpoint_write (
    thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding, value
)
select id::text, '', '1', 't', 0, '', 'c', 'msgpack', '\\x00' from rotina.run;
insert into rotina.model_call (
    id, tenant, run_id, route, deployment, model, kind, outcome, latency_ms, attempts, started_at
)
select gen_random_uuid(), tenant, id, 'smart', 'one', 'm', 'chat', 'ok', 5, 1, now()
from rotina.run;
insert into rotina.review (
    id, tenant, run_id, interrupt_id, question, form, data, state, answer, answered_by, delivered
)
select gen_random_uuid(), tenant, id, '1', '?', '{}', '{}', 'answered', '{}', 'ana', true
from rotina.run;
insert into rotina.wait (id, tenant, run_id, interrupt_id, kind, due_at, state, delivered)
select gen_random_uuid(), tenant, id, '1', 'timer', now(), 'ended', true from rotina.run;
insert into rotina.signal (tenant, name, key, payload, taken_by, taken_at)
select tenant, 'paid', id::text, '{}', id, now() from rotina.run;
"""


def write_history(url: str, runs: int, *, details: bool = True) -> None:
    """Add `runs` that have succeeded, with their timeline and, with `details`, all the rest."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (HISTORY + (DETAILS if details else "")).split(";\n"):
            if statement.strip():
                connection.execute(statement.replace("%(runs)s", str(runs)).encode())
        connection.execute("vacuum analyze")
