//! A small HTTP server for the objects of adapters that don't serve themselves.

use std::convert::Infallible;

use ::http::{Request, Response};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, BodyStream, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use zhuji_storage::{Storage, serve::ObjectServer};

type Body = UnsyncBoxBody<Bytes, zhuji_storage::Error>;

/// Answers an adapter's signed URLs on a free port of this machine, until it is dropped.
///
/// The address is needed before the store exists, because the store writes it into URLs: bind first, then serve.
#[derive(Debug)]
pub struct ObjectHttp {
    listener: Option<TcpListener>,
    base_url: String,
    server: Option<JoinHandle<()>>,
}

impl ObjectHttp {
    /// Takes a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn bind() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base_url = format!("http://{}/uploads", listener.local_addr()?);
        Ok(Self {
            listener: Some(listener),
            base_url,
            server: None,
        })
    }

    /// What the store has to be given as the base of its URLs.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Starts answering with the objects of `storage`.
    ///
    /// # Errors
    /// If the store's URLs lead elsewhere.
    pub fn serve(&mut self, storage: &Storage) -> Result<(), zhuji_storage::Error> {
        self.serve_with(ObjectServer::new(storage)?);
        Ok(())
    }

    /// Starts answering with this server.
    pub fn serve_with(&mut self, server: ObjectServer) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        self.server = Some(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request| answer(server.clone(), request));
                    // A client that hangs up is no concern of the test server.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), answer)
                        .await;
                });
            }
        }));
    }
}

impl Drop for ObjectHttp {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn answer(server: ObjectServer, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = BodyStream::new(body).try_filter_map(|frame| std::future::ready(Ok(frame.into_data().ok())));
    let key = parts.uri.path().strip_prefix("/uploads/").unwrap_or_default();
    let response = match server.serve(key, &parts, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    Ok(response.map(|body| StreamBody::new(body.map_ok(Frame::data)).boxed_unsync()))
}
