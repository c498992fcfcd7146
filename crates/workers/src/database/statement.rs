use std::borrow::Cow;
use std::fmt;

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, Error, ToSql, params_from_iter};

/// One SQL statement with the values for its parameters.
///
/// Parameters are bound in order: the first `bind` is `?1`. Prepared statements are kept per connection,
/// so bind values instead of writing them into the text.
///
/// ```
/// use perennial_workers::Statement;
///
/// let insert = Statement::new("INSERT INTO item (name, price) VALUES (?1, ?2)")
///     .bind("tea")
///     .bind(3.5);
/// let all = Statement::from("SELECT name FROM item");
/// # let _ = (insert, all);
/// ```
#[must_use]
pub struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
    /// The first value that SQLite has no representation for; reported when the statement runs.
    unfit: Option<Error>,
}

impl Statement {
    /// Makes a statement from its text.
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
            unfit: None,
        }
    }

    /// Binds the next parameter.
    ///
    /// A value that SQLite cannot represent, as what is not a number, makes the statement fail when it is run.
    pub fn bind(mut self, value: impl ToSql) -> Self {
        match owned(&value) {
            Ok(value) => self.values.push(value),
            Err(error) => self.unfit = self.unfit.or(Some(error)),
        }
        self
    }

    pub(crate) fn prepare<T>(
        self,
        connection: &Connection,
        run: impl FnOnce(&mut rusqlite::Statement<'_>, Vec<Value>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match self.unfit {
            Some(error) => Err(error),
            None => run(&mut *connection.prepare_cached(&self.sql)?, self.values),
        }
    }

    pub(crate) fn execute(self, connection: &Connection) -> rusqlite::Result<usize> {
        let before = connection.total_changes();
        let changed = self.prepare(connection, |prepared, values| {
            // All changes of a statement are made before its first row is there.
            if prepared.column_count() > 0 {
                return Err(Error::ExecuteReturnedResults);
            }
            prepared.execute(params_from_iter(values))
        })?;
        // SQLite's count is that of the last statement which is one that changes rows: it may be an earlier one.
        let is_its_own = connection.total_changes() != before;
        Ok(if is_its_own { changed } else { 0 })
    }
}

fn owned(value: &impl ToSql) -> rusqlite::Result<Value> {
    let unfit = |why: &str| Err(Error::ToSqlConversionFailure(why.into()));
    let value = match value.to_sql()? {
        ToSqlOutput::Borrowed(value) => Value::try_from(value)
            .map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?,
        ToSqlOutput::Owned(value) => value,
        _ => return unfit("only plain values can be bound"),
    };
    match value {
        // SQLite would take it for NULL.
        Value::Real(number) if number.is_nan() => unfit("not a number"),
        value => Ok(value),
    }
}

impl From<&'static str> for Statement {
    fn from(sql: &'static str) -> Self {
        Self::new(sql)
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self::new(sql)
    }
}

impl fmt::Debug for Statement {
    /// Shows the text and the number of values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("sql", &self.sql)
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}
