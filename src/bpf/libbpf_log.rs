//! Captures the messages of libbpf, so that they are shown only if an operation fails.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::sync::Once;

use libbpf_rs::libbpf_sys::{self, __va_list_tag, libbpf_print_level};

/// Bytes kept of the messages: enough for the last page of the verifier's log, which is one message.
const KEEP: usize = 16 * 1024;

thread_local! {
    // libbpf prints on the thread that called it, and two threads load policies.
    static CAPTURED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Receives messages as bytes: they may contain names of a custom object, and libbpf-rs panics if these are not
/// UTF-8.
extern "C" fn print(level: libbpf_print_level, format: *const c_char, values: *mut __va_list_tag) -> c_int {
    if level == libbpf_sys::LIBBPF_WARN {
        // SAFETY: libbpf calls this with a format and the values for it, which live longer than the call.
        match unsafe { vsprintf::vsprintf_raw(format, values) } {
            Ok(bytes) => append(&String::from_utf8_lossy(&bytes)),
            Err(error) => append(&format!("libbpf: invalid message: {error}\n")),
        }
    }
    0
}

fn append(message: &str) {
    CAPTURED.with_borrow_mut(|said| {
        said.push_str(message);
        if said.len() > KEEP {
            let mut cut = said.len().saturating_sub(KEEP);
            while !said.is_char_boundary(cut) {
                cut = cut.saturating_add(1);
            }
            said.drain(..cut);
        }
    });
}

/// Runs `work` and returns its result with the captured messages.
pub fn capture<T>(work: impl FnOnce() -> T) -> (T, String) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: `print` is a function of just this type, and never unwinds into libbpf.
        unsafe { libbpf_sys::libbpf_set_print(Some(print)) };
    });
    CAPTURED.with_borrow_mut(String::clear);
    let result = work();
    (result, CAPTURED.with_borrow_mut(std::mem::take))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_utf8_names_do_not_panic() {
        // SAFETY: the path is a C string, and there need not be options.
        let open =
            || unsafe { libbpf_sys::bpf_object__open_file(c"/no/such/\xff.o".as_ptr(), std::ptr::null()) };
        let (opened, said) = capture(open);
        assert!(opened.is_null());
        assert!(said.contains("/no/such/\u{fffd}.o"), "{said}");
    }
}
