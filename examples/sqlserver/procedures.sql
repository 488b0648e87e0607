-- Stored procedures with which Kubernetes DBaaS creates, rotates and deletes databases on this server.
--
-- Install, as sysadmin, into a database that holds nothing else (run it again after a change; it keeps what exists):
--
--     sqlcmd -S SERVER -b -Q "CREATE DATABASE dbaas"
--     sqlcmd -S SERVER -b -d dbaas -v operator_password="…" -i procedures.sql
--
-- The password must not hold ' or $( because sqlcmd puts it into the text as it is.
--
-- Who is who:
--   dbaas_operator  logs in from Kubernetes; may connect here and execute the three procedures, and nothing else.
--   dbaas_signing   a certificate, and the login made of it, as which nobody can log in. The procedures are signed with
--                   it: what the login may do on the server, the procedures may do, whoever calls them, and nobody
--                   may do it any other way. Its private key is thrown away when all is signed, so no other procedure
--                   can ever get these rights. (TRUSTWORTHY stays off; EXECUTE AS would end at this database's border.)
--   dbaas_internal.databases  what these procedures have made: a name and the SID of the login that owns the database.
--                   Nothing else is ever rotated or deleted.
--
-- SQL Server 2016 or later. This file has been read with care, and never run: the project's tests have no SQL Server.
-- Try it on a server that you can lose, and say what you find.

:on error exit
SET NOCOUNT ON;
SET XACT_ABORT ON;
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
IF DB_NAME() IN (N'master', N'msdb', N'model', N'tempdb')
    THROW 50000, N'install into a database of its own: sqlcmd -d dbaas', 1;
GO

-- Accounts

IF SUSER_ID(N'dbaas_operator') IS NULL
    CREATE LOGIN dbaas_operator WITH PASSWORD = N'$(operator_password)', CHECK_EXPIRATION = OFF;
ELSE
    ALTER LOGIN dbaas_operator WITH PASSWORD = N'$(operator_password)';
DECLARE @default nvarchar(400) = N'ALTER LOGIN dbaas_operator WITH DEFAULT_DATABASE = ' + QUOTENAME(DB_NAME());
EXEC (@default);
IF USER_ID(N'dbaas_operator') IS NULL
    CREATE USER dbaas_operator FOR LOGIN dbaas_operator;
REVOKE CONNECT FROM guest;
GO

-- What only the procedures use

IF SCHEMA_ID(N'dbaas_internal') IS NULL EXEC (N'CREATE SCHEMA dbaas_internal AUTHORIZATION dbo');
IF SCHEMA_ID(N'dbaas') IS NULL EXEC (N'CREATE SCHEMA dbaas AUTHORIZATION dbo');
IF OBJECT_ID(N'dbaas_internal.databases', N'U') IS NULL
    CREATE TABLE dbaas_internal.databases (
        name sysname COLLATE Latin1_General_100_BIN2 NOT NULL PRIMARY KEY,
        login_sid varbinary(85) NOT NULL,  -- sys.server_principals.sid, and sys.databases.owner_sid
        complete bit NOT NULL DEFAULT 0,   -- whether a password has been handed out
        made_at datetime2(0) NOT NULL DEFAULT SYSUTCDATETIME()
    );
GO

-- What Kubernetes calls. One text names the database: give "<namespace>_<name>", which no other Database can have.
-- Each may be called again after any interruption, and then goes on where it was.
--
-- Names are checked, and quoted besides (QUOTENAME); passwords are hexadecimal digits. SQL Server hides the passwords of
-- CREATE LOGIN and ALTER LOGIN in its traces and audits. No statement here runs in a transaction: CREATE DATABASE cannot.

-- Creates a database and a login of the same name that owns it, and nothing else. Called for one that is complete, it
-- returns the same with an empty password, which means: unchanged.
CREATE OR ALTER PROCEDURE dbaas.create_database @k8s_name nvarchar(128) AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    -- sysname arguments are compared bit by bit: no collation may take one name for another.
    IF @k8s_name IS NULL OR @k8s_name = N'' OR DATALENGTH(@k8s_name) > 2 * 123
        OR @k8s_name COLLATE Latin1_General_100_BIN2 LIKE N'%[^abcdefghijklmnopqrstuvwxyz0123456789._-]%'
        OR @k8s_name COLLATE Latin1_General_100_BIN2 LIKE N'[._-]%'
        OR @k8s_name COLLATE Latin1_General_100_BIN2 LIKE N'%[._-]'
        THROW 50001, N'a database name has up to 123 of a-z, 0-9, "_", "-" and "."', 1;

    DECLARE @quoted nvarchar(260) = QUOTENAME(@k8s_name), @lock nvarchar(255) = CONCAT(N'dbaas ', @k8s_name),
            @statement nvarchar(max), @password varchar(80) = '', @sid varbinary(85), @complete bit, @taken int;
    EXEC @taken = sys.sp_getapplock @Resource = @lock, @LockMode = 'Exclusive', @LockOwner = 'Session',
                                    @LockTimeout = 30000;
    IF @taken < 0 THROW 50002, N'another call for this database still runs', 1;
    BEGIN TRY
        SELECT @sid = login_sid, @complete = complete FROM dbaas_internal.databases WHERE name = @k8s_name;
        IF @sid IS NULL
        BEGIN
            IF EXISTS (SELECT 1 FROM sys.server_principals WHERE name = @k8s_name) OR DB_ID(@k8s_name) IS NOT NULL
                THROW 50003, N'a login or database of this name exists already, and was not made by dbaas.create_database', 1;
            SELECT @sid = CRYPT_GEN_RANDOM(16), @complete = 0;
            INSERT dbaas_internal.databases (name, login_sid) VALUES (@k8s_name, @sid);
        END;

        IF NOT EXISTS (SELECT 1 FROM sys.server_principals WHERE sid = @sid)
        BEGIN
            -- Nobody ever learns this password.
            SET @statement = CONCAT(N'CREATE LOGIN ', @quoted, N' WITH PASSWORD = N''k-',
                CONVERT(varchar(64), CRYPT_GEN_RANDOM(32), 2), N''', SID = ', CONVERT(varchar(64), @sid, 1),
                N', CHECK_EXPIRATION = OFF');
            EXEC sys.sp_executesql @statement;
        END;
        IF DB_ID(@k8s_name) IS NULL
        BEGIN
            SET @statement = CONCAT(N'CREATE DATABASE ', @quoted);
            EXEC sys.sp_executesql @statement;
        END;
        IF NOT EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID(@k8s_name) AND owner_sid = @sid)
        BEGIN
            -- Between the two it belongs to whoever called CREATE DATABASE: this very account, or it is not ours.
            IF NOT EXISTS (SELECT 1 FROM sys.databases
                            WHERE database_id = DB_ID(@k8s_name) AND owner_sid = SUSER_SID() AND @complete = 0)
                THROW 50003, N'the database of this name belongs to somebody else', 1;
            SET @statement = CONCAT(N'ALTER AUTHORIZATION ON DATABASE::', @quoted, N' TO ', @quoted);
            EXEC sys.sp_executesql @statement;
        END;
        IF @complete = 0
        BEGIN
            -- With its letters, digits and sign it satisfies every password policy.
            SET @password = CONCAT('k-', CONVERT(varchar(64), CRYPT_GEN_RANDOM(32), 2));
            SET @statement = CONCAT(N'ALTER LOGIN ', @quoted, N' WITH PASSWORD = N''', @password,
                N''', DEFAULT_DATABASE = ', @quoted, N'; ALTER LOGIN ', @quoted, N' ENABLE');
            EXEC sys.sp_executesql @statement;
            UPDATE dbaas_internal.databases SET complete = 1 WHERE name = @k8s_name;
        END;
    END TRY
    BEGIN CATCH
        EXEC sys.sp_releaseapplock @Resource = @lock, @LockOwner = 'Session';
        THROW;
    END CATCH;
    EXEC sys.sp_releaseapplock @Resource = @lock, @LockOwner = 'Session';

    SELECT [key], value
      FROM (VALUES (N'username', @k8s_name), (N'password', CONVERT(nvarchar(128), @password)), (N'database', @k8s_name))
        AS result ([key], value);
END;
GO

-- Gives the login a new password; sessions that are open stay so.
CREATE OR ALTER PROCEDURE dbaas.rotate_database @k8s_name nvarchar(128) AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @statement nvarchar(max), @password varchar(80) = CONCAT('k-', CONVERT(varchar(64), CRYPT_GEN_RANDOM(32), 2));
    IF NOT EXISTS (SELECT 1 FROM dbaas_internal.databases d JOIN sys.server_principals p ON p.sid = d.login_sid
                    WHERE d.name = @k8s_name COLLATE Latin1_General_100_BIN2)
        THROW 50004, N'there is no database of this name made by dbaas.create_database', 1;
    SET @statement = CONCAT(N'ALTER LOGIN ', QUOTENAME(@k8s_name), N' WITH PASSWORD = N''', @password, N'''');
    EXEC sys.sp_executesql @statement;
    SELECT [key], value
      FROM (VALUES (N'username', @k8s_name), (N'password', CONVERT(nvarchar(128), @password))) AS result ([key], value);
END;
GO

-- Drops database and login, whoever is connected; for what is not there, or not ours, it does nothing.
CREATE OR ALTER PROCEDURE dbaas.delete_database @k8s_name nvarchar(128) AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @quoted nvarchar(260) = QUOTENAME(@k8s_name), @lock nvarchar(255) = CONCAT(N'dbaas ', LEFT(@k8s_name, 200)),
            @statement nvarchar(max), @sid varbinary(85), @taken int, @tries int = 0, @dropped bit = 0;
    EXEC @taken = sys.sp_getapplock @Resource = @lock, @LockMode = 'Exclusive', @LockOwner = 'Session',
                                    @LockTimeout = 30000;
    IF @taken < 0 THROW 50002, N'another call for this database still runs', 1;
    BEGIN TRY
        SELECT @sid = login_sid FROM dbaas_internal.databases WHERE name = @k8s_name COLLATE Latin1_General_100_BIN2;
        IF @sid IS NOT NULL
        BEGIN
            IF EXISTS (SELECT 1 FROM sys.server_principals WHERE sid = @sid)
            BEGIN
                -- First of all nobody logs in any more: the one place of SINGLE_USER stays free.
                SET @statement = CONCAT(N'ALTER LOGIN ', @quoted, N' DISABLE');
                EXEC sys.sp_executesql @statement;
                EXEC dbaas_internal.end_sessions @sid;
            END;
            WHILE @dropped = 0 AND EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID(@k8s_name)
                                              AND owner_sid IN (@sid, SUSER_SID()))
                BEGIN TRY
                    SET @statement = CONCAT(
                        N'ALTER DATABASE ', @quoted, N' SET SINGLE_USER WITH ROLLBACK IMMEDIATE; DROP DATABASE ', @quoted);
                    EXEC sys.sp_executesql @statement;
                    SET @dropped = 1;
                END TRY
                BEGIN CATCH
                    -- 3702: in use; somebody with rights of their own was quicker.
                    SET @tries += 1;
                    IF ERROR_NUMBER() NOT IN (3702, 5064, 5070) OR @tries >= 5 THROW;
                END CATCH;
            IF EXISTS (SELECT 1 FROM sys.server_principals WHERE sid = @sid)
            BEGIN
                SET @statement = CONCAT(N'DROP LOGIN ', @quoted);
                EXEC sys.sp_executesql @statement;
            END;
            -- Last of all, so that an interruption anywhere leaves it ours.
            DELETE dbaas_internal.databases WHERE name = @k8s_name COLLATE Latin1_General_100_BIN2;
        END;
    END TRY
    BEGIN CATCH
        EXEC sys.sp_releaseapplock @Resource = @lock, @LockOwner = 'Session';
        THROW;
    END CATCH;
    EXEC sys.sp_releaseapplock @Resource = @lock, @LockOwner = 'Session';
END;
GO

-- Ends every session of a login: one that is logged in cannot be dropped.
CREATE OR ALTER PROCEDURE dbaas_internal.end_sessions @sid varbinary(85) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @statement nvarchar(max) = N'';
    SELECT @statement += CONCAT(N'KILL ', session_id, N'; ')
      FROM sys.dm_exec_sessions WHERE security_id = @sid AND session_id <> @@SPID;
    BEGIN TRY
        EXEC sys.sp_executesql @statement;
    END TRY
    BEGIN CATCH
        -- 6106: it has gone by itself.
        IF ERROR_NUMBER() <> 6106 THROW;
    END CATCH;
END;
GO

-- Rights: nobody may execute these but the operator, and the operator only these three.

REVOKE EXECUTE ON SCHEMA::dbaas FROM public;
REVOKE EXECUTE ON SCHEMA::dbaas_internal FROM public;
GRANT EXECUTE ON dbaas.create_database TO dbaas_operator;
GRANT EXECUTE ON dbaas.rotate_database TO dbaas_operator;
GRANT EXECUTE ON dbaas.delete_database TO dbaas_operator;
GO

-- Signatures: a changed procedure has lost its own, so all are made anew, with a certificate made for this once.

DECLARE @password nvarchar(100) = CONCAT(N'k-', CONVERT(varchar(64), CRYPT_GEN_RANDOM(32), 2)),
        @statement nvarchar(max) = N'', @public varbinary(max);

SELECT @statement += CONCAT(N'DROP SIGNATURE FROM ', QUOTENAME(SCHEMA_NAME(o.schema_id)), N'.', QUOTENAME(o.name),
                            N' BY CERTIFICATE dbaas_signing; ')
  FROM sys.crypt_properties c JOIN sys.objects o ON o.object_id = c.major_id
  JOIN sys.certificates k ON k.thumbprint = c.thumbprint
 WHERE c.class = 1 AND k.name = N'dbaas_signing';
EXEC sys.sp_executesql @statement;
IF CERT_ID(N'dbaas_signing') IS NOT NULL DROP CERTIFICATE dbaas_signing;

SET @statement = CONCAT(N'CREATE CERTIFICATE dbaas_signing ENCRYPTION BY PASSWORD = N''', @password,
    N''' WITH SUBJECT = N''Kubernetes DBaaS: procedures that may create databases'', EXPIRY_DATE = N''20991231'';');
SELECT @statement += CONCAT(N' ADD SIGNATURE TO ', QUOTENAME(SCHEMA_NAME(schema_id)), N'.', QUOTENAME(name),
                            N' BY CERTIFICATE dbaas_signing WITH PASSWORD = N''', @password, N''';')
  FROM sys.procedures WHERE SCHEMA_NAME(schema_id) IN (N'dbaas', N'dbaas_internal');
SET @statement += N' ALTER CERTIFICATE dbaas_signing REMOVE PRIVATE KEY;';
EXEC sys.sp_executesql @statement;

-- Its public half goes to master, where rights on the server are granted to it.
SET @public = CERTENCODED(CERT_ID(N'dbaas_signing'));
SET @statement = CONCAT(N'
    IF SUSER_ID(N''dbaas_signing'') IS NOT NULL DROP LOGIN dbaas_signing;
    IF CERT_ID(N''dbaas_signing'') IS NOT NULL DROP CERTIFICATE dbaas_signing;
    CREATE CERTIFICATE dbaas_signing FROM BINARY = ', CONVERT(nvarchar(max), @public, 1), N';
    CREATE LOGIN dbaas_signing FROM CERTIFICATE dbaas_signing;
    GRANT CREATE ANY DATABASE, ALTER ANY DATABASE, ALTER ANY LOGIN TO dbaas_signing;
    GRANT IMPERSONATE ANY LOGIN TO dbaas_signing;                    -- ALTER AUTHORIZATION to the new login
    GRANT VIEW SERVER STATE, ALTER ANY CONNECTION TO dbaas_signing;  -- sessions of a login that is to be dropped');
EXEC master.sys.sp_executesql @statement;
GO
