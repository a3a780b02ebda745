//! TLS to the brokers by rustls, from the same PEM files that librdkafka is given.

use std::sync::Arc;

use millstream_connect::Result;
use millstream_spec::connector::kafka::Tls;
use millstream_types::Failure;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::kafka::access::read_secret;
use crate::kafka::failure;

/// Reads the files and makes a connector. The broker's name is always checked.
///
/// # Errors
/// A file cannot be read or holds no certificate or key.
pub(super) fn connector(tls: &Tls) -> Result<TlsConnector> {
    let roots = match &tls.ca_file {
        Some(file) => roots_of(file)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("tls", &error))?
        .with_root_certificates(roots);
    let config = match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private_key = PrivateKeyDer::from_pem_slice(&read_secret(key)?)
                .map_err(|error| unusable(key, &error))?;
            builder
                .with_client_auth_cert(chain, private_key)
                .map_err(|error| unusable(certificate, &error))?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(file), None) => return Err(failure::secret_file(file, "tls.keyFile is missing")),
        (None, Some(file)) => {
            return Err(failure::secret_file(file, "tls.certificateFile is missing"));
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_of(file: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(file, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(failure::secret_file(
            "tls.caFile",
            "it is not given, and the system has no certificate authorities",
        ));
    }
    Ok(roots)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(&read_secret(file)?)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unusable(file, &error))?;
    if certificates.is_empty() {
        return Err(failure::secret_file(file, "it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn unusable(file: &str, error: &dyn std::fmt::Display) -> Failure {
    failure::secret_file(file, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(tls: &Tls) -> String {
        match connector(tls) {
            Ok(_) => panic!("it is accepted"),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let tls = Tls {
            ca_file: Some(path.clone()),
            ..Tls::default()
        };
        let message = error_of(&tls);
        assert!(message.contains(&path), "{message}");
        assert!(message.contains("no PEM certificate"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let tls = Tls {
            ca_file: Some("/nowhere/ca.pem".into()),
            ..Tls::default()
        };
        assert!(error_of(&tls).contains("/nowhere/ca.pem"));
    }
}
