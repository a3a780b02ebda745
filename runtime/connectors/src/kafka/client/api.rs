//! The requests that this client sends, each with its number, name and response.

use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListTransactionsRequest, ListTransactionsResponse,
    MetadataRequest, MetadataResponse, OffsetFetchRequest, OffsetFetchResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

/// A request that can be sent.
pub(super) trait Call: Encodable + HeaderVersion {
    /// Its number.
    const KEY: ApiKey;
    /// Its name in Kafka's documentation.
    const NAME: &'static str;
    /// What answers it.
    type Response: Decodable + HeaderVersion;
}

macro_rules! calls {
    ($($name:ident: $request:ident => $response:ident),* $(,)?) => {
        $(impl Call for $request {
            const KEY: ApiKey = ApiKey::$name;
            const NAME: &'static str = stringify!($name);
            type Response = $response;
        })*
    };
}

calls! {
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
    DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
    DescribeProducers: DescribeProducersRequest => DescribeProducersResponse,
    DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse,
    EndTxn: EndTxnRequest => EndTxnResponse,
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
    InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
    ListOffsets: ListOffsetsRequest => ListOffsetsResponse,
    ListTransactions: ListTransactionsRequest => ListTransactionsResponse,
    Metadata: MetadataRequest => MetadataResponse,
    OffsetFetch: OffsetFetchRequest => OffsetFetchResponse,
    SaslAuthenticate: SaslAuthenticateRequest => SaslAuthenticateResponse,
    SaslHandshake: SaslHandshakeRequest => SaslHandshakeResponse,
}
