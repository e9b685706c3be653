//! Finding manifests by a part of their title.

use crate::{Finish, Unit, failed};
use omt_kernel::Result;
use sea_orm::{
    ConnectionTrait, DbBackend, Statement,
    sea_query::{Expr, ExprTrait, LikeExpr, SimpleExpr},
};

/// Up to so many matches are looked up; more are found by looking through the newest.
const FEW: i64 = 2_000;
/// Trigrams need three characters.
const SHORTEST: usize = 3;

/// The condition that a title contains `part`, in lower case.
fn like(part: &str) -> SimpleExpr {
    let escaped: String = part.chars().flat_map(|c| if "%_\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    Expr::col(crate::entity::manifests::Column::TitleFolded).like(LikeExpr::new(format!("%{escaped}%")).escape('\\'))
}

/// Every trigram of `part`, as a query of FTS5 whose table keeps no positions.
fn trigrams(part: &str) -> String {
    let chars: Vec<char> = part.chars().collect();
    let quoted = chars.windows(SHORTEST).map(|w| format!("\"{}\"", w.iter().collect::<String>().replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(" AND ")
}

impl<C: Finish> Unit<C> {
    /// The condition for a title that contains `part`. PostgreSQL picks the trigram index by itself when it helps. On SQLite rare
    /// parts are looked up in the full-text table, and frequent ones fill a page soon by looking through the newest.
    pub(crate) async fn title_contains(&self, part: &str) -> Result<SimpleExpr> {
        let part = part.to_lowercase();
        let sqlite = self.connection.get_database_backend() == DbBackend::Sqlite;
        if !sqlite || part.chars().count() < SHORTEST {
            return Ok(like(&part));
        }
        let query = trigrams(&part);
        let count = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "SELECT count(*) AS n FROM (SELECT 1 FROM manifest_search WHERE manifest_search MATCH ? LIMIT ?)",
            [query.clone().into(), FEW.into()],
        );
        let row = self.connection.query_one_raw(count).await.map_err(failed)?;
        let matches: i64 = row.map(|row| row.try_get("", "n")).transpose().map_err(failed)?.unwrap_or(0);
        if matches >= FEW {
            return Ok(like(&part));
        }
        // All trigrams of a part may stand in a title without the part, so the part is looked for too.
        let found = Expr::cust_with_values(
            "\"manifests\".\"id\" IN (SELECT t.id FROM manifest_search s JOIN manifest_titles t ON t.number = s.rowid \
             WHERE s.manifest_search MATCH ?)",
            [query],
        );
        Ok(found.and(like(&part)))
    }
}

#[cfg(test)]
mod tests {
    use super::trigrams;

    #[test]
    fn every_trigram_is_asked_for() {
        assert_eq!(trigrams("abcd"), "\"abc\" AND \"bcd\"");
        assert_eq!(trigrams("a\"b"), "\"a\"\"b\"");
        assert_eq!(trigrams("äöü"), "\"äöü\"");
    }
}
