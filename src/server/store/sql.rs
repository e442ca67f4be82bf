//! One SQL text for two engines: where a statement goes, what is bound to it, and what comes back.
//!
//! A statement is written once, with `$1` for what is bound, which both engines understand. What else both
//! understand, and where they differ, is kept to by the statements themselves: `IS DISTINCT FROM` and not `IS NOT`,
//! `CASE` and not `max(a, b)`, a name for each derived table, the table's name before a column
//! that `excluded` has as well, `CAST(value ->> 'x' AS BIGINT)` for what `json_each`
//! unpacks (the migrations for PostgreSQL define one that takes a text). What is left stands in two branches of
//! [`Engine`], the time among it: `now_ms()` is that of the database's clock, so that of several nodes none goes by its own.

use std::borrow::Cow;

use futures_util::future::Either;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Database, Decode, Encode, FromRow, PgConnection, Postgres, Row,
    Sqlite, SqliteConnection, Transaction, Type,
};

use super::{Result, StoreError, postgres};
use crate::server::deaths;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file, one machine.
    Sqlite,
    /// A server that several nodes share.
    Postgres,
}

/// The time in milliseconds by the database's clock, as statements write it.
const NOW: &str = "now_ms()";

impl Engine {
    /// A statement in this engine's words.
    fn worded(self, text: Cow<'static, str>) -> Cow<'static, str> {
        let now = match self {
            Engine::Sqlite => "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
            // That of the statement, since a transaction may have waited for others.
            Engine::Postgres => "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)",
        };
        if text.contains(NOW) {
            text.replace(NOW, now).into()
        } else {
            text
        }
    }
}

/// What can be bound to a statement of both engines.
pub(super) trait Bound<'q>:
    Encode<'q, Sqlite> + Type<Sqlite> + Encode<'q, Postgres> + Type<Postgres>
{
}

impl<'q, T> Bound<'q> for T where
    T: Encode<'q, Sqlite> + Type<Sqlite> + Encode<'q, Postgres> + Type<Postgres>
{
}

/// A column's value from both engines.
pub(super) trait Column<'r>:
    Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

impl<'r, T> Column<'r> for T where
    T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

/// A row of both engines.
pub(super) trait Fetched:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Fetched for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// A row whose columns are read by name, for what is no tuple.
pub(super) trait StoreRow: Row {
    fn value_of<'r, T: Column<'r>>(&'r self, name: &str) -> sqlx::Result<T>;
}

impl StoreRow for SqliteRow {
    fn value_of<'r, T: Column<'r>>(&'r self, name: &str) -> sqlx::Result<T> {
        self.try_get(name)
    }
}

impl StoreRow for PgRow {
    fn value_of<'r, T: Column<'r>>(&'r self, name: &str) -> sqlx::Result<T> {
        self.try_get(name)
    }
}

/// A TCP port. PostgreSQL has no unsigned numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port(pub(super) u16);

impl<DB: Database> Type<DB> for Port
where
    i32: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        i32::type_info()
    }

