-- Where invoice_intake puts what it read; a real project has its ERP's table here.

create table invoice_register (
    run_id uuid primary key,
    document text not null,
    supplier text,
    number text,
    issued_on date,
    currency text,
    total numeric,
    status text not null check (status in ('proven', 'to_check')),
    recorded_at timestamptz not null default now()
);
