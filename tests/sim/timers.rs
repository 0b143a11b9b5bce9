//! Timers of a core, by the virtual clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::base::{Rng, Time};
use adit::engine::sim::{Faults, SimNet, Simulation};

use crate::roles::{EDGE, add_core};

const TASKS: usize = 10_000;

#[test]
fn ten_thousand_sleeping_tasks_wake_in_order() {
    let mut sim = Simulation::new(SimNet::new(9, Faults::none()));
    let (core, _) = add_core(&mut sim, EDGE, 0, 0);
    let woken: Rc<RefCell<Vec<Time>>> = Rc::default();
    let (start, mut rng) = (sim.net().now(), Rng::new(9));
    for _ in 0..TASKS {
        let at = start + Duration::from_micros(rng.between(1, 200_000));
        let (sleeper, woken) = (core.clone(), Rc::clone(&woken));
        core.spawn(async move {
            sleeper.sleep_until(at).await;
            woken.borrow_mut().push(at);
        });
    }
    sim.run_until(start + Duration::from_secs(1)).unwrap();
    assert_eq!(woken.borrow().len(), TASKS);
    assert!(woken.borrow().is_sorted(), "timers fire in the order of their deadlines");
}
