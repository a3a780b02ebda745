//! Rules by which the API server refuses a manifest with a sentence, before anything is stored.
//!
//! The types say what a field looks like. Here stands, by the path of a field, what CEL can say of
//! values beyond that. What needs the whole dataflow (does an input exist? does the SQL bind?) is
//! left to the operator, which reports all of it at once.
//!
//! Costs are bounded: the API server estimates each rule for the longest lists that the schema
//! allows, and refuses a definition whose rules may take too long. It also counts while it evaluates,
//! and refuses an object over which a rule takes too long: so the names of transforms, of which there
//! may be a thousand, are compared by the operator.
//!
//! Source: Kubernetes, "CRD validation rules".

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};

use crate::contract::IN_A_POD;

/// A rule about the field at a path; `[]` are the items of a list.
#[derive(Clone, Copy)]
struct Rule {
    path: &'static str,
    holds: &'static str,
    message: &'static str,
    /// The field that the sentence is about, where it is not the one of the rule.
    about: Option<&'static str>,
}

const fn rule(path: &'static str, holds: &'static str, message: &'static str) -> Rule {
    Rule {
        path,
        holds,
        message,
        about: None,
    }
}

const fn about(field: &'static str, rule: Rule) -> Rule {
    Rule {
        about: Some(field),
        ..rule
    }
}

/// Names of objects become parts of paths of the API and of selectors.
const IS_NAME: &str =
    r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";
const NOT_A_NAME: &str = "must be the name of an object: lower-case letters, digits, `-` and `.`, \
    which begin and end with a letter or digit";
const IS_JOB_NAME: &str = r"self.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')";
const NOT_A_JOB_NAME: &str = "must be the name of a StreamJob: at most 63 lower-case letters, digits and `-`, and begin with \
     a letter";
const READS: &str = "has(self.input) != has(self.inputs)";
const READS_NOT: &str = "exactly one of `input` and `inputs` must be given";
const LIMITS_FIT: &str = "!has(self.requests) || !has(self.limits) \
    || ['cpu', 'memory'].all(kind, !(kind in self.requests) || !(kind in self.limits) \
    || !isQuantity(string(self.requests[kind])) || !isQuantity(string(self.limits[kind])) \
    || quantity(string(self.limits[kind])).compareTo(quantity(string(self.requests[kind]))) >= 0)";
const LIMITS_DO_NOT_FIT: &str = "`limits` of cpu and memory must not be less than `requests`";
const ARE_AMOUNTS: &str = "['cpu', 'memory'].all(kind, \
    (!has(self.requests) || !(kind in self.requests) || isQuantity(string(self.requests[kind]))) \
    && (!has(self.limits) || !(kind in self.limits) || isQuantity(string(self.limits[kind]))))";
const NOT_AMOUNTS: &str = "amounts of cpu and memory are written like 500m, 2 or 512Mi";
const IS_NOT_OURS: &str = "!(self + '/').startsWith('/etc/millstream/job/') \
    && !(self + '/').startsWith('/etc/millstream/tls/') \
    && !(self + '/').startsWith('/tmp/') && !'/etc/millstream/job/'.startsWith(self + '/') \
    && self != '/'";

