//! How long the parts take that every call goes through: codecs, records, histograms, routing, and a whole call without
//! the kernel.
//!
//! `cargo bench --manifest-path benches/apart/Cargo.toml --bench parts [-- FILTER]`. What is compared from one change to the next is the count of instructions
//! (`cargo bench --profile instructions --bench instructions`), which does not depend on what else the machine does.

#[path = "../cases/mod.rs"]
mod cases;

use std::time::Duration;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let governance = cases::GOVERNANCE.iter().filter(|case| !cases::CASES.iter().any(|known| known.name == case.name));
    for case in cases::CASES.iter().chain(governance) {
        let mut work = None;
        // Set up only if it is asked for.
        criterion.bench_function(case.name, |bencher| bencher.iter(work.get_or_insert_with(case.set_up)));
    }
    criterion.final_summary();
}
