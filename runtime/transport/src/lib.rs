//! Connections between the processes of a job: coordinator and workers, and workers with each other.
//! In the clear, or by TLS.
//!
//! With TLS both ends show a certificate. Each takes the other for a process of its own job if the
//! certificate is signed by the authority that both know, and is for the name that its own is for.
//! Addresses do not matter: pods come and go with theirs.

mod files;
mod stream;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CommonState, client};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use files::{AUTHORITY, CERTIFICATE, KEY, TlsError};
pub use stream::Stream;

use files::Material;

/// How the processes of a job connect.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Where the files for TLS are. They are read again for every connection, so that a renewed
    /// certificate needs no restart.
    tls: Option<Arc<Path>>,
}

impl Transport {
    /// Without TLS.
    pub const fn plain() -> Self {
        Self { tls: None }
    }

    /// By TLS, with `ca.crt`, `tls.crt` and `tls.key` in a directory, as a Kubernetes Secret of the type
    /// `kubernetes.io/tls` is mounted.
    ///
    /// # Errors
    /// A file cannot be read, or they do not go together.
    pub fn tls(directory: &Path) -> Result<Self, TlsError> {
        Material::read(directory)?;
        Ok(Self {
            tls: Some(directory.into()),
        })
    }

    /// Connects to another process of the job at `host:port`.
    ///
    /// # Errors
    /// Nobody answers there, or it is no process of the job.
    pub async fn connect(&self, address: &str) -> io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(directory) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let Material { client, name, .. } = Material::read(directory).map_err(io::Error::other)?;
        let stream = TlsConnector::from(client)
            .connect(name, stream)
            .await
            .map_err(|error| handshake(&error))?;
        Ok(Stream::Tls(Box::new(TlsStream::from(stream))))
    }

    /// Takes a connection that another process has made.
    ///
    /// # Errors
    /// It is no process of the job.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let Some(directory) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let Material { server, name, .. } = Material::read(directory).map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(server)
            .accept(stream)
            .await
            .map_err(|error| handshake(&error))?;
        check_name(stream.get_ref().1, &name).map_err(|error| handshake(&error))?;
        Ok(Stream::Tls(Box::new(TlsStream::from(stream))))
    }
}

/// What a client does with a server's certificate, done with a client's.
fn check_name(connection: &CommonState, name: &ServerName<'_>) -> io::Result<()> {
    let certificate = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or_else(|| io::Error::other("it shows no certificate"))?;
    let certificate = ParsedCertificate::try_from(certificate).map_err(io::Error::other)?;
    client::verify_server_name(&certificate, name).map_err(io::Error::other)
}

fn handshake(error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            "; do all processes of the job use TLS, with certificates of one authority and name?"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("TLS: {error}{hint}"))
}

#[cfg(test)]
mod tests;
