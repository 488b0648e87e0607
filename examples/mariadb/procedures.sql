-- Stored procedures with which Kubernetes DBaaS creates, rotates and deletes databases on this server.
--
-- Install as an administrator (run it again after a change; it keeps what exists):
--
--     (echo "SET @operator_password = '…';"; cat procedures.sql) | mariadb
--
-- Who is who:
--   dbaas_operator@%       logs in from Kubernetes, over TLS; may execute the three procedures, and nothing else.
--   dbaas_owner@localhost  the procedures run as it (SQL SECURITY DEFINER). It is locked: nobody logs in as it. It may make
--                          accounts, and do in databases with an underscore in their name what it grants to their logins.
--   dbaas.made             the databases and logins that these procedures made. Nothing else is ever rotated or deleted.
--
-- MariaDB 10.10 or later (RANDOM_BYTES).

-- Passwords stand in some of the following statements; they are not for the server's log.
SET SESSION sql_log_off = 1;
-- Procedures keep the mode in which they were made: nothing in them is silently cut.
SET NAMES utf8mb4;
SET SESSION sql_mode = 'TRADITIONAL';

CREATE DATABASE IF NOT EXISTS dbaas CHARACTER SET utf8mb4;
USE dbaas;

CREATE TABLE IF NOT EXISTS made (
    name     varchar(64) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY COMMENT 'of the database and of its login',
    complete boolean NOT NULL DEFAULT false COMMENT 'whether a password was handed out',
    since    timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB;

-- Accounts

CREATE USER IF NOT EXISTS dbaas_owner@localhost;
ALTER USER dbaas_owner@localhost ACCOUNT LOCK;
-- An underscore is a wildcard in GRANT unless escaped: this is every name that has one. mysql, sys and dbaas have none.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE,
      CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, DELETE HISTORY
   ON `%\_%`.* TO dbaas_owner@localhost WITH GRANT OPTION;
-- To make and lock logins, to see that a name is taken, and to end the connections of a login that is deleted.
GRANT CREATE USER, CONNECTION ADMIN ON *.* TO dbaas_owner@localhost;
GRANT SELECT (Host, User) ON mysql.global_priv TO dbaas_owner@localhost;
GRANT SELECT, INSERT, UPDATE, DELETE ON dbaas.made TO dbaas_owner@localhost;

CREATE USER IF NOT EXISTS dbaas_operator@`%` ACCOUNT LOCK;
ALTER USER dbaas_operator@`%` REQUIRE SSL;

DELIMITER //

-- What only the procedures use

-- What mysql_native_password stores of a password: statements with it, and logs of them, give no password away.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost FUNCTION verifier(password varchar(255)) RETURNS char(41)
DETERMINISTIC NO SQL SQL SECURITY INVOKER
RETURN CONCAT('*', UPPER(SHA1(UNHEX(SHA1(password))))) //

CREATE OR REPLACE DEFINER = dbaas_owner@localhost FUNCTION new_password() RETURNS char(64)
NOT DETERMINISTIC NO SQL SQL SECURITY INVOKER
RETURN LOWER(HEX(RANDOM_BYTES(32))) //

-- A name as an identifier in a statement.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost FUNCTION quoted(name varchar(255)) RETURNS varchar(520)
DETERMINISTIC NO SQL SQL SECURITY INVOKER
RETURN CONCAT('`', REPLACE(name, '`', '``'), '`') //

-- Until the session ends or releases it, other calls for this name wait.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost PROCEDURE hold(name varchar(255))
SQL SECURITY INVOKER
BEGIN
    IF COALESCE(GET_LOCK(CONCAT('dbaas.', SHA1(name)), 20), 0) <> 1 THEN
        SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'another call for this database still runs';
    END IF;
END //

-- What Kubernetes calls. One text names the database: give "<namespace>_<name>", which no other Database can have.
-- Each may be called again after any interruption, and then goes on where it was.

-- Creates a database and a login of the same name that may do everything in it, and nothing else. Called for one that is
-- complete, it returns the same with an empty password, which means: unchanged.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost PROCEDURE create_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE new varchar(64) DEFAULT '';
    DECLARE stored char(41);
    DECLARE identifier varchar(520) DEFAULT quoted(k8s_name);
    -- Or the login of a_b could enter axb: in GRANT the underscore is a wildcard.
    DECLARE pattern varchar(520) DEFAULT REPLACE(REPLACE(identifier, '_', '\\_'), '%', '\\%');
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
        RESIGNAL;
    END;
    -- GRANT takes 64 characters with the escapes.
    IF k8s_name IS NULL OR CHAR_LENGTH(REPLACE(k8s_name, '_', '__')) > 64
       OR k8s_name COLLATE utf8mb4_bin NOT REGEXP '\\A[a-z0-9][a-z0-9.-]*_([a-z0-9._-]*[a-z0-9])\\z' THEN
        SIGNAL SQLSTATE '45000' SET
            MESSAGE_TEXT = 'a database name is <namespace>_<name>, of a-z, 0-9, "-", "." and "_"; up to 64 characters, "_" counts twice';
    END IF;
    CALL hold(k8s_name);
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name) THEN
        IF EXISTS (SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = k8s_name)
           OR EXISTS (SELECT * FROM mysql.global_priv WHERE User = k8s_name) THEN
            SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1007,
                MESSAGE_TEXT = 'a database or account of this name exists already and was not made by dbaas.create_database';
        END IF;
        INSERT INTO made (name) VALUES (k8s_name);
    END IF;
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name AND complete) THEN
        SET new = new_password();
        SET stored = verifier(new);
        EXECUTE IMMEDIATE CONCAT('CREATE DATABASE IF NOT EXISTS ', identifier, ' CHARACTER SET utf8mb4');
        -- Nobody logs in before all is done.
        EXECUTE IMMEDIATE CONCAT('CREATE USER IF NOT EXISTS ', identifier, '@`%` REQUIRE SSL ACCOUNT LOCK');
        EXECUTE IMMEDIATE CONCAT(
            'GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES,',
            ' LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, DELETE HISTORY',
            ' ON ', pattern, '.* TO ', identifier, '@`%`');
        EXECUTE IMMEDIATE CONCAT('ALTER USER ', identifier, '@`%` IDENTIFIED VIA mysql_native_password USING ''',
                                 stored, ''' ACCOUNT UNLOCK');
        UPDATE made SET complete = true WHERE name = k8s_name;
    END IF;
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
    SELECT k8s_name AS username, new AS password, k8s_name AS `database`;
END //

-- Gives the login a new password; sessions that are open stay so.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost PROCEDURE rotate_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE new varchar(64) DEFAULT new_password();
    DECLARE stored char(41) DEFAULT verifier(new);
    DECLARE identifier varchar(520) DEFAULT quoted(k8s_name);
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
        RESIGNAL;
    END;
    CALL hold(k8s_name);
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name AND complete) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'there is no database of this name made by dbaas.create_database';
    END IF;
    EXECUTE IMMEDIATE CONCAT('ALTER USER ', identifier, '@`%` IDENTIFIED VIA mysql_native_password USING ''',
                             stored, '''');
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
    SELECT k8s_name AS username, new AS password;
END //

-- Drops database and login, whoever is connected; for what is not there, or not ours, it does nothing.
CREATE OR REPLACE DEFINER = dbaas_owner@localhost PROCEDURE delete_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE identifier varchar(520) DEFAULT quoted(k8s_name);
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
        RESIGNAL;
    END;
    CALL hold(k8s_name);
    IF EXISTS (SELECT * FROM made WHERE name = k8s_name) THEN
        -- First of all nobody logs in any more; each step can be repeated.
        EXECUTE IMMEDIATE CONCAT('ALTER USER IF EXISTS ', identifier, '@`%` ACCOUNT LOCK');
        EXECUTE IMMEDIATE CONCAT('KILL USER ', identifier, '@`%`');
        EXECUTE IMMEDIATE CONCAT('DROP DATABASE IF EXISTS ', identifier);
        EXECUTE IMMEDIATE CONCAT('DROP USER IF EXISTS ', identifier, '@`%`');
        DELETE FROM made WHERE name = k8s_name;
    END IF;
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA1(k8s_name)));
END //

DELIMITER ;

-- Rights

GRANT EXECUTE ON dbaas.* TO dbaas_owner@localhost;

DELIMITER //
BEGIN NOT ATOMIC
    DECLARE stored char(41) DEFAULT verifier(@operator_password);
    IF stored IS NOT NULL THEN
        EXECUTE IMMEDIATE CONCAT('ALTER USER dbaas_operator@`%` IDENTIFIED VIA mysql_native_password USING ''',
                                 stored, ''' ACCOUNT UNLOCK');
        SET @operator_password = NULL;
    END IF;
END //
DELIMITER ;
GRANT EXECUTE ON PROCEDURE dbaas.create_database TO dbaas_operator@`%`;
GRANT EXECUTE ON PROCEDURE dbaas.rotate_database TO dbaas_operator@`%`;
GRANT EXECUTE ON PROCEDURE dbaas.delete_database TO dbaas_operator@`%`;
