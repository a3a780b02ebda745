//! The interface that people and tools see.

use millstream_tests::kubernetes::Kubernetes;

#[test]
fn a02_every_field_is_described() {
    let _cluster = Kubernetes::shared();
}
