//! Requests in Kafka's own protocol, for what client libraries do not offer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::{
    ApiKey, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, ListTransactionsRequest,
    ListTransactionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// Longer than any request here takes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A broker of a test answers with far less.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Why there is no answer.
pub(super) type NoAnswer = Box<dyn std::error::Error>;

/// A request and what answers it.
pub(super) trait Call: Encodable + HeaderVersion {
    /// Its number.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Decodable + HeaderVersion;
}

macro_rules! calls {
    ($($name:ident: $request:ident => $response:ident),* $(,)?) => {
        $(impl Call for $request {
            const KEY: ApiKey = ApiKey::$name;
            type Response = $response;
        })*
    };
}

calls! {
    CreateAcls: CreateAclsRequest => CreateAclsResponse,
    DeleteAcls: DeleteAclsRequest => DeleteAclsResponse,
    DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse,
    EndTxn: EndTxnRequest => EndTxnResponse,
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
    ListTransactions: ListTransactionsRequest => ListTransactionsResponse,
}

/// Sends one request on a connection of its own and waits for the answer.
pub(super) fn call<R: Call>(
    broker: &str,
    request: &R,
    version: i16,
) -> Result<R::Response, NoAnswer> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&frame(request, version)?)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MAX_ANSWER_BYTES {
        return Err(format!("an answer of {length} bytes").into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer = answer.as_slice();
    ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
    Ok(R::Response::decode(&mut answer, version)?)
}

fn frame<R: Call>(request: &R, version: i16) -> Result<Vec<u8>, NoAnswer> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY as i16)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("tests")));
    let mut message = Vec::new();
    header.encode(&mut message, R::header_version(version))?;
    request.encode(&mut message, version)?;
    let mut framed = u32::try_from(message.len())?.to_be_bytes().to_vec();
    framed.append(&mut message);
    Ok(framed)
}
