use std::process::{Child, Command, Stdio};

use super::*;

const GRACE: Duration = Duration::from_secs(300);

/// A process that ignores SIGTERM, or ends by it, once it says that it is ready.
fn child(trap: &str) -> (Child, Target) {
    use std::io::Read;
    let script = format!("trap {trap} TERM; echo; exec sleep 1000");
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let process = PidFd::open(child.id(), &CgroupPath::root()).unwrap();
    (child, Target::Process(process))
}

fn waits(progress: Progress) -> Waiting {
    match progress {
        Progress::Waits(waiting) => waiting,
        Progress::Over(killed) => panic!("{killed:?}"),
    }
}

fn over(progress: Progress) -> Killed {
    match progress {
        Progress::Over(killed) => killed,
        Progress::Waits(_) => panic!("it waits"),
    }
}

#[tokio::test]
async fn many_graces_delay_no_other_kill() {
    let began = Instant::now();
    // All on this thread: a grace that took one would end only after five minutes.
    let stubborn: Vec<(Child, Target)> = (0..20).map(|_| child("''")).collect();
    let mut graces = Vec::new();
    for (child, target) in stubborn {
        graces.push((child, waits(begin(target, GRACE).unwrap())));
    }
    let (mut victim, target) = child("''");
    let waiting = waits(begin(target, Duration::ZERO).unwrap());
    waiting.wait().await;
    assert_eq!(over(waiting.resume(true).unwrap()), Killed { processes: 1, forced: true, ended: true });
    victim.wait().unwrap();
    assert!(began.elapsed() < GRACE / 2);
    for (mut child, waiting) in graces {
        assert!(!waiting.has_ended());
        child.kill().unwrap();
        waiting.wait().await;
        assert_eq!(over(waiting.resume(true).unwrap()), Killed { processes: 1, forced: false, ended: true });
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn sigkill_follows_the_grace_if_still_wanted() {
    for (wanted, killed) in [
        (true, Killed { processes: 1, forced: true, ended: true }),
        (false, Killed { processes: 1, forced: false, ended: false }),
    ] {
        let (mut child, target) = child("''");
        let waiting = waits(begin(target, Duration::from_millis(50)).unwrap());
        waiting.wait().await;
        match waiting.resume(wanted).unwrap() {
            Progress::Over(result) => assert_eq!(result, killed),
            Progress::Waits(waiting) => {
                waiting.wait().await;
                assert_eq!(over(waiting.resume(wanted).unwrap()), killed);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (mut child, target) = child("-");
    let waiting = waits(begin(target, GRACE).unwrap());
    waiting.wait().await;
    assert_eq!(over(waiting.resume(true).unwrap()), Killed { processes: 1, forced: false, ended: true });
    child.wait().unwrap();
}

#[test]
fn withdrawn_report_restores_attribute() {
    // In the checkout: file systems for temporary files may have no user attributes.
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (at, name) = (directory.path(), "user.oomd_kill");
    let value = || xattr::get(at, name).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    add_to_xattr(at, name, 3).unwrap();
    add_to_xattr(at, name, -3).unwrap();
    assert_eq!(value(), None);
    // Two kills in one unit, of which one is not performed.
    add_to_xattr(at, name, 3).unwrap();
    add_to_xattr(at, name, 2).unwrap();
    add_to_xattr(at, name, -3).unwrap();
    assert_eq!(value().as_deref(), Some("2"));
    add_to_xattr(at, name, i64::MIN).unwrap();
    assert_eq!(value(), None, "not below zero");
}
