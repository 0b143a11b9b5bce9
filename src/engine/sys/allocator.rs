//! The allocator of the program.

/// Returns memory that this thread has freed to the system. The allocator does so by itself only when it is called, which a core
/// that is idle does not.
pub(in crate::engine) fn collect() {
    // SAFETY: the function has no preconditions. In a program with another allocator it finds nothing to do.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
