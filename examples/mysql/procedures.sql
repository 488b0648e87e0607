-- Stored procedures with which Kubernetes DBaaS creates, rotates and deletes databases on a MySQL server.
-- (MariaDB has its own: ../mariadb. Class, endpoint and database are written as there, with `driver: mysql`.)
--
-- Install as an administrator (run it again after a change; it keeps what exists):
--
--     (echo "SET @operator_password = '…';"; cat procedures.sql) | mysql
--
-- Who is who:
--   dbaas_operator@%       logs in from Kubernetes, over TLS; may execute the three procedures, and nothing else.
--   dbaas_owner@localhost  the procedures run as it (SQL SECURITY DEFINER). It is locked: nobody logs in as it. It may make
--                          accounts, and do in databases with an underscore in their name what it grants to their logins.
--   dbaas.made             the databases and logins that these procedures made. Nothing else is ever rotated or deleted.
--
-- MySQL 8.0 or later, with partial_revokes off (its default: an underscore is a wildcard in GRANT, unless escaped).

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
-- Every name that has an underscore. mysql, sys and dbaas have none.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE,
      CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER
   ON `%\_%`.* TO dbaas_owner@localhost WITH GRANT OPTION;
-- To make and lock logins, to see that a name is taken, and to find and end the connections of a login that is deleted.
GRANT CREATE USER, PROCESS, CONNECTION_ADMIN ON *.* TO dbaas_owner@localhost;
GRANT SELECT (Host, User) ON mysql.user TO dbaas_owner@localhost;
GRANT SELECT, INSERT, UPDATE, DELETE ON dbaas.made TO dbaas_owner@localhost;

CREATE USER IF NOT EXISTS dbaas_operator@`%` ACCOUNT LOCK;
ALTER USER dbaas_operator@`%` REQUIRE SSL;

-- A call that begins while this runs finds nothing, and is tried again.
DROP PROCEDURE IF EXISTS run;
DROP PROCEDURE IF EXISTS hold;
DROP PROCEDURE IF EXISTS create_database;
DROP PROCEDURE IF EXISTS rotate_database;
DROP PROCEDURE IF EXISTS delete_database;

DELIMITER //

-- What only the procedures use

-- Runs a statement that names things. MySQL prepares statements from session variables alone: who calls may read them, so
-- it does not outlive its run.
CREATE DEFINER = dbaas_owner@localhost PROCEDURE run(statement text)
SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        SET @dbaas_statement = NULL;
        RESIGNAL;
    END;
    SET @dbaas_statement = statement;
    PREPARE dbaas_statement FROM @dbaas_statement;
    SET @dbaas_statement = NULL;
    EXECUTE dbaas_statement;
    DEALLOCATE PREPARE dbaas_statement;
END //

-- Until the session ends or releases it, other calls for this name wait.
CREATE DEFINER = dbaas_owner@localhost PROCEDURE hold(name varchar(255))
SQL SECURITY INVOKER
BEGIN
    IF COALESCE(GET_LOCK(CONCAT('dbaas.', SHA2(name, 224)), 20), 0) <> 1 THEN
        SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'another call for this database still runs';
    END IF;
END //

-- What Kubernetes calls. One text names the database: give "<namespace>_<name>", which no other Database can have.
-- Each may be called again after any interruption, and then goes on where it was.

-- A login has the name of its database; a name of more than 32 characters, which no login can have, is cut and told apart
-- by a digest.

