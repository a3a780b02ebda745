//! One connection to one broker: frames out, frames in, one request at a time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, StrBytes, encode_request_header_into_buffer,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;

use super::api::Call;
use super::error::{ClientError, code};
use super::sasl;
use crate::kafka::access::{Access, Endpoint};

/// How long a connection attempt may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response that is read, bytes. Cluster metadata is the largest that we ask for, about
/// 60 bytes per partition.
const RESPONSE_BYTES_MAX: usize = 16 * 1_024 * 1_024;
const CLIENT_ID: StrBytes = StrBytes::from_static_str("millstream");

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that is logged in. After an error, or a call that was dropped before its end, it
/// must be thrown away: an answer may still be on its way.
pub(super) struct Connection {
    broker: String,
    stream: Box<dyn Stream>,
    correlation: i32,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
}

impl Connection {
    /// Connects, shakes hands and logs in.
    ///
    /// # Errors
    /// Any step fails, or they take longer than [`CONNECT_TIMEOUT`] together.
    pub(super) async fn open(
        endpoint: &Endpoint,
        access: &Access,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, ClientError> {
        let broker = endpoint.to_string();
        tokio::time::timeout(CONNECT_TIMEOUT, Self::open_unbounded(endpoint, access, tls))
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Timeout {
                    broker,
                    request: "the connection",
                    after: CONNECT_TIMEOUT,
                })
            })
    }

    async fn open_unbounded(
        endpoint: &Endpoint,
        access: &Access,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, ClientError> {
        let broker = endpoint.to_string();
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|error| transport(&broker, &error))?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(tls) => encrypt(tls, endpoint, tcp).await?,
        };
        let mut connection = Self {
            broker,
            stream,
            correlation: 0,
            versions: BTreeMap::new(),
        };
        connection.learn_versions().await?;
        if let Some(sasl) = &access.sasl {
            sasl::login(&mut connection, sasl).await?;
        }
        Ok(connection)
    }

    /// Address of the broker, for messages.
    pub(super) fn broker(&self) -> &str {
        &self.broker
    }

    /// Sends a request in the highest version that both sides and `versions` have, and waits for
    /// its response.
    ///
    /// # Errors
    /// No such version, no answer, or not an answer.
    pub(super) async fn call<R: Call>(
        &mut self,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Result<R::Response, ClientError> {
        let version = self
            .versions
            .get(&(R::KEY as i16))
            .and_then(|offered| common_version(offered, &versions))
            .ok_or_else(|| ClientError::Unsupported {
                broker: self.broker.clone(),
                request: R::NAME,
            })?;
        let mut response = self.exchange(request, version).await?;
        R::Response::decode(&mut response, version).map_err(|error| self.malformed(R::NAME, &error))
    }

    async fn learn_versions(&mut self) -> Result<(), ClientError> {
        const VERSION: i16 = 3;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(CLIENT_ID)
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut response = self.exchange(&request, VERSION).await?;
        let error_code = if response.remaining() >= 2 {
            response.clone().get_i16()
        } else {
            code::UNKNOWN_SERVER_ERROR
        };
        if error_code != code::NONE {
            // A broker that does not know version 3 answers in version 0, which also begins
            // with the error code.
            return Err(ClientError::Unsupported {
                broker: self.broker.clone(),
                request: ApiVersionsRequest::NAME,
            });
        }
        let response = ApiVersionsResponse::decode(&mut response, VERSION)
            .map_err(|error| self.malformed(ApiVersionsRequest::NAME, &error))?;
        self.versions = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version..=api.max_version))
            .collect();
        Ok(())
    }

    /// Sends a request and reads its response, without the response's header.
    async fn exchange<R: Call>(&mut self, request: &R, version: i16) -> Result<Bytes, ClientError> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = encode(request, version, self.correlation)
            .map_err(|error| self.malformed(R::NAME, &error))?;
        let answer = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await?;
            fail::fail_point!("kafka-commit::sent", R::NAME == "EndTxn", |_| {
                std::process::abort()
            });
            read_frame(&mut self.stream).await
        };
        let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(io_error(&self.broker, &error)),
            Err(_) => {
                return Err(ClientError::Timeout {
                    broker: self.broker.clone(),
                    request: R::NAME,
                    after: REQUEST_TIMEOUT,
                });
            }
        };
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut response, header_version)
            .map_err(|error| self.malformed(R::NAME, &error))?;
        if header.correlation_id != self.correlation {
            let reason = format!(
                "it answers request {}, not {}",
                header.correlation_id, self.correlation
            );
            return Err(self.malformed(R::NAME, &reason));
        }
        Ok(response)
    }

    fn malformed(&self, request: &'static str, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Malformed {
            broker: self.broker.clone(),
            request,
            reason: reason.to_string().trim().to_owned(),
        }
    }
}

fn encode<R: Call>(request: &R, version: i16, correlation: i32) -> Result<Bytes, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(CLIENT_ID));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    encode_request_header_into_buffer(&mut frame, &header).map_err(|error| error.to_string())?;
    request
        .encode(&mut frame, version)
        .map_err(|error| error.to_string())?;
    let length = i32::try_from(frame.len() - 4).map_err(|_| "the request is too large")?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

async fn read_frame(stream: &mut Box<dyn Stream>) -> std::io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= RESPONSE_BYTES_MAX)
        .ok_or_else(|| {
            std::io::Error::other(format!(
                "a response claims {length} bytes; at most {RESPONSE_BYTES_MAX} are read. Is this \
                 a Kafka listener, and with the security that the job file says?"
            ))
        })?;
    let mut frame = BytesMut::zeroed(length);
    stream.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

async fn encrypt(
    tls: &TlsConnector,
    endpoint: &Endpoint,
    tcp: TcpStream,
) -> Result<Box<dyn Stream>, ClientError> {
    let broker = endpoint.to_string();
    let name =
        ServerName::try_from(endpoint.host.clone()).map_err(|error| transport(&broker, &error))?;
    match tls.connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(handshake_error(broker, &error)),
    }
}

/// Whatever rustls itself finds wrong with a handshake is a refused connection; one that breaks
/// off is a broken one.
fn handshake_error(broker: String, error: &std::io::Error) -> ClientError {
    let reason = format!("the TLS handshake failed: {error}");
    if tls_error(error).is_some() {
        ClientError::Authentication { broker, reason }
    } else {
        ClientError::Transport { broker, reason }
    }
}

/// With TLS 1.3 a broker that refuses our certificate says so only after the handshake.
fn io_error(broker: &str, error: &std::io::Error) -> ClientError {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(_)) => ClientError::Authentication {
            broker: broker.to_owned(),
            reason: error.to_string(),
        },
        _ => transport(broker, error),
    }
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn transport(broker: &str, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Transport {
        broker: broker.to_owned(),
        reason: error.to_string(),
    }
}

fn common_version(offered: &RangeInclusive<i16>, ours: &RangeInclusive<i16>) -> Option<i16> {
    let version = *offered.end().min(ours.end());
    (offered.contains(&version) && ours.contains(&version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(common_version(&(0..=5), &(0..=4)), Some(4));
        assert_eq!(common_version(&(0..=3), &(0..=4)), Some(3));
        assert_eq!(common_version(&(1..=3), &(4..=5)), None);
        assert_eq!(common_version(&(6..=7), &(4..=5)), None);
    }
}
