//! The only module that calls libbpf: policy objects and their schemas, maps, links, events, and the hooks of the
//! running kernel. Also reads profiles. Does not access cgroupfs or systemd, and does not decide which cgroups are
//! bound.

mod abi;
mod actions;
mod attachments;
mod cgroup_iter;
mod core_object;
mod denials;
mod error;
mod events;
mod growth_counter;
mod hooks;
mod libbpf_log;
mod links;
pub mod objects;
mod oom_kills;
pub mod pins;
mod policy_object;
mod preload;
pub mod probe;
pub mod profiles;
mod record;
mod ring;
mod runtime;
mod schema;
pub mod settings;
#[cfg(test)]
mod tests;

pub use abi::{MAX_LEVEL, PATH_MAX};
pub use actions::{Actions, decode_action, decode_killed};
pub use attachments::{RequiredAttachments, Takeover};
pub use denials::Denials;
pub use error::BpfError;
pub use events::{Event, Events};
pub use hooks::GROWTH as GROWTH_HOOK;
pub use oom_kills::OomKills;
pub use preload::{LoadTask, PolicyLoader, PreparedPolicy};
pub use runtime::BpfRuntime;
