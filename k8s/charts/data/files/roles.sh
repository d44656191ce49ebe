#!/bin/sh
# Roles and databases of the platform, made once, when the server is new. Passwords are files, so none is in an argument.
# Tables, grants and policies are the migrations' business. `local/postgres.py` does the same on one machine.
set -eu
folder=${ROLE_PASSWORDS:-/secrets}
for role in owner gateway operator shipper worker node_agent auditor dagster; do
  export ROLE="studio_$role" PASSWORD_FILE="$folder/$role"
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv role ROLE
\set password `cat "$PASSWORD_FILE"`
create role :"role" with login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';
SQL
done
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
create database studio owner studio_owner;
create database dagster owner studio_dagster;
revoke all on database studio from public;
revoke all on database dagster from public;
grant connect on database studio to
  studio_owner, studio_gateway, studio_operator, studio_shipper, studio_worker, studio_node_agent, studio_auditor;
SQL
