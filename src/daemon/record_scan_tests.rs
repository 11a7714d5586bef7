#![allow(clippy::arithmetic_side_effects)]

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// When walks begin, in seconds, if this is when they are asked for.
fn walks(mut schedule: Schedule, start: Instant, asked: impl Fn(u32) -> bool) -> Vec<u32> {
    (0..400)
        .filter(|second| {
            let now = start + SECOND * *second;
            let due = schedule.due().is_some_and(|due| due <= now);
            if due {
                schedule.begin(now);
            }
            if asked(*second) {
                schedule.request(now);
            }
            due
        })
        .collect()
}

#[test]
fn request_soon_after_scan_gets_exactly_one_more() {
    let start = Instant::now();
    let walks = |asked: &[u32]| walks(Schedule::default(), start, |second| asked.contains(&second));
    assert!(walks(&[]).is_empty());
    // It is early, so that the second makes sure.
    assert_eq!(walks(&[100]), [105, 135]);
    assert_eq!(walks(&[100, 106, 110, 115, 120]), [105, 135]);
    // Its record may not be there yet at 135.
    assert_eq!(walks(&[100, 133]), [105, 135, 165]);
    assert_eq!(walks(&[100, 300]), [105, 135, 305, 335]);
}

#[test]
fn constant_requests_get_two_scans_a_minute() {
    let all: Vec<u32> = (5..400).step_by(30).collect();
    assert_eq!(walks(Schedule::default(), Instant::now(), |_| true), all);
}

#[test]
fn every_request_is_followed_by_complete_scan() {
    for asked in 0..200 {
        for other in (0..200).step_by(7) {
            let begun =
                walks(Schedule::default(), Instant::now(), |second| second == asked || second == other);
            assert!(begun.iter().any(|walk| *walk >= asked + 10), "{asked} {other}: {begun:?}");
        }
    }
}

#[test]
fn start_is_followed_by_one_scan_without_delay() {
    let start = Instant::now();
    assert_eq!(walks(Schedule::at_start(start), start, |_| false), [5]);
    assert_eq!(walks(Schedule::at_start(start), start, |second| second == 7), [5, 12, 42]);
}

#[test]
fn requests_of_each_user_are_limited() {
    let mut quota = OwnerQuota::default();
    let followed = (0..2 * BINDINGS_PER_USER).filter(|_| quota.admit(1000)).count();
    assert_eq!(followed, BINDINGS_PER_USER);
    assert!(quota.admit(1001));
}

#[tokio::test]
async fn scan_runs_beside_loop_with_bounded_queue() {
    fn endless(sender: &mpsc::Sender<RecordFound>) {
        let found = RecordFound { path: CgroupPath::root(), owner: None };
        while sender.blocking_send(found.clone()).is_ok() {}
        WALKED.notify_one();
    }
    static WALKED: Notify = Notify::const_new();
    let mut scanner = RecordScanner::with(Arc::new(Notify::new()), endless);
    for _ in 0..3 {
        assert_eq!(scanner.next().await.path, CgroupPath::root());
    }
    assert!(scanner.running.as_ref().is_some_and(|found| found.max_capacity() == CHANNEL_SIZE));
    // It ends with its listener.
    drop(scanner);
    WALKED.notified().await;
}

#[tokio::test]
async fn request_during_a_scan_is_not_lost() {
    let rescan_requested = Arc::new(Notify::new());
    rescan_requested.notify_one();
    let mut scanner = RecordScanner::with(Arc::clone(&rescan_requested), |_| {});
    assert_eq!(scanner.drain().await, None);
    assert!(scanner.running.is_none() && scanner.schedule.requested.is_none());
    let a_while = Duration::from_millis(50);
    assert!(tokio::time::timeout(a_while, scanner.next()).await.is_err());
    let first = scanner.schedule.requested;
    assert!(first.is_some());
    rescan_requested.notify_one();
    assert!(tokio::time::timeout(a_while, scanner.next()).await.is_err());
    assert!(scanner.schedule.requested > first);
    assert!(scanner.schedule.due() <= first.and_then(|first| first.checked_add(SCAN_DELAY)));
}
