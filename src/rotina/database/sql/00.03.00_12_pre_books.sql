-- Calls, holds and settlements of many callers are booked by one statement; budgets by API key and
-- in GPU-seconds; what a hold is for, so that a call whose process died is in the ledger as well.

alter table rotina.model_call
    add column reasoning_tokens integer,
    add column first_token_ms integer,
    add column gpu_seconds numeric(14, 3),
    -- The API key that asked, by its name.
    add column api_key text,
    -- The prompt's name, version and hash.
    add column prompt text,
    -- The call that this one repeats elsewhere for comparison, and how alike the answers are, 0 to 1.
    add column mirror_of uuid,
    add column agreement real;

-- What was asked and answered, where the settings keep it.
create table rotina.model_call_content (
    id uuid primary key,
    tenant text not null,
    request text not null,
    answer text not null,
    redacted boolean not null,
    created_at timestamptz not null default now()
);
create index model_call_content_created on rotina.model_call_content using brin (created_at);
alter table rotina.model_call_content enable row level security;
create policy tenant on rotina.model_call_content using (tenant = rotina.current_tenant());
grant select on rotina.model_call_content to rotina_tenant;

alter table rotina.budget_account
    add column cap_gpu_seconds numeric,
    add column settled_gpu_seconds numeric not null default 0,
    add column held_gpu_seconds numeric not null default 0 check (held_gpu_seconds >= 0),
    add check (settled_gpu_seconds + held_gpu_seconds <= cap_gpu_seconds);

alter table rotina.budget_hold
    add column gpu_seconds numeric not null default 0,
    -- The ledger's row, should nobody else write it.
    add column call jsonb;

drop function rotina.reserve;
drop function rotina.settle;
drop function rotina.expire_holds;

-- Whoever held it is gone, and nobody knows what the call has cost: it counts as spent, and stands
-- in the ledger as unknown.
create function rotina.expire_holds(of_budget text, of_scope text, of_start timestamptz)
returns void language sql as $$
    with gone as (
        delete from rotina.budget_hold h
        where h.budget = of_budget and h.scope = of_scope and h.period_start = of_start
          and h.expires_at < now()
        returning h.*
    ), told as (
        insert into rotina.model_call (
            id, tenant, run_id, node, route, deployment, model, kind, outcome, cost_usd,
            latency_ms, attempts, started_at, api_key, prompt
        )
        select gone.id, c.tenant, c.run_id, c.node, c.route, c.deployment, c.model, c.kind,
            'unknown', gone.usd, 0, 1, c.started_at, c.api_key, c.prompt
        from gone, jsonb_to_record(gone.call) as c (
            tenant text, run_id uuid, node text, route text, deployment text, model text,
            kind text, started_at timestamptz, api_key text, prompt text
        ) where gone.call is not null
        on conflict (id) do nothing
    ), total as (
        select sum(usd) as usd, sum(tokens) as tokens, sum(gpu_seconds) as gpu_seconds
        from gone having count(*) > 0
    )
    update rotina.budget_account a
    set held_usd = held_usd - total.usd, settled_usd = settled_usd + total.usd,
        held_tokens = held_tokens - total.tokens, settled_tokens = settled_tokens + total.tokens,
        held_gpu_seconds = held_gpu_seconds - total.gpu_seconds,
        settled_gpu_seconds = settled_gpu_seconds + total.gpu_seconds
    from total
    where a.budget = of_budget and a.scope = of_scope and a.period_start = of_start
$$;

-- One claim on one account.
create type rotina.claim as (
    call uuid, seconds double precision, facts jsonb, budget text, scope text,
    period_start timestamptz, cap_usd numeric, cap_tokens bigint, cap_gpu_seconds numeric,
    usd numeric, tokens bigint, gpu_seconds numeric
);

create function rotina.claims_of(wanted jsonb) returns setof rotina.claim
language sql stable as $$
    select w.call, w.seconds, w.facts, c.budget, c.scope,
        case when c.period in ('day', 'month')
            then date_trunc(c.period, now(), 'UTC') else 'epoch' end,
        c.cap_usd, c.cap_tokens, c.cap_gpu_seconds, c.usd, c.tokens, c.gpu_seconds
    from jsonb_to_recordset(wanted) as w (
        call uuid, seconds double precision, facts jsonb, claims jsonb
    ), jsonb_to_recordset(w.claims) as c (
        budget text, scope text, period text, cap_usd numeric, cap_tokens bigint,
        cap_gpu_seconds numeric, usd numeric, tokens bigint, gpu_seconds numeric
    )
$$;

