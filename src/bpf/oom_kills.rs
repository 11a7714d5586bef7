//! The kills by the kernel's OOM killer, in the layout of `struct memcg_bpf_oom_kill`.

use super::record::{long, text, word};
use super::ring::Ring;
use crate::report::oom_kill::{OomKill, OomLimit, OomProcess};

/// The name of the map of kills.
pub(super) const MAP: &str = "memcg_oom_kills";
/// The program that records kills.
pub(super) const PROGRAM: &str = "record_oom_kill";
/// Size of a record in bytes.
pub(super) const SIZE: usize = 2 * PROCESS_SIZE + HEAD_SIZE;
/// Size of `struct memcg_bpf_oom_task` in bytes.
pub(super) const PROCESS_SIZE: usize = PROCESS_HEAD_SIZE + LEVELS * PART_MAX;
/// The offset of the first process.
const HEAD_SIZE: usize = 104;
/// The offset of the path in a process.
const PROCESS_HEAD_SIZE: usize = 56;
/// `OOM_KILL_LEVELS`.
const LEVELS: usize = 8;
/// `MEMCG_BPF_UNIT_MAX`.
const PART_MAX: usize = 128;
/// Length of the name of a process.
const NAME_MAX: usize = 16;
/// `OOM_KILL_UNKNOWN`.
const UNKNOWN: u32 = u32::MAX;

fn signed(bytes: &[u8], at: usize) -> Option<i32> {
    word(bytes, at).map(u32::cast_signed)
}

/// The path down to a level, from the parts in a record.
fn path(parts: &[u8], level: u32) -> Option<String> {
    let depth = usize::try_from(level).ok()?.min(LEVELS);
    let parts: Vec<String> = parts
        .chunks_exact(PART_MAX)
        .take(depth)
        .map(|part| text(part, 0, PART_MAX))
        .collect::<Option<_>>()?;
    Some(format!("/{}", parts.join("/")))
}

fn process(bytes: &[u8]) -> Option<OomProcess> {
    let bytes = bytes.get(..PROCESS_SIZE)?;
    Some(OomProcess {
        cgroup_id: long(bytes, 0)?,
        running_ns: long(bytes, 16)?,
        pid: word(bytes, 24)?,
        uid: word(bytes, 28)?,
        oom_score_adj: signed(bytes, 36)?,
        name: text(bytes, 40, NAME_MAX)?,
        cgroup: path(bytes.get(PROCESS_HEAD_SIZE..)?, word(bytes, 32)?)?,
    })
}

/// Decodes a record; `None` if it is unknown, for instance of another version.
pub fn decode(bytes: &[u8]) -> Option<OomKill> {
    if bytes.len() != SIZE {
        return None;
    }
    let (head, processes) = bytes.split_at_checked(HEAD_SIZE)?;
    let (victim, culprit) = processes.split_at_checked(PROCESS_SIZE)?;
    let parts = victim.get(PROCESS_HEAD_SIZE..)?;
    let (limit, max) = (long(head, 40)?, long(head, 56)?);
    let known = |at: usize| word(head, at).filter(|ppm| *ppm != UNKNOWN);
    let cause = match (limit, word(head, 96)?, signed(head, 100)?) {
        (0, _, -1) => "sysrq",
        (0, 1, _) => "cpuset",
        (0, 2, _) => "memory-policy",
        (0, ..) => "machine",
        _ => "memory.max",
    };
    Some(OomKill {
        time_us: 0,
        monotonic_ns: long(head, 0)?,
        victim: process(victim)?,
        anon: long(head, 8)?,
        file: long(head, 16)?,
        shmem: long(head, 24)?,
        swap: long(head, 32)?,
        group: match word(head, 84)? {
            0 => None,
            level => Some(path(parts, level)?),
        },
        cause: cause.to_owned(),
        limit: match limit {
            0 => None,
            id => Some(OomLimit {
                cgroup: path(parts, word(head, 80)?)?,
                cgroup_id: id,
                usage: long(head, 48)?,
                max,
                swap_usage: long(head, 64)?,
                swap_max: long(head, 72)?,
            }),
        },
        machine: (limit == 0).then_some(max),
        culprit: process(culprit)?,
        stalled_some_ppm: known(88),
        stalled_full_ppm: known(92),
    })
}

/// The ring buffer of kills.
pub type OomKills = Ring<OomKill>;

#[cfg(test)]
mod tests {
    use super::*;

    fn process_record(pid: u32, level: u32, parts: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for long in [70, 1000, 30] {
            bytes.extend(u64::to_ne_bytes(long));
        }
        for word in [pid, 1000, level] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(i32::to_ne_bytes(-500));
        bytes.extend(b"eat\0old bytes...");
        for at in 0..LEVELS {
            let mut part = parts.get(at).copied().unwrap_or_default().as_bytes().to_owned();
            part.resize(PART_MAX, 0);
            bytes.extend(part);
        }
        bytes
    }

    fn record(limit: u64, limit_level: u32, group_level: u32, order: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for long in [5, 60, 1, 2, 3, limit, 64, 65, 6, u64::MAX] {
            bytes.extend(u64::to_ne_bytes(long));
        }
        for word in [limit_level, group_level, 125_000, UNKNOWN, 0] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(i32::to_ne_bytes(order));
        bytes.extend(process_record(4711, 2, &["a.slice", "b.service"]));
        bytes.extend(process_record(12, 0, &["old"]));
        bytes
    }

    #[test]
    fn a_record_is_read_back() {
        let kill = decode(&record(77, 1, 2, 0)).unwrap();
        assert_eq!((kill.monotonic_ns, kill.anon, kill.file, kill.shmem, kill.swap), (5, 60, 1, 2, 3));
        let limit = OomLimit {
            cgroup: "/a.slice".to_owned(),
            cgroup_id: 77,
            usage: 64,
            max: 65,
            swap_usage: 6,
            swap_max: u64::MAX,
        };
        assert_eq!((kill.limit, kill.machine, kill.cause.as_str()), (Some(limit), None, "memory.max"));
        assert_eq!(kill.group.as_deref(), Some("/a.slice/b.service"));
        assert_eq!((kill.stalled_some_ppm, kill.stalled_full_ppm), (Some(125_000), None));
        let victim = OomProcess {
            pid: 4711,
            name: "eat".to_owned(),
            uid: 1000,
            oom_score_adj: -500,
            cgroup: "/a.slice/b.service".to_owned(),
            cgroup_id: 70,
            running_ns: 30,
        };
        assert_eq!(kill.victim, victim);
        assert_eq!(kill.culprit, OomProcess { pid: 12, cgroup: "/".to_owned(), ..victim });
    }

    #[test]
    fn kill_without_a_limit_is_of_the_machine() {
        let kill = decode(&record(0, 0, 0, 3)).unwrap();
        assert_eq!((kill.limit, kill.machine, kill.group), (None, Some(65), None));
        assert_eq!(kill.cause, "machine");
        assert_eq!(decode(&record(0, 0, 0, -1)).unwrap().cause, "sysrq");
    }

    #[test]
    fn records_of_another_size_are_nothing() {
        let mut bytes = record(77, 1, 0, 0);
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&bytes[..SIZE - 1]), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn deep_path_is_cut() {
        let parts = ["a", "b", "c", "d", "e", "f", "g", "h"];
        assert_eq!(process(&process_record(1, 40, &parts)).unwrap().cgroup, "/a/b/c/d/e/f/g/h");
        assert_eq!(process(&process_record(1, 3, &parts)).unwrap().cgroup, "/a/b/c");
    }
}
