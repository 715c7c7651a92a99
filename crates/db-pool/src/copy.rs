use std::fmt;
use std::pin::Pin;
use std::time::Instant;

use tokio_postgres::binary_copy::BinaryCopyInWriter;

use crate::conn::InFlight;
use crate::error::{Error, ErrorKind, Phase, Result};
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
    deadline: Instant,
    columns: usize,
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
    /// [`ErrorKind::Conversion`] for a value of another type or another number of values, a lost connection, and
    /// no progress for as long as a statement may take. What the server refuses comes with [`finish`](Self::finish) at
    /// the latest.
    pub async fn row(&mut self, values: Params<'_>) -> Result<()> {
        if values.len() != self.columns {
            let reason = format!(
                "a row of {} columns, {} values were given",
                self.columns,
                values.len()
            );
            let subject = &self.lane.shared.dialer.subject;
            return Err(Error::new(ErrorKind::Conversion, "copy", subject, reason));
        }
        // The server ends a copy that takes too long, and the driver does not tell before the end.
        if Instant::now() >= self.deadline {
            return Err(self.too_long());
        }
        let write = self.writer.as_mut().write(values);
        // The timer is made only when a row has to wait.
        let result = tokio::select! {
            biased;
            result = write => Some(result),
            () = async { tokio::time::sleep_until(self.deadline.into()).await } => None,
        };
        match result {
            Some(result) => result.map_err(|error| self.lane.failed("copy", error))?,
            None => return Err(self.too_long()),
        }
        self.rows += 1;
        Ok(())
    }

    fn too_long(&self) -> Error {
        too_long(&self.lane)
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
            deadline,
            ..
        } = self;
        match tokio::time::timeout_at(deadline.into(), writer.as_mut().finish()).await {
            Ok(result) => {
                flight.answered();
                result.map_err(|error| lane.failed("copy", error))
            }
            Err(_) => Err(too_long(&lane)),
        }
    }
}

fn too_long(lane: &Lane<'_>) -> Error {
    let reason = format!("not done within {:?} (DB_STATEMENT_TIMEOUT)", lane.limit());
    lane.shared.instruments.statement_timed_out();
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
        let deadline = Instant::now() + lane.limit();
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
        Ok(CopyIn {
            writer: Box::pin(BinaryCopyInWriter::new(sink, &types)),
            flight: lane.side.in_flight(),
            lane,
            deadline,
            columns: types.len(),
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
