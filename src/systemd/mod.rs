//! systemd as the system bus and the unit search path show it: which units can carry a policy, where their
//! files and cgroups are, and when any of that changes. Knows nothing of policies, of cgroupfs or of BPF.

mod agenda;
mod answer;
mod changes;
mod digest;
mod discover;
mod files;
mod forecast;
mod inquiry;
mod proxy;
mod pump;
mod unit_info;
mod watch;

pub use answer::SystemdError;
pub use discover::{Discovery, Found, Pattern, UNIT_PATH, discover, index};
pub use files::{UNIT_FILE_MAX, UNIT_FILES_MAX, read_unit_files};
pub use forecast::UnitFiles;
pub use inquiry::{Answer, Inquiry};
pub use pump::Events;
pub use unit_info::{ActiveState, UnitInfo};
pub use watch::{Event, Systemd};
