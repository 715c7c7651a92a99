//! The storage's objects over HTTP, for adapters whose URLs lead to this process.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_LENGTH;
use zhuji_storage::Storage;
use zhuji_storage::serve::{ObjectServer, ServeError};

use crate::http::Problem;

/// Where the adapter's URLs lead.
const MOUNT: &str = "/uploads/";

/// The route of the objects; none if the back end serves them itself, as OSS does.
pub(crate) fn uploads(storage: &Storage) -> Router {
    match ObjectServer::new(storage) {
        Ok(server) => Router::new()
            .route("/uploads/{*key}", get(serve).put(serve).options(serve))
            .with_state(server),
        Err(_) => Router::new(),
    }
}

async fn serve(State(server): State<ObjectServer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // As it came: decoding is the server's business, and only once.
    let key = parts
        .uri
        .path()
        .strip_prefix(MOUNT)
        .unwrap_or_default()
        .to_owned();
    match server.serve(&key, &parts, body.into_data_stream()).await {
        Err(refusal) => refuse(&refusal),
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let length = body.length();
            let mut response = Response::from_parts(parts, Body::from_stream(body));
            response
                .headers_mut()
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| length.into());
            response
        }
    }
}

fn refuse(refusal: &ServeError) -> Response {
    let mut response = Problem::new(refusal.status(), refusal.detail().to_owned()).into_response();
    response.headers_mut().extend(refusal.headers().clone());
    response
}
