//! Stream jobs on a real Kubernetes: API server, scheduler, kubelet, containerd.
//!
//! Each test plays in a namespace of its own with an operator of its own. Names begin with the
//! numbers of the table in `docs/testing.md`.

mod contract;
