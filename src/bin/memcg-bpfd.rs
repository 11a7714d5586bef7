//! The daemon: memory policy for containers and systemd units.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => memcg_bpf::daemon::run(),
        Some("--forget") => memcg_bpf::daemon::forget(),
        Some("--version") => {
            println!("memcg-bpfd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(other) => {
            let help = "memcg-bpfd: the memcg-bpf daemon; started by systemd (memcg-bpfd.service).\n\
                        Configuration: /etc/memcg-bpf/memcg-bpf.conf. Log level: MEMCG_BPF_LOG=debug.\n\
                        --forget removes the records that an earlier daemon left on cgroups.";
            println!("{help}");
            if matches!(other, "--help" | "-h") { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
    }
}
