-- The writes of a run, each one statement for its worker and one transaction. Functions, because
-- what is empty then costs nothing, and their plans are kept even behind a pooler.

-- What was recorded after the last checkpoint belongs to a node that did not finish.
alter table rotina.checkpoint add column at timestamptz not null default clock_timestamp();

-- Lines of the timeline: [{"kind", "data"}, …].
create function rotina.add_lines(run uuid, lines jsonb) returns void
language sql
begin atomic
    insert into rotina.run_event (run_id, kind, data)
    select run, line.kind, line.data
    from jsonb_to_recordset(lines) as line (kind text, data jsonb);
end;

-- What a run did since its last commit, under its fence; false, with nothing written, without the
-- lease. A head takes the place of the checkpoint `previous`, whose tasks' writes it holds. Bytes
-- are base64.
create function rotina.keep_progress(
    run uuid, token bigint, heads jsonb, writes jsonb, recorded jsonb, lines jsonb
) returns boolean
language plpgsql as $$
declare
    head record;
begin
    -- A share lock keeps the sweeper from taking the run away before this transaction ends.
    perform from rotina.run r where r.id = run and r.lease_token = token and r.state = 'running'
    for share;
    if not found then
        return false;
    end if;
    for head in select * from jsonb_to_recordset(heads) as each (
        thread_id text, namespace text, id text, parent_id text, encoding text, checkpoint text,
        metadata jsonb, previous text
    ) loop
        update rotina.checkpoint c
        set id = head.id, parent_id = head.parent_id, encoding = head.encoding,
            checkpoint = decode(head.checkpoint, 'base64'), metadata = head.metadata,
            at = clock_timestamp()
        where c.thread_id = head.thread_id and c.namespace = head.namespace
          and c.id = head.previous;
        if not found then
            insert into rotina.checkpoint (
                thread_id, namespace, id, parent_id, encoding, checkpoint, metadata
            ) values (
                head.thread_id, head.namespace, head.id, head.parent_id, head.encoding,
                decode(head.checkpoint, 'base64'), head.metadata
            )
            on conflict (thread_id, namespace, id) do update
            set encoding = excluded.encoding, checkpoint = excluded.checkpoint,
                metadata = excluded.metadata;
        elsif head.previous <> head.id then
            delete from rotina.checkpoint_write w
            where w.thread_id = head.thread_id and w.namespace = head.namespace
              and w.checkpoint_id = head.previous;
        end if;
    end loop;
    if writes <> '[]' then
        insert into rotina.checkpoint_write (
            thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding,
            value
        )
        select thread_id, namespace, checkpoint_id, task_id, index, task_path, channel, encoding,
               decode(value, 'base64')
        from jsonb_to_recordset(writes) as each (
            thread_id text, namespace text, checkpoint_id text, task_id text, index integer,
            task_path text, channel text, encoding text, value text
        )
        -- The first write of a task counts, of special ones the last.
        on conflict (thread_id, namespace, checkpoint_id, task_id, index) do update
        set channel = excluded.channel, encoding = excluded.encoding, value = excluded.value
        where excluded.index < 0;
    end if;
    if recorded <> '[]' then
        insert into rotina.recorded (run_id, task, kind, digest, nth, node, request, answer)
        select run, task, kind, decode(digest, 'base64'), nth, node, decode(request, 'base64'),
               decode(answer, 'base64')
        from jsonb_to_recordset(recorded) as each (
            task text, kind text, digest text, nth integer, node text, request text, answer text
        )
        on conflict do nothing;
    end if;
    perform rotina.add_lines(run, lines);
    return true;
end
$$;
