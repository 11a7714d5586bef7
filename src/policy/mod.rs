//! Policies as text: the line, the schema, parameters to bytes and back, profiles, layering of origins.
//! Knows nothing of files, the kernel or libbpf: schemas and profiles come in as values.

pub mod request;
pub mod schema;
