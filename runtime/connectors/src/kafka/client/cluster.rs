//! What a cluster is: its id, brokers, topics and settings.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use millstream_connect::Result;
use millstream_types::Failure;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::{ClientError, code, describe_code};
use super::{Answer, Client};
use crate::kafka::access::Endpoint;
use crate::kafka::failure;

/// A topic, in the requests for settings.
const TOPIC_RESOURCE: i8 = 2;
/// A broker, in the requests for settings.
const BROKER_RESOURCE: i8 = 4;
/// What a broker without ids of topics says.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

const DESCRIBE_CONFIGS: RangeInclusive<i16> = 1..=4;

/// A cluster as one of its brokers sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Unique name of the cluster; empty for brokers that have none.
    pub(crate) id: String,
    /// Addresses by node id.
    pub(crate) brokers: BTreeMap<i32, Endpoint>,
    /// The topics that were asked for.
    pub(crate) topics: BTreeMap<String, std::result::Result<Topic, i16>>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Unique id: another one if the topic is deleted and made again.
    pub(crate) id: String,
    /// Node id of the leader by partition; −1 while there is none.
    pub(crate) leaders: BTreeMap<i32, i32>,
}

impl Topic {
    /// Its id, where brokers have such ids.
    pub(crate) fn unique_id(&self) -> Option<String> {
        Some(self.id.clone()).filter(|id| id != NO_ID)
    }
}

impl Client {
    /// Describes the cluster and these topics. Keeps trying until `connect_timeout`.
    ///
    /// # Errors
    /// No broker answers.
    pub(crate) async fn cluster(&self, topics: &[String]) -> Answer<Cluster> {
        let topics = topics.iter().map(|topic| {
            MetadataRequestTopic::default()
                .with_name(Some(TopicName(StrBytes::from_string(topic.clone()))))
        });
        let request = MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false);
        // Version 10 brought topic ids.
        let response = self.anywhere(&request, 10..=12).await?;
        let brokers = response.brokers.iter().map(|broker| {
            let endpoint = Endpoint {
                host: broker.host.to_string(),
                port: u16::try_from(broker.port).unwrap_or_default(),
            };
            (broker.node_id.0, endpoint)
        });
        let topics = response.topics.iter().filter_map(|topic| {
            let name = topic.name.as_ref()?.to_string();
            Some((name, read_topic(topic)))
        });
        Ok(Cluster {
            id: response
                .cluster_id
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            brokers: brokers.collect(),
            topics: topics.collect(),
        })
    }

    /// As [`cluster`](Self::cluster), and checks that every topic exists. A broker that has just
    /// started may not have heard of a topic yet, so another one is asked, until `connect_timeout`.
    /// That a topic is missing may pass where it `has_been` there before.
    ///
    /// # Errors
    /// No broker answers before `connect_timeout`, or a topic does not exist or may not be seen.
    pub(crate) async fn existing_topics(
        &self,
        topics: &[String],
        has_been: impl Fn(&str) -> bool,
    ) -> Result<Cluster> {
        let deadline = Instant::now() + self.access().connect_timeout;
        let mut backoff = Backoff::default();
        loop {
            let cluster = self
                .cluster(topics)
                .await
                .map_err(|error| self.failure(error))?;
            let Some((topic, answer)) = first_missing(&cluster, topics) else {
                return Ok(cluster);
            };
            let wait = backoff.next();
            if Instant::now() + wait >= deadline {
                return Err(self.no_topic(topic, answer, has_been(topic)));
            }
            tokio::time::sleep(wait).await;
            self.ask_another_server();
        }
    }

    /// What it means that a topic cannot be described, which may have been there before.
    pub(crate) fn no_topic(&self, topic: &str, answer: i16, has_been: bool) -> Failure {
        let servers = self.access().bootstrap();
        let answer_text = describe_code(answer);
        let is_missing = matches!(
            answer,
            code::UNKNOWN_TOPIC_OR_PARTITION
                | code::TOPIC_AUTHORIZATION_FAILED
                | code::INVALID_TOPIC_EXCEPTION
        );
        match (is_missing, has_been) {
            (true, false) => failure::topic_missing(topic, &servers, &answer_text),
            (true, true) => failure::topic_gone(topic, &servers, &answer_text),
            (false, _) => failure::broker(format!(
                "topic `{topic}` cannot be described: a broker of `{servers}` answers {answer_text}"
            )),
        }
    }

    /// A setting of one broker; `None` if the user may not see settings or there is none.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(crate) async fn broker_setting(
        &self,
        cluster: &Cluster,
        setting: &'static str,
    ) -> Answer<Option<String>> {
        let Some((node, endpoint)) = cluster.brokers.first_key_value() else {
            return Ok(None);
        };
        let request = describe(BROKER_RESOURCE, node.to_string(), setting);
        let response = self.at(endpoint, &request, DESCRIBE_CONFIGS).await?;
        Ok(setting_in(&response, setting))
    }

    /// A setting of a topic, its own or what it has from the brokers; `None` if the user may not
    /// see it or there is none. Keeps trying until `connect_timeout`.
    ///
    /// # Errors
    /// No broker answers.
    pub(crate) async fn topic_setting(
        &self,
        topic: &str,
        setting: &'static str,
    ) -> Answer<Option<String>> {
        let request = describe(TOPIC_RESOURCE, topic.to_owned(), setting);
        let response = self.anywhere(&request, DESCRIBE_CONFIGS).await?;
        Ok(setting_in(&response, setting))
    }

    /// An error as it leaves the connector.
    pub(crate) fn failure(&self, error: ClientError) -> Failure {
        error.into_failure(&self.access().bootstrap(), self.access().connect_timeout)
    }
}

fn describe(kind: i8, name: String, setting: &'static str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str(setting)]));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn setting_in(response: &DescribeConfigsResponse, setting: &str) -> Option<String> {
    let results = response.results.iter();
    let mut configs = results
        .filter(|result| result.error_code == code::NONE)
        .flat_map(|result| &result.configs);
    let found = configs.find(|config| &*config.name == setting)?;
    found.value.as_deref().map(str::to_owned)
}

/// The first topic that is not to be seen, and the answer for it.
fn first_missing<'a>(cluster: &Cluster, topics: &'a [String]) -> Option<(&'a String, i16)> {
    topics
        .iter()
        .find_map(|topic| match cluster.topics.get(topic) {
            Some(Ok(found)) if !found.leaders.is_empty() => None,
            Some(Err(code)) => Some((topic, *code)),
            Some(Ok(_)) | None => Some((topic, code::UNKNOWN_TOPIC_OR_PARTITION)),
        })
}

fn read_topic(
    topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic,
) -> std::result::Result<Topic, i16> {
    if topic.error_code != code::NONE {
        return Err(topic.error_code);
    }
    let leaders = topic
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, partition.leader_id.0));
    Ok(Topic {
        id: topic.topic_id.to_string(),
        leaders: leaders.collect(),
    })
}
