use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use zhuji_db_pool::DbPool;
use zhuji_testkit::{TestDatabase, TestPostgres};

use crate::{config, eventually, pool};

#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

pub(crate) fn capture() -> (Captured, tracing::subscriber::DefaultGuard) {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(captured.clone())
        .finish();
    (captured, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn more_than_four_fifths_of_the_connections_give_a_warning() {
    let (captured, _guard) = capture();
    let server = TestPostgres::options().max_connections(10).start().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 10)).await.unwrap();
    let monitor = pool.spawn_monitor_every(Duration::from_millis(50));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!captured.text().contains("more than 80 %"));

    let held = futures_util::future::join_all((0..8).map(|_| pool.get())).await;
    assert!(held.iter().all(Result::is_ok));
    eventually("the warning", async || captured.text().contains("more than 80 %")).await;
    let found = pool.server_connections().await.unwrap();
    assert_eq!((found.max, found.total), (10, 9));
    assert_eq!(found.by_database.get(database.name()), Some(&9));
    assert!(found.is_high());
    drop((held, monitor));
}

#[tokio::test]
async fn the_monitor_does_not_keep_the_pool_alive() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 2).await;
    let _monitor = pool.spawn_monitor_every(Duration::from_millis(10));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(pool);
    let other = crate::pool(&database, 1).await;
    eventually("its connections are closed", async || {
        other
            .server_connections()
            .await
            .unwrap()
            .by_database
            .get(database.name())
            == Some(&1)
    })
    .await;
}

#[tokio::test]
async fn notifications_arrive_and_a_lost_connection_is_told() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 2)).await.unwrap();
    let mut listener = pool.listen(&["jobs", "Odd \" name"]).await.unwrap();
    pool.execute("SELECT pg_notify('jobs', $1)", &[&"asl"])
        .await
        .unwrap();
    let heard = listener.recv().await.unwrap();
    assert_eq!((heard.channel.as_str(), heard.payload.as_str()), ("jobs", "asl"));
    server.stop_immediate().await;
    assert!(listener.recv().await.is_err());
}
