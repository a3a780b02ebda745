//! The REST interface, for people, scripts and the operator. `docs/rest-api.md` explains it,
//! `docs/reference/openapi.json` is its description for machines.

mod answer;
mod openapi;
mod routes;

use axum::Router;
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
        .method_not_allowed_fallback(answer::wrong_method)
        .fallback(answer::no_such_route)
        .with_state(handle.clone())
}
