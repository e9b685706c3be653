//! Partitions by month for what only grows: kept verification results, deliveries of webhooks (the outbox), and the entries of the
//! audit log. PostgreSQL only. Why by identifier, and why in a schema of their own, is in `docs/decisions/0016-partitions.md`.
//!
//! No row is copied: the table that was becomes the partition of everything before the next month. Rows with identifiers of later
//! months, if there are any, move to the partition for the rest, which takes whatever no month takes.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend, Statement},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 3] = ["verifications", "webhook_deliveries", "audit_entries"];

/// The smallest version 7 UUID of a moment (RFC 9562 §5.7).
const FIRST_ID: &str = "CREATE FUNCTION first_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS \
    $$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$";

/// Makes a table the first partition of one that takes its name, with its indexes, triggers and grants.
const DIVIDE: &str = "DO $$ \
DECLARE main text := current_schema(); parts text := current_schema() || '_parts'; name text := '{table}'; \
        old text := name || '_before'; since timestamptz := '{since}'; \
        one record; statement text; later text[] := ARRAY[]::text[]; \
BEGIN \
  EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name); \
  EXECUTE format('ALTER TABLE %I SET SCHEMA %I', name, parts); \
  EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', parts, name, old); \
  EXECUTE format('CREATE TABLE %I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE, \
                 PRIMARY KEY (id)) PARTITION BY RANGE (id)', name, parts, old); \
  FOR one IN SELECT pg_get_indexdef(indexrelid) AS made FROM pg_index \
             WHERE indrelid = format('%I.%I', parts, old)::regclass AND NOT indisprimary LOOP \
    EXECUTE replace(one.made, format(' ON %I.%I ', parts, old), format(' ON %I.%I ', main, name)); \
  END LOOP; \
  EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I DEFAULT', parts, name || '_rest', name); \
  FOR one IN SELECT tgname, tgtype & 1 = 1 AS each_row, pg_get_triggerdef(oid) AS made FROM pg_trigger \
             WHERE tgrelid = format('%I.%I', parts, old)::regclass AND NOT tgisinternal LOOP \
    IF one.each_row THEN \
      EXECUTE format('DROP TRIGGER %I ON %I.%I', one.tgname, parts, old); \
    ELSE \
      EXECUTE replace(one.made, format(' ON %I.%I ', parts, old), format(' ON %I.%I ', parts, name || '_rest')); \
    END IF; \
    later := later || replace(one.made, format(' ON %I.%I ', parts, old), format(' ON %I.%I ', main, name)); \
  END LOOP; \
  EXECUTE format('WITH gone AS (DELETE FROM %I.%I WHERE id >= first_id(%L) RETURNING *) INSERT INTO %I.%I SELECT * FROM gone', \
                 parts, old, since, parts, name || '_rest'); \
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I.%I FOR VALUES FROM (MINVALUE) TO (%L)', name, parts, old, first_id(since)); \
  FOREACH statement IN ARRAY later LOOP EXECUTE statement; END LOOP; \
  FOR one IN SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl) \
             WHERE pg_class.oid = name::regclass AND grantee <> relowner LOOP \
    EXECUTE format('REVOKE ALL ON %I FROM %s', name, \
                   CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(one.grantee)) END); \
  END LOOP; \
  FOR one IN SELECT grantee, privilege_type, is_grantable FROM pg_class, aclexplode(relacl) \
             WHERE pg_class.oid = format('%I.%I', parts, old)::regclass AND grantee <> relowner LOOP \
    EXECUTE format('GRANT %s ON %I TO %s %s', one.privilege_type, name, \
                   CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(one.grantee)) END, \
                   CASE WHEN one.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END); \
  END LOOP; \
END $$";

