//! The scenarios, from the first connection to the figures.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::api::Api;
use super::args::{Bench, Echo, Scenario};
use super::clock;
use super::connect::Line;
use super::core::{Core, Role};
use super::engine::{Engine, Phase, Slot};
use super::pollers::{FIRST_POLLER, Poller};
use super::private::Private;
use super::process::Watch;
use super::progress::Progress;
use super::publish::Plan;
use super::target::{Target, Tokens};
use super::workers::{self, Workers};
use crate::cli::Failure;
use crate::cli::descriptors::raise_limit;
use crate::load::client::{Speech, Stage};
use crate::load::figures::Borders;
use crate::load::message::Messages;
use crate::load::outcome::{
    Connecting, Deliveries, Outcome, ProcessFigures, Publishing, Returns, ServerFigures, SlowReaders,
};
use crate::load::share::merge_figures;

const IDLE_DURATION: Duration = Duration::from_secs(30);
const OPEN_DURATION: Duration = Duration::from_secs(10);
const CLOSED_MESSAGES: u32 = 100;
/// A user's own topic, as the standalone server has it.
const OWN_TOPIC: &str = "user:{user}";
/// Messages a second of a mixed load.
const MIXED_RATE: f64 = 10.0;
/// Of a herd that is back.
const HERD_MESSAGES: u32 = 10;
const BURST: u32 = 20;
const BURSTS: u32 = 10;

/// Runs the scenario.
pub(super) fn run(bench: &Bench) -> Result<Outcome, Failure> {
    let part = workers::part(bench, 0)?;
    let mut engine = prepare(&part, bench.scenario.has_publisher(bench))?;
    let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut own = Watch::new(vec![std::process::id()])?;
    let mut borders = Figures::take(&mut engine)?;
    engine.phase(Phase::Connecting, u64::from(bench.clients));
    if bench.processes > 1 {
        engine.workers = Some(Workers::start(bench, &engine.waker())?);
    }
    let connecting = connect_all(bench, &part, &mut engine)?;
    borders.joined = snapshot(&mut engine)?;
    engine.hold(bench.settle)?;
    let plan = plan(bench);
    let publishes = begin(bench, &mut engine, &plan)?;
    borders.begin = snapshot(&mut engine)?;
    let generator_begin = own.snapshot()?;
    let begun = clock();
    engine.phase(Phase::Measuring, total(bench, &engine, &plan));
    let mut measured = measure(bench, &mut engine, &plan, publishes)?;
    let seconds = clock().saturating_sub(begun) as f64 / 1e6;
    engine.phase(Phase::Ending, 0);
    borders.end = snapshot(&mut engine)?;
    if let Some(trouble) = engine.server.as_ref().and_then(Watch::trouble).map(str::to_owned) {
        engine.core.wrong(trouble);
    }
    let mut generator = own.snapshot()?.since(&generator_begin);
    if bench.scenario == Scenario::Herd {
        // Whoever is back has to hear again; what that costs is no part of coming back.
        measured.publishing = Some(engine.publish_all(&plan, bench.patience)?);
    }
    if let Some(others) = engine.gather(bench.patience)? {
        merge_figures(&mut generator, &others);
    }
    if bench.scenario == Scenario::SlowReaders {
        let growth = borders.end.rss_bytes.saturating_sub(borders.begin.rss_bytes);
        let growth = engine.server.is_some().then_some(growth);
        measured.slow = Some(engine.resume_reading(bench, growth)?);
    }
    let deliveries = deliveries(&mut engine, if measured.is_herd { 0.0 } else { seconds });
    engine.close();
    let server = engine
        .server
        .is_some()
        .then(|| server_figures(&borders, connecting.joined, engine.core.ledger.measured, &measured));
    Ok(Outcome {
        scenario: bench.scenario.name(),
        protocol: if bench.plain { "plain" } else { "phoenix" }.to_owned(),
        target: engine.target.shown(),
        settings: settings(bench, &plan),
        started_unix,
        seconds: clock().saturating_sub(engine.started) as f64 / 1e6,
        measured_seconds: seconds,
        connecting,
        publishing: measured.publishing,
        deliveries,
        heartbeats: engine.core.heartbeats.latency(),
        returns: measured.returns,
        slow: measured.slow,
        generator,
        generator_processes: bench.processes,
        server,
        series: std::mem::take(&mut engine.series),
        errors: std::mem::take(&mut engine.core.errors),
    })
}

