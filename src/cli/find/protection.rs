//! How far the memory.low that `protect` sets is effective: the kernel gives a cgroup no more protection than each of
//! its ancestors has.

use std::io;

use crate::cgroup::knob;
use crate::names::{CgroupPath, ROOT_SLICE};
use crate::policy::action::Knob;
use crate::report::BindingReport;
use crate::report::explain::size_now;
use crate::text::{format_bytes, human_bytes};

/// The policy that sets memory.low.
const PROTECT: &str = "protect";
const PARAMETER: &str = "low";

/// A sentence for each report whose `protect` is limited by an ancestor.
pub(in crate::cli) fn note(report: &BindingReport) -> Option<String> {
    let policy = report.policies.iter().find(|policy| policy.name == PROTECT)?;
    let low = size_now(report, policy, PARAMETER)?;
    let path = CgroupPath::parse(&report.cgroup).ok()?;
    sentence(&path, low, |ancestor| knob::read(ancestor, Knob::Low))
}

/// The same for a cgroup and a value in bytes.
pub(in crate::cli) fn note_for(cgroup: &CgroupPath, low: u64) -> Option<String> {
    sentence(cgroup, low, |ancestor| knob::read(ancestor, Knob::Low))
}

fn sentence(cgroup: &CgroupPath, low: u64, read: impl Fn(&CgroupPath) -> io::Result<u64>) -> Option<String> {
    // The root cgroup has no such file and limits nothing.
    let ancestors =
        std::iter::successors(cgroup.parent(), CgroupPath::parent).filter(|path| *path != CgroupPath::root());
    let mut lacking: Vec<(CgroupPath, u64)> =
        ancestors.filter_map(|path| read(&path).ok().map(|value| (path, value))).collect();
    lacking.retain(|(_, value)| *value < low);
    let (weakest, least) = lacking.iter().min_by_key(|(_, value)| *value)?;
    let effect = if *least == 0 {
        format!("protect has no effect: memory.low of {weakest} is 0")
    } else {
        format!("protect keeps at most {}: that is memory.low of {weakest}", human_bytes(*least))
    };
    let commands: Vec<String> = lacking.iter().rev().filter_map(|(path, _)| command(path, low)).collect();
    let hint = match (commands.is_empty(), commands.len() == lacking.len()) {
        (false, true) => {
            format!(" To protect {} of memory, run: {}", human_bytes(low), commands.join(" && "))
        }
        _ => format!(" Set memory.low of each cgroup above to {} at least.", human_bytes(low)),
    };
    Some(format!("{effect}. A cgroup has no more protection than its parent.{hint}"))
}

/// The command that protects a slice.
fn command(path: &CgroupPath, low: u64) -> Option<String> {
    let name = path.file_name();
    (name.ends_with(".slice") && name != ROOT_SLICE)
        .then(|| format!("systemctl set-property {name} MemoryLow={}", format_bytes(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cgroup: &str, low: u64, values: &[(&str, u64)]) -> Option<String> {
        sentence(&CgroupPath::parse(cgroup).unwrap(), low, |path| {
            let value = values.iter().find(|(name, _)| *name == path.as_str());
            value.map(|(_, value)| *value).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    #[test]
    fn unprotected_slice_makes_protect_ineffective() {
        let low = 512 << 20;
        assert_eq!(
            check("/system.slice/db.service", low, &[("/system.slice", 0)]).unwrap(),
            "protect has no effect: memory.low of /system.slice is 0. A cgroup has no more protection than its parent. \
             To protect 512M of memory, run: systemctl set-property system.slice MemoryLow=512M"
        );
        let part = check("/system.slice/db.service", low, &[("/system.slice", 64 << 20)]).unwrap();
        assert!(
            part.starts_with("protect keeps at most 64M: that is memory.low of /system.slice."),
            "{part}"
        );
        assert_eq!(check("/system.slice/db.service", low, &[("/system.slice", low)]), None);
        assert_eq!(check("/db", low, &[]), None);
    }

    #[test]
    fn every_slice_on_the_path_is_named() {
        let values = [("/a.slice", 0), ("/a.slice/a-b.slice", 5)];
        let text = check("/a.slice/a-b.slice/x.service", 1 << 20, &values).unwrap();
        assert!(
            text.ends_with(
                "systemctl set-property a.slice MemoryLow=1M && systemctl set-property a-b.slice MemoryLow=1M"
            ),
            "{text}"
        );
        let plain = check("/jobs/x", 1 << 20, &[("/jobs", 0)]).unwrap();
        assert!(plain.ends_with("Set memory.low of each cgroup above to 1M at least."), "{plain}");
    }
}
