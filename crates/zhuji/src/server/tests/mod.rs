//! The server over real sockets.

mod answers;
mod hostile;
mod stopping;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zhuji_config::Secret;
use zhuji_health::HealthMonitor;

use super::{AdminToken, App, Endpoints, Listener, listen};
use crate::settings::HttpConfig;

struct TestServer {
    listener: Listener,
    app: App,
    endpoints: Arc<Endpoints>,
}

impl TestServer {
    async fn start(router: Router) -> Self {
        let config = HttpConfig {
            header_timeout: Duration::from_millis(600),
            body_idle_timeout: Duration::from_millis(600),
            stall_timeout: Duration::from_millis(600),
            ..HttpConfig::default()
        };
        let endpoints = Arc::new(Endpoints {
            admin_token: Some(Arc::new(AdminToken::new(Secret::new("the-token")))),
            ..Endpoints::default()
        });
        let app = App::new(endpoints.clone(), config.body_idle_timeout);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = listen(socket, app.clone(), &config).unwrap();
        app.open(router);
        Self {
            listener,
            app,
            endpoints,
        }
    }

    async fn with_health(router: Router) -> Self {
        let server = Self::start(router).await;
        let health = HealthMonitor::builder().version("1.2.3").start();
        health.mark_ready();
        server.endpoints.health.set(health).unwrap();
        server
    }

    fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
}

/// Sends bytes as they are and reads until the server closes.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("the server closes")
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
