//! The signals, as a client receives them.

use futures_util::StreamExt;

use super::*;
use crate::log::denials::DenialRecord;

#[tokio::test]
async fn signals_carry_path_id_and_reason() {
    let (_server, published, client, _calls) = pair().await;
    let mut signals = zbus::MessageStream::from(&client);
    let cgroup = CgroupRef { id: CgroupId(7), path: CgroupPath::parse("/a.slice").unwrap() };
    published.emit_attached(&cgroup, &["deny".to_owned()]).await.unwrap();
    published.emit_detached(&cgroup, "the cgroup is gone").await.unwrap();
    let acted = ActionRecord {
        cgroup: CgroupId(7),
        path: cgroup.path.clone(),
        policy: "throttle".to_owned(),
        action: "memory.high",
        outcome: crate::log::audit::ActionOutcome::Done,
        from: u64::MAX,
        to: 64 << 20,
        reason: "others are stalled".to_owned(),
        numbers: [1, 2, 3, 4],
        detail: "memory.high: max → 64M".to_owned(),
        time: 5,
    };
    published.emit_acted(&acted).await.unwrap();
    let denied = denial_record(&cgroup);
    published.emit_denied(&denied).await.unwrap();
    let attached = signals.next().await.unwrap().unwrap();
    assert_eq!(attached.header().member().unwrap().as_str(), "Attached");
    let body: (String, u64, Vec<String>) = attached.body().deserialize().unwrap();
    assert_eq!(body, ("/a.slice".to_owned(), 7, vec!["deny".to_owned()]));
    let detached = signals.next().await.unwrap().unwrap();
    assert_eq!(detached.header().member().unwrap().as_str(), "Detached");
    let body: (String, u64, String) = detached.body().deserialize().unwrap();
    assert_eq!(body, ("/a.slice".to_owned(), 7, "the cgroup is gone".to_owned()));
    let acted_signal = signals.next().await.unwrap().unwrap();
    assert_eq!(acted_signal.header().member().unwrap().as_str(), "Acted");
    let (path, id, policy, verb, outcome, action): (String, u64, String, String, String, String) =
        acted_signal.body().deserialize().unwrap();
    assert_eq!((path.as_str(), id, policy.as_str()), ("/a.slice", 7, "throttle"));
    assert_eq!((verb.as_str(), outcome.as_str()), ("memory.high", "done"));
    assert_eq!(serde_json::from_str::<crate::report::ActionReport>(&action).unwrap(), acted.report());
    let denied_signal = signals.next().await.unwrap().unwrap();
    assert_eq!(denied_signal.header().member().unwrap().as_str(), "Denied");
    let (path, id, policy, outcome, report): (String, u64, String, String, String) =
        denied_signal.body().deserialize().unwrap();
    let words = [path.as_str(), policy.as_str(), outcome.as_str()];
    assert_eq!((words, id), (["/a.slice", "deny", "dry-run"], 7));
    assert_eq!(serde_json::from_str::<crate::report::DenialReport>(&report).unwrap(), denied.report());
}

fn denial_record(cgroup: &CgroupRef) -> DenialRecord {
    let denial = crate::policy::denial::Denial {
        cgroup: cgroup.id,
        time: 5,
        requested: 32 << 20,
        usage: 60 << 20,
        limit: Some(64 << 20),
        count: 1,
        pid: 4711,
        dry_run: true,
        policy: "deny".to_owned(),
        process: "java".to_owned(),
    };
    DenialRecord { path: cgroup.path.clone(), denial }
}
