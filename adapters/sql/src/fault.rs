//! What an error of the database means to a caller.

use omt_kernel::{Error, Kind, retry::BUSY};
use sea_orm::{DbErr, RuntimeErr};
use std::borrow::Cow;

/// What SQLite's extended result codes have in common with their primary one.
const PRIMARY: u32 = 0xff;
/// What the trigger says that keeps blobs from being named while they are removed (migration 23).
const DOOMED: &str = "the blob is doomed";

pub(crate) fn unavailable(doing: &str) -> impl FnOnce(DbErr) -> Error + '_ {
    move |error| {
        Error::new(Kind::Unavailable, "DATABASE_UNAVAILABLE", format!("the database cannot {doing}"))
            .retry_after(5)
            .caused_by(error)
    }
}

/// What a failed statement means: the database is gone, it chose this transaction to make way, it takes no writes now, or the
/// statement is wrong.
pub(crate) fn failed(error: DbErr) -> Error {
    let refusal = match driver(&error) {
        None if matches!(error, DbErr::ConnectionAcquire(_)) => Some(Refusal::Gone),
        None => None,
        Some(sqlx::Error::Database(database)) if database.message() == DOOMED => Some(Refusal::Doomed),
        Some(sqlx::Error::Database(database)) => database.code().and_then(|code| refusal(&code)),
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_),
        ) => Some(Refusal::Gone),
        Some(_) => None,
    };
    let (kind, code, words, wait) = match refusal {
        // A trigger: what the record would name is being removed.
        Some(Refusal::Doomed) => return omt_kernel::storage::just_deleted().caused_by(error),
        None => return Error::internal("a database statement failed").caused_by(error),
        Some(Refusal::Gone) => return unavailable("answer now")(error),
        Some(Refusal::Busy) => (Kind::Unavailable, BUSY, "the database is busy with other changes to the same things", 1),
        Some(Refusal::Text) => {
            let words = "a text has a character that cannot be kept";
            return Error::new(Kind::Invalid, "INVALID_TEXT", words).caused_by(error);
        }
        Some(Refusal::ReadOnly) => (Kind::Unavailable, "DATABASE_READ_ONLY", "the database can only be read now", 30),
        Some(Refusal::Full) => (Kind::Unavailable, "STORAGE_FULL", "there is no room in the database", 60),
        Some(Refusal::Rights) => {
            (Kind::Unavailable, "DATABASE_REFUSED", "the database does not let this server do what it must", 60)
        }
    };
    Error::new(kind, code, words).retry_after(wait).caused_by(error)
}

/// Why there is no connection.
pub(crate) fn not_reached(error: sqlx::Error) -> Error {
    let refused = |code: Cow<'_, str>| matches!(refusal(&code), Some(Refusal::ReadOnly | Refusal::Full | Refusal::Rights));
    if matches!(&error, sqlx::Error::Database(database) if database.code().is_some_and(refused)) {
        return failed(DbErr::Conn(RuntimeErr::SqlxError(error.into())));
    }
    let untrusted = matches!(&error, sqlx::Error::Tls(_)) || error.to_string().contains("invalid peer certificate");
    let cause = DbErr::Conn(RuntimeErr::SqlxError(error.into()));
    if untrusted {
        let words = "the database's server has no certificate for its name that is trusted";
        return Error::new(Kind::Unavailable, "DATABASE_UNTRUSTED", words).retry_after(60).caused_by(cause);
    }
    unavailable("be reached")(cause)
}

/// What beginning a transaction failed of. SQLite takes its lock here, so it may be busy.
pub(crate) fn not_begun(error: DbErr) -> Error {
    match driver(&error) {
        Some(sqlx::Error::Database(_)) => failed(error),
        _ => unavailable("begin a transaction")(error),
    }
}

/// Whether a statement failed because there is no such table.
pub(crate) fn is_missing_table(error: &DbErr) -> bool {
    match driver(error) {
        Some(sqlx::Error::Database(database)) => match database.code().as_deref() {
            Some("42P01") => true,
            // SQLite has one code for whatever is wrong with a statement.
            Some("1") => database.message().starts_with("no such table"),
            _ => false,
        },
        _ => false,
    }
}

fn driver(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(sqlx))
        | DbErr::Exec(RuntimeErr::SqlxError(sqlx))
        | DbErr::Query(RuntimeErr::SqlxError(sqlx)) => Some(sqlx.as_ref()),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Doomed,
    Gone,
    Busy,
    ReadOnly,
    Full,
    Rights,
    Text,
}

/// What a code says: SQLSTATE of PostgreSQL, which has five characters (PostgreSQL's manual, appendix A), or an extended result
/// code of SQLite, a number (<https://sqlite.org/rescode.html>).
fn refusal(code: &str) -> Option<Refusal> {
    if code.len() == 5 {
        return match code {
            // Serialization failure, deadlock and end of waiting.
            "40001" | "40P01" | "55P03" => Some(Refusal::Busy),
            // No zero characters in texts.
            "22021" => Some(Refusal::Text),
            // As after a failover, on what is a replica now.
            "25006" => Some(Refusal::ReadOnly),
            "53100" => Some(Refusal::Full),
            "42501" => Some(Refusal::Rights),
            // An error of its files.
            "58030" => Some(Refusal::Gone),
            // Connection exceptions, credentials, catalogs, resources, an operator's intervention.
            _ => ["08", "28", "3D", "53", "57"].iter().any(|class| code.starts_with(class)).then_some(Refusal::Gone),
        };
    }
    match code.parse::<u32>().ok()? & PRIMARY {
        // BUSY with its variants.
        5 => Some(Refusal::Busy),
        8 => Some(Refusal::ReadOnly),
        13 => Some(Refusal::Full),
        // IOERR and CANTOPEN: the disk, or a directory that went away.
        10 | 14 => Some(Refusal::Gone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (code, means) in [
            ("40001", Some(Refusal::Busy)),
            ("5", Some(Refusal::Busy)),
            ("261", Some(Refusal::Busy)),
            ("517", Some(Refusal::Busy)),
            ("773", Some(Refusal::Busy)),
            ("25006", Some(Refusal::ReadOnly)),
            ("8", Some(Refusal::ReadOnly)),
            ("1032", Some(Refusal::ReadOnly)),
            ("53100", Some(Refusal::Full)),
            ("13", Some(Refusal::Full)),
            ("42501", Some(Refusal::Rights)),
            ("53300", Some(Refusal::Gone)),
            ("57P01", Some(Refusal::Gone)),
            ("58030", Some(Refusal::Gone)),
            ("778", Some(Refusal::Gone)),
            ("14", Some(Refusal::Gone)),
            ("22021", Some(Refusal::Text)),
            // Wrong statements, and what a constraint or a trigger refuses.
            ("42601", None),
            ("23505", None),
            ("P0001", None),
            ("1", None),
            ("1555", None),
            ("1811", None),
        ] {
            assert_eq!(refusal(code), means, "{code}");
        }
    }
}
