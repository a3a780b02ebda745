//! Objects that something happened to and that wait for their reconcile.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kube::runtime::reflector::{Lookup, ObjectRef};
use prometheus_client::metrics::gauge::Gauge;

/// The set of waiting objects; its size is a metric.
#[derive(Debug)]
pub(super) struct Waiting {
    objects: Mutex<BTreeSet<(String, String)>>,
    depth: Gauge,
}

impl Waiting {
    pub(super) fn new(depth: Gauge) -> Self {
        Self {
            objects: Mutex::default(),
            depth,
        }
    }

    pub(super) fn add<K: Lookup>(&self, object: &ObjectRef<K>) {
        let key = (
            object.namespace.clone().unwrap_or_default(),
            object.name.clone(),
        );
        if self
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key)
        {
            self.depth.inc();
        }
    }

    pub(super) fn remove(&self, namespace: Option<&str>, name: &str) {
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        if self
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key)
        {
            self.depth.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn an_object_waits_once_however_often_something_happens_to_it() {
        let depth = Gauge::default();
        let waiting = Waiting::new(depth.clone());
        let object = ObjectRef::<ConfigMap>::new("orders").within("shop");
        waiting.add(&object);
        waiting.add(&object);
        waiting.add(&ObjectRef::<ConfigMap>::new("orders").within("other"));
        assert_eq!(depth.get(), 2);
        waiting.remove(Some("shop"), "orders");
        waiting.remove(Some("shop"), "orders");
        assert_eq!(depth.get(), 1);
    }
}
