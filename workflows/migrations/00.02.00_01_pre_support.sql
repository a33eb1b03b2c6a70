-- What the support desk reads and writes; a real project has its shop's and help desk's tables.

create table shop_order (
    tenant text not null,
    number text not null check (number ~ '^[A-Z]{2}-[0-9]{4,8}$'),
    customer text not null,
    status text not null
        check (status in ('received', 'paid', 'shipped', 'delivered', 'cancelled')),
    placed_on date not null,
    expected_on date,
    tracking_code text,
    total numeric not null,
    currency text not null,
    primary key (tenant, number)
);

create table ticket (
    id bigint generated always as identity primary key,
    tenant text not null,
    -- Null for what did not come from a run of ours.
    run_id uuid,
    thread_id uuid,
    customer text,
    source text not null check (source in ('customer', 'handover', 'triage')),
    topic text,
    message text not null,
    language text not null check (language in ('en', 'pt')),
    priority text,
    status text not null default 'open' check (status in ('open', 'closed')),
    created_at timestamptz not null default now()
);
create index ticket_listed on ticket (tenant, created_at);

create table appointment (
    id bigint generated always as identity primary key,
    tenant text not null,
    run_id uuid,
    thread_id uuid,
    customer text,
    day date not null,
    period text not null check (period in ('morning', 'afternoon')),
    -- A period has three places; the key makes a fourth booking impossible.
    place int not null check (place between 1 and 3),
    created_at timestamptz not null default now(),
    unique (tenant, day, period, place)
);
