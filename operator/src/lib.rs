//! The operator: from `StreamJob` and `StreamSavepoint` resources to coordinator and worker pods.

pub mod controller;
pub mod runtime_client;
