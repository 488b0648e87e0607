-- Stored procedures with which Kubernetes DBaaS creates, rotates and deletes databases on this server.
--
-- Install, as a superuser, into a database that holds nothing else (run it again after a change; it keeps what exists):
--
--     createdb dbaas
--     psql -d dbaas -v ON_ERROR_STOP=1 -v operator_password='…' -f procedures.sql
--
-- Further variables (-v): loopback_host (127.0.0.1), loopback_port (this server's port): where the server reaches itself.
-- pg_hba.conf must let dbaas_operator in from the Kubernetes nodes, and dbaas_provisioner from the loopback host, both
-- with scram-sha-256 (hostssl).
--
-- Who is who:
--   dbaas_operator     logs in from Kubernetes; may connect here and execute the three functions, and nothing else.
--   dbaas_owner        owns the functions, cannot log in. SECURITY DEFINER makes the functions run as it.
--   dbaas_provisioner  may create roles and databases; the functions reach it through dblink, because PostgreSQL cannot
--                      create a database inside a function. Its password is made here, is known to nobody, and stands in
--                      a user mapping that only dbaas_owner (and superusers) can read; no source code shows it.
--   dbaas_logins       a group without any right: being its member is what marks a login, and the database of the same
--                      name that it owns, as made by these functions. Nothing else is ever rotated or deleted.
--
-- PostgreSQL 13 or later.

\set ON_ERROR_STOP on
\if :{?loopback_host}
\else
  \set loopback_host 127.0.0.1
\endif
\if :{?loopback_port}
\else
  SELECT current_setting('port') AS loopback_port \gset
\endif

-- Passwords stand in some of the following statements; they are not for the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET client_min_messages = 'warning';

BEGIN;

-- Accounts

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['dbaas_operator', 'dbaas_owner', 'dbaas_provisioner', 'dbaas_logins']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE dbaas_operator    NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS LOGIN;
ALTER ROLE dbaas_owner       NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS NOLOGIN;
ALTER ROLE dbaas_provisioner NOSUPERUSER CREATEDB CREATEROLE INHERIT NOREPLICATION NOBYPASSRLS LOGIN;
ALTER ROLE dbaas_logins      NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS NOLOGIN;
GRANT dbaas_logins TO dbaas_provisioner WITH ADMIN OPTION;
-- From PostgreSQL 16 on, CREATEROLE is not enough to alter a role: logins that were made before an upgrade need this, too.
SELECT format('GRANT %I TO dbaas_provisioner WITH ADMIN OPTION', login.rolname)
  FROM pg_auth_members m JOIN pg_roles login ON login.oid = m.member
 WHERE m.roleid = 'dbaas_logins'::regrole AND login.rolname <> 'dbaas_provisioner'
   AND NOT EXISTS (SELECT FROM pg_auth_members a
                    WHERE a.roleid = login.oid AND a.member = 'dbaas_provisioner'::regrole AND a.admin_option) \gexec

\if :{?operator_password}
ALTER ROLE dbaas_operator PASSWORD :'operator_password';
\endif

-- What the provisioner runs holds users' passwords: none of it is logged, not even when it fails.
ALTER ROLE dbaas_provisioner SET log_statement = 'none';
ALTER ROLE dbaas_provisioner SET log_min_duration_statement = -1;
ALTER ROLE dbaas_provisioner SET log_min_error_statement = 'panic';

-- gen_random_uuid() is the one source of strong random numbers that needs no extension: 244 bits in two.
SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '') AS provisioner_password \gset
ALTER ROLE dbaas_provisioner PASSWORD :'provisioner_password';

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO dbaas_operator, dbaas_provisioner', current_database()) \gexec

-- What only the functions may use

CREATE SCHEMA IF NOT EXISTS dbaas_internal AUTHORIZATION dbaas_owner;
CREATE EXTENSION IF NOT EXISTS dblink SCHEMA dbaas_internal;

SELECT 'CREATE SERVER dbaas_loopback FOREIGN DATA WRAPPER dblink_fdw'
 WHERE NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'dbaas_loopback') \gexec
