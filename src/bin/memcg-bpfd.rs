//! The daemon: memory policy for containers and systemd units.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => memcg_bpf::daemon::run(),
        Some("--cleanup") => memcg_bpf::daemon::cleanup(),
        Some("--stop-post") => memcg_bpf::daemon::stop_post(),
        Some("--version") => {
            println!("memcg-bpfd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(other) => {
            let help = "memcg-bpfd: the memcg-bpf daemon; started by systemd (memcg-bpfd.service).\n\
                        Configuration: /etc/memcg-bpf/memcg-bpf.conf. Log level: MEMCG_BPF_LOG=debug.\n\
                        --cleanup detaches the policies of a daemon that is no longer running, and removes its records from cgroups.\n\
                        --stop-post does so if systemd was asked to stop the daemon (for ExecStopPost=).";
            println!("{help}");
            if matches!(other, "--help" | "-h") { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
    }
}
