//! Only benches: see `hop` and `parts`.
