//! systemd, by the system bus and the unit search path: which units can have a policy, their files and cgroups, and
//! changes of these. Does not depend on policies, cgroupfs or BPF.

mod client;
mod coalesce;
mod error;
mod event;
mod files;
mod inotify;
mod proxy;
mod queries;
mod query_queue;
mod scope;
mod search;
mod signals;
mod unit_index;
mod unit_info;

pub use client::SystemdClient;
pub use error::SystemdError;
pub use event::Event;
pub use files::{UNIT_FILE_MAX, UNIT_FILES_MAX, read_unit_files};
pub use queries::{Reply, UnitQueries};
pub use scope::Scope;
pub use search::{Pattern, PolicyUnits, SearchResult, UNIT_PATH, discover, index};
pub use signals::{Events, subscribe};
pub use unit_index::{UnitFileIndex, UnitLookup};
pub use unit_info::{ActiveState, UnitInfo};
