//! Taking rights away from everybody, and giving them back.

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::wire::call;
use super::{Broker, BrokerOptions};

const VERSION: i16 = 1;
// Numbers of Kafka's protocol.
const TRANSACTIONAL_ID: i8 = 5;
const PREFIXED: i8 = 4;
const WRITE: i8 = 4;
const DENY: i8 = 2;
/// Who has not logged in.
const ANONYMOUS: &str = "User:ANONYMOUS";

impl BrokerOptions {
    /// Everybody may do everything until a right is taken away.
    pub fn with_acls(self) -> Self {
        let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        self.property("authorizer.class.name", authorizer)
            .property("allow.everyone.if.no.acl.found", "true")
    }
}

impl Broker {
    /// Nobody may use transactional ids that begin with `prefix` any more.
    #[track_caller]
    pub fn deny_transactions(&self, prefix: &str) {
        let denial = AclCreation::default()
            .with_resource_type(TRANSACTIONAL_ID)
            .with_resource_name(text(prefix))
            .with_resource_pattern_type(PREFIXED)
            .with_principal(text(ANONYMOUS))
            .with_host(text("*"))
            .with_operation(WRITE)
            .with_permission_type(DENY);
        let request = CreateAclsRequest::default().with_creations(vec![denial]);
        let answer = call(&self.bootstrap(), &request, VERSION)
            .unwrap_or_else(|error| panic!("cannot take a right away: {error}"));
        let codes: Vec<i16> = answer
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [0], "CreateAcls was refused: {:?}", answer.results);
    }

    /// Ends what [`deny_transactions`](Self::deny_transactions) began.
    #[track_caller]
    pub fn allow_transactions(&self, prefix: &str) {
        let denial = DeleteAclsFilter::default()
            .with_resource_type_filter(TRANSACTIONAL_ID)
            .with_resource_name_filter(Some(text(prefix)))
            .with_pattern_type_filter(PREFIXED)
            .with_principal_filter(Some(text(ANONYMOUS)))
            .with_host_filter(Some(text("*")))
            .with_operation(WRITE)
            .with_permission_type(DENY);
        let request = DeleteAclsRequest::default().with_filters(vec![denial]);
        let answer = call(&self.bootstrap(), &request, VERSION)
            .unwrap_or_else(|error| panic!("cannot give a right back: {error}"));
        let deleted: usize = answer
            .filter_results
            .iter()
            .map(|result| result.matching_acls.len())
            .sum();
        assert_eq!(deleted, 1, "DeleteAcls: {:?}", answer.filter_results);
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
