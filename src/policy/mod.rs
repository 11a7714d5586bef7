//! Policies as text: the line, the schema, parameters to bytes and back, profiles, layering of origins.
//! Knows nothing of files, the kernel or libbpf: schemas and profiles come in as values.

pub mod action;
pub mod catalog;
mod check;
pub mod encode;
pub mod fault;
#[cfg(test)]
pub(crate) mod fixture;
pub mod layer;
pub mod line;
pub mod lint;
pub mod profile;
pub mod request;
pub mod schema;
mod value;
mod word;
