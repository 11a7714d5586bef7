//! Every command that the documentation shows is run, page by page, in the order of the page.

use std::collections::BTreeSet;
use std::path::Path;

use crate::pages::{Block, Page};
use crate::support::{TestEnv, leftovers, sh, try_sh};

/// The pages, where the test bench puts them.
const TREE: &str = "/data/tree";

/// What the reader has that the test machine lacks: sudo, and policies built in a directory of their own.
const BEFORE: &str = r#"
set -euo pipefail
sudo() { "$@"; }
cd "$(mktemp -d)"
cp -r /data/tree/examples/policies mine
export SYSTEMD_PAGER= PAGER=cat
trap 'echo "failed in the block at line $line: $BASH_COMMAND"' ERR
"#;

/// One block as a piece of a shell script.
fn step(block: &Block) -> Option<String> {
    let (kind, rest) = block.tag.split_once(' ').unwrap_or((&block.tag, ""));
    let line = format!("line={}\n", block.line);
    match (kind, rest) {
        ("sh", "") => Some(format!("{line}{}", block.text)),
        ("ini", file) if file.starts_with('/') => {
            Some(format!("{line}mkdir -p \"$(dirname {file})\"\ncat >{file} <<'EOF'\n{}EOF\n", block.text))
        }
        _ => None,
    }
}

/// The files where pages put some, without the configuration, which is the package's.
fn files() -> BTreeSet<String> {
    sh("find /etc/systemd/system /etc/containers/systemd /etc/memcg-bpf /run/systemd/transient -type f \
        -not -name memcg-bpf.conf 2>/dev/null || true")
    .lines()
    .map(str::to_owned)
    .collect()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn documented_commands_succeed() {
    let mut env = TestEnv::new("documentation");
    env.file(
        "/etc/containers/containers.conf.d/test.conf",
        "[containers]\nnetns=\"none\"\nlog_driver=\"none\"\n",
    );
    env.at_end("podman rm -af -t 0; podman rmi -af".to_owned());
    // tests/vm/check masks all generators, because each reload runs them. Quadlet is one.
    let quadlet = "/run/systemd/system-generators/podman-system-generator";
    sh(&format!("rm -f {quadlet}"));
    env.at_end(format!("ln -sf /dev/null {quadlet}"));
    sh("tar -C /srv/busybox -c . | podman import -q - docker.io/library/busybox:latest");
    // What is there before is the machine's: its image may be newer than this program.
    let before = files();
    let mut wrong = String::new();
    let mut run = 0;
    for page in Page::all(Path::new(TREE)) {
        let steps: Vec<String> = page.blocks.iter().filter_map(step).collect();
        if steps.is_empty() {
            continue;
        }
        run += steps.len();
        let output = try_sh(&format!("{BEFORE}{}", steps.join("")));
        if output.status != 0 {
            wrong += &format!(
                "--- {}: exit status {}\n{}\n{}\n",
                page.name, output.status, output.out, output.err
            );
        }
    }
    for page in Page::all(Path::new(TREE)) {
        let name = Path::new(&page.name).file_stem().unwrap().to_string_lossy().into_owned();
        // A page about a policy shows lines that request it.
        for line in page.text.lines().filter_map(|line| line.strip_prefix("    ")) {
            if page.name.starts_with("docs/policies/") && line.split(' ').next() == Some(&name) {
                run += 1;
                let output = try_sh(&format!("memcg-bpf check '{line}'"));
                if output.status != 0 {
                    wrong += &format!("--- {}: {line}\n{}\n{}\n", page.name, output.out, output.err);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(run > 20, "only {run} blocks");
    let after = files();
    let left: Vec<&String> = after.difference(&before).collect();
    assert!(left.is_empty(), "the pages end with how to undo what they did, but leave {left:?}");
    env.end();
    assert_eq!(leftovers().matches("record ").count(), 0);
}
