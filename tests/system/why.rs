//! Kills by the kernel's OOM killer are recorded and explained, in cgroups with a policy and without, and without the
//! daemon.

use serde_json::Value;

use crate::oom_in_kernel::{kill_daemon_for_good, start_daemon};
use crate::support::{PROGRAMS, TestEnv, first_line, journal, sh, systemd, try_sh, wait_for};

const LIMIT: &str = "MemoryMax=96M\nMemorySwapMax=0";

/// The kills that `memcg-bpf why` finds; empty if there are none.
fn kills(target: &str) -> Vec<Value> {
    let output = try_sh(&format!("memcg-bpf why {target} --json"));
    serde_json::from_str(&output.out).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The only kill, once it is recorded.
fn kill(target: &str) -> Value {
    wait_for("the kill to be recorded", || (!kills(target).is_empty()).then_some(()));
    let kills = kills(target);
    assert_eq!(kills.len(), 1, "{target}: {kills:?}");
    assert_eq!(kills[0]["by"], "kernel");
    kills[0]["kill"].clone()
}

/// The sizes in KiB that the kernel's own message has for the process: anonymous and shared memory.
fn kernel_message(pid: &Value) -> (u64, u64) {
    let message = sh(&format!("dmesg | grep -F 'Killed process {pid} (alloc)'"));
    let of = |name: &str| {
        let (_, rest) = message.split_once(name).unwrap();
        rest.split("kB").next().unwrap().parse().unwrap()
    };
    (of("anon-rss:"), of("shmem-rss:"))
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn kernel_oom_kill_names_victim_limit_and_culprit() {
    let mut env = TestEnv::new("why");
    env.unit("mpwhy.slice", &format!("[Slice]\n{LIMIT}\n"));
    let mut hold = |name: &str, more: &str| {
        let out = env.out(name).display().to_string();
        let exec = format!("Type=exec\nExecStart={PROGRAMS}/alloc 60 hold\nStandardOutput=append:{out}");
        env.unit(name, &format!("[Service]\nSlice=mpwhy.slice\n{exec}\n{more}\n"));
    };
    // The kernel kills another process than that which allocates.
    hold("mpwhyvictim.service", "OOMScoreAdjust=900\nOOMPolicy=kill");
    hold("mpwhyculprit.service", "OOMScoreAdjust=-1000");
    env.policy("mpwhyvictim.service", "observe").reload();
    systemd::start("mpwhyvictim.service");
    assert_eq!(first_line(&env.out("mpwhyvictim.service")), "reached 60 MiB");
    let pid = sh("systemctl show -P MainPID mpwhyvictim.service");
    systemd::start("mpwhyculprit.service");
    assert_eq!(first_line(&env.out("mpwhyculprit.service")), "reached 60 MiB");

    let found = kill("mpwhyvictim.service");
    let (victim, culprit, limit) = (&found["victim"], &found["culprit"], &found["limit"]);
    assert_eq!((victim["pid"].to_string(), victim["name"].as_str()), (pid.clone(), Some("alloc")));
    assert_eq!(victim["cgroup"], "/mpwhy.slice/mpwhyvictim.service");
    assert_eq!((&found["group"], &victim["oom_score_adj"]), (&victim["cgroup"], &Value::from(900)));
    let own = sh("systemctl show -P MainPID mpwhyculprit.service");
    assert_eq!(culprit["pid"].to_string(), own);
    assert_eq!(culprit["cgroup"], "/mpwhy.slice/mpwhyculprit.service");
    assert_eq!(
        (&found["cause"], &limit["cgroup"]),
        (&Value::from("memory.max"), &Value::from("/mpwhy.slice"))
    );
    assert_eq!((&limit["max"], &limit["swap_max"]), (&Value::from(96 << 20), &Value::from(0)));
    assert!(limit["usage"].as_u64().unwrap() > 90 << 20, "{limit}");
    assert!(found["stalled_some_ppm"].is_u64() && found["stalled_full_ppm"].is_u64(), "{found}");
    // The kernel's counters are exact to some hundred KiB.
    let (anon, shmem) = kernel_message(&victim["pid"]);
    assert!((found["anon"].as_u64().unwrap() >> 10).abs_diff(anon) < 1024, "{anon} KiB: {found}");
    assert!((found["shmem"].as_u64().unwrap() >> 10).abs_diff(shmem) < 1024, "{shmem} KiB: {found}");

    for target in [pid.as_str(), "mpwhyvictim", "mpwhy.slice", "/mpwhy.slice/mpwhyvictim.service"] {
        assert_eq!(kill(target), found, "{target}");
    }
    assert!(kills("alloc").iter().any(|kill| kill["kill"] == found));
    assert_eq!(kills("mpwhyculprit.service"), [Value::Null; 0]);
    let sentence = format!("killed process {pid} (alloc) and all others in /mpwhy.slice/mpwhyvictim.service");
    let text = sh(&format!("memcg-bpf why {pid}"));
    assert!(text.contains("the OOM killer of the kernel"), "{text}");
    assert!(text.contains("Limit: /mpwhy.slice was at memory.max=96M with 9"), "{text}");
    assert!(journal(&["-o", "cat", "-u", "mpwhyvictim.service"]).contains(&sentence));
    assert!(sh("memcg-bpf events mpwhyvictim.service --json").contains("\"event\":\"oom-killed\""));
    wait_for("the unit to end", || (systemd::active_state("mpwhyvictim.service") == "failed").then_some(()));
    let explained = sh("memcg-bpf explain mpwhyvictim.service --json");
    let explained: Value = serde_json::from_str(&explained).unwrap();
    let sentences = explained["explanation"].as_array().unwrap();
    assert!(sentences[0].as_str().unwrap().contains(&sentence), "{sentences:?}");
    let call = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager Kills s";
    assert!(sh(&format!("{call} /mpwhy.slice")).contains("mpwhyculprit"));
    assert!(!sh(&format!("{call} /mpwhy.slice/mpwhyvictim.service")).contains("mpwhyculprit"));
    assert!(sh(&format!("{call} /mpwhy.slice/mpwhyculprit.service")).contains("[]"));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn container_oom_kill_is_explained_after_the_daemon_was_dead() {
    let mut env = TestEnv::new("why-container");
    kill_daemon_for_good(&mut env);
    let script = format!(
        "while [ ! -e /out/go ]; do sleep 0.1; done; {PROGRAMS}/alloc 200; echo $? >/out/status; sleep 1000"
    );
    let id = env.podman_id("mpwhy", "--memory 64m --memory-swap 64m", &script);
    sh(&format!("touch {}", env.dir.join("go").display()));
    assert_eq!(first_line(&env.dir.join("status")), "137");
    let ended = sh("date +%s%6N").parse::<u64>().unwrap();
    start_daemon();
    let scope = format!("/machine.slice/libpod-{id}.scope");
    let found = kill(&id[..12]);
    assert!(found["victim"]["cgroup"].as_str().unwrap().starts_with(&scope), "{found}");
    assert!(found["limit"]["cgroup"].as_str().unwrap().starts_with(&scope), "{found}");
    assert_eq!(
        (&found["limit"]["max"], &found["culprit"]["name"]),
        (&Value::from(64 << 20), &Value::from("alloc"))
    );
    assert!(found["time_us"].as_u64().unwrap() < ended, "its own time: {found}");
    for target in ["mpwhy", &scope] {
        assert_eq!(kill(target), found, "{target}");
    }
    sh("podman rm -f -t 0 mpwhy");
    assert_eq!(kill(&id), found, "after the container's end");
    assert!(sh(&format!("memcg-bpf explain {id} || true")).contains("OOM killer of the kernel"));
    env.end();
}

/// systemd reports kills by policies as those of systemd-oomd, too: see actions::reclaim_kill.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn kill_by_systemd_oomd_is_named_as_such() {
    let mut env = TestEnv::new("why-oomd");
    env.unit("mpoomd.service", "[Service]\nType=exec\nExecStart=sleep 1000\n").reload();
    systemd::start("mpoomd.service");
    let cgroup = "/sys/fs/cgroup/system.slice/mpoomd.service";
    sh(&format!("setfattr -n user.oomd_kill -v 1 {cgroup}; setfattr -n user.oomd_ooms -v 1 {cgroup}"));
    sh("systemctl kill -s KILL mpoomd.service");
    wait_for("systemd's line", || (!kills("mpoomd.service").is_empty()).then_some(()));
    let found = kills("mpoomd.service");
    assert_eq!((found.len(), &found[0]["by"]), (1, &Value::from("systemd-oomd")));
    env.end();
}
