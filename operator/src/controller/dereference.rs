//! Every read of the API server that a reconcile needs. No judgement.