SELECT 'CREATE USER MAPPING FOR dbaas_owner SERVER dbaas_loopback'
 WHERE NOT EXISTS (SELECT FROM pg_user_mappings WHERE srvname = 'dbaas_loopback' AND usename = 'dbaas_owner') \gexec
-- Options cannot be "set or added" in one statement.
SELECT format('ALTER SERVER dbaas_loopback OPTIONS (%s)', string_agg(format('DROP %I', split_part(option, '=', 1)), ', '))
  FROM pg_foreign_server, unnest(srvoptions) AS option WHERE srvname = 'dbaas_loopback' HAVING count(*) > 0 \gexec
SELECT format('ALTER USER MAPPING FOR dbaas_owner SERVER dbaas_loopback OPTIONS (%s)',
              string_agg(format('DROP %I', split_part(option, '=', 1)), ', '))
  FROM pg_user_mappings, unnest(umoptions) AS option
 WHERE srvname = 'dbaas_loopback' AND usename = 'dbaas_owner' HAVING count(*) > 0 \gexec
SELECT current_database() AS here \gset
ALTER SERVER dbaas_loopback OPTIONS (host :'loopback_host', port :'loopback_port', dbname :'here', connect_timeout '5');
ALTER USER MAPPING FOR dbaas_owner SERVER dbaas_loopback
    OPTIONS (user 'dbaas_provisioner', password :'provisioner_password');
GRANT USAGE ON FOREIGN SERVER dbaas_loopback TO dbaas_owner;

-- Runs commands one after the other as dbaas_provisioner, each committed by itself.
CREATE OR REPLACE FUNCTION dbaas_internal.execute(VARIADIC commands text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    command text;
BEGIN
    PERFORM dbaas_internal.dblink_connect('provisioner', 'dbaas_loopback');
    BEGIN
        FOREACH command IN ARRAY commands LOOP
            IF dbaas_internal.dblink_send_query('provisioner', command) <> 1 THEN
                RAISE EXCEPTION 'dbaas_provisioner cannot be asked for anything' USING ERRCODE = 'connection_failure';
            END IF;
            -- An answer for each of its statements, and then none; an error is raised here, too.
            LOOP
                -- In older minor releases (16.4 is one) dblink_exec() is deaf while it waits, and DROP DATABASE waits
                -- until every session has listened: this one, too.
                WHILE dbaas_internal.dblink_is_busy('provisioner') = 1 LOOP
                    PERFORM pg_sleep(0.002);
                END LOOP;
                PERFORM FROM dbaas_internal.dblink_get_result('provisioner') AS answer (status text);
                EXIT WHEN NOT FOUND;
            END LOOP;
        END LOOP;
    EXCEPTION WHEN OTHERS OR QUERY_CANCELED THEN
        PERFORM dbaas_internal.dblink_disconnect('provisioner');
        RAISE;
    END;
    PERFORM dbaas_internal.dblink_disconnect('provisioner');
END
$$;

CREATE OR REPLACE FUNCTION dbaas_internal.is_ours(name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles login ON login.oid = m.member JOIN pg_roles grp ON grp.oid = m.roleid
         WHERE grp.rolname = 'dbaas_logins' AND login.rolname = name AND name <> 'dbaas_provisioner')
$$;

CREATE OR REPLACE FUNCTION dbaas_internal.new_password() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')
$$;

-- What Kubernetes calls. One text names the database: give "<namespace>_<name>", which no other Database can have.
-- Each may be called again after any interruption, and then goes on where it was.

CREATE SCHEMA IF NOT EXISTS dbaas AUTHORIZATION dbaas_owner;

-- Creates a database and a login of the same name that owns it, and nothing else. Called for one that is complete, it
-- returns the same with an empty password, which means: unchanged.
CREATE OR REPLACE FUNCTION dbaas.create_database(k8s_name text) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    password text := '';
    commands text[] := '{}';
BEGIN
    IF k8s_name IS NULL OR k8s_name !~ '^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$' OR octet_length(k8s_name) > 63 THEN
        RAISE EXCEPTION 'a database name has up to 63 of a-z, 0-9, "_", "-" and "."' USING ERRCODE = 'invalid_name';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('dbaas ' || k8s_name, 0));
    IF NOT dbaas_internal.is_ours(k8s_name) THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = k8s_name)
           OR EXISTS (SELECT FROM pg_database WHERE datname = k8s_name) THEN
            RAISE EXCEPTION 'a role or database % exists already and was not made by dbaas.create_database', k8s_name
                USING ERRCODE = 'duplicate_database';
        END IF;
        -- One command, one transaction: a role that exists is marked as ours. It cannot log in before all is done.
        commands := commands || format(
            'CREATE ROLE %1$I NOLOGIN IN ROLE dbaas_logins; GRANT %1$I TO dbaas_provisioner%2$s', k8s_name,
            -- PostgreSQL 16 and later give this to who makes a role; it is to be there after an upgrade.
            CASE WHEN current_setting('server_version_num')::integer < 160000 THEN ' WITH ADMIN OPTION' END);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_database WHERE datname = k8s_name) THEN
        -- Nobody connects before CONNECT is taken from PUBLIC.
        commands := commands || format('CREATE DATABASE %1$I OWNER %1$I ALLOW_CONNECTIONS false', k8s_name);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = k8s_name AND rolcanlogin) THEN
        password := dbaas_internal.new_password();
        commands := commands || format(
            'REVOKE ALL ON DATABASE %1$I FROM PUBLIC; ALTER DATABASE %1$I ALLOW_CONNECTIONS true;'
            ' ALTER ROLE %1$I LOGIN PASSWORD %2$L', k8s_name, password);
        PERFORM dbaas_internal.execute(VARIADIC commands);
    END IF;
    RETURN QUERY VALUES ('username', k8s_name), ('password', password), ('database', k8s_name);
