//! libbpf's words: kept back, so that they can be shown when something fails, instead of flooding stderr.

use std::sync::Mutex;

use libbpf_rs::PrintLevel;

/// Enough for the verifier's last page; its log comes as one message.
const KEEP: usize = 16 * 1024;

static LAST: Mutex<String> = Mutex::new(String::new());

fn keep(_level: PrintLevel, message: String) {
    if let Ok(mut last) = LAST.lock() {
        last.push_str(&message);
        if last.len() > KEEP {
            let mut cut = last.len().saturating_sub(KEEP);
            while !last.is_char_boundary(cut) {
                cut = cut.saturating_add(1);
            }
            last.drain(..cut);
        }
    }
}

/// Runs `work` with libbpf's warnings collected; returns them with the result.
pub fn quietly<T>(work: impl FnOnce() -> T) -> (T, String) {
    if let Ok(mut last) = LAST.lock() {
        last.clear();
    }
    let before = libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    let result = work();
    libbpf_rs::set_print(before);
    let said = LAST.lock().map(|last| last.clone()).unwrap_or_default();
    (result, said)
}
