-- name: book
-- What has been spent, the rows of calls that have ended, and the holds that are wanted.
select refused, told from rotina.book(
    %(spent)s::jsonb, %(calls)s::jsonb, %(wanted)s::jsonb, %(durable)s
);

-- name: purge_content
-- What was said longer ago than the settings keep it.
delete from rotina.model_call_content where id in (
    select id from rotina.model_call_content
    where created_at < now() - make_interval(days => %(days)s) limit %(limit)s
);

-- name: list_budgets
-- The accounts that calls have been paid from, the latest period first.
select budget, scope, nullif(period_start, 'epoch') as period_start, cap_usd, settled_usd,
       held_usd, cap_tokens, settled_tokens, held_tokens, cap_gpu_seconds, settled_gpu_seconds,
       held_gpu_seconds
from rotina.budget_account order by budget, scope, period_start desc limit %(limit)s;

-- name: costs
-- Calls, tokens and money by the columns asked for; what has no price is counted apart.
select jsonb_build_object(
        'tenant', call.tenant, 'workflow', run.workflow, 'node', call.node, 'route', call.route,
        'deployment', call.deployment, 'model', call.model, 'kind', call.kind,
        'outcome', call.outcome, 'api_key', call.api_key, 'prompt', call.prompt,
        'day', to_char(call.started_at at time zone 'UTC', 'YYYY-MM-DD')
    ) - %(without)s::text[] as named,
    count(*) as calls, sum(call.attempts) as attempts,
    sum(call.prompt_tokens) as prompt_tokens, sum(call.completion_tokens) as completion_tokens,
    sum(call.reasoning_tokens) as reasoning_tokens, sum(call.gpu_seconds) as gpu_seconds,
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

-- name: find_similar
-- The answer to the nearest question of this tenant that is near enough.
select answer from rotina.similar_answer
where tenant = %(tenant)s and context = %(context)s and expires_at > now()
  and 1 - (embedding <=> %(embedding)s::vector) >= %(similarity)s
order by embedding <=> %(embedding)s::vector limit 1;

-- name: keep_similar
-- The last one counts.
insert into rotina.similar_answer (tenant, context, question, embedding, answer, expires_at)
values (
    %(tenant)s, %(context)s, %(question)s, %(embedding)s::vector, %(answer)s,
    now() + make_interval(secs => %(seconds)s)
)
on conflict (tenant, context, question) do update
set embedding = excluded.embedding, answer = excluded.answer, expires_at = excluded.expires_at;

-- name: purge_cached
-- What nobody is given any more.
with gone as (
    delete from rotina.answer_cache where expires_at <= now() returning 1
), alike as (
    delete from rotina.similar_answer where expires_at <= now() returning 1
)
select (select count(*) from gone) + (select count(*) from alike) as deleted;

-- name: find_vectors
-- Those of some texts by one model that are still good, the last that was kept first.
select text, named, vector from rotina.embedding_cache
where tenant = %(tenant)s and model = %(model)s and text = any(%(texts)s::bytea[])
    and expires_at > now()
order by expires_at desc;

-- name: keep_vectors
-- The last ones count; in order, so that two writers never wait for each other in a circle.
insert into rotina.embedding_cache (tenant, text, model, named, vector, expires_at)
select %(tenant)s, text, %(model)s, %(named)s, vector, now() + make_interval(secs => %(seconds)s)
from unnest(%(texts)b::bytea[], %(vectors)b::bytea[]) as v (text, vector) order by text
on conflict (tenant, text, model) do update
set named = excluded.named, vector = excluded.vector, expires_at = excluded.expires_at;

-- name: purge_vectors
-- What nobody is given any more, of all tenants: the owner's policy shows it nothing else.
delete from rotina.embedding_cache where ctid = any(array(
    select ctid from rotina.embedding_cache where expires_at <= now() limit %(limit)s
    for update skip locked
));

-- name: mirrors
-- Mirrored calls beside the calls that they repeat, by route and pair of deployments.
select own.route, own.deployment, mirror.deployment as mirror, count(*) as calls,
    count(*) filter (where mirror.outcome = 'ok') as answered,
    avg(mirror.agreement) as agreement,
    avg(own.latency_ms) as latency_ms, avg(mirror.latency_ms) as mirror_latency_ms,
    sum(own.cost_usd) as cost_usd, sum(mirror.cost_usd) as mirror_cost_usd
from rotina.model_call mirror join rotina.model_call own on own.id = mirror.mirror_of
where mirror.started_at >= now() - %(since)s::interval
group by own.route, own.deployment, mirror.deployment order by own.route, calls desc;