const STREAM_JOB: &[Rule] = &[
    rule(
        "spec.image",
        r"!self.matches('\\s')",
        "must name an image without spaces, such as registry.example/millstream:1.0",
    ),
    rule(
        "spec.checkpoint.interval",
        "duration(self) >= duration('10ms') && duration(self) <= duration('24h')",
        "must be from 10ms to 24h",
    ),
    rule(
        "spec.checkpoint.timeout",
        "duration(self) >= duration('10ms') && duration(self) <= duration('24h')",
        "must be from 10ms to 24h",
    ),
    about(
        ".minPause",
        rule(
            "spec.checkpoint",
            "!has(self.minPause) || !has(self.maxConcurrent) || self.maxConcurrent <= 1 \
             || duration(self.minPause) == duration('0s')",
            "with `minPause` a checkpoint never begins before the last one has ended: set \
             `minPause` to 0s or `maxConcurrent` to 1",
        ),
    ),
    about(
        ".alignedTimeout",
        rule(
            "spec.checkpoint",
            "!has(self.alignedTimeout) || !has(self.maxConcurrent) || self.maxConcurrent <= 1",
            "with `alignedTimeout` a barrier overtakes records, but no other barriers: set \
             `maxConcurrent` to 1 or remove `alignedTimeout`",
        ),
    ),
    about(
        ".alignedTimeout",
        rule(
            "spec.checkpoint",
            "!has(self.alignedTimeout) || duration(self.alignedTimeout) < \
             duration(has(self.timeout) ? self.timeout : '1m')",
            "must be shorter than `timeout`: checkpoints are given up then, and none would ever overtake",
        ),
    ),
    rule(
        "spec.checkpoint.storage",
        "self.startsWith('s3://') || self.startsWith('hdfs://') || self.startsWith('file:')",
        "must begin with s3:// or hdfs://: write `s3://bucket/path` or `hdfs://namenode:port/path`",
    ),
    rule(
        "spec.checkpoint.storage",
        "!self.startsWith('file:')",
        IN_A_POD,
    ),
    rule(
        "spec.checkpoint.storage",
        "!self.split('/').exists(part, part == '..')",
        "must not have a part `..`, which may lead elsewhere",
    ),
    about(
        ".sources",
        rule(
            "spec.dataflow",
            "self.sources.all(node, self.sources.exists_one(other, other.name == node.name) \
             && !self.sinks.exists(other, other.name == node.name))",
            "every node needs a name of its own: a source has the name of another node",
        ),
    ),
    about(
        ".sinks",
        rule(
            "spec.dataflow",
            "self.sinks.all(node, self.sinks.exists_one(other, other.name == node.name))",
            "every node needs a name of its own: two sinks have the same",
        ),
    ),
    rule(
        "spec.dataflow.sources[]",
        "(has(self.kafka) ? 1 : 0) + (has(self.files) ? 1 : 0) + (has(self.generator) ? 1 : 0) == 1",
        "exactly one of `kafka`, `files` and `generator` must be given",
    ),
    rule(
        "spec.dataflow.sinks[]",
        "(has(self.kafka) ? 1 : 0) + (has(self.files) ? 1 : 0) + (has(self.postgres) ? 1 : 0) \
         + (has(self.custom) ? 1 : 0) + (has(self.print) ? 1 : 0) + (has(self.blackhole) ? 1 : 0) == 1",
        "exactly one of `kafka`, `files`, `postgres`, `custom`, `print` and `blackhole` must be given",
    ),
    rule("spec.dataflow.transforms[]", READS, READS_NOT),
    rule("spec.dataflow.sinks[]", READS, READS_NOT),
    rule(
        "spec.upgrade.progressDeadline",
        "duration(self) > duration('0s')",
        "must be longer than 0s",
    ),
    rule("spec.restore.from.savepoint", IS_NAME, NOT_A_NAME),
    rule("spec.restore.from.job", IS_JOB_NAME, NOT_A_JOB_NAME),
    rule(
        "spec.savepoints.interval",
        "duration(self) >= duration('1m')",
        "must be 1m or more",
    ),
    rule(
        "spec.secrets",
        "self.all(one, self.exists_one(other, \
         (has(other.mountPath) ? other.mountPath : '/etc/millstream/secrets/' + other.name) \
         == (has(one.mountPath) ? one.mountPath : '/etc/millstream/secrets/' + one.name)))",
        "two secrets are mounted at the same path: remove one, or give it another `mountPath`",
    ),
    rule("spec.secrets[].name", IS_NAME, NOT_A_NAME),
    rule(
        "spec.secrets[].mountPath",
        IS_NOT_OURS,
        "is used by Millstream itself: choose another path",
    ),
    rule("spec.internalTls.secretName", IS_NAME, NOT_A_NAME),
    rule("spec.serviceAccountName", IS_NAME, NOT_A_NAME),
    rule("spec.coordinator.priorityClassName", IS_NAME, NOT_A_NAME),
    rule("spec.coordinator.imagePullSecrets[]", IS_NAME, NOT_A_NAME),
    rule("spec.coordinator.resources", ARE_AMOUNTS, NOT_AMOUNTS),
    rule("spec.coordinator.resources", LIMITS_FIT, LIMITS_DO_NOT_FIT),
    rule("spec.workers.pod.priorityClassName", IS_NAME, NOT_A_NAME),
    rule("spec.workers.pod.imagePullSecrets[]", IS_NAME, NOT_A_NAME),
    rule("spec.workers.pod.resources", ARE_AMOUNTS, NOT_AMOUNTS),
    rule("spec.workers.pod.resources", LIMITS_FIT, LIMITS_DO_NOT_FIT),
];

