//! The REST interface, for people, scripts and the operator.

use axum::Router;

use crate::Handle;

/// All routes of a coordinator. The caller serves them where it likes.
pub fn router(handle: &Handle) -> Router {
    let _ = handle;
    Router::new()
}