/// Finds out who hears, and publishes what is not measured; whether there is something to publish.
fn begin(bench: &Bench, engine: &mut Engine, plan: &Plan) -> Result<bool, Failure> {
    if !bench.scenario.publishes(bench) || engine.core.joined + engine.pollers_in() == 0 {
        return Ok(false);
    }
    match (bench.plain, bench.echo) {
        (true, Echo::Auto) => engine.probe(bench.patience)?,
        (true, Echo::No) => {}
        _ => engine.core.probe.echoed = bench.scenario.has_publisher(bench),
    }
    engine.warm_up(plan, bench.warm_up, bench.patience)?;
    Ok(true)
}

/// The server's figures for one of each. Where clients come back, those that do are what was measured; where messages
/// were published meanwhile, the time can't be divided between both.
fn server_figures(borders: &Figures, clients: u64, deliveries: u64, measured: &Measured) -> ServerFigures {
    let mut figures = ServerFigures::of(&borders.borders(), clients, deliveries);
    if let Some(returns) = &measured.returns {
        let micros = figures.measured.cpu_micros() as f64;
        let is_alone = measured.is_herd || measured.publishing.is_none();
        figures.micros_per_join = (is_alone && returns.back > 0).then(|| micros / returns.back as f64);
        (figures.micros_per_delivery, figures.system_calls_per_delivery) = (None, None);
    }
    figures
}

/// Deliveries that are to come, where that is known.
fn total(bench: &Bench, engine: &Engine, plan: &Plan) -> u64 {
    let audience = if bench.scenario == Scenario::Private { 1 } else { u64::from(engine.audience()) };
    plan.messages
        .filter(|_| bench.scenario.publishes(bench))
        .map_or(0, |messages| u64::from(messages) * audience)
}

/// What a scenario has besides deliveries.
#[derive(Debug, Default)]
struct Measured {
    publishing: Option<Publishing>,
    returns: Option<Returns>,
    slow: Option<SlowReaders>,
    /// Whether messages are published when all are back, and not meanwhile.
    is_herd: bool,
}

/// Does what is measured.
fn measure(bench: &Bench, engine: &mut Engine, plan: &Plan, publishes: bool) -> Result<Measured, Failure> {
    let is_herd = bench.scenario == Scenario::Herd;
    let mut measured = Measured { is_herd, ..Measured::default() };
    let time = bench.duration.unwrap_or(IDLE_DURATION);
    match bench.scenario {
        Scenario::Idle if bench.on_demand => {
            engine.serve_demands(|engine, clients| engine.readmit(clients, bench.patience))?;
        }
        Scenario::Idle => engine.hold(time)?,
        Scenario::Churn | Scenario::Mixed => {
            engine.start_churn(bench, plan.duration.unwrap_or(time));
            if publishes {
                measured.publishing = Some(engine.publish_all(plan, bench.patience)?);
            }
            measured.returns = Some(engine.end_churn(bench.patience)?);
        }
        Scenario::Herd => measured.returns = Some(engine.run_herd(bench)?),
        Scenario::SlowReaders => {
            engine.stop_reading();
            measured.publishing = Some(engine.publish_all(plan, bench.patience)?);
        }
        Scenario::FanOut | Scenario::Burst | Scenario::Private | Scenario::Longpoll => {
            if publishes && bench.on_demand {
                measured.publishing = Some(engine.publish_on_demand(plan, bench.patience)?);
            } else if publishes {
                measured.publishing = Some(engine.publish_all(plan, bench.patience)?);
            }
        }
    }
    Ok(measured)
}

/// Figures of the server at the borders; nothing without a process.
#[derive(Debug, Clone, Copy)]
struct Figures {
    before: ProcessFigures,
    joined: ProcessFigures,
    begin: ProcessFigures,
    end: ProcessFigures,
}

impl Figures {
    fn take(engine: &mut Engine) -> Result<Self, Failure> {
        let before = snapshot(engine)?;
        Ok(Self { before, joined: before, begin: before, end: before })
    }

    fn borders(&self) -> Borders {
        Borders { before: self.before, joined: self.joined, begin: self.begin, end: self.end }
    }
}

fn snapshot(engine: &mut Engine) -> Result<ProcessFigures, Failure> {
    Ok(engine.server.as_mut().map(Watch::snapshot).transpose()?.unwrap_or_default())
}

