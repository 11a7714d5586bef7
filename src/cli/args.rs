//! Arguments that several subcommands have.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::find::candidates;

/// A cgroup on the command line.
#[derive(Debug, Args)]
pub(super) struct CgroupArg {
    /// Cgroup path, unit name (.service may be left out), container ID (or its beginning) or name, or process ID
    #[arg(value_name = "CGROUP", add = ArgValueCandidates::new(candidates::cgroups))]
    pub cgroup: String,
}
