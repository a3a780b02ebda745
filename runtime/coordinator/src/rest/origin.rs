//! Keeps pages of other sites, which run in the browser of somebody who reaches a coordinator, from
//! asking it to do anything.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Refusal;

/// Refuses a request that would change something and that a browser sends for a page of another
/// site: browsers say of each such request where its page came from. Programs say nothing of it.
pub(super) async fn refuse_other_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_own_page(request.headers()) {
        return next.run(request).await;
    }
    let message = "a page of another site may not ask this coordinator for anything; use the console \
        that it serves at `/`, `kubectl streamjob`, or curl";
    Refusal::new(StatusCode::FORBIDDEN, message).into_response()
}

fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let Some(origin) = text(header::ORIGIN) else {
        return true;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == text(header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_of_the_same_address_is_ones_own() {
        for (origin, own) in [
            (None, true),
            (Some("http://127.0.0.1:8081"), true),
            (Some("https://127.0.0.1:8081"), true),
            (Some("http://127.0.0.1:8082"), false),
            (Some("http://example.com"), false),
            (Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8081".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_own_page(&headers), own, "{origin:?}");
        }
    }
}
