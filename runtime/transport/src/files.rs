//! The files that TLS needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_types::{ErrorCode, ErrorKind, Failure};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use webpki::EndEntityCert;

/// The authorities that certificates of the job's processes are signed by.
pub const AUTHORITY: &str = "ca.crt";
/// The certificate of this process, and those between it and the authority.
pub const CERTIFICATE: &str = "tls.crt";
/// Its private key.
pub const KEY: &str = "tls.key";

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or not readable.
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::new(
            ErrorCode::TlsFiles,
            ErrorKind::InvalidJob,
            error.to_string(),
        )
    }
}

/// What is made of the files.
pub(crate) struct Material {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// The name that the certificate is for, and that those of the others must be for.
    pub(crate) name: ServerName<'static>,
}

impl Material {
    pub(crate) fn read(directory: &Path) -> Result<Self, TlsError> {
        let chain = certificates(&directory.join(CERTIFICATE))?;
        let name = name(&directory.join(CERTIFICATE), &chain)?;
        let key = key(&directory.join(KEY))?;
        let authority = directory.join(AUTHORITY);
        let roots = Arc::new(roots(&authority)?);
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error: VerifierBuilderError| unusable(&authority, &error))?;
        let key_file = directory.join(KEY);
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&authority, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable(&key_file, &error))?;
        let client = client(provider, roots)
            .map_err(|error| unusable(&authority, &error))?
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&key_file, &error))?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            name,
        })
    }
}

type WantsClientCertificate = tokio_rustls::rustls::ConfigBuilder<
    ClientConfig,
    tokio_rustls::rustls::client::WantsClientCert,
>;

fn client(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<WantsClientCertificate, tokio_rustls::rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider);
    Ok(builder
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

/// The first name that a certificate is for.
fn name(path: &Path, chain: &[CertificateDer<'static>]) -> Result<ServerName<'static>, TlsError> {
    let own = chain
        .first()
        .ok_or_else(|| unusable(path, &"it holds no PEM certificate"))?;
    let own = EndEntityCert::try_from(own).map_err(|error| unusable(path, &error))?;
    let name = own.valid_dns_names().next().ok_or_else(|| {
        unusable(
            path,
            &"the certificate is for no DNS name (subjectAltName): processes know each other by it",
        )
    })?;
    ServerName::try_from(name.to_owned()).map_err(|error| unusable(path, &error))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(path, &error))?;
    }
    if roots.is_empty() {
        return Err(unusable(path, &"it holds no PEM certificate"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| unusable(path, &error))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => unusable(path, &"it holds no PEM private key"),
        error => unusable(path, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
