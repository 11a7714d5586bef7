//! The used part of `org.freedesktop.systemd1`, written by hand because the generated bindings are a hundred times
//! longer. Properties are not cached: most of them have no change signal.

use zbus::proxy;
use zbus::{OwnedObjectPath, Variant};

/// The bus name of PID 1.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// The manager's interface, which also has the signals.
pub(super) const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// One row of `ListUnits`: name, description, load, active and sub state, followed unit, object, job id, type, object.
pub(super) type UnitRow =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A unit that is created together with a transient one: name, properties.
pub(super) type AuxiliaryUnit<'a> = (&'a str, Vec<(&'a str, Variant<'a>)>);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    /// Requests signals; once per connection.
    fn subscribe(&self) -> zbus::Result<()>;
    fn list_units(&self) -> zbus::Result<Vec<UnitRow>>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Loads the unit if necessary, and keeps it loaded until `UnrefUnit` or the end of the connection.
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[AuxiliaryUnit<'_>],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    assume_defaults = false
)]
pub(super) trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn id(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn fragment_path(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn transient(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

/// `Slice`, `ControlGroup` and `ControlGroupId` exist under the same names on the interfaces Service, Slice and
/// Scope; the interface is chosen per unit when the proxy is built.
#[proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1",
    assume_defaults = false
)]
pub(super) trait CgroupProperties {
    #[zbus(property(emits_changed_signal = "false"))]
    fn slice(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn control_group(&self) -> zbus::Result<String>;
    /// Since systemd 253.
    #[zbus(property(emits_changed_signal = "false"))]
    fn control_group_id(&self) -> zbus::Result<u64>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Job",
    default_service = "org.freedesktop.systemd1",
    assume_defaults = false
)]
pub(super) trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job_type(&self) -> zbus::Result<String>;
}
