//! Background work on PostgreSQL, enqueued in the transaction that causes it.
