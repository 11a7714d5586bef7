//! libbpf's words: kept back, so that they can be shown when something fails, instead of flooding stderr.

use std::cell::RefCell;
use std::sync::Once;

use libbpf_rs::PrintLevel;

/// Enough for the verifier's last page; its log comes as one message.
const KEEP: usize = 16 * 1024;

thread_local! {
    // libbpf speaks on the thread that called it, and policies are loaded on two.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn keep(_level: PrintLevel, message: String) {
    SAID.with_borrow_mut(|said| {
        said.push_str(&message);
        if said.len() > KEEP {
            let mut cut = said.len().saturating_sub(KEEP);
            while !said.is_char_boundary(cut) {
                cut = cut.saturating_add(1);
            }
            said.drain(..cut);
        }
    });
}

/// Runs `work` with libbpf's warnings collected; returns them with the result.
pub fn quietly<T>(work: impl FnOnce() -> T) -> (T, String) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    });
    SAID.with_borrow_mut(String::clear);
    let result = work();
    (result, SAID.with_borrow_mut(std::mem::take))
}