END
$$;

-- Gives the login a new password; sessions that are open stay so.
CREATE OR REPLACE FUNCTION dbaas.rotate_database(k8s_name text) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    password text := dbaas_internal.new_password();
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('dbaas ' || k8s_name, 0));
    IF NOT dbaas_internal.is_ours(k8s_name) THEN
        RAISE EXCEPTION 'there is no database % made by dbaas.create_database', k8s_name
            USING ERRCODE = 'undefined_object';
    END IF;
    PERFORM dbaas_internal.execute(format('ALTER ROLE %I PASSWORD %L', k8s_name, password));
    RETURN QUERY VALUES ('username', k8s_name), ('password', password);
END
$$;

-- Drops database and login, whoever is connected; for what is not there, or not ours, it does nothing.
CREATE OR REPLACE FUNCTION dbaas.delete_database(k8s_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- First of all nobody logs in any more; each step can be repeated.
    commands text[] := ARRAY[format('ALTER ROLE %I NOLOGIN', k8s_name)];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('dbaas ' || k8s_name, 0));
    IF NOT dbaas_internal.is_ours(k8s_name) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
                WHERE d.datname = k8s_name AND r.rolname = k8s_name) THEN
        -- Its owner may have made it a template, which cannot be dropped.
        commands := commands || format('ALTER DATABASE %I IS_TEMPLATE false', k8s_name)
                             || format('DROP DATABASE %I WITH (FORCE)', k8s_name);
    END IF;
    commands := commands || format('DROP ROLE %I', k8s_name);
    PERFORM dbaas_internal.execute(VARIADIC commands);
END
$$;

-- Rights: PostgreSQL lets everybody execute a new function; here only the operator may, and only these three.

SELECT format('ALTER FUNCTION %s OWNER TO dbaas_owner', p.oid::regprocedure)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname IN ('dbaas', 'dbaas_internal')
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e') \gexec
REVOKE ALL ON SCHEMA dbaas, dbaas_internal FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dbaas, dbaas_internal FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dbaas_internal TO dbaas_owner;
GRANT USAGE ON SCHEMA dbaas TO dbaas_operator;
GRANT EXECUTE ON FUNCTION dbaas.create_database(text), dbaas.rotate_database(text), dbaas.delete_database(text)
    TO dbaas_operator;

COMMIT;