-- Hold every claim. The caller has locked the accounts and knows that they have enough.
create function rotina.hold(claims rotina.claim[]) returns void language sql as $$
    with asked as (select * from unnest(claims)), put as (
        insert into rotina.budget_hold (
            id, budget, scope, period_start, usd, tokens, gpu_seconds, expires_at, call
        )
        select call, budget, scope, period_start, usd, tokens, gpu_seconds,
            now() + make_interval(secs => seconds), facts
        from asked
    ), total as (
        select budget, scope, period_start, sum(usd) as usd, sum(tokens) as tokens,
            sum(gpu_seconds) as gpu_seconds, min(cap_usd) as cap_usd,
            min(cap_tokens) as cap_tokens, min(cap_gpu_seconds) as cap_gpu_seconds
        from asked group by budget, scope, period_start
    )
    update rotina.budget_account a
    set held_usd = held_usd + total.usd, held_tokens = held_tokens + total.tokens,
        held_gpu_seconds = held_gpu_seconds + total.gpu_seconds,
        cap_usd = total.cap_usd, cap_tokens = total.cap_tokens,
        cap_gpu_seconds = total.cap_gpu_seconds
    from total
    where a.budget = total.budget and a.scope = total.scope
      and a.period_start = total.period_start
$$;

-- The first account, by name, that has too little left for all these claims together.
create function rotina.shortage(claims rotina.claim[]) returns jsonb language sql as $$
    select jsonb_build_object(
        'budget', a.budget,
        'settled_usd', a.settled_usd, 'held_usd', a.held_usd,
        'settled_tokens', a.settled_tokens, 'held_tokens', a.held_tokens,
        'settled_gpu_seconds', a.settled_gpu_seconds, 'held_gpu_seconds', a.held_gpu_seconds
    )
    from (
        select budget, scope, period_start, sum(usd) as usd, sum(tokens) as tokens,
            sum(gpu_seconds) as gpu_seconds, min(cap_usd) as cap_usd,
            min(cap_tokens) as cap_tokens, min(cap_gpu_seconds) as cap_gpu_seconds
        from unnest(claims) group by budget, scope, period_start
    ) total
    join rotina.budget_account a using (budget, scope, period_start)
    where a.settled_usd + a.held_usd + total.usd > total.cap_usd
       or a.settled_tokens + a.held_tokens + total.tokens > total.cap_tokens
       or a.settled_gpu_seconds + a.held_gpu_seconds + total.gpu_seconds > total.cap_gpu_seconds
    order by a.budget, a.scope limit 1
$$;

-- For each call of `wanted` hold all its claims or none; the calls that were refused, with why. The
-- caller has locked the accounts.
create function rotina.reserve(wanted jsonb, claims rotina.claim[])
returns table (refused uuid, told jsonb) language plpgsql as $$
declare
    own rotina.claim[];
begin
    if rotina.shortage(claims) is null then
        perform rotina.hold(claims);
        return;
    end if;
    for refused in select (w ->> 'call')::uuid from jsonb_array_elements(wanted) w loop
        own := array(select c from unnest(claims) c where c.call = refused);
        told := rotina.shortage(own);
        if told is null then
            perform rotina.hold(own);
        else
            return next;
        end if;
    end loop;
end
$$;

-- What calls have cost, never more than was held for them; null: nobody knows, all that was held.
-- What has expired in the meantime counts as spent already. The caller has locked the accounts.
-- An array of ids finds its holds through the index, whatever the planner thinks of the table.
create function rotina.settle(spent jsonb, calls uuid[]) returns void language sql as $$
    with gone as (
        delete from rotina.budget_hold where id = any(calls)
        returning id, budget, scope, period_start, usd, tokens, gpu_seconds
    ), total as (
        select h.budget, h.scope, h.period_start, sum(h.usd) as usd, sum(h.tokens) as tokens,
            sum(h.gpu_seconds) as gpu_seconds,
            sum(least(coalesce(s.usd, h.usd), h.usd)) as spent_usd,
            sum(least(coalesce(s.tokens, h.tokens), h.tokens)) as spent_tokens,
            sum(least(coalesce(s.gpu_seconds, h.gpu_seconds), h.gpu_seconds)) as spent_gpu_seconds
        from gone h join jsonb_to_recordset(spent) as s (
            call uuid, usd numeric, tokens bigint, gpu_seconds numeric
        ) on s.call = h.id
        group by h.budget, h.scope, h.period_start
    )
    update rotina.budget_account a
    set held_usd = held_usd - total.usd, settled_usd = settled_usd + total.spent_usd,
        held_tokens = held_tokens - total.tokens,
        settled_tokens = settled_tokens + total.spent_tokens,
        held_gpu_seconds = held_gpu_seconds - total.gpu_seconds,
        settled_gpu_seconds = settled_gpu_seconds + total.spent_gpu_seconds
    from total
    where a.budget = total.budget and a.scope = total.scope
      and a.period_start = total.period_start
