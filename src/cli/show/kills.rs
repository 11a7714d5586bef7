//! The last kills in a cgroup, by policies, the kernel and systemd-oomd, from the journal: they outlive the cgroup, and a
//! restart of the unit.

use crate::cli::monitor::events::{self, Event};
use crate::cli::term::time::Timestamp;
use crate::names::CgroupPath;

/// systemd reports kills of a policy as those of systemd-oomd, because the daemon sets the attributes that systemd-oomd
/// sets. It does so when the last process of the unit has ended: within this time.
const OOMD_DELAY_US: u64 = 30_000_000;
/// Kills that are shown.
const SHOWN_MAX: usize = 3;

/// Sentences about the last kills in this cgroup, the latest first. Without access to the journal there are none.
pub(in crate::cli) fn of_cgroup(cgroup: &CgroupPath) -> Vec<String> {
    recorded(|event| concerns(event, cgroup.as_str()))
}

/// The same for a unit that has no cgroup now.
pub(in crate::cli) fn of_unit(unit: &str) -> Vec<String> {
    recorded(|event| of_unit_named(event, unit))
}

/// The same for a removed container, by its ID or the beginning of it.
pub(in crate::cli) fn of_container(id: &str) -> Vec<String> {
    if id.len() < ID_MIN || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let id = id.to_ascii_lowercase();
    recorded(|event| has_container(&event.cgroup, &id))
}

/// True if the beginning of a container's ID names the container of the cgroup.
pub(in crate::cli) fn is_in_container(event: &Event, id: &str) -> bool {
    let is_id = id.len() >= ID_MIN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id && has_container(&event.cgroup, &id.to_ascii_lowercase())
}

/// Shorter beginnings of an ID are too likely to be something else.
const ID_MIN: usize = 4;
/// Digits of a whole ID.
const ID_FULL: usize = 64;

fn has_container(cgroup: &str, id: &str) -> bool {
    cgroup.split('/').any(|part| {
        let stem = part.strip_suffix(".scope").unwrap_or(part);
        stem.rsplit('-').next().is_some_and(|full| full.len() == ID_FULL && full.starts_with(id))
    })
}

fn recorded(wanted: impl Fn(&Event) -> bool) -> Vec<String> {
    // Users without access to the journal see the rest of the explanation.
    sentences(&read(wanted).unwrap_or_default())
}

/// The kills in the journal for which `wanted` is true, the latest last.
pub(in crate::cli) fn read(wanted: impl Fn(&Event) -> bool) -> anyhow::Result<Vec<Event>> {
    let mut found = Vec::new();
    events::read_kills(|event| {
        found.push(event);
        Ok(())
    })?;
    let mut kills = without_reports_of_policies(found);
    kills.retain(wanted);
    Ok(kills)
}

/// Drops what systemd reports as a kill of systemd-oomd and is one of a policy.
fn without_reports_of_policies(kills: Vec<Event>) -> Vec<Event> {
    let is_policys = |report: &Event| {
        kills.iter().any(|kill| {
            kill.event == "acted"
                && report.time_us.abs_diff(kill.time_us) < OOMD_DELAY_US
                && of_unit_named(kill, &report.cgroup)
        })
    };
    kills.iter().filter(|event| event.event != "oomd-killed" || !is_policys(event)).cloned().collect()
}

/// In the unit, or by a policy of a cgroup above that chose a victim inside of it.
pub(in crate::cli) fn of_unit_named(event: &Event, unit: &str) -> bool {
    events::matches(&event.cgroup, unit) || mentions(event, &format!("/{unit}"))
}

/// In the cgroup, or in an ancestor whose policy chose a victim inside of it, or because of the cgroup's limit.
pub(in crate::cli) fn concerns(event: &Event, cgroup: &str) -> bool {
    let unit = cgroup.rsplit('/').next().filter(|_| event.event == "oomd-killed");
    events::matches(&event.cgroup, cgroup)
        || mentions(event, cgroup)
        || unit.is_some_and(|unit| event.cgroup == unit)
        || event.kill.as_ref().and_then(|kill| kill.limit.as_ref()).is_some_and(|at| at.cgroup == cgroup)
}

fn mentions(event: &Event, path: &str) -> bool {
    let detail = event.detail.as_deref().unwrap_or("");
    let is_end = |rest: &str| rest.chars().next().is_none_or(|c| matches!(c, '/' | ' ' | ',' | ')' | ':'));
    detail.match_indices(path).any(|(at, _)| detail.get(at.saturating_add(path.len())..).is_some_and(is_end))
}

/// Who killed.
pub(in crate::cli) fn killer(event: &Event) -> String {
    match event.event.as_str() {
        "oom-killed" => "OOM killer of the kernel".to_owned(),
        "oomd-killed" => "systemd-oomd".to_owned(),
        _ => {
            let policy = event.policy.as_deref().filter(|name| !name.is_empty()).unwrap_or("a policy");
            format!("{policy} of memcg-bpf")
        }
    }
}

fn sentences(kills: &[Event]) -> Vec<String> {
    let sentence = |event: &Event| {
        let by = killer(event);
        let part = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let why: Vec<String> = [part(&event.detail), part(&event.reason)].into_iter().flatten().collect();
        format!("{}: {by}: {}.", Timestamp::of_us(event.time_us).local(), why.join(": "))
    };
    kills.iter().rev().take(SHOWN_MAX).map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(cgroup: &str, detail: &str) -> Event {
        Event {
            event: "acted".to_owned(),
            cgroup: cgroup.to_owned(),
            policy: Some("oom".to_owned()),
            action: Some("kill".to_owned()),
            outcome: Some("done".to_owned()),
            detail: Some(detail.to_owned()),
            reason: Some("stalled 80% for 2s".to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn last_kills_have_detail_and_reason() {
        let kills = ["first", "second", "third", "fourth"].map(|detail| kill("/a", detail));
        let text = sentences(&kills);
        assert_eq!(text.len(), SHOWN_MAX);
        assert!(text[0].ends_with(": oom of memcg-bpf: fourth: stalled 80% for 2s."), "{text:?}");
    }

    #[test]
    fn kill_concerns_its_cgroup_and_the_victims() {
        let own = kill("/system.slice/web.service", "killed sh (1)");
        assert!(concerns(&own, "/system.slice/web.service") && concerns(&own, "/system.slice"));
        assert!(
            !concerns(&own, "/system.slice/web.service/inner") && !concerns(&own, "/system.slice/db.service")
        );
        let above = kill("/system.slice", "killed all in /system.slice/web.service (2 processes)");
        assert!(concerns(&above, "/system.slice/web.service"));
        assert!(!concerns(&above, "/system.slice/web"));
    }

    #[test]
    fn removed_container_is_found_by_the_beginning_of_its_id() {
        let id = "ab12".repeat(16);
        let path = format!("/machine.slice/libpod-{id}.scope");
        assert!(has_container(&path, "ab12ab") && has_container(&format!("/kubepods/{id}"), &id));
        assert!(!has_container(&path, "b12a") && !has_container("/system.slice/web.service", "web"));
        assert_eq!(of_container("web"), [""; 0]);
    }
}
