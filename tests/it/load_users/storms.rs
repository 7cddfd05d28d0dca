//! Users who come all at once, and what it does to those who are here already.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use hailer::auth::token::{Algorithm, Key};
use hailer::server::accounts::{Account, Accounts, AccountsConfig, Directory, DirectoryError};
use hailer::server::{Server, ServerHandle};
use serde_json::json;

use super::{Mint, RESERVED_DESCRIPTORS, UNDER_WAY_MAX, hs512, on_web_sockets, start, tell, verifier};
use crate::load::clients;
use crate::support::members::{Arrival, LOBBY, Members, Pass, Place};
use crate::support::{crowd, descriptor_limit, eventually, percentiles};

const CLIENTS: usize = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
/// Those who are here already when a storm comes.
const LISTENERS: usize = 200;
const BROADCAST_INTERVAL: Duration = Duration::from_millis(50);
/// Broadcasts before the storm.
const QUIET_BROADCASTS: u64 = 40;
/// How long the accounts take for a look-up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// What has happened in a storm.
struct Weather {
    /// When each broadcast was sent.
    sent: Vec<Instant>,
    arrivals: Vec<Arrival>,
    /// The first broadcast of the storm, and the first after it.
    storm: [u64; 2],
    lasted: Duration,
    /// How often one of those who were here first was put off before.
    put_off_before: usize,
}

impl Weather {
    fn latencies(&self, numbers: Range<u64>) -> String {
        let taken = |(number, time): &Arrival| *time - self.sent[usize::try_from(*number).unwrap()];
        let arrivals = self.arrivals.iter().filter(|(number, _)| numbers.contains(number));
        percentiles(arrivals.map(taken).collect())
    }

    fn report(&self, name: &str, clients: usize) {
        let [begin, end] = self.storm;
        println!("{name}: {clients} clients are in after {:.2?}", self.lasted);
        println!("  a broadcast to {LISTENERS} while it is quiet: {}", self.latencies(0..begin));
        println!("  a broadcast to {LISTENERS} in the storm:      {}", self.latencies(begin..end));
    }
}

/// All clients come at once, and come back if they are put off, while broadcasts go on to those who are here
/// already. Each of these gets all of them in order.
fn storm(handle: &ServerHandle, members: &mut Members, listeners: Vec<Pass>, passes: Vec<Pass>) -> Weather {
    let address = handle.local_addr();
    let mut audience = Members::new(address, &[Place::Lobby]);
    audience.join(on_web_sockets(listeners), UNDER_WAY_MAX);
    audience.arrivals = Some(Vec::new());
    members.open_max = (descriptor_limit() - RESERVED_DESCRIPTORS) / 2 - LISTENERS;
    let heard = AtomicBool::new(false);
    let (end, ended) = channel::<()>();
    let (progress, broadcasts) = channel();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(move || {
            let mut sent = Vec::new();
            while ended.recv_timeout(BROADCAST_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                sent.push(Instant::now());
                tell(handle, LOBBY, sent.len() as u64 - 1);
                progress.send(sent.len() as u64).expect("somebody listens to the end");
            }
            sent
        });
        let listening = scope.spawn(|| {
            audience.serve_until(&heard, BROADCAST_INTERVAL);
            audience
        });
        let begin = broadcasts.iter().find(|sent| *sent == QUIET_BROADCASTS).expect("it goes on");
        let began = Instant::now();
        members.join(on_web_sockets(passes), usize::MAX);
        let lasted = began.elapsed();
        let last = broadcasts.try_iter().last().unwrap_or(begin);
        drop(end);
        let sent = publisher.join().expect("the broadcasts are taken");
        heard.store(true, Ordering::Release);
        let mut audience = listening.join().expect("what comes is right");
        audience.receive(Place::Lobby, sent.len() as u64 - 1, |_| true);
        assert!(audience.received(Place::Lobby).all(|(_, messages)| messages == sent.len() as u64));
        let arrivals = audience.arrivals.take().unwrap_or_default();
        let put_off_before = audience.tally.put_off;
        Weather { sent, arrivals, storm: [begin, last], lasted, put_off_before }
    })
}

/// A storm on a server of its own, which lets everybody in at once.
fn all_get_in(
    name: &str,
    server: Server,
    listeners: Vec<Pass>,
    passes: Vec<Pass>,
    told: impl Fn(&ServerHandle, &mut Members),
) {
    let (handle, clients) = (server.handle().clone(), passes.len());
    let mut members = Members::new(handle.local_addr(), &[Place::Own]);
    let weather = storm(&handle, &mut members, listeners, passes);
    weather.report(name, clients);
    assert_eq!((members.tally.joined, members.tally.put_off), (clients, 0));
    told(&handle, &mut members);
    members.leave();
    let stats = handle.stats();
    assert_eq!(stats.connects_granted, (clients + LISTENERS) as u64, "{stats:?}");
    assert_eq!(stats.upgrade_refused, 0, "{stats:?}");
    eventually("the end of all connections", || (handle.stats().connections == 0).then_some(()));
    let last = server.shutdown().expect("no shard has failed");
    assert_eq!((last.connections, last.web_sockets, last.topics), (0, 0, 0));
}

