//! Groups the entries of a history file by cgroup.

use crate::cli::monitor::events::Event;
use crate::cli::monitor::history::{CgroupSample, Entry};

/// The samples and events of one cgroup. Times are in microseconds.
#[derive(Debug, Default)]
pub(super) struct CgroupHistory<'a> {
    pub cgroup: &'a str,
    pub name: &'a str,
    pub samples: Vec<(u64, &'a CgroupSample)>,
    pub events: Vec<&'a Event>,
}

/// One history for each recorded cgroup, by path.
pub(super) fn group_by_cgroup(entries: &[Entry]) -> Vec<CgroupHistory<'_>> {
    let mut histories: std::collections::BTreeMap<&str, CgroupHistory<'_>> =
        std::collections::BTreeMap::new();
    for entry in entries {
        let Entry::Sample { time_us, cgroups } = entry else { continue };
        for sample in cgroups {
            let history = histories.entry(&sample.cgroup).or_default();
            (history.cgroup, history.name) = (&sample.cgroup, &sample.name);
            history.samples.push((*time_us, sample));
        }
    }
    for entry in entries {
        if let Entry::Event(event) = entry
            && let Some(history) = histories.get_mut(event.cgroup.as_str())
        {
            history.events.push(event);
        }
    }
    histories.into_values().collect()
}
