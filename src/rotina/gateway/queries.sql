-- name: insert_model_call
-- One row a call, written once and never changed.
insert into rotina.model_call (
    id, tenant, run_id, node, route, deployment, model, kind, outcome, prompt_tokens,
    completion_tokens, cached_tokens, cost_usd, latency_ms, attempts, started_at
) values (
    %(id)s, %(tenant)s, %(run_id)s, %(node)s, %(route)s, %(deployment)s, %(model)s, %(kind)s,
    %(outcome)s, %(prompt_tokens)s, %(completion_tokens)s, %(cached_tokens)s, %(cost_usd)s,
    %(latency_ms)s, %(attempts)s, %(started_at)s
);

-- name: reserve
-- Hold what a call may cost at most.
select rotina.reserve(%(call)s, %(claims)s::jsonb, %(seconds)s);

-- name: settle
-- What it has cost.
select rotina.settle(%(call)s, %(usd)s, %(tokens)s);

-- name: list_budgets
-- The accounts that calls have been paid from, the latest period first.
select budget, scope, nullif(period_start, 'epoch') as period_start, cap_usd, settled_usd,
       held_usd, cap_tokens, settled_tokens, held_tokens
from rotina.budget_account order by budget, scope, period_start desc limit %(limit)s;

-- name: costs
-- Calls, tokens and money by the columns asked for; what has no price is counted apart.
select jsonb_build_object(
        'tenant', call.tenant, 'workflow', run.workflow, 'node', call.node, 'route', call.route,
        'deployment', call.deployment, 'model', call.model, 'kind', call.kind,
        'outcome', call.outcome, 'day', to_char(call.started_at at time zone 'UTC', 'YYYY-MM-DD')
    ) - %(without)s::text[] as named,
    count(*) as calls, sum(call.attempts) as attempts,
    sum(call.prompt_tokens) as prompt_tokens, sum(call.completion_tokens) as completion_tokens,
    sum(call.cost_usd) as cost_usd, count(*) filter (where call.cost_usd is null) as unpriced
from rotina.model_call call left join rotina.run on run.id = call.run_id
where call.started_at >= now() - %(since)s::interval
  and (%(tenant)s::text is null or call.tenant = %(tenant)s)
group by named order by cost_usd desc nulls last, calls desc, named;

-- name: find_cached
-- An answer of this tenant that is still good.
select answer from rotina.answer_cache
where tenant = %(tenant)s and key = %(key)s and expires_at > now();

-- name: keep_cached
-- The last one counts.
insert into rotina.answer_cache (tenant, key, answer, expires_at)
values (%(tenant)s, %(key)s, %(answer)s, now() + make_interval(secs => %(seconds)s))
on conflict (tenant, key) do update
set answer = excluded.answer, expires_at = excluded.expires_at;

-- name: purge_cached
-- What nobody is given any more.
with gone as (delete from rotina.answer_cache where expires_at <= now() returning 1)
select count(*) as deleted from gone;