/// Makes the clients of this process, and who publishes if that is here.
pub(super) fn prepare(bench: &Bench, has_publisher: bool) -> Result<Engine, Failure> {
    let usage = |message: String| Failure { message, usage: true };
    let target = if bench.plain { Target::parse(&bench.url)? } else { Target::parse_phoenix(&bench.url)? };
    let messages =
        if bench.plain { Messages::plain(bench.bytes) } else { Messages::phoenix(&bench.topic, bench.bytes) };
    let messages = messages.map_err(|error| usage(error.to_string()))?;
    let tokens = Tokens::read(bench)?;
    let is_private = bench.scenario == Scenario::Private;
    if is_private && bench.plain {
        return Err(usage("private messages need topics: leave --plain out".to_owned()));
    }
    let pattern = bench.own_topic.as_deref().or(is_private.then_some(OWN_TOPIC));
    let own_topics: Vec<Rc<str>> = match pattern.filter(|_| !bench.plain) {
        None => Vec::new(),
        Some(pattern) => (0..bench.clients)
            .map(|client| own_topic(pattern, &tokens, bench.first_client + client))
            .collect(),
    };
    if let Some(Err(error)) = own_topics.iter().map(|topic| messages.fits(topic)).find(Result::is_err) {
        return Err(usage(error.to_string()));
    }
    let topic = (!bench.plain).then(|| bench.topic.clone());
    let line = Line::new(bench.connect_rate, bench.under_way);
    let core = Core::new(topic.clone(), own_topics, line, bench.heartbeat);
    let speech = Speech { messages, topic };
    let mut engine = Engine::new(core, speech, target, tokens, Progress::new(bench.quiet))?;
    (engine.sources, engine.first_client) = (bench.source, bench.first_client);
    engine.publish_target = bench.publish_url.as_deref().map(Target::parse).transpose()?;
    engine.private = is_private.then(|| Private::new(bench.clients));
    if let Some(url) = bench.publish_api.as_deref().filter(|_| bench.scenario.publishes(bench)) {
        engine.api = Some(Api::connect(bench, &engine, url)?);
    }
    let is_slow = |client: &u32| {
        // Spread evenly, so that slow ones stand among the others wherever they are kept.
        let before = |client: u32| u64::from(client) * u64::from(bench.slow_percent) / 100;
        bench.scenario == Scenario::SlowReaders && before(*client) != before(client + 1)
    };
    let role = |client| if is_slow(&client) { Role::Slow } else { Role::Subscriber };
    let pollers = bench.scenario.pollers(bench);
    if pollers > 0 && bench.plain {
        return Err(usage("long-poll belongs to Phoenix: leave --plain out".to_owned()));
    }
    engine.pollers.extend((0..pollers).map(|_| Poller::default()));
    engine.slots.extend((0..bench.clients - pollers).map(role).map(Slot::new));
    if has_publisher {
        engine.slots.push(Slot::new(Role::Publisher));
    }
    if !bench.pid.is_empty() {
        let mut watch = Watch::new(bench.pid.clone())?;
        if bench.system_calls {
            watch.count_system_calls()?;
        }
        engine.server = Some(watch);
    }
    check_descriptors(engine.slots.len() + engine.pollers.len() + bench.under_way as usize)?;
    Ok(engine)
}

fn own_topic(pattern: &str, tokens: &Tokens, client: u32) -> Rc<str> {
    let number = client.to_string();
    let topic = pattern.replace("{number}", &number).replace("{n}", &number);
    if topic.contains("{user}") { topic.replace("{user}", &tokens.user(client)).into() } else { topic.into() }
}

/// Says so before anything is done, if there are not enough descriptors: as many as the hard limit allows.
fn check_descriptors(clients: usize) -> Result<(), Failure> {
    /// The loop, the standard streams, and files that are read now and then.
    const OTHERS: usize = 32;
    // What it comes to is read below; where it can't be raised there is what there is.
    let _ = raise_limit();
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else { return Ok(()) };
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    match limit.filter(|limit| *limit < clients + OTHERS) {
        None => Ok(()),
        Some(limit) => Err(Failure::from(format!(
            "{clients} clients need as many descriptors and this process may have {limit}: raise the limit (ulimit -n)"
        ))),
    }
}

/// Lets the clients of this process in.
pub(super) fn enter(bench: &Bench, engine: &mut Engine) -> Result<(), Failure> {
    // Who publishes comes last, so that its join is not among those that others wait for.
    let pollers = FIRST_POLLER..FIRST_POLLER + engine.pollers.len() as u32;
    engine.core.line.start(pollers.chain(0..engine.slots.len() as u32), clock());
    let over = |engine: &mut Engine| engine.core.line.is_empty() && engine.core.line.under_way == 0;
    let progress = |engine: &Engine| {
        engine.core.upgrade.count() + engine.core.join.count() + engine.core.errors.values().sum::<u64>()
    };
    let all_are_through = engine.run(bench.patience, progress, over)?;
    let (joined, wanted) = (engine.core.upgrade.count(), engine.slots.len() + engine.pollers.len());
    if engine.core.denied > 0 && engine.core.join.count() == 0 {
        return Err(Failure::from(engine.nobody_gets_in()));
    }
    let patience = bench.patience;
    if joined == 0 {
        let why: Vec<&str> = engine.core.errors.keys().map(String::as_str).collect();
        let why = if why.is_empty() { format!("nothing within {patience:?}") } else { why.join("; ") };
        return Err(Failure::from(format!("nobody gets in at {}: {why}", engine.target.shown())));
    }
    if !all_are_through {
        engine.core.wrong(format!(
            "waits of {patience:?} for clients that did not get in ({joined} of {wanted} have a connection)"
        ));
    }
    Ok(())
}