const STREAM_SAVEPOINT: &[Rule] = &[rule("spec.jobRef.name", IS_JOB_NAME, NOT_A_JOB_NAME)];

/// Lists whose items are all different: the API server itself says which one is there twice.
const SETS: &[&str] = &["spec.dataflow.sources[].kafka.topics"];

/// The most keys of a map, and the longest value.
const MAPS: &[(&str, i64, i64)] = &[
    ("spec.coordinator.labels", 50, 63),
    ("spec.coordinator.annotations", 50, 65_536),
    ("spec.coordinator.nodeSelector", 20, 63),
    ("spec.workers.pod.labels", 50, 63),
    ("spec.workers.pod.annotations", 50, 65_536),
    ("spec.workers.pod.nodeSelector", 20, 63),
];

/// Adds what a `StreamJob` must satisfy.
pub(crate) fn of_stream_job(definition: &mut CustomResourceDefinition) {
    for schema in schemas(definition) {
        add(schema, STREAM_JOB);
        for path in SETS {
            if let Some(list) = at(schema, path) {
                list.x_kubernetes_list_type = Some("set".to_owned());
            }
        }
        for (path, keys, length) in MAPS {
            let Some(map) = at(schema, path) else {
                continue;
            };
            map.max_properties = Some(*keys);
            if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut map.additional_properties {
                value.max_length = Some(*length);
            }
        }
    }
}

/// Adds what a `StreamSavepoint` must satisfy.
pub(crate) fn of_stream_savepoint(definition: &mut CustomResourceDefinition) {
    for schema in schemas(definition) {
        add(schema, STREAM_SAVEPOINT);
    }
}

fn schemas(
    definition: &mut CustomResourceDefinition,
) -> impl Iterator<Item = &mut JSONSchemaProps> {
    definition.spec.versions.iter_mut().filter_map(|version| {
        let schema = version.schema.as_mut()?;
        schema.open_api_v3_schema.as_mut()
    })
}

fn add(schema: &mut JSONSchemaProps, rules: &[Rule]) {
    for rule in rules {
        let Some(field) = at(schema, rule.path) else {
            continue;
        };
        let all = field.x_kubernetes_validations.get_or_insert_default();
        all.push(ValidationRule {
            rule: rule.holds.to_owned(),
            message: Some(rule.message.to_owned()),
            field_path: rule.about.map(str::to_owned),
            ..ValidationRule::default()
        });
    }
}

/// The schema of the field at a path.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &str) -> Option<&'a mut JSONSchemaProps> {
    let mut place = schema;
    for step in path.split('.') {
        let (key, is_item) = match step.strip_suffix("[]") {
            Some(key) => (key, true),
            None => (step, false),
        };
        place = place.properties.as_mut()?.get_mut(key)?;
        if is_item {
            place = match place.items.as_mut()? {
                JSONSchemaPropsOrArray::Schema(items) => items,
                JSONSchemaPropsOrArray::Schemas(_) => return None,
            };
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;
    use crate::{StreamJob, StreamSavepoint};

    /// Paths that a definition does not have.
    fn missing(
        mut definition: CustomResourceDefinition,
        paths: &[&'static str],
    ) -> Vec<&'static str> {
        let mut missing = paths.to_vec();
        for schema in schemas(&mut definition) {
            missing.retain(|path| at(schema, path).is_none());
        }
        missing
    }

    #[test]
    fn every_rule_is_about_a_field_that_there_is() {
        let mut paths: Vec<&str> = STREAM_JOB.iter().map(|rule| rule.path).collect();
        paths.extend(SETS);
        paths.extend(MAPS.iter().map(|(path, ..)| path));
        assert_eq!(missing(StreamJob::crd(), &paths), [""; 0]);
        let paths: Vec<&str> = STREAM_SAVEPOINT.iter().map(|rule| rule.path).collect();
        assert_eq!(missing(StreamSavepoint::crd(), &paths), [""; 0]);
        assert_eq!(
            missing(StreamJob::crd(), &["spec.nothing"]),
            ["spec.nothing"]
        );
    }
}