    fn compatible(ty: &DB::TypeInfo) -> bool {
        i32::compatible(ty)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Port
where
    i32: Encode<'q, DB>,
{
    fn encode_by_ref(
        &self,
        buffer: &mut <DB as Database>::ArgumentBuffer,
    ) -> std::result::Result<IsNull, BoxDynError> {
        i32::from(self.0).encode(buffer)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Port
where
    i32: Decode<'r, DB>,
{
    fn decode(value: <DB as Database>::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Ok(Port(u16::try_from(i32::decode(value)?)?))
    }
}

/// Connections to one of the engines. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// A statement on any connection, in a transaction of its own.
    pub(super) fn sql(&self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        let target = match self {
            Pool::Sqlite(pool) => Target::Sqlite(On::Pool(pool), SqliteArguments::default()),
            Pool::Postgres(pool) => Target::Postgres(On::Pool(pool), PgArguments::default()),
        };
        Statement::new(target, text.into())
    }

    pub(super) async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction of one of the engines.
#[derive(Debug)]
pub(super) enum AnyTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl AnyTransaction {
    pub(super) fn sql(&mut self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        let target = match self {
            AnyTransaction::Sqlite(tx) => {
                Target::Sqlite(On::Connection(tx), SqliteArguments::default())
            }
            AnyTransaction::Postgres(tx) => {
                Target::Postgres(On::Connection(tx), PgArguments::default())
            }
        };
        Statement::new(target, text.into())
    }

    pub(super) async fn commit(self) -> Result<()> {
        match self {
            AnyTransaction::Sqlite(tx) => tx.commit().await?,
            AnyTransaction::Postgres(tx) => postgres::bounded(tx.commit()).await?,
        }
        Ok(())
    }
}

enum On<'c, P, C> {
    Pool(&'c P),
    Connection(&'c mut C),
}

enum Target<'c> {
    Sqlite(On<'c, SqlitePool, SqliteConnection>, SqliteArguments),
    Postgres(On<'c, PgPool, PgConnection>, PgArguments),
}

/// A statement that is being put together.
pub(super) struct Statement<'c> {
    target: Target<'c>,
    text: Cow<'static, str>,
    /// How many values are bound.
    bound: usize,
    /// Why one could not be.
    failed: Option<BoxDynError>,
    /// Whether it is kept prepared.
    kept: bool,
}

/// Sends the statement `$self` to whichever connection it is for.
macro_rules! send {
    ($self:ident, $query:ident $(::<$row:ty>)?, $method:ident $(, |$done:ident| $rows:expr)?) => {{
        if let Some(error) = $self.failed {
            return Err(sqlx::Error::Encode(error).into());
        }
        match $self.target {
            Target::Sqlite(on, arguments) => {
                let text = AssertSqlSafe(Engine::Sqlite.worded($self.text));
                let query = sqlx::$query::<Sqlite, $($row,)? _>(text, arguments).persistent($self.kept);
                match on {
                    On::Pool(pool) => query.$method(pool).await,
                    On::Connection(connection) => query.$method(connection).await,
                }
                $(.map(|$done| $rows))?
                .map_err(StoreError::from)
            }
            Target::Postgres(on, arguments) => {
                let text = AssertSqlSafe(Engine::Postgres.worded($self.text));
                let query = sqlx::$query::<Postgres, $($row,)? _>(text, arguments).persistent($self.kept);
                match on {
                    On::Pool(pool) => postgres::bounded(query.$method(pool)).await,
                    On::Connection(connection) => postgres::bounded(query.$method(connection)).await,
                }
                $(.map(|$done| $rows))?
                .map_err(StoreError::from)
            }
        }
    }};
}

impl<'c> Statement<'c> {
    fn new(target: Target<'c>, text: Cow<'static, str>) -> Self {
        Statement {
            target,
            text,
            bound: 0,
            failed: None,
            kept: true,
        }
    }

    /// A statement on a connection that nobody else has.
    pub(super) fn on(connection: &'c mut PgConnection, text: impl Into<Cow<'static, str>>) -> Self {
        let target = Target::Postgres(On::Connection(connection), PgArguments::default());
        Statement::new(target, text.into())
    }

    /// Binds the next value: `$1`, then `$2`, …
    pub(super) fn bind<'q>(mut self, value: impl Bound<'q>) -> Self {
        self.add(value);
        self
    }

    /// Adds to the text. What comes from outside is bound and never added.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Adds a value to the text, and binds it.
    pub(super) fn push_bind<'q>(&mut self, value: impl Bound<'q>) -> &mut Self {
        self.add(value);
        let placeholder = format!("${}", self.bound);
        self.push(&placeholder)
    }

    /// Adds values to the text with commas between them, and binds them.
    pub(super) fn push_list<'q, T: Bound<'q>>(
        &mut self,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.push_bind(value);
        }
        self
    }

    /// Does not keep it prepared: it is not sent again in the same words.
    pub(super) fn once(mut self) -> Self {
        self.kept = false;
        self
    }

    fn add<'q>(&mut self, value: impl Bound<'q>) {
        let added = match &mut self.target {
            Target::Sqlite(_, arguments) => arguments.add(value),
            Target::Postgres(_, arguments) => arguments.add(value),
        };
        self.bound += 1;
        if let Err(error) = added {
            self.failed.get_or_insert(error);
        }
    }

    /// All rows.
    pub(super) async fn all<T: Fetched>(self) -> Result<Vec<T>> {
        send!(self, query_as_with::<T>, fetch_all)
    }

    /// The row, if there is one.
    pub(super) async fn optional<T: Fetched>(self) -> Result<Option<T>> {
        send!(self, query_as_with::<T>, fetch_optional)
    }

    /// The one row that there must be.
    pub(super) async fn one<T: Fetched>(self) -> Result<T> {
        send!(self, query_as_with::<T>, fetch_one)
    }

    /// The first column of all rows.
    pub(super) async fn values<T>(self) -> Result<Vec<T>>
    where
        (T,): Fetched,
    {
        let rows: Vec<(T,)> = self.all().await?;
        Ok(rows.into_iter().map(|(value,)| value).collect())
    }

    /// The first column of the row, if there is one.
    pub(super) async fn optional_value<T>(self) -> Result<Option<T>>
    where
        (T,): Fetched,
    {
        let row: Option<(T,)> = self.optional().await?;
        Ok(row.map(|(value,)| value))
    }

    /// The first column of the one row that there must be.
    pub(super) async fn value<T>(self) -> Result<T>
    where
        (T,): Fetched,
    {
        let (value,) = self.one().await?;
        Ok(value)
    }

    /// Sends it for what it changes. Returns how many rows those are.
    #[track_caller]
    pub(super) fn execute(self) -> impl Future<Output = Result<u64>> + use<'c> {
        let is_alone = matches!(
            self.target,
            Target::Sqlite(On::Pool(_), _) | Target::Postgres(On::Pool(_), _)
        );
        if is_alone {
            Either::Left(deaths::around(self.changed()))
        } else {
            Either::Right(self.changed())
        }
    }

    async fn changed(self) -> Result<u64> {
        send!(self, query_with, execute, |done| done.rows_affected())
    }
}