/// Lets the clients of all processes in.
fn connect_all(bench: &Bench, part: &Bench, engine: &mut Engine) -> Result<Connecting, Failure> {
    let begun = clock();
    enter(part, engine)?;
    engine.wait_for_workers(bench.patience)?;
    if bench.scenario.has_publisher(bench) && !engine.core.publisher_in {
        let why: Vec<&str> = engine.core.errors.keys().map(String::as_str).collect();
        let advice = engine.core.advice().map(|advice| format!("\n{advice}")).unwrap_or_default();
        return Err(Failure::from(format!("who is to publish does not get in: {}{advice}", why.join("; "))));
    }
    let seconds = clock().saturating_sub(begun) as f64 / 1e6;
    let slow = engine.slots.iter().filter(|slot| slot.role == Role::Slow && slot.client.stage == Stage::In);
    let joined =
        u64::from(engine.core.joined + engine.pollers_in() + engine.joined_elsewhere) + slow.count() as u64;
    Ok(Connecting {
        wanted: u64::from(bench.clients),
        joined,
        seconds,
        per_second: if seconds > 0.0 { joined as f64 / seconds } else { 0.0 },
        upgrade: engine.core.upgrade.latency(),
        join: engine.core.join.latency(),
    })
}

fn plan(bench: &Bench) -> Plan {
    let is_mixed = bench.scenario == Scenario::Mixed;
    let burst = bench.burst.unwrap_or(if bench.scenario == Scenario::Burst { BURST } else { 1 });
    let mut plan = Plan {
        burst,
        rate: bench.rate.or(is_mixed.then_some(MIXED_RATE)),
        messages: bench.messages,
        duration: bench.duration,
    };
    if plan.messages.is_none() && plan.duration.is_none() {
        if plan.rate.is_some() {
            plan.duration = Some(OPEN_DURATION);
        } else {
            plan.messages = Some(match bench.scenario {
                Scenario::Herd => HERD_MESSAGES,
                _ if burst > 1 => burst * BURSTS,
                _ => CLOSED_MESSAGES,
            });
        }
    }
    plan
}

fn deliveries(engine: &mut Engine, seconds: f64) -> Deliveries {
    let ledger = &engine.core.ledger;
    if ledger.foreign > 0 {
        let foreign = ledger.foreign;
        *engine.core.errors.entry("messages that were for somebody else".to_owned()).or_default() += foreign;
    }
    Deliveries {
        expected: ledger.expected,
        received: ledger.checks.received,
        lost: ledger.lost(),
        doubled: ledger.checks.doubled,
        out_of_order: ledger.checks.out_of_order,
        pushed: ledger.pushed,
        per_second: if seconds > 0.0 { ledger.measured as f64 / seconds } else { 0.0 },
        latency: ledger.latency.latency(),
        last: ledger.last.latency(),
    }
}

/// The settings that matter, as arguments.
fn settings(bench: &Bench, plan: &Plan) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            settings.insert(name.to_owned(), value);
        }
    };
    set("clients", Some(bench.clients.to_string()));
    set("connect-rate", Some(bench.connect_rate.to_string()));
    set("bytes", Some(bench.bytes.to_string()));
    set("topic", (!bench.plain).then(|| bench.topic.clone()));
    set("own-topic", bench.own_topic.clone());
    set(
        "churn-rate",
        matches!(bench.scenario, Scenario::Churn | Scenario::Mixed).then(|| bench.churn_rate.to_string()),
    );
    set("slow-percent", (bench.scenario == Scenario::SlowReaders).then(|| bench.slow_percent.to_string()));
    set("heartbeat", (!bench.plain).then(|| format!("{:?}", bench.heartbeat)));
    set("on-demand", bench.on_demand.then(|| "yes".to_owned()));
    match bench.scenario {
        Scenario::Idle if bench.on_demand => {}
        Scenario::Idle => set("duration", Some(format!("{:?}", bench.duration.unwrap_or(IDLE_DURATION)))),
        _ => {
            set("warm-up", Some(bench.warm_up.to_string()));
            set("rate", plan.rate.map(|rate| rate.to_string()));
            set("burst", (plan.burst > 1).then(|| plan.burst.to_string()));
            let messages = plan.messages.filter(|_| !bench.on_demand);
            set("messages", messages.map(|messages| messages.to_string()));
            set("duration", plan.duration.map(|time| format!("{time:?}")));
        }
    }
    settings.extend(bench.labels.iter().cloned());
    settings
}
