//! Options of pods that the API server would refuse only when the pods are made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use millstream_crds::StreamJobSpec;
use millstream_crds::pods::PodOptions;

/// Longest name of a service account, a secret or a priority class.
const NAME_MAX: usize = 253;
/// Longest part of a label after its prefix, and longest value.
const LABEL_MAX: usize = 63;

/// Everything that is wrong with the pods that a spec asks for.
pub(super) fn faults(spec: &StreamJobSpec) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_image(&spec.image) {
        faults.push(format!(
            "spec.image: `{}` does not name an image, write one such as \
             registry.example/millstream:1.0",
            spec.image
        ));
    }
    if let Some(account) = &spec.service_account_name {
        name("spec.serviceAccountName", account, &mut faults);
    }
    if let Some(tls) = &spec.internal_tls {
        name("spec.internalTls.secretName", &tls.secret_name, &mut faults);
    }
    for (index, secret) in spec.secrets.iter().enumerate() {
        name(
            &format!("spec.secrets[{index}].name"),
            &secret.name,
            &mut faults,
        );
    }
    options("spec.coordinator", &spec.coordinator, &mut faults);
    options("spec.workers.pod", &spec.workers.pod, &mut faults);
    faults
}

fn options(path: &str, options: &PodOptions, faults: &mut Vec<String>) {
    labels(&format!("{path}.labels"), &options.labels, faults);
    labels(
        &format!("{path}.nodeSelector"),
        &options.node_selector,
        faults,
    );
    for key in options.annotations.keys().filter(|key| !is_label_key(key)) {
        faults.push(malformed_key(&format!("{path}.annotations"), key));
    }
    if let Some(class) = &options.priority_class_name {
        name(&format!("{path}.priorityClassName"), class, faults);
    }
    for (index, secret) in options.image_pull_secrets.iter().enumerate() {
        name(&format!("{path}.imagePullSecrets[{index}]"), secret, faults);
    }
    if let Some(wanted) = &options.resources {
        resources(&format!("{path}.resources"), wanted, faults);
    }
}

fn labels(path: &str, labels: &BTreeMap<String, String>, faults: &mut Vec<String>) {
    for (key, value) in labels {
        if !is_label_key(key) {
            faults.push(malformed_key(path, key));
        }
        if !value.is_empty() && !is_label_part(value) {
            faults.push(format!(
                "{path}: `{value}` of `{key}` must be at most {LABEL_MAX} letters, digits, `-`, `_` \
                 and `.`, and begin and end with a letter or digit"
            ));
        }
    }
}

fn malformed_key(path: &str, key: &str) -> String {
    format!(
        "{path}: `{key}` is no key. Write `name` or `prefix.example/name`: at most {LABEL_MAX} \
         letters, digits, `-`, `_` and `.` that begin and end with a letter or digit"
    )
}

fn resources(path: &str, wanted: &ResourceRequirements, faults: &mut Vec<String>) {
    let empty = BTreeMap::new();
    let requests = wanted.requests.as_ref().unwrap_or(&empty);
    let limits = wanted.limits.as_ref().unwrap_or(&empty);
    for (kind, amounts) in [("requests", requests), ("limits", limits)] {
        for (resource, Quantity(text)) in amounts {
            if amount(text).is_none_or(|amount| amount < 0.0) {
                faults.push(format!(
                    "{path}.{kind}.{resource}: `{text}` is no amount, write one such as 500m, 2 or \
                     512Mi"
                ));
            }
        }
    }
    for (resource, Quantity(most)) in limits {
        let Some(Quantity(least)) = requests.get(resource) else {
            continue;
        };
        if amount(most) < amount(least) && amount(most).is_some() {
            faults.push(format!(
                "{path}.limits.{resource}: {most} is less than the {least} that are requested"
            ));
        }
    }
}

fn name(path: &str, text: &str, faults: &mut Vec<String>) {
    if !is_name(text) {
        faults.push(format!(
            "{path}: `{text}` is no name: lower-case letters, digits, `-` and `.`, which begin and \
             end with a letter or digit"
        ));
    }
}

/// Source: Kubernetes, "Object Names and IDs", DNS subdomain names (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= NAME_MAX && text.split('.').all(is_label)
}

/// Source: Kubernetes, "Labels and Selectors", syntax and character set.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_part(key),
        Some((prefix, part)) => is_name(prefix) && is_label_part(part),
    }
}

fn is_label_part(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= LABEL_MAX
        && text.bytes().all(fits)
        && ends_well(text.bytes().next())
        && ends_well(text.bytes().last())
}

/// Source: distribution/reference, grammar of a reference. Not stricter than a registry is.
fn is_image(text: &str) -> bool {
    let (named, digest) = match text.split_once('@') {
        None => (text, None),
        Some((named, digest)) => (named, Some(digest)),
    };
    let (path, last) = named
        .rsplit_once('/')
        .map_or((None, named), |(path, last)| (Some(path), last));
    let (repository, tag) = match last.split_once(':') {
        None => (last, None),
        Some((repository, tag)) => (repository, Some(tag)),
    };
    let is_component = |part: &str, first: bool| {
        let fits = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'.' | b'_' | b'-')
                // The first may be a host with a port.
                || first && (byte.is_ascii_uppercase() || matches!(byte, b':' | b'[' | b']'))
        };
        !part.is_empty() && part.bytes().all(fits)
    };
    let mut parts = path
        .into_iter()
        .flat_map(|path| path.split('/'))
        .enumerate();
    parts.all(|(index, part)| is_component(part, index == 0))
        && is_component(repository, false)
        && tag.is_none_or(|tag| {
            let fits =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            (1..=128).contains(&tag.len()) && tag.bytes().all(fits)
        })
        && digest.is_none_or(|digest| {
            let parts = digest.split_once(':');
            parts.is_some_and(|(kind, hex)| {
                !kind.is_empty()
                    && hex.len() >= 32
                    && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        })
}

/// A quantity as a number, roughly: only to tell the larger of two.
/// Source: Kubernetes API reference, `Quantity`.
fn amount(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent if exponent.starts_with(['e', 'E']) => return text.parse().ok(),
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_references() {
        let digest = format!("registry.example:5000/a/b@sha256:{}", "0".repeat(64));
        for good in [
            "millstream",
            "localhost/millstream:dev",
            "a.example/b/c_d:1.0-rc",
            &digest,
        ] {
            assert!(is_image(good), "{good}");
        }
        let bad = [
            "",
            "localhost/mill stream:dev",
            "a//b",
            "a/B",
            "a:",
            "a@sha256:1",
            "/a",
            "a:b c",
        ];
        for bad in bad {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn names_keys_and_values_are_those_of_kubernetes() {
        assert!(is_name("a-1.b") && !is_name("Not An Account") && !is_name("-a") && !is_name(""));
        assert!(is_label_key("team") && is_label_key("a.example/Team_1"));
        assert!(!is_label_key("bad key!") && !is_label_key("/a") && !is_label_key("A/b"));
        assert!(is_label_part("x") && !is_label_part(&"x".repeat(64)));
    }

    #[test]
    fn amounts_are_compared_over_their_units() {
        assert!(amount("128Mi") < amount("1Gi"));
        assert!(amount("1500m") > amount("1"));
        assert!(amount("1e3") < amount("2k"));
        for bad in ["lots", "", "1 Gi", "1gi", "1.2.3"] {
            assert_eq!(amount(bad), None, "{bad}");
        }
    }
}
