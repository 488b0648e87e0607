-- The stored procedures of the end-to-end tests. Each effect is a row, each running call a lock that can be seen, and
-- a call can be held at a gate for as long as a test likes.
CREATE SCHEMA e2e;

-- One row per call that was committed: what a procedure has done to the world.
CREATE TABLE e2e.effects (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    procedure text NOT NULL,
    name text NOT NULL,
    operation text NOT NULL,
    arguments jsonb NOT NULL,
    began timestamptz NOT NULL,
    ended timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What exists by now, as the procedures see it.
CREATE TABLE e2e.databases (name text PRIMARY KEY, password text NOT NULL);

-- A call for a name that stands here waits until it does not any more.
CREATE TABLE e2e.gates (name text PRIMARY KEY);

-- Shows in pg_locks that a call for `name` is running (class 7001), and waits at its gate.
CREATE FUNCTION e2e.enter(called text) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7001, hashtext(called));
    WHILE EXISTS (SELECT FROM e2e.gates WHERE gates.name = called) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN began;
END
$$;

-- How often a call for `name` is running now.
CREATE FUNCTION e2e.running(called text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 7001 AND objid = hashtext(called)::oid AND granted
$$;

-- Called again, it returns the same credentials.
CREATE FUNCTION e2e.create_database(k8sName text, operation text DEFAULT '', note text DEFAULT '')
RETURNS TABLE (key text, value text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = e2e, pg_temp AS $$
DECLARE
    began timestamptz := e2e.enter(k8sName);
BEGIN
    INSERT INTO databases VALUES (k8sName, 'pw-' || md5(random()::text)) ON CONFLICT DO NOTHING;
    INSERT INTO effects (procedure, name, operation, arguments, began)
    VALUES ('create', k8sName, create_database.operation, jsonb_build_object('note', note), began);
    RETURN QUERY
        SELECT * FROM (VALUES ('username', 'user-' || k8sName), ('database', k8sName)) AS fixed
        UNION ALL SELECT 'password', password FROM databases WHERE name = k8sName;
END
$$;

CREATE FUNCTION e2e.delete_database(k8sName text, operation text DEFAULT '')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = e2e, pg_temp AS $$
DECLARE
    began timestamptz := e2e.enter(k8sName);
BEGIN
    DELETE FROM databases WHERE name = k8sName;
    INSERT INTO effects (procedure, name, operation, arguments, began)
    VALUES ('delete', k8sName, delete_database.operation, '{}', began);
END
$$;

-- Arguments and results of other types than text; one row with a column for each.
CREATE FUNCTION e2e.create_typed(
    k8sName text, number integer, day date, settings json, wanted boolean, note text DEFAULT '',
    OUT password text, OUT doubled integer, OUT next_day date, OUT same json, OUT refused boolean, OUT echo text,
    OUT nothing text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = e2e, pg_temp AS $$
BEGIN
    INSERT INTO effects (procedure, name, operation, arguments, began)
    VALUES (
        'create', k8sName, '',
        jsonb_build_object(
            'number', number, 'day', day, 'settings', settings::jsonb, 'wanted', wanted, 'note', note
        ),
        clock_timestamp()
    );
    password := 'pw-' || k8sName;
    doubled := 2 * number;
    next_day := day + 1;
    same := settings;
    refused := NOT wanted;
    echo := note;
END
$$;

-- The account that the operator logs in with: it may call, and nothing else.
CREATE ROLE e2e_operator LOGIN PASSWORD :'password';
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA e2e FROM PUBLIC;
GRANT USAGE ON SCHEMA e2e TO e2e_operator;
GRANT EXECUTE ON FUNCTION e2e.create_database, e2e.delete_database, e2e.create_typed TO e2e_operator;
