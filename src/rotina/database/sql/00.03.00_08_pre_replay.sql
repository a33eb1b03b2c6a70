-- A tenant reads the record of its own runs, receipts among it.
alter table rotina.effect enable row level security;
create policy tenant on rotina.effect using (
    exists (select from rotina.run where run.id = effect.run_id)
);
grant select on rotina.effect to rotina_tenant;

-- What people and events told a run.
create index review_run on rotina.review (run_id);
create index wait_run on rotina.wait (run_id);
