//! Changes of attached policies, as the applier of effects passes them on to D-Bus.

use crate::names::CgroupRef;

/// A change that D-Bus signals report.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// Policies are attached.
    Attached(CgroupRef, Vec<String>),
    /// All policies are detached.
    Detached(CgroupRef, &'static str),
    /// Policies could not be attached. Sends no signal: the failure is reported.
    Unbound(CgroupRef),
}
