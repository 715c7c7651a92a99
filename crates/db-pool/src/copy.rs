use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio_postgres::binary_copy::BinaryCopyInWriter;

use crate::conn::InFlight;
use crate::error::{Error, Phase, Result};
use crate::lane::{Lane, Params};
use crate::pool::DbPool;
use crate::scope::quote;
use crate::transaction::Transaction;

/// Rows on their way into a table (`COPY … FROM STDIN`, binary): the fast way for many.
///
/// Rows go out as they come, some KiB at a time; what waits is bounded by the connection. Dropped without
/// [`finish`](Self::finish), nothing is stored and the transaction can only be rolled back.
pub struct CopyIn<'a> {
    writer: Pin<Box<BinaryCopyInWriter>>,
    lane: Lane<'a>,
    flight: InFlight<'a>,
    limit: Duration,
    rows: u64,
}

impl fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyIn")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl CopyIn<'_> {
    /// Adds a row: the values of the columns, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Conversion`](crate::ErrorKind::Conversion) for a value of another type or another number of values, a lost connection, and
    /// no progress for as long as a statement may take. What the server refuses comes with [`finish`](Self::finish) at
    /// the latest.
    pub async fn row(&mut self, values: Params<'_>) -> Result<()> {
        let result = tokio::select! {
            biased;
            result = self.writer.as_mut().write(values) => result.map_err(|error| self.lane.failed("copy", error)),
            // Made only when the first has to wait.
            () = async { tokio::time::sleep(self.limit).await } => Err(no_answer(&self.lane, self.limit)),
        };
        self.rows += u64::from(result.is_ok());
        result
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends it: the rows are in the table, as far as this transaction is concerned. Returns how many there are.
    ///
    /// # Errors
    /// What the server refuses (a duplicate key), the statement deadline, a lost connection.
    pub async fn finish(self) -> Result<u64> {
        let Self {
            mut writer,
            lane,
            flight,
            limit,
            ..
        } = self;
        match tokio::time::timeout(limit, writer.as_mut().finish()).await {
            Ok(result) => {
                flight.answered();
                result.map_err(|error| lane.failed("copy", error))
            }
            Err(_) => Err(no_answer(&lane, limit)),
        }
    }
}

fn no_answer(lane: &Lane<'_>, limit: Duration) -> Error {
    let reason = format!("no progress within {limit:?} (DB_STATEMENT_TIMEOUT)");
    Error::timeout("copy", &lane.shared.dialer.subject, Phase::Reading, reason)
}

impl Transaction<'_> {
    /// Begins to copy rows into these columns of a table: `"items"` or `"asl.items"`. Safe with names from anywhere: they
    /// are quoted, so upper case stays upper case.
    ///
    /// The whole of it is one statement to the server and has its deadline: see
    /// [`set_statement_timeout`](Self::set_statement_timeout) for more than that allows.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn copy_in(&self, table: &str, columns: &[&str]) -> Result<CopyIn<'_>> {
        let lane = self.lane();
        let table: Vec<String> = table.split('.').map(quote).collect();
        let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let (table, columns) = (table.join("."), columns.join(", "));
        let look = format!("SELECT {columns} FROM {table}");
        let statement = lane.guarded("copy", lane.client.prepare(&look)).await?;
        let types: Vec<_> = statement
            .columns()
            .iter()
            .map(|column| column.type_().clone())
            .collect();
        drop(statement);
        let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        let sink = lane.guarded("copy", lane.client.copy_in(&sql)).await?;
        let limit = lane.limit();
        Ok(CopyIn {
            writer: Box::pin(BinaryCopyInWriter::new(sink, &types)),
            flight: lane.side.in_flight(),
            lane,
            limit,
            rows: 0,
        })
    }
}

impl DbPool {
    /// Copies rows into these columns of a table, all or none: [`Transaction::copy_in`] in a transaction of its own.
    ///
    /// ```no_run
    /// # async fn example(pool: zhuji_db_pool::DbPool, titles: Vec<String>) -> Result<(), zhuji_db_pool::Error> {
    /// let count = pool
    ///     .copy_in("trials", &["title", "year"], async |copy| {
    ///         for title in &titles {
    ///             copy.row(&[title, &2025_i32]).await?;
    ///         }
    ///         Ok::<_, zhuji_db_pool::Error>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `fill` returns, and those of [`transaction`](Self::transaction) and [`CopyIn::finish`].
    #[track_caller]
    pub fn copy_in<E, F>(
        &self,
        table: &str,
        columns: &[&str],
        fill: F,
    ) -> impl Future<Output = Result<u64, E>>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut CopyIn<'_>) -> Result<(), E>,
    {
        self.transaction(async move |tx| {
            let mut copy = tx.copy_in(table, columns).await?;
            fill(&mut copy).await?;
            Ok(copy.finish().await?)
        })
    }
}
