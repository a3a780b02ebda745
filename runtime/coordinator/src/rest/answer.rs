//! Answers, and errors as answers.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use millstream_types::api::ApiError;
use serde::de::DeserializeOwned;

use crate::RequestError;

/// An answer with a status of 400 or above.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: ApiError,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ApiError {
                code: None,
                message: message.into(),
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let status = match &error {
            RequestError::Invalid(_) => StatusCode::BAD_REQUEST,
            RequestError::Conflict(_) => StatusCode::CONFLICT,
            RequestError::Store(_) => StatusCode::BAD_GATEWAY,
            RequestError::Ended => StatusCode::GONE,
        };
        let code = match &error {
            RequestError::Store(failure) => Some(failure.code.code().to_owned()),
            _ => None,
        };
        Self {
            status,
            body: ApiError {
                code,
                message: error.to_string(),
            },
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        if let JsonRejection::MissingJsonContentType(_) = rejection {
            let message = "send JSON, and say so: `-H 'Content-Type: application/json' -d '{}'` with curl; \
                `{}` takes the defaults, GET /v1/openapi.json describes what else there is";
            return Self::new(rejection.status(), message);
        }
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// A JSON body, or a [`Refusal`] that says what is wrong with it.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// A part of the path, or a [`Refusal`] that says what is wrong with it.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let axum::extract::Path(part) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(part))
    }
}

pub(super) async fn no_such_route(uri: Uri) -> Refusal {
    let path = uri.path();
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there is no `{path}`; GET /v1/openapi.json describes what there is"),
    )
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path = uri.path();
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("`{path}` does not take {method}; GET /v1/openapi.json describes what it takes"),
    )
}