-- Creates a database and a login that may do everything in it, and nothing else. Called for one that is
-- complete, it returns the same with an empty password, which means: unchanged.
CREATE DEFINER = dbaas_owner@localhost PROCEDURE create_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE new varchar(64) DEFAULT '';
    DECLARE identifier varchar(520) DEFAULT CONCAT('`', REPLACE(k8s_name, '`', '``'), '`');
    DECLARE login varchar(32) DEFAULT
        IF(CHAR_LENGTH(k8s_name) <= 32, k8s_name, CONCAT(LEFT(k8s_name, 21), '_', LEFT(SHA2(k8s_name, 224), 10)));
    DECLARE account varchar(70) DEFAULT CONCAT('`', REPLACE(login, '`', '``'), '`@`%`');
    -- Or the login of a_b could enter axb: in GRANT the underscore is a wildcard.
    DECLARE pattern varchar(520) DEFAULT REPLACE(REPLACE(identifier, '_', '\\_'), '%', '\\%');
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
        RESIGNAL;
    END;
    -- GRANT takes 64 characters with the escapes.
    IF k8s_name IS NULL OR CHAR_LENGTH(REPLACE(k8s_name, '_', '__')) > 64
       OR NOT REGEXP_LIKE(k8s_name, '\\A[a-z0-9][a-z0-9.-]*_([a-z0-9._-]*[a-z0-9])\\z', 'c') THEN
        SIGNAL SQLSTATE '45000' SET
            MESSAGE_TEXT = 'a database name is <namespace>_<name>, of a-z, 0-9, "-", "." and "_"; up to 64 characters, "_" counts twice';
    END IF;
    CALL hold(k8s_name);
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name) THEN
        IF EXISTS (SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = k8s_name)
           OR EXISTS (SELECT * FROM mysql.user WHERE User = login) THEN
            SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1007,
                MESSAGE_TEXT = 'a database or account of this name exists already and was not made by dbaas.create_database';
        END IF;
        INSERT INTO made (name) VALUES (k8s_name);
    END IF;
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name AND complete) THEN
        SET new = LOWER(HEX(RANDOM_BYTES(32)));
        CALL run(CONCAT('CREATE DATABASE IF NOT EXISTS ', identifier, ' CHARACTER SET utf8mb4'));
        -- Nobody logs in before all is done.
        CALL run(CONCAT('CREATE USER IF NOT EXISTS ', account, ' REQUIRE SSL ACCOUNT LOCK'));
        CALL run(CONCAT(
            'GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES,',
            ' LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER',
            ' ON ', pattern, '.* TO ', account));
        CALL run(CONCAT('ALTER USER ', account, ' IDENTIFIED BY ''', new, ''' ACCOUNT UNLOCK'));
        UPDATE made SET complete = true WHERE name = k8s_name;
    END IF;
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
    SELECT login AS username, new AS password, k8s_name AS `database`;
END //

-- Gives the login a new password; sessions that are open stay so.
CREATE DEFINER = dbaas_owner@localhost PROCEDURE rotate_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE new varchar(64) DEFAULT LOWER(HEX(RANDOM_BYTES(32)));
    DECLARE identifier varchar(520) DEFAULT CONCAT('`', REPLACE(k8s_name, '`', '``'), '`');
    DECLARE login varchar(32) DEFAULT
        IF(CHAR_LENGTH(k8s_name) <= 32, k8s_name, CONCAT(LEFT(k8s_name, 21), '_', LEFT(SHA2(k8s_name, 224), 10)));
    DECLARE account varchar(70) DEFAULT CONCAT('`', REPLACE(login, '`', '``'), '`@`%`');
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
        RESIGNAL;
    END;
    CALL hold(k8s_name);
    IF NOT EXISTS (SELECT * FROM made WHERE name = k8s_name AND complete) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'there is no database of this name made by dbaas.create_database';
    END IF;
    CALL run(CONCAT('ALTER USER ', account, ' IDENTIFIED BY ''', new, ''''));
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
    SELECT login AS username, new AS password;
END //

-- Drops database and login, whoever is connected; for what is not there, or not ours, it does nothing.
CREATE DEFINER = dbaas_owner@localhost PROCEDURE delete_database(k8s_name varchar(255))
SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
    DECLARE found bigint unsigned;
    DECLARE identifier varchar(520) DEFAULT CONCAT('`', REPLACE(k8s_name, '`', '``'), '`');
    DECLARE login varchar(32) DEFAULT
        IF(CHAR_LENGTH(k8s_name) <= 32, k8s_name, CONCAT(LEFT(k8s_name, 21), '_', LEFT(SHA2(k8s_name, 224), 10)));
    DECLARE account varchar(70) DEFAULT CONCAT('`', REPLACE(login, '`', '``'), '`@`%`');
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
        RESIGNAL;
    END;
    CALL hold(k8s_name);
    IF EXISTS (SELECT * FROM made WHERE name = k8s_name) THEN
        -- First of all nobody logs in any more; each step can be repeated.
        CALL run(CONCAT('ALTER USER IF EXISTS ', account, ' ACCOUNT LOCK'));
        REPEAT
            SET found = (SELECT MIN(ID) FROM information_schema.PROCESSLIST
                               WHERE USER = login AND COMMAND <> 'Killed' AND ID > COALESCE(found, 0));
            BEGIN
                -- ER_NO_SUCH_THREAD: it has ended by itself.
                DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
                IF found IS NOT NULL THEN
                    KILL found;
                END IF;
            END;
        UNTIL found IS NULL END REPEAT;
        CALL run(CONCAT('DROP DATABASE IF EXISTS ', identifier));
        CALL run(CONCAT('DROP USER IF EXISTS ', account));
        DELETE FROM made WHERE name = k8s_name;
    END IF;
    DO RELEASE_LOCK(CONCAT('dbaas.', SHA2(k8s_name, 224)));
END //

DELIMITER ;

-- Rights

GRANT EXECUTE ON dbaas.* TO dbaas_owner@localhost;

SET @dbaas_statement = IF(@operator_password IS NULL, 'DO 0', CONCAT(
    'ALTER USER dbaas_operator@`%` IDENTIFIED BY ', QUOTE(@operator_password), ' ACCOUNT UNLOCK'));
SET @operator_password = NULL;
PREPARE dbaas_statement FROM @dbaas_statement;
SET @dbaas_statement = NULL;
EXECUTE dbaas_statement;
DEALLOCATE PREPARE dbaas_statement;
GRANT EXECUTE ON PROCEDURE dbaas.create_database TO dbaas_operator@`%`;
GRANT EXECUTE ON PROCEDURE dbaas.rotate_database TO dbaas_operator@`%`;
GRANT EXECUTE ON PROCEDURE dbaas.delete_database TO dbaas_operator@`%`;
