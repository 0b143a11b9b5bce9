//! The real generator and upstream on the simulated network, with virtual time and a fixed seed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use adit::base::CoreId;
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, MailSender, Pool, mailbox};

use super::*;
use crate::load::{Arrivals, Call, CallKind, Limits, Phases, Reuse};
use crate::outcome::Void;
use crate::serve::{AnswerSettings, Form, ServeSettings, ServiceTime, Stats, serve};

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const AT: SocketAddr = SocketAddr::new(UPSTREAM, 9000);
/// Longer than any run here takes, in virtual time.
const LONG: Duration = Duration::from_secs(600);

/// A caller and an upstream.
struct Site {
    net: SimNet,
    sim: Simulation,
    upstream: MemberId,
    outcome: Rc<RefCell<Option<Result<Outcome, SessionError>>>>,
    interrupt: Interrupt,
    _stop: MailSender<()>,
}

impl Site {
    fn new(load: Load, settings: ServeSettings) -> Site {
        let net = SimNet::new(1, Faults::none());
        let mut sim = Simulation::new(net.clone());
        let (server, upstream) = add_core(&mut sim, UPSTREAM);
        let (caller, _) = add_core(&mut sim, CALLER);
        let (stop, stopped) = mailbox(1);
        let (sender, _) = std::sync::mpsc::channel();
        server.spawn(serve(
            server.clone(),
            ServeSettings { listen: AT, ..settings },
            Stats::new(false),
            None,
            sender,
            stopped,
        ));
        let interrupt = Interrupt::new();
        let outcome: Rc<RefCell<Option<_>>> = Rc::default();
        let job = Job { dialer: Dialer::plain(AT, Duration::from_secs(1)), load };
        let generator = Generator::new(&caller, job, Arc::new(Monitor::unseen()), interrupt.clone());
        let result = Rc::clone(&outcome);
        caller.spawn(async move {
            // The upstream listens from its first turn on.
            generator.core.sleep(Duration::from_millis(1)).await;
            let ended = match generator.connect().await {
                Ok(Some(lines)) => Ok(generator.run(lines).await),
                Ok(None) => Ok(Outcome { partial: Some(Partial::Interrupted), ..Outcome::default() }),
                Err(error) => Err(error),
            };
            *result.borrow_mut() = Some(ended);
        });
        Site { net, sim, upstream, outcome, interrupt, _stop: stop }
    }

    fn finish(mut self) -> Result<Outcome, SessionError> {
        let outcome = Rc::clone(&self.outcome);
        self.sim.run(self.net.now() + LONG, || outcome.borrow().is_some()).expect("the run ends");
        self.outcome.take().expect("it has ended")
    }

    fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.net.now() + time).expect("no core fails");
    }
}