#[test]
fn users_with_hmac_tokens_come_at_once_and_nobody_misses_a_broadcast() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    let mut passes = Mint::hs512().passes(clients + LISTENERS);
    let told = passes[clients - 1].user.clone();
    let listeners = passes.split_off(clients);
    all_get_in("HS512", start(hs512(), None, &[]), listeners, passes, |handle, members| {
        // The bytes on their way to everybody else have been counted by the time of the storm's last broadcast.
        let topic = format!("user:{told}");
        let frame = |number: u64| {
            let body = json!({"body": {"number": number, "text": "maintenance in 5 minutes"}});
            let len = json!([null, null, topic, "new_msg", body]).to_string().len() as u64;
            len + if len < 126 { 2 } else { 4 }
        };
        let before = handle.stats();
        for number in 0..100 {
            tell(handle, &topic, number);
            members.receive(Place::Own, number, |user| *user == *told);
        }
        let after = handle.stats();
        let frames: u64 = (0..100).map(frame).sum();
        assert_eq!(after.bytes_out - before.bytes_out, frames, "one frame for each private message");
        assert!(members.received(Place::Own).all(|(user, messages)| (messages == 0) != (*user == *told)));
    });
}

#[test]
fn users_with_rsa_tokens_come_at_once_and_nobody_misses_a_broadcast() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    // Signing takes long, and it makes no difference to the server whether it has seen a token before.
    let several = Mint::rs256().passes(100.max(LISTENERS));
    let passes = several.iter().cycle().take(clients).cloned().collect();
    let key = Key::pem(Algorithm::RS256, include_bytes!("../../keys/rsa.pub.pem"), None);
    let server = start(verifier(key.expect("the key is good")), None, &[("connect_timeout", "60s")]);
    all_get_in("RS256", server, several[..LISTENERS].to_vec(), passes, |_, _| {});
}

/// Accounts that take their time.
struct Slow;

impl Directory for Slow {
    fn find(&mut self, _: &str) -> Result<Option<Account>, DirectoryError> {
        let until = Instant::now() + LOOK_UP;
        // A thread may be woken without a reason.
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        Ok(Some(Account { disabled: false, details: r#"{"name":"Ada"}"#.into() }))
    }
}

fn slow_accounts(threads: usize, deadline: Duration) -> Arc<Accounts> {
    let config = AccountsConfig { threads, deadline, ..AccountsConfig::default() };
    Accounts::start(config, || Ok(Box::new(Slow))).expect("the system has threads")
}

#[test]
fn users_of_slow_accounts_come_at_once_and_nobody_misses_a_broadcast() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    let mut passes = Mint::hs512().passes(clients + LISTENERS);
    let listeners = passes.split_off(clients);
    let accounts = slow_accounts(64, Duration::from_secs(60));
    let server = start(hs512(), Some(accounts.clone()), &[("connect_timeout", "60s")]);
    all_get_in("look-ups of 50 ms, 64 threads", server, listeners, passes, |_, _| {});
    let stats = accounts.stats();
    assert_eq!(stats.queries, (clients + LISTENERS) as u64, "{stats:?}");
}

#[test]
fn users_of_accounts_that_are_too_slow_for_all_of_them_come_back_until_they_are_in() {
    let _crowd = crowd();
    // Eight threads look 160 of them up in a second, which is all that they wait.
    let clients = (clients(CLIENTS) / 4).max(400);
    let mut passes = Mint::hs512().passes(clients + LISTENERS);
    let listeners = passes.split_off(clients);
    let accounts = slow_accounts(8, Duration::from_secs(1));
    let server = start(hs512(), Some(accounts.clone()), &[]);
    let handle = server.handle().clone();
    let mut members = Members::new(handle.local_addr(), &[Place::Own]);
    let weather = storm(&handle, &mut members, listeners, passes);
    weather.report("look-ups of 50 ms, 8 threads", clients);
    let put_off = (members.tally.put_off + weather.put_off_before) as u64;
    println!("  clients put off by 503, to come back in a second: {put_off}");
    let (stats, lookups) = (handle.stats(), accounts.stats());
    assert_eq!(stats.connects_granted, (clients + LISTENERS) as u64, "{stats:?}");
    assert!(members.tally.put_off > 0, "{lookups:?}");
    assert_eq!((stats.upgrade_refused, stats.connects_timed_out), (put_off, put_off), "{stats:?}");
    assert_eq!((lookups.timed_out, lookups.waiting), (put_off, 0), "{lookups:?}");
    members.leave();
    eventually("the end of all connections", || (handle.stats().connections == 0).then_some(()));
    server.shutdown().expect("no shard has failed");
}
