-- Tenants: what is done on behalf of one tenant runs as a role that sees only that tenant's rows.
-- Workers and sweepers, which serve all tenants, stay the owner.

do $$
begin
    if not exists (select from pg_roles where rolname = 'rotina_tenant') then
        create role rotina_tenant nologin nobypassrls;
    end if;
exception
    -- Another database of this server was migrated at the same moment.
    when duplicate_object or unique_violation then null;
end
$$;

do $$
begin
    if not pg_has_role(current_user, 'rotina_tenant', 'set') then
        execute format('grant rotina_tenant to %I', current_user);
    end if;
end
$$;

grant usage on schema rotina to rotina_tenant;

create function rotina.current_tenant() returns text
language sql stable parallel safe
return nullif(current_setting('rotina.tenant', true), '');

alter table rotina.file enable row level security;
create policy tenant on rotina.file using (tenant = rotina.current_tenant());
grant select, insert on rotina.file to rotina_tenant;

alter table rotina.run enable row level security;
create policy tenant on rotina.run using (tenant = rotina.current_tenant());
grant select, insert, update on rotina.run to rotina_tenant;

alter table rotina.run_event enable row level security;
create policy tenant on rotina.run_event using (
    exists (select from rotina.run where run.id = run_event.run_id)
);
grant select, insert on rotina.run_event to rotina_tenant;

alter table rotina.model_call enable row level security;
create policy tenant on rotina.model_call using (tenant = rotina.current_tenant());
grant select on rotina.model_call to rotina_tenant;
