//! The operator: from `StreamJob` and `StreamSavepoint` resources to coordinator and worker pods.

pub mod context;
pub mod controller;
pub mod metrics;
pub mod runtime_client;
