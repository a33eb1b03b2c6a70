-- Budgets: what may be spent, what is, and what calls under way may still spend.

create table rotina.budget_account (
    budget text not null,
    -- Whose share: the tenant, workflow and run that the budget tells apart.
    scope text not null,
    period_start timestamptz not null,
    -- What the settings allowed when it was last reserved from.
    cap_usd numeric,
    cap_tokens bigint,
    settled_usd numeric not null default 0,
    settled_tokens bigint not null default 0,
    held_usd numeric not null default 0 check (held_usd >= 0),
    held_tokens bigint not null default 0 check (held_tokens >= 0),
    primary key (budget, scope, period_start),
    check (settled_usd + held_usd <= cap_usd),
    check (settled_tokens + held_tokens <= cap_tokens)
);

create table rotina.budget_hold (
    id uuid not null,
    budget text not null,
    scope text not null,
    period_start timestamptz not null,
    usd numeric not null,
    tokens bigint not null,
    expires_at timestamptz not null,
    primary key (id, budget),
    foreign key (budget, scope, period_start) references rotina.budget_account on delete cascade
);
create index budget_hold_expires
    on rotina.budget_hold (budget, scope, period_start, expires_at);

-- Whoever held it is gone, and nobody knows what the call has cost: it counts as spent.
create function rotina.expire_holds(of_budget text, of_scope text, of_start timestamptz)
returns void language sql as $$
    with gone as (
        delete from rotina.budget_hold h
        where h.budget = of_budget and h.scope = of_scope and h.period_start = of_start
          and h.expires_at < now()
        returning h.usd, h.tokens
    ), total as (
        select sum(usd) as usd, sum(tokens) as tokens from gone having count(*) > 0
    )
    update rotina.budget_account a
    set held_usd = held_usd - total.usd, settled_usd = settled_usd + total.usd,
        held_tokens = held_tokens - total.tokens, settled_tokens = settled_tokens + total.tokens
    from total
    where a.budget = of_budget and a.scope = of_scope and a.period_start = of_start
$$;

-- Hold what a call may cost at most in each of its budgets, or raise RB001 and hold nothing.
create function rotina.reserve(for_call uuid, wanted jsonb, seconds double precision)
returns void language plpgsql as $$
declare
    each record;
    account rotina.budget_account;
    starts timestamptz;
begin
    -- In one order, so that two calls never wait for each other.
    for each in select * from jsonb_to_recordset(wanted) as w (
        budget text, scope text, period text, cap_usd numeric, cap_tokens bigint, usd numeric,
        tokens bigint
    ) order by w.budget loop
        starts := case when each.period in ('day', 'month')
            then date_trunc(each.period, now(), 'UTC') else 'epoch' end;
        insert into rotina.budget_account (budget, scope, period_start)
        values (each.budget, each.scope, starts) on conflict do nothing;
        perform from rotina.budget_account a
        where a.budget = each.budget and a.scope = each.scope and a.period_start = starts
        for update;
        perform rotina.expire_holds(each.budget, each.scope, starts);
        select * into account from rotina.budget_account a
        where a.budget = each.budget and a.scope = each.scope and a.period_start = starts;
        if account.settled_usd + account.held_usd + each.usd > each.cap_usd
           or account.settled_tokens + account.held_tokens + each.tokens > each.cap_tokens then
            raise exception 'budget % has too little left', each.budget using
                errcode = 'RB001',
                detail = jsonb_build_object(
                    'budget', each.budget,
                    'settled_usd', account.settled_usd, 'held_usd', account.held_usd,
                    'settled_tokens', account.settled_tokens, 'held_tokens', account.held_tokens
                );
        end if;
        update rotina.budget_account a
        set held_usd = held_usd + each.usd, held_tokens = held_tokens + each.tokens,
            cap_usd = each.cap_usd, cap_tokens = each.cap_tokens
        where a.budget = each.budget and a.scope = each.scope and a.period_start = starts;
        insert into rotina.budget_hold (id, budget, scope, period_start, usd, tokens, expires_at)
        values (for_call, each.budget, each.scope, starts, each.usd, each.tokens,
                now() + make_interval(secs => seconds));
    end loop;
end
$$;

-- What a call has cost, never more than was held for it; null: nobody knows, all that was held.
create function rotina.settle(of_call uuid, spent_usd numeric, spent_tokens bigint) returns void
language plpgsql as $$
declare
    hold rotina.budget_hold;
begin
    for hold in select * from rotina.budget_hold h where h.id = of_call order by h.budget loop
        perform from rotina.budget_account a
        where a.budget = hold.budget and a.scope = hold.scope
          and a.period_start = hold.period_start
        for update;
        delete from rotina.budget_hold h where h.id = of_call and h.budget = hold.budget;
        -- Expired in the meantime: it counts as spent already.
        continue when not found;
        update rotina.budget_account a
        set held_usd = held_usd - hold.usd, held_tokens = held_tokens - hold.tokens,
            settled_usd = settled_usd + least(coalesce(spent_usd, hold.usd), hold.usd),
            settled_tokens = settled_tokens
                + least(coalesce(spent_tokens, hold.tokens), hold.tokens)
        where a.budget = hold.budget and a.scope = hold.scope
          and a.period_start = hold.period_start;
    end loop;
end
$$;

-- For reports: rows come in the order of time.
create index model_call_started on rotina.model_call using brin (started_at);
