//! The capabilities of the daemon; docs/security.md gives the reason for each.

use std::collections::BTreeSet;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// The capabilities that the daemon needs, at the start and later, because policies are attached on request. A test
/// compares them with `CapabilityBoundingSet=` of the unit.
pub const REQUIRED: [Capability; 5] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_KILL,
];

/// Drops all other capabilities for the process. Must be called before another thread is started.
pub fn drop_unneeded() -> Result<(), CapsError> {
    let needed = CapsHashSet::from(REQUIRED);
    // The bounding set first: changing it requires CAP_SETPCAP. Without CAP_SETPCAP, the process has only the
    // capabilities of the unit.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        let kept = caps::read(None, set)?.intersection(&needed).copied().collect();
        caps::set(None, set, &kept)?;
    }
    Ok(())
}

/// The names of the required capabilities that are missing.
pub fn missing() -> Result<BTreeSet<String>, CapsError> {
    let had = caps::read(None, CapSet::Effective)?;
    Ok(REQUIRED.iter().filter(|capability| !had.contains(capability)).map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_required_capabilities_remain() {
        // Capabilities are per thread, so other tests are not affected.
        let check = || {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            drop_unneeded().unwrap();
            let needed = CapsHashSet::from(REQUIRED);
            let expected: CapsHashSet = before.intersection(&needed).copied().collect();
            assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), expected);
            assert_eq!(caps::read(None, CapSet::Effective).unwrap(), expected);
            assert!(caps::read(None, CapSet::Inheritable).unwrap().is_empty());
            if before.contains(&Capability::CAP_SETPCAP) {
                assert!(caps::read(None, CapSet::Bounding).unwrap().is_subset(&needed));
                assert!(
                    caps::set(None, CapSet::Permitted, &before).is_err(),
                    "dropped capabilities cannot be regained"
                );
            }
            assert_eq!(missing().unwrap().len(), REQUIRED.len() - expected.len());
        };
        std::thread::spawn(check).join().unwrap();
    }

    #[test]
    fn unit_grants_exactly_required_capabilities() {
        let unit = include_str!("../../systemd/memcg-bpfd.service");
        let line = unit.lines().find_map(|l| l.strip_prefix("CapabilityBoundingSet=")).unwrap();
        let granted: BTreeSet<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(granted, REQUIRED.iter().map(ToString::to_string).collect());
    }
}
