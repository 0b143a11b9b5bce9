use std::io;

use crate::base::Time;
use crate::engine::Core;
use crate::engine::sim::net::{DriverId, SimNet};

/// Rounds that may pass without the clock moving; more means that the cores keep each other busy for ever.
const ROUNDS_PER_INSTANT_MAX: u32 = 100_000;

/// Names a core of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

/// Why a simulation stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimStop {
    /// The time that it was given is over.
    #[error("the simulated time ran out")]
    OutOfTime,
    /// Nothing will ever happen again.
    #[error("every core waits, and nothing is on its way")]
    Deadlock,
    /// Time stood still for too long.
    #[error("the cores kept each other busy without time passing: {ROUNDS_PER_INSTANT_MAX} rounds at {at_ns} ns")]
    Livelock {
        /// The virtual time, in nanoseconds.
        at_ns: u64,
    },
    /// A core ended with an error.
    #[error("a core failed: {0}")]
    Core(#[from] io::Error),
}

/// The cores of a simulated network, stepped in turn in one thread.
///
/// In each round every core that has something to do takes one step, in an order drawn from the seed. When none has,
/// the clock moves to the next event or to the first point that a core waits for.
pub struct Simulation {
    net: SimNet,
    members: Vec<Member>,
    members_made: u64,
    rounds: u32,
}

struct Member {
    id: MemberId,
    driver: DriverId,
    core: Core,
    started: bool,
}

impl Simulation {
    /// Creates a simulation without cores on `net`.
    #[must_use]
    pub fn new(net: SimNet) -> Simulation {
        Simulation { net, members: Vec::new(), members_made: 0, rounds: 0 }
    }

    /// The simulated network that the cores share.
    #[must_use]
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// Adds a core, which runs on `driver` and does not spin: time would not pass for it.
    pub fn add(&mut self, driver: DriverId, core: Core) -> MemberId {
        self.members_made += 1;
        let id = MemberId(self.members_made);
        self.members.push(Member { id, driver, core, started: false });
        id
    }

    /// Ends a core where it stands, with all its tasks.
    pub fn remove(&mut self, member: MemberId) {
        if let Some(at) = self.members.iter().position(|other| other.id == member) {
            self.members.remove(at).core.end();
        }
    }

    /// Runs until `done` says so, which is asked between rounds.
    ///
    /// # Errors
    ///
    /// Why it stopped instead; [`SimStop::OutOfTime`] at `until`.
    pub fn run(&mut self, until: Time, mut done: impl FnMut() -> bool) -> Result<(), SimStop> {
        self.rounds = 0;
        loop {
            if done() {
                return Ok(());
            }
            if self.round()? {
                self.rounds += 1;
                if self.rounds > ROUNDS_PER_INSTANT_MAX {
                    return Err(SimStop::Livelock { at_ns: self.net.now().as_nanos() });
                }
                continue;
            }
            self.rounds = 0;
            self.jump(until)?;
        }
    }

    /// Runs until the clock shows `until`, whatever happens.
    ///
    /// # Errors
    ///
    /// When a core failed, or time cannot pass.
    pub fn run_until(&mut self, until: Time) -> Result<(), SimStop> {
        match self.run(until, || false) {
            Err(SimStop::OutOfTime) => Ok(()),
            Err(SimStop::Deadlock) => {
                self.net.advance_to(until);
                Ok(())
            }
            other => other,
        }
    }

    /// Steps every core that has something to do; false when none has.
    fn round(&mut self) -> Result<bool, SimStop> {
        let mut busy: Vec<usize> = (0..self.members.len()).filter(|at| self.is_busy(&self.members[*at])).collect();
        if busy.is_empty() {
            return Ok(false);
        }
        for at in (1..busy.len()).rev() {
            busy.swap(at, self.net.draw_below(at as u64 + 1) as usize);
        }
        for at in busy {
            let member = &mut self.members[at];
            member.started = true;
            member.core.read_clock();
            member.core.turn()?;
        }
        Ok(true)
    }

    fn is_busy(&self, member: &Member) -> bool {
        !member.started || !member.core.is_idle() || self.net.idle_until(member.driver).is_none()
    }

    /// Moves the clock to the next event or deadline.
    fn jump(&self, until: Time) -> Result<(), SimStop> {
        let deadlines = self.members.iter().filter_map(|member| self.net.idle_until(member.driver));
        let next = deadlines.chain(self.net.next_event_at()).min().unwrap_or(Time::NEVER);
        if next == Time::NEVER {
            return Err(SimStop::Deadlock);
        }
        if next > until {
            self.net.advance_to(until);
            return Err(SimStop::OutOfTime);
        }
        self.net.advance_to(next);
        Ok(())
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Tasks hold their core, and a core its tasks.
        self.members.iter().for_each(|member| member.core.end());
    }
}
