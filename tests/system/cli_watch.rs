//! Commands that observe over time: metrics, record, report and top.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{PROGRAMS, TestEnv, active, first_line, sh, systemd, try_sh, unit_in_state, wait_for};

#[test]
#[ignore = "needs root in the test machine: make check"]
fn metrics_record_report_and_top() {
    let mut env = TestEnv::new("watch");
    let (unit, out) = ("mpwatch.service", env.out("mpwatch.service"));
    env.unit(
        unit,
        &format!(
            "[Service]\nMemoryHigh=500M\nExecStart={PROGRAMS}/alloc 200 hold\nStandardOutput=append:{}\n\
             X-MemoryBPFPolicy=deny limit=64M; observe\n",
            out.display()
        ),
    );
    env.reload();
    unit_in_state(unit, "registered");
    let history = env.dir.join("history");
    let at = |path: &Path| path.display().to_string();
    env.at_end(format!("kill $(cat {}.pid)", at(&history)));
    sh(&format!(
        "memcg-bpf record {0} --interval 200ms >{0}.said 2>&1 </dev/null & echo $! >{0}.pid",
        at(&history)
    ));
    wait_for("the first sample", || fs::read_to_string(&history).ok().filter(|text| text.contains('\n')));
    systemd::start(unit);
    first_line(&out);
    active("/system.slice/mpwatch.service");
    wait_for("the start to be recorded", || {
        let text = fs::read_to_string(&history).ok()?;
        (text.contains("\"kind\":\"event\"") && text.matches("mpwatch.service\",\"usage\"").count() > 2)
            .then_some(())
    });
    metrics(&env.dir);
    live(&mut env);

    // The page.
    sh(&format!("memcg-bpf report {} --output {}/page.html", at(&history), at(&env.dir)));
    let page = fs::read_to_string(env.dir.join("page.html")).unwrap();
    for text in
        ["<h2>mpwatch.service</h2>", "class=\"area usage\"", "class=\"mark\"><title>attached: deny, observe"]
    {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let entries: Vec<Value> =
        serde_json::from_str(&sh(&format!("memcg-bpf report {} --json", at(&history)))).unwrap();
    let last = entries.iter().rev().find(|entry| entry["kind"] == "sample").unwrap();
    let ours = &last["cgroups"][0];
    assert_eq!((&ours["name"], &ours["high"]), (&Value::from(unit), &Value::from(500_u64 << 20)), "{last}");
    assert!(ours["denied"].as_u64().unwrap() > 0 && ours["usage"].as_u64().unwrap() > 32 << 20, "{last}");
    env.end();
}

/// Printed, in a file, and from a socket: the same metrics.
fn metrics(dir: &Path) {
    let printed = sh("memcg-bpf metrics");
    let line = |text: &str, what: &str| {
        text.lines()
            .find(|line| line.starts_with(what))
            .unwrap_or_else(|| panic!("{what}\n{text}"))
            .to_owned()
    };
    let of = "{cgroup=\"/system.slice/mpwatch.service\",name=\"mpwatch.service\"}";
    let value = |text: &str, name: &str| -> f64 {
        line(text, &format!("{name}{of}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value(&printed, "memcg_bpf_cgroup_memory_usage_bytes") > 32.0 * 1048576.0, "{printed}");
    assert!(value(&printed, "memcg_bpf_cgroup_growth_denied_total") > 0.0, "{printed}");
    assert_eq!(
        line(&printed, "memcg_bpf_cgroups{state=\"active\"}"),
        "memcg_bpf_cgroups{state=\"active\"} 1"
    );
    let file = dir.join("memcg_bpf.prom");
    sh(&format!("memcg-bpf metrics --textfile {}", file.display()));
    let written = fs::read_to_string(&file).unwrap();
    let names =
        |text: &str| text.lines().filter(|l| l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&written), names(&printed));

    // Prometheus' own checker prints nothing if all conventions are kept.
    let output = try_sh(&format!("promtool check metrics <{}", file.display()));
    assert_eq!((output.status, output.out.as_str(), output.err.as_str()), (0, "", ""));

    let socket = dir.join("metrics.sock");
    let mut server = Command::new("memcg-bpf")
        .args(["metrics", "--listen"])
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let served = wait_for("an answer at the socket", || {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        std::io::read_to_string(stream).ok()
    });
    server.kill().unwrap();
    assert!(server.wait().unwrap().signal().is_some());
    let (head, body) = served.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && names(body) == names(&printed), "{served}");
    let wrong = try_sh("memcg-bpf metrics --listen 0.0.0.0:9719");
    assert!(wrong.status == 2 && wrong.err.contains("not a loopback address"), "{}", wrong.err);
}

/// `top` in terminals of two sizes: what it shows and where, a key, and that the terminal is given back.
fn live(env: &mut TestEnv) {
    let tmux = "LC_ALL=C.UTF-8 tmux -u -L mptop -f /dev/null";
    env.at_end(format!("{tmux} kill-server"));
    for (columns, rows, trend) in [(80, 24, false), (200, 50, true)] {
        sh(&format!(
            "{tmux} new-session -d -s s{columns} -x {columns} -y {rows} 'PS1=ready: exec bash --norc'"
        ));
        let screen = || sh(&format!("{tmux} capture-pane -p -t s{columns}"));
        let shows = |what: &str| {
            wait_for(&format!("the terminal to show {what}"), || {
                let text = screen();
                text.contains(what).then_some(text)
            })
        };
        let keys = |keys: &str| sh(&format!("{tmux} send-keys -t s{columns} {keys}"));
        shows("ready:");
        keys("'memcg-bpf top --interval 250ms' Enter");
        shows("mpwatch.service");
        let text = shows("quit");
        let lines: Vec<&str> = text.lines().collect();
        let head =
            lines.iter().position(|line| line.contains("REFAULTS")).unwrap_or_else(|| panic!("{text}"));
        assert!(head < 4 && lines[head + 1].contains("mpwatch.service"), "{text}");
        // The keys stand in the last line, and nothing is wider than the terminal.
        assert!(lines.len() == rows && lines[rows - 1].contains("quit"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= columns), "{text}");
        assert_eq!(text.contains("MEMORY HISTORY"), trend, "{text}");
        keys("p");
        shows("paused,");
        keys("q");
        let after = shows("ready:");
        assert!(!after.contains("REFAULTS"), "{after}");
    }
}
