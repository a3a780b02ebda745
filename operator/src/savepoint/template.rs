//! What a pod needs that deletes a savepoint: kept in an annotation of the savepoint, because the
//! job may have changed or gone when the time comes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use millstream_crds::pods::{PodOptions, SecretMount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::build::disposal::Disposal;
use crate::controller::build::pod::Runtime;

/// Annotation with the template, as JSON.
pub const ANNOTATION: &str = "millstream.dev/disposal";

/// Image, secrets and pod options of a job. References, never contents of secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Image of the runtime.
    pub image: String,
    /// Secrets that are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretMount>,
    /// Service account of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Options of the coordinator's pod.
    #[serde(default)]
    pub coordinator: PodOptions,
}

impl Template {
    /// From a job's spec as it is stored; none if that part of it has faults.
    pub fn of_spec(spec: &Value) -> Option<Self> {
        serde_json::from_value(spec.clone()).ok()
    }

    /// From the annotation; none if somebody has changed it.
    pub fn of_annotation(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The disposal of a savepoint.
    pub fn disposal<'a>(
        &'a self,
        name: &'a str,
        namespace: Option<&'a str>,
        job: &'a str,
        owner: &'a [OwnerReference],
    ) -> Disposal<'a> {
        Disposal {
            name,
            namespace,
            job,
            owner,
            runtime: Runtime {
                image: &self.image,
                secrets: &self.secrets,
                service_account_name: self.service_account_name.as_deref(),
            },
            options: &self.coordinator,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_survives_its_annotation_and_ignores_the_rest_of_the_spec() {
        let spec = json!({
            "image": "millstream:1", "parallelism": 2, "dataflow": {"anything": "at all"},
            "secrets": [{"name": "s3"}], "serviceAccountName": "orders",
            "coordinator": {"env": [{"name": "AWS_REGION", "value": "eu"}]},
        });
        let template = Template::of_spec(&spec).unwrap();
        let text = serde_json::to_string(&template).unwrap();
        assert_eq!(Template::of_annotation(&text), Some(template));
    }

    #[test]
    fn what_is_no_template_is_none() {
        assert_eq!(Template::of_spec(&json!({"image": 7})), None);
        assert_eq!(Template::of_annotation("{"), None);
    }
}
