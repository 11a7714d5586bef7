//! `memcg-bpf-hook`: what container runtimes run at a container's start and end.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcg_bpf::hook::main()
}
