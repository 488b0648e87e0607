-- Stored procedures that go wrong, each in one way of its own.
CREATE SCHEMA faults;
GRANT USAGE ON SCHEMA faults TO e2e_operator;

CREATE FUNCTION faults.raises(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no tablespace is left for %', k8sname USING DETAIL = 'hidden-value', HINT = 'hidden-value';
END
$$;

CREATE FUNCTION faults.three_columns(k8sname text)
RETURNS TABLE (key text, value text, comment text) LANGUAGE sql AS $$
    VALUES ('username', 'u', ''), ('password', 'hidden-value', '')
$$;

CREATE FUNCTION faults.no_rows(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE sql AS $$
    SELECT 'password', 'hidden-value' WHERE false
$$;

CREATE FUNCTION faults.duplicate_keys(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE sql AS $$
    VALUES ('username', 'u'), ('password', 'hidden-value'), ('username', 'hidden-value')
$$;

CREATE FUNCTION faults.without_password(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE sql AS $$
    VALUES ('username', 'u')
$$;

CREATE FUNCTION faults.too_slow(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(60);
    RETURN QUERY VALUES ('password', 'hidden-value');
END
$$;

CREATE FUNCTION faults.forbidden(k8sname text) RETURNS TABLE (key text, value text) LANGUAGE sql AS $$
    VALUES ('password', 'hidden-value')
$$;
REVOKE EXECUTE ON FUNCTION faults.forbidden FROM PUBLIC;

-- Secrets that a careless procedure knows besides the one that it is given.
CREATE TABLE faults.known (login text NOT NULL, secret text NOT NULL);

-- Quotes what it knows wherever an error has room for it, plainly and encoded.
CREATE FUNCTION faults.quotes_secrets(k8sname text, password text)
RETURNS TABLE (key text, value text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = faults, pg_temp AS $$
DECLARE
    quoted text := (
        SELECT string_agg(
            format(
                'plain %s, base64 %s, hexadecimal %s, literal %L, JSON %s', one, encode(convert_to(one, 'UTF8'), 'base64'),
                encode(convert_to(one, 'UTF8'), 'hex'), one, to_json(one)
            ),
            '; '
        )
        FROM (SELECT quotes_secrets.password UNION ALL SELECT secret FROM known WHERE login = session_user) AS all_of_them (one)
    );
BEGIN
    RAISE EXCEPTION 'cannot log in: %', quoted USING DETAIL = quoted, HINT = quoted;
END
$$;

-- The same where the operator cuts long messages: the end of the message is amid the secret.
CREATE FUNCTION faults.quotes_at_the_end(k8sname text, password text, before integer)
RETURNS TABLE (key text, value text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', repeat('x', before) || ' ' || password || repeat(' y', 1000);
END
$$;
