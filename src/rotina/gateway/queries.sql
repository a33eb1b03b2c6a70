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