fn add_core(sim: &mut Simulation, host: IpAddr) -> (Core, MemberId) {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let driver = sim.net().driver(host, pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(id, core.clone());
    (core, member)
}

fn load(mode: Mode, connections: usize, measure: Duration) -> Load {
    let mut load = Load::of(format!("http://{AT}/mcp").parse().unwrap());
    load.mode = mode;
    load.connections = connections;
    load.phases = Phases { warm_up: Duration::from_secs(1), measure, drain: Duration::from_secs(5) };
    // Time does not pass for a core that spins.
    load.generator.spin = Duration::ZERO;
    load
}

fn open(rate: f64) -> Mode {
    Mode::Open { rate, arrivals: Arrivals::Constant }
}

fn served(service: ServiceTime) -> ServeSettings {
    ServeSettings { service, ..ServeSettings::default() }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_stall_shows_in_the_corrected_figures_and_hides_from_the_uncorrected() {
    // A few calls in a thousand take two seconds, during which two hundred more become due.
    let service = ServiceTime::Bimodal { fast: MS, slow: 2_000 * MS, slow_share: 0.003 };
    let outcome = Site::new(load(open(100.0), 1, 20_000 * MS), served(service)).finish().unwrap();
    assert_eq!(outcome.calls, 2_000, "every planned call counts: {:?}", outcome.failed);
    assert!(outcome.uncorrected.quantile(0.99) < 5 * MS, "{:?}", outcome.uncorrected.quantile(0.99));
    assert!(outcome.uncorrected.max() >= 2_000 * MS);
    assert!(outcome.corrected.quantile(0.9) > 100 * MS, "{:?}", outcome.corrected.quantile(0.9));
    assert!(outcome.waited.count() > 100, "delayed calls are reported");
    assert_eq!(
        (outcome.void.clone(), outcome.generator_lag.max()),
        (None, Duration::ZERO),
        "the generator was not delayed"
    );
}

#[test]
fn enough_connections_hide_no_call_and_hold_none_up() {
    let mut load = load(open(1_000.0), 64, 2_000 * MS);
    load.mode = Mode::Open { rate: 1_000.0, arrivals: Arrivals::Poisson { seed: 3 } };
    let outcome = Site::new(load, served(ServiceTime::Fixed(20 * MS))).finish().unwrap();
    assert!((1_800..2_200).contains(&outcome.calls), "{}", outcome.calls);
    assert!(outcome.is_good(), "{:?} {:?}", outcome.failed, outcome.void);
    assert_eq!(outcome.waited.count(), 0);
    assert_eq!(outcome.corrected.to_json(), outcome.uncorrected.to_json());
    assert!(outcome.corrected.min() >= 20 * MS && outcome.corrected.max() < 22 * MS);
    assert_eq!(outcome.connects.count(), 0, "connections are kept");
}

#[test]
fn a_closed_loop_has_one_call_in_flight_on_each_connection() {
    let outcome = Site::new(load(Mode::Closed, 4, 2_000 * MS), served(ServiceTime::Fixed(10 * MS))).finish().unwrap();
    assert!((720..=800).contains(&outcome.calls), "{}", outcome.calls);
    assert!(outcome.is_good() && outcome.rps() == outcome.calls as f64 / 2.0);
}

#[test]
fn every_kind_of_call_is_understood() {
    for kind in [CallKind::McpSession, CallKind::McpStateless, CallKind::Get, CallKind::Post, CallKind::Sse] {
        for form in [Form::Json, Form::Events { count: 3, gap: 5 * MS }] {
            for reuse in [Reuse::KeepAlive, Reuse::PerCall] {
                let mut load = load(Mode::Closed, 2, 100 * MS);
                load.phases.warm_up = 20 * MS;
                load.call = Call { kind, payload: 100_000, ..Call::default() };
                load.reuse = reuse;
                if kind == CallKind::Sse {
                    load.target = format!("http://{AT}/events").parse().unwrap();
                } else if !kind.is_mcp() {
                    load.target = format!("http://{AT}/").parse().unwrap();
                }
                let answer = AnswerSettings { len: 50_000, form };
                let outcome = Site::new(load, ServeSettings { answer, ..served(ServiceTime::Fixed(MS)) }).finish();
                let outcome = outcome.unwrap();
                assert!(outcome.is_good(), "{kind:?} {form:?} {reuse:?}: {:?} {:?}", outcome.failed, outcome.void);
                assert_eq!(outcome.connects.count() > 0, reuse == Reuse::PerCall);
                let streams = kind == CallKind::Sse || kind.is_mcp() && form != Form::Json;
                assert_eq!(outcome.first_event.count(), if streams { outcome.calls } else { 0 });
                if streams && form != Form::Json {
                    let gap = outcome.corrected.quantile(0.5) - outcome.first_event.quantile(0.5);
                    assert!(gap >= 10 * MS, "{kind:?}: {gap:?}");
                }
                assert!(outcome.bytes_received >= 50_000 * outcome.calls);
            }
        }
    }
}

/// Such as the answers of an edge to calls that it refuses.
#[test]
fn answers_with_the_requested_status_are_the_good_ones() {
    for (asked, is_good) in [(Some(405), true), (Some(503), false), (None, false)] {
        // An error is answered in no time: in a closed loop that would be many thousands of calls.
        let mut load = load(open(500.0), 2, 100 * MS);
        // The path for MCP calls offers no stream.
        load.call = Call { kind: CallKind::Get, status: asked, ..Call::default() };
        let outcome = Site::new(load, served(ServiceTime::Fixed(MS))).finish().unwrap();
        assert_eq!((outcome.is_good(), outcome.calls > 10), (is_good, is_good), "{asked:?}: {:?}", outcome.failed);
        assert_eq!(outcome.failed.count() > 10, !is_good, "{asked:?}");
    }
}

#[test]
fn calls_without_room_to_wait_make_the_run_void() {
    let mut load = load(open(1_000.0), 1, 1_000 * MS);
    load.limits = Limits { outstanding_max: 10, ..Limits::default() };
    let outcome = Site::new(load, served(ServiceTime::Fixed(50 * MS))).finish().unwrap();
    assert!(matches!(outcome.void, Some(Void::Overflow { outstanding_max: 10, .. })), "{:?}", outcome.void);
    assert!(outcome.overflowed > 900 && outcome.calls < 100);
}

#[test]
fn an_interrupted_run_reports_its_results_so_far() {
    let mut site = Site::new(load(open(100.0), 8, 60_000 * MS), served(ServiceTime::Fixed(MS)));
    site.pass(11_000 * MS);
    site.interrupt.raise();
    let outcome = site.finish().unwrap();
    assert_eq!(outcome.partial, Some(Partial::Interrupted));
    assert!((990..1_010).contains(&outcome.calls), "{}", outcome.calls);
    assert!(outcome.measured < 10_100 * MS && outcome.measured > 9_900 * MS, "{:?}", outcome.measured);
    assert!(!outcome.is_good() && outcome.failed.count() == 0);
}

#[test]
fn an_upstream_that_dies_ends_the_run_and_the_results_are_kept() {
    for (how, cause) in [(Death::Processes, Cause::Connect), (Death::Power, Cause::TimedOut)] {
        for mode in [open(100.0), Mode::Closed] {
            let mut load = load(mode, 4, 60_000 * MS);
            load.limits.call_timeout = 2_000 * MS;
            let mut site = Site::new(load, served(ServiceTime::Fixed(10 * MS)));
            site.pass(5_000 * MS);
            site.net.kill(UPSTREAM, how);
            site.sim.remove(site.upstream);
            let outcome = site.finish().unwrap();
            let Some(Partial::Lost { cause: why, .. }) = &outcome.partial else {
                panic!("{how:?}: {:?}", outcome.partial);
            };
            assert!(outcome.calls >= 390, "{how:?}: {} calls", outcome.calls);
            assert!(outcome.failed.by_cause().contains_key(&cause), "{how:?}: {:?} {why}", outcome.failed);
            assert!(outcome.measured < 20_000 * MS, "{how:?}: {:?}", outcome.measured);
        }
    }
}

#[test]
fn measuring_begins_when_every_connection_has_been_answered_once() {
    let mut load = load(Mode::Closed, 4, 10 * MS);
    load.phases = Phases { warm_up: Duration::ZERO, drain: 10_000 * MS, ..load.phases };
    let site = Site::new(load, served(ServiceTime::Fixed(5_000 * MS)));
    let net = site.net.clone();
    let outcome = site.finish().unwrap();
    assert_eq!((outcome.calls, outcome.failed.count()), (4, 0));
    assert!(net.now() - Time::ZERO >= 10_000 * MS, "a test call on each connection, and then one that counts");
}

#[test]
fn a_connection_without_an_answer_is_reported_before_the_measurement() {
    let mut load = load(Mode::Closed, 3, 500 * MS);
    load.limits.call_timeout = 2_000 * MS;
    let error = Site::new(load, served(ServiceTime::Fixed(5_000 * MS))).finish().unwrap_err();
    assert!(matches!(error, SessionError::Unproven { place: 1, connections: 3, .. }), "{error}");
    assert!(error.to_string().contains("--call-timeout"), "{error}");
}

#[test]
fn an_error_status_passes_the_test_of_a_connection() {
    let mut load = load(open(500.0), 2, 500 * MS);
    load.target = format!("http://{AT}/mcp").parse().unwrap();
    load.call.kind = CallKind::Get;
    let outcome = Site::new(load, served(ServiceTime::default())).finish().unwrap();
    assert_eq!(outcome.calls, 0);
    assert!(outcome.failed.by_cause().contains_key(&Cause::Status(405)), "{:?}", outcome.failed);
}

#[test]
fn an_interrupt_does_not_wait_for_connections_that_are_not_answered() {
    let mut site = Site::new(load(Mode::Closed, 2, 500 * MS), served(ServiceTime::Fixed(20_000 * MS)));
    site.pass(1_000 * MS);
    site.interrupt.raise();
    let net = site.net.clone();
    assert_eq!(site.finish().unwrap().partial, Some(Partial::Interrupted));
    assert!(net.now() - Time::ZERO < 1_100 * MS);
}

#[test]
fn a_call_without_end_is_reported_at_the_end_of_the_drain() {
    let mut load = load(Mode::Closed, 2, 500 * MS);
    load.limits.call_timeout = 100_000 * MS;
    load.phases.warm_up = Duration::ZERO;
    load.phases.drain = 100 * MS;
    let outcome = Site::new(load, served(ServiceTime::Fixed(60_000 * MS))).finish().unwrap();
    assert_eq!(outcome.failed.by_cause().get(&Cause::Unfinished), Some(&2));
    assert_eq!((outcome.calls, outcome.partial.clone()), (0, None));
}

#[test]
fn an_unreachable_target_is_reported_before_the_measurement() {
    let mut site = Site::new(load(Mode::Closed, 2, 500 * MS), served(ServiceTime::default()));
    site.net.kill(UPSTREAM, Death::Processes);
    site.sim.remove(site.upstream);
    let error = site.finish().unwrap_err();
    assert!(matches!(error, SessionError::Connect(_)), "{error}");
    assert!(error.to_string().contains("10.0.0.2:9000 accepted no connection"), "{error}");
}

#[test]
fn the_split_of_a_direct_call_has_the_truth_alone() {
    let mut load = load(Mode::Closed, 1, 1_000 * MS);
    load.split = true;
    load.call.headers.push((crate::serve::WANTED_SERVICE.to_owned(), "7000".to_owned()));
    let split = Site::new(load, served(ServiceTime::Fixed(MS))).finish().unwrap().split.unwrap();
    assert!(split.truth.count() > 100 && split.without_account == split.truth.count());
    assert!(split.truth.min() >= 7 * MS && split.truth.max() < 8 * MS);
}
