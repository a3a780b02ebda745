//! The generated schema and the reference page.
