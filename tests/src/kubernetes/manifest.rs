//! The order job as a manifest.

use serde_json::{Value, json};

use crate::kubernetes::world::{IMAGE, World};
use crate::minio::Minio;
use crate::order_job::OrderJobFile;

/// Secret with the store's credentials, in every namespace of the suite.
pub const SECRET: &str = "s3-credentials";

/// A `StreamJob` that is changed piece by piece.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest(Value);

impl Manifest {
    /// The example, with a checkpoint every second, below this namespace's part of the store and
    /// with its topics and transactional ids.
    #[track_caller]
    pub fn orders(namespace: &str, world: &World) -> Self {
        let storage = format!("s3://{}/kubernetes", Minio::BUCKET);
        let file = OrderJobFile::new(&world.broker.bootstrap(), &storage).into_text();
        let object: Value = serde_yaml::from_str(&file).expect("the example is YAML");
        let topic = |name: &str| json!(format!("{namespace}-{name}"));
        let kafka = "/spec/dataflow/sinks/0/kafka";
        let dead = "/spec/dataflow/sinks/1/kafka";
        Self(object)
            .set("/metadata/name", json!("orders"))
            .set("/spec/image", json!(IMAGE))
            .set("/spec/checkpoint/interval", json!("1s"))
            .set(
                "/spec/dataflow/sources/0/kafka/topics",
                json!([topic("orders")]),
            )
            .set("/spec/dataflow/sources/0/kafka/groupId", json!(namespace))
            .set(&format!("{kafka}/topic"), topic("processed"))
            .set(&format!("{dead}/topic"), topic("rejected"))
            .set(&format!("{kafka}/transactionalIdPrefix"), json!(namespace))
            .set(&format!("{dead}/transactionalIdPrefix"), json!(namespace))
            .with_pods(world)
    }

    /// A job without a broker: made orders that are counted and dropped.
    #[track_caller]
    pub fn generated(name: &str, rows: Option<u64>, world: &World) -> Self {
        let storage = format!("s3://{}/kubernetes", Minio::BUCKET);
        let generator = match rows {
            Some(rows) => json!({"rows": rows}),
            None => json!({"rowsPerSecond": 100}),
        };
        Self(json!({
            "apiVersion": super::GROUP,
            "kind": "StreamJob",
            "metadata": {"name": name},
            "spec": {
                "image": IMAGE,
                "checkpoint": {"storage": storage, "interval": "1s"},
                "dataflow": {
                    "sources": [{"name": "orders", "generator": generator}],
                    "sinks": [{"name": "sink", "input": "orders", "blackhole": {}}],
                },
            },
        }))
        .with_pods(world)
    }

    /// What pods need here: credentials as a mounted file, the store's address, little memory.
    fn with_pods(self, world: &World) -> Self {
        let pod = json!({
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "env": [
                {"name": "AWS_SHARED_CREDENTIALS_FILE",
                 "value": format!("/etc/millstream/secrets/{SECRET}/credentials")},
                {"name": "AWS_ENDPOINT_URL", "value": world.minio.endpoint()},
                {"name": "AWS_REGION", "value": Minio::REGION},
                {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
            ],
        });
        self.set("/spec/secrets", json!([{"name": SECRET}]))
            .set("/spec/coordinator", pod.clone())
            .set("/spec/workers", json!({"slots": 1, "pod": pod}))
    }

    /// With the store at another address, such as that of a proxy before it.
    #[track_caller]
    pub fn with_store_at(self, address: &str) -> Self {
        let address = json!(format!("http://{address}"));
        self.set("/spec/coordinator/env/1/value", address.clone())
            .set("/spec/workers/pod/env/1/value", address)
    }

    /// Puts a value where the JSON pointer says; what is not there on the way is made.
    #[track_caller]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.0;
        for step in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(items) => {
                    let index: usize = step.parse().expect("an index into a list");
                    &mut items[index]
                }
                place => &mut place[step],
            };
        }
        *place = value;
        self
    }

    /// Takes a key away.
    #[track_caller]
    pub fn without(mut self, pointer: &str) -> Self {
        let (object, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        let object = self.0.pointer_mut(object).and_then(Value::as_object_mut);
        let removed = object.and_then(|object| object.remove(key));
        assert!(removed.is_some(), "the manifest has no {pointer}");
        self
    }

    /// Another name.
    pub fn named(self, name: &str) -> Self {
        self.set("/metadata/name", json!(name))
    }

    /// Its name.
    #[track_caller]
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().expect("a name")
    }

    /// The object.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A change that needs an upgrade and changes nothing in the output: the conditions of the
    /// filter in another order.
    #[track_caller]
    pub fn upgraded(self) -> Self {
        let (one, other) = ("quantity > 0 AND price > 0", "price > 0 AND quantity > 0");
        let sql = self.0["spec"]["dataflow"]["transforms"][0]["sql"].as_str();
        let sql = sql.expect("the example's filter").to_owned();
        let changed = if sql.contains(one) {
            sql.replace(one, other)
        } else {
            sql.replace(other, one)
        };
        assert_ne!(sql, changed, "the example's filter is another one");
        self.set("/spec/dataflow/transforms/0/sql", json!(changed))
    }
}