$$;

-- The rows of calls that have ended. A row that stands there already was written for a hold that
-- expired while the call went on.
create function rotina.enter_calls(calls jsonb) returns void language sql as $$
    insert into rotina.model_call (
        id, tenant, run_id, node, route, deployment, model, kind, outcome, prompt_tokens,
        completion_tokens, cached_tokens, reasoning_tokens, cost_usd, gpu_seconds, latency_ms,
        first_token_ms, attempts, started_at, api_key, prompt, mirror_of, agreement
    )
    select id, tenant, run_id, node, route, deployment, model, kind, outcome, prompt_tokens,
        completion_tokens, cached_tokens, reasoning_tokens, cost_usd, gpu_seconds, latency_ms,
        first_token_ms, attempts, started_at, api_key, prompt, mirror_of, agreement
    from jsonb_to_recordset(calls) as c (
        id uuid, tenant text, run_id uuid, node text, route text, deployment text, model text,
        kind text, outcome text, prompt_tokens integer, completion_tokens integer,
        cached_tokens integer, reasoning_tokens integer, cost_usd numeric, gpu_seconds numeric,
        latency_ms integer, first_token_ms integer, attempts integer, started_at timestamptz,
        api_key text, prompt text, mirror_of uuid, agreement real
    )
    on conflict (id) do update set
        outcome = excluded.outcome, prompt_tokens = excluded.prompt_tokens,
        completion_tokens = excluded.completion_tokens, cost_usd = excluded.cost_usd,
        latency_ms = excluded.latency_ms, attempts = excluded.attempts;
    insert into rotina.model_call_content (id, tenant, request, answer, redacted)
    select c.id, c.tenant, (c.content).request, (c.content).answer, (c.content).redacted
    from (
        select (e ->> 'id')::uuid as id, e ->> 'tenant' as tenant,
            jsonb_populate_record(null::rotina.model_call_content, e -> 'content') as content
        from jsonb_array_elements(calls) e
        where jsonb_typeof(e -> 'content') = 'object'
    ) c
    on conflict (id) do nothing;
$$;

-- Everything that the calls of one process have to book at a moment, in one transaction: what has
-- been spent, the rows of calls, and the holds that are wanted. Accounts are made, and then locked,
-- in one order, so that two processes never wait for each other in a circle. What is not `durable`
-- may be forgotten by a PostgreSQL that crashes in the next half second.
create function rotina.book(spent jsonb, calls jsonb, wanted jsonb, durable boolean)
returns table (refused uuid, told jsonb) language plpgsql as $$
declare
    claims rotina.claim[] := array(select c from rotina.claims_of(wanted) c);
    over uuid[] := array(select (s ->> 'call')::uuid from jsonb_array_elements(spent) s);
    account record;
begin
    if not durable then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    insert into rotina.budget_account (
        budget, scope, period_start, cap_usd, cap_tokens, cap_gpu_seconds
    )
    select distinct on (c.budget, c.scope, c.period_start) c.budget, c.scope, c.period_start,
        c.cap_usd, c.cap_tokens, c.cap_gpu_seconds
    from unnest(claims) c
    where not exists (
        select from rotina.budget_account a
        where a.budget = c.budget and a.scope = c.scope and a.period_start = c.period_start
    )
    order by 1, 2, 3 on conflict do nothing;
    for account in
        select a.budget, a.scope, a.period_start from rotina.budget_account a
        where (a.budget, a.scope, a.period_start) in (
            select c.budget, c.scope, c.period_start from unnest(claims) c
            union
            select h.budget, h.scope, h.period_start from rotina.budget_hold h
            where h.id = any(over)
        )
        order by 1, 2, 3 for update
    loop
        if exists (
            select from rotina.budget_hold h
            where h.budget = account.budget and h.scope = account.scope
              and h.period_start = account.period_start and h.expires_at < now()
        ) then
            perform rotina.expire_holds(account.budget, account.scope, account.period_start);
        end if;
    end loop;
    if spent <> '[]' then
        perform rotina.settle(spent, over);
    end if;
    if calls <> '[]' then
        perform rotina.enter_calls(calls);
    end if;
    if wanted <> '[]' then
        return query select * from rotina.reserve(wanted, claims);
    end if;
end
$$;
