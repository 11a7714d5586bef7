//! Policies as text: the policy line, schemas, parameters, profiles, precedence of origins. Does not access files,
//! the kernel or libbpf: schemas and profiles are passed as values.

pub mod action;
pub mod catalog;
pub mod denial;
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
