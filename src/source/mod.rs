//! Carriers of policy lines: OCI state and annotations, unit files and drop-ins, records on cgroups.
//! Text in, requests with origins out. Reads no file itself.

pub mod container_cgroup;
pub mod oci_config;
pub mod oci_state;
pub mod pod;
pub mod specifier;
pub mod unit_file;
pub mod unit_policy;
pub mod xattr;
