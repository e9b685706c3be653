//! Finding manifests by a part of their title, or by the words that are said of them.

use crate::{Finish, Unit, entity::manifests::Column, failed};
use omt_kernel::{
    Result,
    search::{Phrase, Question},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, Statement,
    sea_query::{Expr, ExprTrait, LikeExpr, SimpleExpr},
};
use uuid::Uuid;

/// Up to so many matches are looked up; more are found by looking through the newest.
const FEW: i64 = 2_000;
/// Of so many of the newest rows, so many that match make a page soon.
const NEWEST: i64 = 2_000;
const OFTEN: i64 = 20;
/// Trigrams need three characters.
const SHORTEST: usize = 3;

/// The full-text tables of SQLite: of trigrams of titles, and of words.
const TITLES: &str = "manifest_search";
const WORDS: &str = "manifest_words";

/// The condition that a column contains `part`.
fn like(column: Column, part: &str) -> SimpleExpr {
    let escaped: String = part.chars().flat_map(|c| if "%_\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    Expr::col(column).like(LikeExpr::new(format!("%{escaped}%")).escape('\\'))
}

/// The condition that every phrase stands in the document.
fn said(question: &Question) -> Condition {
    question.phrases.iter().fold(Condition::all(), |all, phrase| all.add(like(Column::SearchText, &phrase.needle())))
}

/// Every trigram of `part`, as a query of FTS5 whose table keeps no positions.
fn trigrams(part: &str) -> String {
    let chars: Vec<char> = part.chars().collect();
    let quoted = chars.windows(SHORTEST).map(|w| format!("\"{}\"", w.iter().collect::<String>().replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(" AND ")
}

fn joined(question: &Question, between: &str, one: impl Fn(&Phrase) -> String) -> String {
    question.phrases.iter().map(one).collect::<Vec<_>>().join(between)
}

/// A question as FTS5 has it. Words are letters and digits, so that nothing in them is syntax.
fn fts5(question: &Question) -> String {
    let one = |phrase: &Phrase| format!("\"{}\"{}", phrase.words.join(" "), if phrase.prefix { " *" } else { "" });
    joined(question, " AND ", one)
}

/// The same as a `tsquery` of PostgreSQL.
fn tsquery(question: &Question) -> String {
    let one = |phrase: &Phrase| format!("('{}'{})", phrase.words.join("' <-> '"), if phrase.prefix { ":*" } else { "" });
    joined(question, " & ", one)
}

impl<C: Finish> Unit<C> {
    /// The condition for a title that contains `text`, or a document in which everything stands that `text` asks for. What is rare
    /// is looked up by its index, and what is frequent fills a page soon by looking through the newest.
    pub(crate) async fn searched(&self, text: &str) -> Result<Condition> {
        let (part, question) = (text.to_lowercase(), Question::parse(text));
        // No title has a zero, and PostgreSQL takes none in a question.
        let part = (!part.contains('\0')).then_some(part);
        let title = part.as_deref().map(|part| like(Column::TitleFolded, part));
        let question = (!question.phrases.is_empty()).then_some(question);
        if title.is_none() && question.is_none() {
            return Ok(Condition::all().add(Expr::val(false)));
        }
        let any = title.into_iter().fold(Condition::any(), Condition::add);
        match self.connection.get_database_backend() {
            DbBackend::Postgres => self.searched_postgres(any, question.as_ref()).await,
            _ => self.searched_sqlite(any, part.as_deref(), question.as_ref()).await,
        }
    }

    /// Whether the index over titles helps, PostgreSQL knows by itself.
    async fn searched_postgres(&self, any: Condition, question: Option<&Question>) -> Result<Condition> {
        let Some(question) = question else { return Ok(any) };
        let asked = tsquery(question);
        let by_index = |asked| Expr::cust_with_values("\"manifests\".\"search\" @@ CAST($1 AS tsquery)", [asked]);
        // How often one word stands is in its statistics; how often several do at once is not.
        if matches!(&question.phrases[..], [Phrase { words, .. }] if words.len() == 1) {
            return Ok(any.add(by_index(asked)));
        }
        // What the newest rows say often fills a page soon. Counting it by the index would read every place of frequent words.
        let newest = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT count(*) AS n FROM (SELECT search FROM manifests ORDER BY id DESC LIMIT $2) AS newest \
             WHERE search @@ CAST($1 AS tsquery)",
            [asked.clone().into(), NEWEST.into()],
        );
        let row = self.connection.query_one_raw(newest).await.map_err(failed)?;
        let often: i64 = row.map(|row| row.try_get("", "n")).transpose().map_err(failed)?.unwrap_or(0);
        if often >= OFTEN {
            return Ok(any.add(by_index(asked)));
        }
        let look = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT id FROM manifests_said(CAST($1 AS tsquery), $2) AS id",
            [asked.clone().into(), FEW.into()],
        );
        let found = self.connection.query_all_raw(look).await.map_err(failed)?;
        if found.len() as i64 >= FEW {
            return Ok(any.add(by_index(asked)));
        }
        let ids: Vec<Uuid> =
            found.iter().map(|row| row.try_get("", "id")).collect::<std::result::Result<_, _>>().map_err(failed)?;
        Ok(any.add(Column::Id.is_in(ids)))
    }

    async fn searched_sqlite(&self, any: Condition, part: Option<&str>, question: Option<&Question>) -> Result<Condition> {
        let any = question.map(said).into_iter().fold(any, Condition::add);
        let short = part.is_some_and(|part| part.chars().count() < SHORTEST);
        let queries = [(TITLES, part.map(trigrams)), (WORDS, question.map(fts5))];
        let queries = queries.into_iter().filter_map(|(table, query)| Some((table, query?)));
        let (mut found, mut values) = (Vec::new(), Vec::new());
        for (table, query) in queries {
            // A title that contains less than a trigram can be looked up nowhere.
            if short || !self.few(table, &query).await? {
                return Ok(any);
            }
            found
                .push(format!("SELECT t.id FROM {table} s JOIN manifest_titles t ON t.number = s.rowid WHERE s.{table} MATCH ?"));
            values.push(query);
        }
        let found = Expr::cust_with_values(format!("\"manifests\".\"id\" IN ({})", found.join(" UNION ")), values);
        // All trigrams of a part may stand in a title without the part, so the part is looked for too.
        Ok(Condition::all().add(found).add(any))
    }

    /// Whether few rows of a full-text table of SQLite match.
    async fn few(&self, table: &str, query: &str) -> Result<bool> {
        let count = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            format!("SELECT count(*) AS n FROM (SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT ?)"),
            [query.into(), FEW.into()],
        );
        let row = self.connection.query_one_raw(count).await.map_err(failed)?;
        let matches: i64 = row.map(|row| row.try_get("", "n")).transpose().map_err(failed)?.unwrap_or(0);
        Ok(matches < FEW)
    }
}

#[cfg(test)]
mod tests {
    use super::{fts5, trigrams, tsquery};
    use omt_kernel::search::Question;

    #[test]
    fn every_trigram_is_asked_for() {
        assert_eq!(trigrams("abcd"), "\"abc\" AND \"bcd\"");
        assert_eq!(trigrams("a\"b"), "\"a\"\"b\"");
        assert_eq!(trigrams("äöü"), "\"äöü\"");
    }

    #[test]
    fn questions_are_the_same_for_both_databases() {
        let question = Question::parse("Night \"in the har\"* f-16");
        assert_eq!(fts5(&question), "\"f 16\" AND \"in the har\" * AND \"night\"");
        assert_eq!(tsquery(&question), "('f' <-> '16') & ('in' <-> 'the' <-> 'har':*) & ('night')");
    }
}
