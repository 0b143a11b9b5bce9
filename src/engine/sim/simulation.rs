use std::io;

use crate::base::Time;
use crate::engine::Core;
use crate::engine::sim::net::{DriverId, SimNet};

/// How many rounds may pass at one instant. More mean that the cores keep each other busy forever.
const ROUNDS_PER_INSTANT_MAX: u32 = 100_000;

/// Identifies a core of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

impl MemberId {
    /// Its place in the order in which cores were added, counted from 1.
    #[must_use]
    pub fn nth(self) -> u64 {
        self.0
    }
}

/// Why a simulation stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimStop {
    /// The given time is over.
    #[error("the simulated time ran out")]
    OutOfTime,
    /// Every core waits, and no event is left.
    #[error("every core waits, and nothing is on its way")]
    Deadlock,
    /// Time does not advance any more.
    #[error("the cores kept each other busy without time passing: {ROUNDS_PER_INSTANT_MAX} rounds at {at_ns} ns")]
    Livelock {
        /// The virtual time, in nanoseconds.
        at_ns: u64,
    },
    /// A core ended with an error.
    #[error("a core failed: {0}")]
    Core(#[from] io::Error),
}

/// The cores of a simulated network, stepped in one thread.
///
/// In each round every core with something to do takes one step, in random order. If none has, the clock advances to
/// the next event or to the first deadline of a core.
pub struct Simulation {
    net: SimNet,
    members: Vec<Member>,
    members_made: u64,
    rounds: u32,
    watch: Option<Box<dyn FnMut(MemberId, TurnMoment)>>,
}

/// A moment of a core's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnMoment {
    /// The core is about to take its turn.
    Begin,
    /// The turn of the core has ended.
    End,
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
        Simulation { net, members: Vec::new(), members_made: 0, rounds: 0, watch: None }
    }

    /// The simulated network that the cores share.
    #[must_use]
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// Adds a core that runs on `driver`. It must not spin, because time would not pass for it.
    pub fn add(&mut self, driver: DriverId, core: Core) -> MemberId {
        self.members_made += 1;
        let id = MemberId(self.members_made);
        self.members.push(Member { id, driver, core, started: false });
        id
    }

    /// From now on calls `watch` before and after each turn of a core.
    pub fn watch_turns(&mut self, watch: impl FnMut(MemberId, TurnMoment) + 'static) {
        self.watch = Some(Box::new(watch));
    }

    /// Ends a core at once, with all its tasks.
    pub fn remove(&mut self, member: MemberId) {
        if let Some(at) = self.members.iter().position(|other| other.id == member) {
            self.members.remove(at).core.end();
        }
    }

    /// Runs until `done` returns true, which is called between rounds.
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

    /// Runs until the clock shows `until`, even if nothing happens.
    ///
    /// # Errors
    ///
    /// If a core failed, or time cannot advance.
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

    /// Steps every core with something to do. Returns false if there is none.
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
            if let Some(watch) = &mut self.watch {
                watch(member.id, TurnMoment::Begin);
            }
            member.core.turn()?;
            if let Some(watch) = &mut self.watch {
                watch(member.id, TurnMoment::End);
            }
        }
        Ok(true)
    }

    fn is_busy(&self, member: &Member) -> bool {
        !member.started || !member.core.is_idle() || self.net.idle_until(member.driver).is_none()
    }

    /// Advances the clock to the next event or deadline.
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
        // Breaks the cycle: tasks hold their core, and the core its tasks.
        self.members.iter().for_each(|member| member.core.end());
    }
}
