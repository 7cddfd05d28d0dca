//! A million pretended connections in one shard: `HAILER_CONNECTIONS=1000000,2000000 cargo bench --bench million`
//!
//! Prints what each costs, how long anybody waits while all are there, and what is left when they have gone.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::process::Command;

use support::million::{Outcome, Who, run};

/// Without a size given: as many as take some seconds.
const CONNECTIONS: &str = "100000";
const KINDS: [(Who, &str); 2] =
    [(Who::Anonymous, "joined the lobby"), (Who::Users, "user, lobby and own topic")];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, size] = &arguments[..]
        && let (Ok(kind), Ok(size)) = (kind.parse::<usize>(), size.parse())
    {
        let (who, name) = KINDS[kind];
        return print(name, &run(who, size));
    }
    // Cargo's tests run benches too, to see whether they run.
    let sizes = match arguments.iter().any(|argument| argument == "--bench") {
        true => std::env::var("HAILER_CONNECTIONS").unwrap_or_else(|_| CONNECTIONS.to_owned()),
        false => "1000".to_owned(),
    };
    // Each in a process of its own: what one has left in the allocator is not to count for the next.
    let own = std::env::current_exe().expect("the program has a path");
    for kind in 0..KINDS.len() {
        for size in sizes.split(',').map(str::trim) {
            let ended = Command::new(&own).args([&kind.to_string(), size]).status();
            assert!(ended.expect("it starts").success(), "{size} connections");
        }
    }
}

fn print(name: &str, outcome: &Outcome) {
    let [in_order, churned] = outcome.broadcast_each;
    let [waited, waited_churned] = outcome.heartbeat_waited;
    let (longest, at) = outcome.join_longest;
    println!("{} connections: {name}", outcome.clients);
    println!(
        "  memory of each            {:.0} B asked, {:.0} B resident",
        outcome.asked_each, outcome.resident_each
    );
    println!("  connect and join          {:.2?} each, the longest {longest:.2?} at {at}", outcome.join_each);
    println!("  a broadcast               {in_order:.1} ns for each, {churned:.1} after half were replaced");
    println!(
        "  a heartbeat during it     waits {waited:.2?} at most, {waited_churned:.2?} after half were replaced"
    );
    println!("  a heartbeat               {:.2?}", outcome.heartbeat_each);
    println!("  a look at all deadlines   {:.2?}", outcome.sweep);
    println!(
        "  99 of 100 gone            {:.1} B asked, {:.1} B resident for each that was there",
        outcome.left_asked, outcome.left_resident
    );
    println!("  deliveries gone wrong     {}", outcome.wrong);
}
