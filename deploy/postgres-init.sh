#!/bin/sh
# Runs once, on an empty volume: the role and the database that Rotina uses.
# The role is no superuser, so that row-level security applies to it; the extensions that only a
# superuser may install are therefore installed here.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat /run/secrets/database_password`
CREATE ROLE rotina LOGIN PASSWORD :'password';
-- What is done for one tenant runs as this role: see docs/reference/runs.md.
CREATE ROLE rotina_tenant NOLOGIN NOBYPASSRLS;
GRANT rotina_tenant TO rotina;
CREATE DATABASE rotina OWNER rotina;
\connect rotina
CREATE EXTENSION vector;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gin;
CREATE EXTENSION unaccent;
SQL
