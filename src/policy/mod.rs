//! Policies as text: the line, the schema, parameters to bytes and back, profiles, layering of origins.
//! Knows nothing of files, the kernel or libbpf: schemas and profiles come in as values.

pub mod action;
pub mod catalog;
pub mod diagnostic;
#[cfg(test)]
pub(crate) mod fixture;
mod lexer;
pub mod line;
pub mod normalize;
pub mod params;
pub mod precedence;
pub mod profile;
pub mod request;
pub mod schema;
mod schema_check;
mod value;
