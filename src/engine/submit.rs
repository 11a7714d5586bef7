//! How invalid requests of callers are treated, and why a request is not attached.

/// The treatment of a request with errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// It is rejected.
    Reject,
    /// It is rejected, and so is one whose policies use hooks that this kernel lacks.
    RejectMissingHooks,
    /// Its errors are returned, and it is kept, so that reports contain them.
    Keep,
}

/// Why a request is not attached. One sentence for each error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitError {
    /// The line has errors.
    Invalid(Vec<String>),
    /// Its policies use hooks that this kernel lacks.
    MissingHooks(Vec<String>),
    /// It could not be attached. The previous request of its origin is attached.
    Failed(Vec<String>),
}
