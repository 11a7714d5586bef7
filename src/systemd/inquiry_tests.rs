//! Against the small systemd of the other tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::super::watch::tests::{pair_with, unit};
use super::*;

/// What comes within a moment in which everything comes that does not have to wait for somebody else.
async fn soon(inquiry: &mut Inquiry) -> Option<Answer> {
    tokio::time::timeout(Duration::from_secs(1), inquiry.next()).await.ok()
}

#[tokio::test]
async fn a_unit_that_systemd_is_slow_about_holds_up_no_other() {
    let patience = Arc::new(Notify::new());
    let (_server, systemd) = pair_with(false, Arc::clone(&patience)).await;
    let mut inquiry = Inquiry::new(systemd);
    let others: BTreeSet<UnitName> = (0..100).map(|n| unit(&format!("u{n}.service"))).collect();
    inquiry.agenda.add(unit("slow.service"), Urgency::News, true);
    inquiry.searching = Some(Search::Survey);
    inquiry.ask_for_all(&Discovery::default(), others);
    for n in 0..100 {
        assert!(!inquiry.has_surveyed());
        assert!(matches!(inquiry.next().await, Answer::Unit(_)), "{n}");
    }
    assert!(soon(&mut inquiry).await.is_none() && !inquiry.is_idle());
    assert!(inquiry.has_surveyed(), "what systemd is slow about was no part of it");
    // News of it meanwhile: it is asked about again, once, when the answer at hand has come.
    inquiry.agenda.add(unit("slow.service"), Urgency::News, true);
    inquiry.agenda.add(unit("slow.service"), Urgency::News, true);
    for _ in 0..2 {
        patience.notify_one();
        assert!(matches!(inquiry.next().await, Answer::Unit(_)));
    }
    assert!(inquiry.is_idle());
}

#[tokio::test]
async fn surveys_asked_for_during_one_are_one_more_afterwards() {
    let (_server, systemd) = pair_with(false, Arc::default()).await;
    let mut inquiry = Inquiry::new(systemd);
    let (mut searched, mut described) = (0, 0);
    (0..5).for_each(|_| inquiry.survey());
    while !inquiry.is_idle() {
        match inquiry.next().await {
            Answer::Searched(..) => {
                searched += 1;
                inquiry.ask_for_all(&Discovery::default(), [unit("a.service")].into());
            }
            Answer::Unit(_) => described += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(searched, 2);
    // The second may find the unit still on the agenda.
    assert!((1..=2).contains(&described), "{described}");
}

#[tokio::test]
async fn a_unit_that_is_not_loaded_is_no_news_unless_it_was_to_be_loaded() {
    let (_server, systemd) = pair_with(true, Arc::default()).await;
    let mut inquiry = Inquiry::new(systemd);
    inquiry.look_at(&unit("a.service"));
    assert!(soon(&mut inquiry).await.is_none() && inquiry.is_idle());
    inquiry.searching = Some(Search::Survey);
    inquiry.ask_for_all(&Discovery::default(), [unit("a.service")].into());
    assert!(matches!(inquiry.next().await, Answer::NoSuchUnit(name) if name == unit("a.service")));
}

#[tokio::test]
async fn a_changed_file_is_searched_for_without_a_word_to_systemd() {
    let patience = Arc::new(Notify::new());
    let (_server, systemd) = pair_with(false, Arc::clone(&patience)).await;
    let root = tempfile::tempdir().unwrap();
    let mut inquiry = Inquiry::new(systemd);
    inquiry.take(Back::UnitPath(vec![root.path().to_owned()]));
    assert!(matches!(inquiry.next().await, Answer::Searched(found) if found.discovery.units.is_empty()));
    inquiry.ask_for_all(&Discovery::default(), BTreeSet::new());
    // There is nothing that could be asked about, and who waits for that hears of it, once.
    assert!(matches!(inquiry.next().await, Answer::Surveyed) && inquiry.has_surveyed());
    assert!(soon(&mut inquiry).await.is_none() && inquiry.is_idle());
    // Systemd hangs over another question meanwhile.
    inquiry.agenda.add(unit("slow.service"), Urgency::News, true);
    inquiry.ask();
    std::fs::write(root.path().join("x.service"), "[Service]\nX-MemoryBPFPolicy=observe\n").unwrap();
    let Answer::Searched(found) = inquiry.next().await else { panic!() };
    assert_eq!(found.discovery.units, [unit("x.service")].into());
    inquiry.ask_for_all(&found.discovery, BTreeSet::new());
    // The answer from before the change does not count; the one after it does.
    patience.notify_one();
    assert!(soon(&mut inquiry).await.is_none());
    patience.notify_one();
    assert!(matches!(inquiry.next().await, Answer::Unit(_)) && inquiry.is_idle());
}

#[tokio::test]
async fn a_changed_file_is_searched_for_while_systemd_is_to_list_its_units() {
    let (_server, systemd) = pair_with(false, Arc::default()).await;
    let root = tempfile::tempdir().unwrap();
    let mut inquiry = Inquiry::new(systemd);
    inquiry.take(Back::UnitPath(vec![root.path().to_owned()]));
    assert!(matches!(inquiry.next().await, Answer::Searched(_)));
    inquiry.ask_for_all(&Discovery::default(), BTreeSet::new());
    assert!(matches!(inquiry.next().await, Answer::Surveyed) && inquiry.is_idle());
    // A list that does not come, and another survey that waits for it.
    inquiry.listing = true;
    inquiry.survey();
    assert!(soon(&mut inquiry).await.is_none() && !inquiry.is_idle());
    std::fs::write(root.path().join("x.service"), "[Service]\nX-MemoryBPFPolicy=observe\n").unwrap();
    let Answer::Searched(found) = inquiry.next().await else { panic!() };
    assert_eq!(found.discovery.units, [unit("x.service")].into());
    inquiry.ask_for_all(&found.discovery, BTreeSet::new());
    assert!(soon(&mut inquiry).await.is_none() && inquiry.survey_due);
    inquiry.take(Back::Listed(Ok(BTreeSet::new())));
    assert!(matches!(inquiry.next().await, Answer::Searched(_)));
    inquiry.ask_for_all(&Discovery::default(), BTreeSet::new());
    assert!(soon(&mut inquiry).await.is_none() && inquiry.is_idle());
}
