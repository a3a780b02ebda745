//! SQL transforms: filter and projection over columns.
