//! TLS to the server by rustls.

use std::fs;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use millstream_spec::connector::Tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

/// Makes connections that check the server's name.
#[derive(Clone)]
pub(crate) struct Rustls(Arc<ClientConfig>);

impl Rustls {
    /// Reads the files.
    ///
    /// # Errors
    /// The name of the file, and why it cannot be used.
    pub(crate) fn new(tls: &Tls) -> Result<Self, String> {
        let roots = match &tls.ca_file {
            Some(file) => roots_of(file)?,
            None => system_roots()?,
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match (&tls.certificate_file, &tls.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let private_key = PrivateKeyDer::from_pem_slice(&read_file(key)?)
                    .map_err(|error| format!("{key}: {error}"))?;
                builder
                    .with_client_auth_cert(chain, private_key)
                    .map_err(|error| format!("{certificate}: {error}"))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err("tls.certificateFile and tls.keyFile go together".to_owned()),
        };
        Ok(Self(Arc::new(config)))
    }
}

/// Reads a small file.
///
/// # Errors
/// Its name, and why it cannot be read.
pub(crate) fn read_file(file: &str) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{file}: {error}");
    let length = fs::metadata(file).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{file}: it is larger than {FILE_BYTES_MAX} bytes"));
    }
    fs::read(file).map_err(failed)
}

fn roots_of(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("tls.caFile is not given, and the system has no authorities".to_owned());
    }
    Ok(roots)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read_file(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("{file}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{file}: it holds no PEM certificate"));
    }
    Ok(certificates)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Rustls {
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(domain.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        Ok(Handshake { connector, name })
    }
}

/// A handshake with a server of this name.
pub(crate) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let handshake = self.connector.connect(self.name, stream);
        Box::pin(async move { Ok(Stream(handshake.await?)) })
    }
}

/// An encrypted stream.
pub(crate) struct Stream<S>(client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
