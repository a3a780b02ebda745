//! The address of a service that speaks the language of S3.

use http::uri::Authority;

use crate::error::{Error, Result};
use crate::storage::location::without_secret;

/// Checks the address of a service before anything is asked there.
///
/// # Errors
/// [`Error::Address`] of the storage: there is no service to ask.
pub(crate) fn check_endpoint(storage: &str, endpoint: Option<&str>) -> Result<()> {
    let Some(endpoint) = endpoint else {
        return Ok(());
    };
    let rest = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let is_address = |host: &str| {
        let authority = host.parse::<Authority>().ok();
        authority.is_some_and(|it| it.port_u16().is_some() || it.host().len() == host.len())
    };
    let reason = match host {
        Some(host) if host.contains('@') => "contains a user name or keys: leave them out",
        Some(_) if endpoint.contains(['?', '#']) => {
            "has a query behind `?`, which may hold keys: leave it out"
        }
        Some(host) if is_address(host) => return Ok(()),
        _ => "is not an address: write http://host:port or https://host, or unset the variable",
    };
    Err(Error::Address {
        uri: without_secret(storage),
        reason: format!(
            "the endpoint of the service, `{}`, {reason}. It is read from \
             MILLSTREAM_S3_ENDPOINT, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, the first that is \
             set",
            without_secret(endpoint)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_address_names_the_variables() {
        for endpoint in [
            "http://127.0.0.1:9000",
            "https://s3.example.com/",
            "http://[::1]:9000",
        ] {
            assert!(
                check_endpoint("s3://b", Some(endpoint)).is_ok(),
                "{endpoint}"
            );
        }
        for endpoint in [
            "",
            "127.0.0.1:9000",
            "http://",
            "http://a b",
            "ftp://host",
            "http://h:x",
        ] {
            let error = check_endpoint("s3://b", Some(endpoint))
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("`{endpoint}`")), "{error}");
            assert!(error.contains("AWS_ENDPOINT_URL"), "{error}");
        }
        let error = check_endpoint("s3://b", Some("http://user:pass@host"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("user name") && !error.contains("pass@"),
            "{error}"
        );
        for endpoint in [
            "http://host?X-Amz-Signature=secret",
            "https://host/a?b=secret",
        ] {
            let error = check_endpoint("s3://b", Some(endpoint))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("query") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
