//! The console: a page for browsers that shows what the REST interface answers, and nothing else. Its
//! files lie in the binary; addresses in them are relative, so that it works behind a proxy's prefix.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use millstream_types::ErrorCode;

use super::answer::Refusal;
use crate::Handle;

const PAGE: &str = include_str!("../../console/index.html");
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of every file beside the page.
const FILES: &[(&str, &str, &str)] = &[
    ("app.js", JAVASCRIPT, include_str!("../../console/app.js")),
    (
        "checkpoints.js",
        JAVASCRIPT,
        include_str!("../../console/checkpoints.js"),
    ),
    (
        "configuration.js",
        JAVASCRIPT,
        include_str!("../../console/configuration.js"),
    ),
    (
        "console.css",
        "text/css; charset=utf-8",
        include_str!("../../console/console.css"),
    ),
    ("dom.js", JAVASCRIPT, include_str!("../../console/dom.js")),
    (
        "failures.js",
        JAVASCRIPT,
        include_str!("../../console/failures.js"),
    ),
    (
        "format.js",
        JAVASCRIPT,
        include_str!("../../console/format.js"),
    ),
    (
        "graph.js",
        JAVASCRIPT,
        include_str!("../../console/graph.js"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../../console/icon.svg"),
    ),
    (
        "layout.js",
        JAVASCRIPT,
        include_str!("../../console/layout.js"),
    ),
    ("live.js", JAVASCRIPT, include_str!("../../console/live.js")),
    ("load.js", JAVASCRIPT, include_str!("../../console/load.js")),
    (
        "markdown.js",
        JAVASCRIPT,
        include_str!("../../console/markdown.js"),
    ),
    (
        "savepoint.js",
        JAVASCRIPT,
        include_str!("../../console/savepoint.js"),
    ),
    (
        "sources.js",
        JAVASCRIPT,
        include_str!("../../console/sources.js"),
    ),
    (
        "state.js",
        JAVASCRIPT,
        include_str!("../../console/state.js"),
    ),
    (
        "theme.js",
        JAVASCRIPT,
        include_str!("../../console/theme.js"),
    ),
    (
        "vertex.js",
        JAVASCRIPT,
        include_str!("../../console/vertex.js"),
    ),
];

/// Nothing comes from elsewhere, no other site frames the page, and no text becomes a program.
const SAFE: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    // The next coordinator may have another version.
    (header::CACHE_CONTROL, "no-cache"),
];

pub(super) fn routes() -> Router<Handle> {
    Router::new()
        .route("/", get(page))
        .route("/console", get(|| async { Redirect::permanent("./") }))
        .route("/console/", get(|| async { Redirect::permanent("../") }))
        .route("/console/{file}", get(file))
        .route("/console/errors/{code}", get(error))
}

async fn page() -> Response {
    answer("text/html; charset=utf-8", PAGE)
}

async fn file(Path(name): Path<String>) -> Result<Response, Refusal> {
    let mut files = FILES.iter();
    match files.find(|(file, ..)| *file == name) {
        Some((_, kind, content)) => Ok(answer(kind, content)),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("the console has no file `{name}`; it begins at `/`"),
        )),
    }
}

/// The page of an error, by its code or its name.
async fn error(Path(named): Path<String>) -> Result<Response, Refusal> {
    let mut codes = ErrorCode::ALL.iter();
    match codes.find(|code| code.code() == named || code.name() == named) {
        Some(code) => Ok(answer("text/markdown; charset=utf-8", code.page())),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("this coordinator knows no error `{named}`"),
        )),
    }
}

fn answer(kind: &'static str, content: &'static str) -> Response {
    (SAFE, [(header::CONTENT_TYPE, kind)], content).into_response()
}
