//! Millstream: one binary, several roles.
