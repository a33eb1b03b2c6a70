-- name: lock_migrations
-- One migrating process at a time; the lock ends with the session.
select pg_advisory_lock(hashtext('rotina.migration'));

-- name: create_migration_table
-- The only object made outside a migration.
create schema if not exists rotina;
create table if not exists rotina.migration (
    source text not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    primary key (source, name)
);

-- name: applied_migrations
-- What this database has, oldest first.
select source, name, checksum from rotina.migration order by source desc, name;

-- name: record_migration
-- In the transaction of the migration itself.
insert into rotina.migration (source, name, checksum)
values (%(source)s, %(name)s, %(checksum)s);

-- name: enter_tenant
-- From here to the end of the transaction row-level security lets through one tenant's rows.
select set_config('role', 'rotina_tenant', true), set_config('rotina.tenant', %(tenant)s, true);

-- name: backend_pid
-- The process that serves this connection.
select pg_backend_pid() as pid;