/// Makes the partitions of this month and the next three where they are missing; how many. Whoever serves may ask for it: it is done
/// with the rights of the schema's owner, takes no argument, and tells time itself. A month of which the rest has rows already stays
/// in the rest.
const AHEAD: &str = "CREATE FUNCTION partitions_ahead() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER \
SET search_path = {main}, pg_temp SET lock_timeout = '3s' AS $$ \
DECLARE name text; part text; since timestamptz; made bigint := 0; one record; \
BEGIN \
  PERFORM pg_advisory_xact_lock(hashtextextended('openmediatrust:partitions', 0)); \
  FOREACH name IN ARRAY ARRAY[{names}] LOOP \
    FOR ahead IN 0..3 LOOP \
      since := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AT TIME ZONE 'UTC'; \
      part := name || to_char(since AT TIME ZONE 'UTC', '_YYYY_MM'); \
      CONTINUE WHEN since < '{since}' OR to_regclass(format('%I.%I', '{parts}', part)) IS NOT NULL; \
      BEGIN \
        EXECUTE format('CREATE TABLE %I.%I (LIKE %I INCLUDING ALL)', '{parts}', part, name); \
        FOR one IN SELECT pg_get_triggerdef(oid) AS made FROM pg_trigger \
                   WHERE tgrelid = name::regclass AND NOT tgisinternal AND tgtype & 1 = 0 LOOP \
          EXECUTE replace(one.made, format(' ON %I.%I ', '{main}', name), format(' ON %I.%I ', '{parts}', part)); \
        END LOOP; \
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', name, '{parts}', part, first_id(since), \
          first_id(((since AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')); \
        made := made + 1; \
      EXCEPTION WHEN check_violation THEN \
        RAISE WARNING 'rows of % are in the rest of % already and stay there', part, name; \
      END; \
    END LOOP; \
  END LOOP; \
  RETURN made; \
END $$";

/// Lets go of partitions of months that have ended in which nothing is left; how many. Nothing goes that is not empty.
const PAST: &str = "CREATE FUNCTION partitions_past() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER \
SET search_path = {main}, pg_temp SET lock_timeout = '3s' AS $$ \
DECLARE name text; one record; kept boolean; gone bigint := 0; month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC'); \
BEGIN \
  PERFORM pg_advisory_xact_lock(hashtextextended('openmediatrust:partitions', 0)); \
  FOREACH name IN ARRAY ARRAY[{names}] LOOP \
    FOR one IN SELECT part.oid::regclass AS part FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid \
               WHERE inhparent = name::regclass AND part.relnamespace = '{parts}'::regnamespace \
               AND CASE WHEN part.relname = name || '_before' THEN '{since}'::timestamptz AT TIME ZONE 'UTC' <= month \
                        WHEN part.relname ~ '_[0-9]{4}_[0-9]{2}$' THEN to_date(right(part.relname, 7), 'YYYY_MM') < month \
                        ELSE false END LOOP \
      EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', one.part) INTO kept; \
      CONTINUE WHEN kept; \
      EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', name); \
      EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', one.part) INTO kept; \
      CONTINUE WHEN kept; \
      EXECUTE format('DROP TABLE %s', one.part); \
      gone := gone + 1; \
    END LOOP; \
  END LOOP; \
  RETURN gone; \
END $$";

/// The next month, a day after which nothing is written of this one any more: clocks differ.
const SINCE: &str = "SELECT current_schema()::text AS main, to_char(date_trunc('month', (now() + interval '1 day') AT TIME ZONE 'UTC') \
                     + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00' AS since";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let asked = Statement::from_string(DbBackend::Postgres, SINCE);
        let row = connection.query_one_raw(asked).await?;
        let row = row.ok_or_else(|| DbErr::Custom("the database does not say what time it is".to_owned()))?;
        let (main, since): (String, String) = (row.try_get("", "main")?, row.try_get("", "since")?);
        if !main.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            let words = format!("the schema {main:?} has a name that needs quotes; partitions need one of letters, digits and _");
            return Err(DbErr::Custom(words));
        }
        let parts = format!("{main}_parts");
        let names = TABLES.map(|name| format!("'{name}'")).join(", ");
        let filled = |text: &str, table: &str| {
            let text = text.replace("{table}", table).replace("{since}", &since).replace("{names}", &names);
            text.replace("{main}", &main).replace("{parts}", &parts)
        };
        // Nobody but the owner has use of this schema, so that partitions are reached through their tables only.
        let mut statements = vec![format!("CREATE SCHEMA IF NOT EXISTS {parts}"), FIRST_ID.to_owned()];
        statements.extend(TABLES.map(|table| filled(DIVIDE, table)));
        statements.extend([filled(AHEAD, ""), filled(PAST, ""), "SELECT partitions_ahead()".to_owned()]);
        for statement in statements {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
