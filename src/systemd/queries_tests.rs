//! Tests against the fake systemd of the other tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::super::client::tests::{pair_with, unit};
use super::*;

/// The replies that arrive in a short time.
async fn soon(queries: &mut UnitQueries) -> Option<Reply> {
    tokio::time::timeout(Duration::from_secs(1), queries.next()).await.ok()
}

#[tokio::test]
async fn slow_query_does_not_delay_others() {
    let patience = Arc::new(Notify::new());
    let (_server, systemd) = pair_with(false, Arc::clone(&patience)).await;
    let mut queries = UnitQueries::new(systemd);
    let others: BTreeSet<UnitName> = (0..100).map(|n| unit(&format!("u{n}.service"))).collect();
    queries.queue.add(unit("slow.service"), Priority::Change, true);
    queries.searching = Some(Search::Everything);
    queries.query_all(&PolicyUnits::default(), others);
    for n in 0..100 {
        assert!(!queries.first_scan_done());
        assert!(matches!(queries.next().await, Reply::Unit(_)), "{n}");
    }
    assert!(soon(&mut queries).await.is_none() && !queries.is_idle());
    assert!(queries.first_scan_done(), "what systemd is slow about was no part of it");
    // The unit changes during the query: it is queried again, once, after the reply.
    queries.queue.add(unit("slow.service"), Priority::Change, true);
    queries.queue.add(unit("slow.service"), Priority::Change, true);
    for _ in 0..2 {
        patience.notify_one();
        assert!(matches!(queries.next().await, Reply::Unit(_)));
    }
    assert!(queries.is_idle());
}

#[tokio::test]
async fn full_scans_requested_during_one_are_one_more() {
    let (_server, systemd) = pair_with(false, Arc::default()).await;
    let mut queries = UnitQueries::new(systemd);
    let (mut searched, mut described) = (0, 0);
    (0..5).for_each(|_| queries.full_scan());
    while !queries.is_idle() {
        match queries.next().await {
            Reply::FilesScanned(..) => {
                searched += 1;
                queries.query_all(&PolicyUnits::default(), [unit("a.service")].into());
            }
            Reply::Unit(_) => described += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(searched, 2);
    // The second search may find the unit in the queue.
    assert!((1..=2).contains(&described), "{described}");
}

#[tokio::test]
async fn unit_that_is_not_loaded_is_reported_only_after_load() {
    let (_server, systemd) = pair_with(true, Arc::default()).await;
    let mut queries = UnitQueries::new(systemd);
    queries.query(&unit("a.service"));
    assert!(soon(&mut queries).await.is_none() && queries.is_idle());
    queries.searching = Some(Search::Everything);
    queries.query_all(&PolicyUnits::default(), [unit("a.service")].into());
    assert!(matches!(queries.next().await, Reply::NoSuchUnit(name) if name == unit("a.service")));
}

#[tokio::test]
async fn changed_file_is_searched_without_query() {
    let patience = Arc::new(Notify::new());
    let (_server, systemd) = pair_with(false, Arc::clone(&patience)).await;
    let root = tempfile::tempdir().unwrap();
    let mut queries = UnitQueries::new(systemd);
    queries.take(TaskResult::UnitPath(vec![root.path().to_owned()]));
    assert!(matches!(queries.next().await, Reply::FilesScanned(found) if found.discovery.units.is_empty()));
    queries.query_all(&PolicyUnits::default(), BTreeSet::new());
    // There are no units to query, so the end of the scan is returned once.
    assert!(matches!(queries.next().await, Reply::ScanComplete) && queries.first_scan_done());
    assert!(soon(&mut queries).await.is_none() && queries.is_idle());
    // The fake systemd does not reply to another query.
    queries.queue.add(unit("slow.service"), Priority::Change, true);
    queries.ask();
    std::fs::write(root.path().join("x.service"), "[Service]\nX-MemoryBPFPolicy=observe\n").unwrap();
    let Reply::FilesScanned(found) = queries.next().await else { panic!() };
    assert_eq!(found.discovery.units, [unit("x.service")].into());
    queries.query_all(&found.discovery, BTreeSet::new());
    // A reply from before the change is ignored; the one after it is returned.
    patience.notify_one();
    assert!(soon(&mut queries).await.is_none());
    patience.notify_one();
    assert!(matches!(queries.next().await, Reply::Unit(_)) && queries.is_idle());
}

#[tokio::test]
async fn changed_file_is_searched_during_unit_listing() {
    let (_server, systemd) = pair_with(false, Arc::default()).await;
    let root = tempfile::tempdir().unwrap();
    let mut queries = UnitQueries::new(systemd);
    queries.take(TaskResult::UnitPath(vec![root.path().to_owned()]));
    assert!(matches!(queries.next().await, Reply::FilesScanned(_)));
    queries.query_all(&PolicyUnits::default(), BTreeSet::new());
    assert!(matches!(queries.next().await, Reply::ScanComplete) && queries.is_idle());
    // The list is not returned, and another full scan waits for it.
    queries.listing = true;
    queries.full_scan();
    assert!(soon(&mut queries).await.is_none() && !queries.is_idle());
    std::fs::write(root.path().join("x.service"), "[Service]\nX-MemoryBPFPolicy=observe\n").unwrap();
    let Reply::FilesScanned(found) = queries.next().await else { panic!() };
    assert_eq!(found.discovery.units, [unit("x.service")].into());
    queries.query_all(&found.discovery, BTreeSet::new());
    assert!(soon(&mut queries).await.is_none() && queries.full_scan_due);
    queries.take(TaskResult::Listed(Ok(BTreeSet::new())));
    assert!(matches!(queries.next().await, Reply::FilesScanned(_)));
    queries.query_all(&PolicyUnits::default(), BTreeSet::new());
    assert!(soon(&mut queries).await.is_none() && queries.is_idle());
}
