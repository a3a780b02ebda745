//! The REST interface, for people, scripts and the operator. `docs/rest-api.md` explains it,
//! `docs/reference/openapi.json` is its description for machines, and the console shows it in a browser.

mod answer;
mod console;
mod openapi;
mod origin;
mod routes;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::Handle;
pub use openapi::document as openapi;

/// All routes of a coordinator. The caller serves them where it likes.
///
/// Every answer of an error has an [`ApiError`](millstream_types::api::ApiError) as its body.
pub fn router(handle: &Handle) -> Router {
    Router::new()
        .route("/v1/job", get(routes::job))
        .route("/v1/job/graph", get(routes::graph))
        .route("/v1/job/config", get(routes::configuration))
        .route("/v1/job/failures", get(routes::failures))
        .route("/v1/checkpoints", get(routes::checkpoints))
        .route("/v1/checkpoints/{id}", get(routes::checkpoint))
        .route("/v1/savepoints", post(routes::take_savepoint))
        .route("/v1/savepoints/{name}", get(routes::savepoint))
        .route("/v1/stop", post(routes::stop))
        .route("/v1/cancel", post(routes::cancel))
        .route("/v1/audit", get(routes::audit))
        .route("/v1/openapi.json", get(routes::openapi))
        .route("/metrics", get(routes::metrics))
        .route("/healthz", get(routes::healthz))
        .route("/readyz", get(routes::readyz))
        .merge(console::routes())
        .method_not_allowed_fallback(answer::wrong_method)
        .fallback(answer::no_such_route)
        .layer(middleware::from_fn(origin::refuse_other_pages))
        .with_state(handle.clone())
}
