//! The command `memcg-bpf`.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcg_bpf::cli::main()
}
