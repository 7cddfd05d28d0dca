use super::advice::{advice, remarks};
use super::bounds::{Kind, Level, Plan, What, bounds, first, grouped, size};
use super::figures::{
    DELIVERY_MICROS, HEARTBEAT_MICROS, KERNEL_BYTES, OPEN_USER_BYTES, TOKEN_USER_BYTES, UNDER_WAY_BYTES,
};
use super::machine::{Machine, UNLIMITED};
use super::report::Report;
use crate::limits::Limits;

const GIB: u64 = 1024 * 1024 * 1024;

/// A machine on which two million clients are no trouble.
fn large() -> Machine {
    Machine {
        descriptors_soft: Some(4_000_000),
        descriptors_hard: Some(4_000_000),
        address_space_bytes: Some(UNLIMITED),
        nr_open: Some(4_000_000),
        file_max: Some(8_000_000),
        files_open: Some(1_000),
        epoll_watches: Some(9_000_000),
        memory_total_bytes: Some(512 * GIB),
        memory_available_bytes: Some(500 * GIB),
        commit_room_bytes: Some(256 * GIB),
        overcommit: Some(0),
        group_room_bytes: Some(UNLIMITED),
        processors: Some(16),
        quota_milli: Some(UNLIMITED),
        tcp_pages: Some(6_000_000),
        ports: Some((1024, 65535)),
        somaxconn: Some(4096),
        syn_backlog: Some(4096),
        syncookies: Some(1),
        tw_reuse: Some(2),
        wmem_max: Some(212_992),
        tcp_rmem_max: Some(6 * 1024 * 1024),
        congestion: Some("cubic".to_owned()),
        conntrack_max: None,
        conntrack_count: None,
        map_count: Some(65_530),
        huge_pages: Some("madvise".to_owned()),
        io_uring_disabled: Some(0),
        ..Machine::default()
    }
}

fn plan(clients: Option<u64>) -> Plan {
    Plan { shards: 16, limits: Limits::default(), user_bytes: OPEN_USER_BYTES, clients }
}

/// The bound that gives out first, and at how many clients.
fn first_of(machine: &Machine, plan: &Plan) -> (What, Option<u64>) {
    let bounds = bounds(machine, plan);
    let first = first(&bounds).expect("something is known");
    (first.what, first.clients)
}

#[test]
fn every_hard_bound_can_be_the_first_to_give_out() {
    let check = |what: What, clients: u64, change: &dyn Fn(&mut Machine, &mut Plan)| {
        let (mut machine, mut plan) = (large(), plan(None));
        change(&mut machine, &mut plan);
        assert_eq!(first_of(&machine, &plan), (what, Some(clients)));
    };
    let fitting = |room: u64, each: u64| (room - room / 10 - 64 * 1024 * 1024) / each;
    let each = OPEN_USER_BYTES + KERNEL_BYTES;
    // 128 descriptors are for other things, and five for each shard.
    check(What::ProcessDescriptors, 1024 - 208, &|machine, _| machine.descriptors_hard = Some(1024));
    check(What::ProcessDescriptors, 0, &|machine, _| machine.descriptors_hard = Some(100));
    check(What::NrOpen, 50_000 - 208, &|machine, _| machine.nr_open = Some(50_000));
    check(What::FileMax, 90_000 - 1_208, &|machine, _| machine.file_max = Some(90_000));
    check(What::EpollWatches, 99_952, &|machine, _| machine.epoll_watches = Some(100_000));
    check(What::Memory, fitting(4 * GIB, each), &|machine, _| machine.memory_available_bytes = Some(4 * GIB));
    check(What::Memory, 0, &|machine, _| machine.memory_available_bytes = Some(0));
    check(What::GroupMemory, fitting(GIB, each), &|machine, _| machine.group_room_bytes = Some(GIB));
    check(What::GroupMemory, fitting(GIB, 10_000 + KERNEL_BYTES), &|machine, plan| {
        (machine.group_room_bytes, plan.user_bytes) = (Some(GIB), 10_000);
    });
    check(What::CommitLimit, fitting(GIB, OPEN_USER_BYTES), &|machine, _| {
        (machine.overcommit, machine.commit_room_bytes) = (Some(2), Some(GIB));
        machine.descriptors_hard = Some(UNLIMITED);
        machine.nr_open = Some(UNLIMITED);
    });
    check(What::AddressSpace, fitting(GIB, 2 * OPEN_USER_BYTES), &|machine, _| {
        machine.address_space_bytes = Some(GIB);
    });
    check(What::Connections, 160, &|_, plan| plan.limits.connections_per_shard_max = 10);
    check(What::Conntrack, 262_144 - 44, &|machine, _| {
        (machine.conntrack_max, machine.conntrack_count) = (Some(262_144), Some(44));
    });
}

#[test]
fn a_server_that_starts_has_the_hard_limit_of_descriptors_and_one_that_runs_what_it_has() {
    let mut machine = large();
    (machine.descriptors_soft, machine.descriptors_hard) = (Some(1_024), Some(4_096));
    let check = |machine: &Machine, clients: u64, found: &str| {
        let bounds = bounds(machine, &plan(None));
        let bound = bounds.iter().find(|bound| bound.what == What::ProcessDescriptors).expect("it is there");
        assert_eq!((bound.clients, &*bound.found), (Some(clients), found));
    };
    check(&machine, 4_096 - 208, "RLIMIT_NOFILE 1,024, raised at start to 4,096; 208 are for other things");
    machine.runs = true;
    check(&machine, 1_024 - 208, "RLIMIT_NOFILE 1,024, hard 4,096; 208 are for other things");
    (machine.runs, machine.descriptors_soft) = (false, machine.descriptors_hard);
    check(&machine, 4_096 - 208, "RLIMIT_NOFILE 4,096, hard 4,096; 208 are for other things");
    // What can't be read is not invented.
    machine.descriptors_hard = None;
    check(&machine, 4_096 - 208, "RLIMIT_NOFILE 4,096, hard unknown; 208 are for other things");
}

#[test]
fn soft_bounds_are_told_but_never_the_first() {
    let mut machine = large();
    machine.ports = Some((32_768, 60_999));
    machine.tcp_pages = Some(1_000);
    machine.processors = Some(1);
    // The module is loaded, but no rule makes it track anything.
    (machine.conntrack_max, machine.conntrack_count) = (Some(500), Some(0));
    let mut plan = plan(Some(2_000_000));
    plan.limits.sessions_per_shard_max = 3;
    plan.limits.sessions_per_address_max = 2;
    let found = bounds(&machine, &plan);
    let clients = |what: What| {
        let bound = found.iter().find(|bound| bound.what == what).expect("it is told");
        assert_eq!((bound.kind, bound.level(plan.clients)), (Kind::Soft, Some(Level::Yellow)), "{bound:?}");
        bound.clients
    };
    assert_eq!(clients(What::ProxyPorts), Some(28_232));
    assert_eq!(clients(What::TcpMemory), Some(1_000));
    // A quarter of 30,000,000 µs at 15 µs each.
    assert_eq!(clients(What::Heartbeats), Some(500_000));
    assert_eq!(clients(What::Conntrack), Some(500));
    assert_eq!(clients(What::Sessions), Some(48));
    assert_eq!(clients(What::SessionsOfAnAddress), Some(32));
    assert_eq!(first(&found).map(|bound| bound.what), Some(What::ProcessDescriptors));
    assert!(found.is_sorted_by_key(|bound| bound.clients.map_or((true, 0), |clients| (false, clients))));
}

#[test]
fn a_bound_is_red_below_yellow_near_and_green_far_from_what_is_wanted() {
    let mut machine = large();
    machine.descriptors_hard = Some(1_000 + 208);
    let level = |wanted| {
        let found = bounds(&machine, &plan(wanted));
        found
            .iter()
            .find(|bound| bound.what == What::ProcessDescriptors)
            .and_then(|bound| bound.level(wanted))
    };
    assert_eq!(level(Some(1_001)), Some(Level::Red));
    assert_eq!(level(Some(1_000)), Some(Level::Yellow));
    assert_eq!(level(Some(835)), Some(Level::Yellow));
    assert_eq!(level(Some(834)), Some(Level::Green));
    assert_eq!(level(None), None);
}

#[test]
fn what_cannot_be_read_is_unknown_and_in_nobodys_way() {
    let machine = Machine::default();
    let plan = Plan { shards: 1, ..plan(Some(1_000_000)) };
    let found = bounds(&machine, &plan);
    assert_eq!(first_of(&machine, &plan), (What::Connections, Some(4_000_000)));
    let unknown = found.iter().filter(|bound| bound.level(plan.clients) == Some(Level::Unknown)).count();
    assert!(unknown >= 10, "{found:#?}");
    assert!(
        found.iter().all(|bound| bound.clients.is_some()
            || bound.found.contains("unknown")
            || matches!(bound.what, What::MemoryUnderWay | What::SlowReaders)),
        "{found:#?}"
    );
    let report = Report::new(&machine, &plan);
    assert_eq!(report.failure(), None);
    assert!(
        report.text(false, usize::MAX).contains("unknown  descriptors of the process"),
        "{}",
        report.text(false, usize::MAX)
    );
    assert!(remarks(&machine, &plan).iter().all(|remark| remark.level == Level::Unknown));
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let most = Some(UNLIMITED - 1);
    let machine = Machine {
        descriptors_soft: most,
        nr_open: most,
        file_max: most,
        files_open: most,
        memory_available_bytes: most,
        group_room_bytes: most,
        processors: Some(u64::from(u32::MAX)),
        quota_milli: most,
        tcp_pages: most,
        ports: Some((0, UNLIMITED - 1)),
        conntrack_max: most,
        conntrack_count: most,
        resident_bytes: UNLIMITED,
        descriptors_open: UNLIMITED,
        ..Machine::default()
    };
    let alone = Machine { resident_bytes: 0, descriptors_open: 0, ..machine.clone() };
    for (machine, clients) in [(&machine, None), (&machine, most), (&alone, Some(1)), (&alone, most)] {
        let mut plan = Plan { user_bytes: UNLIMITED, shards: UNLIMITED, ..plan(clients) };
        plan.limits.send_buffer_bytes = usize::MAX;
        plan.limits.connections_per_shard_max = usize::MAX;
        for what in bounds(machine, &plan).iter().map(|bound| bound.what) {
            advice(what, clients.unwrap_or(1), machine, &plan);
        }
        assert!(!Report::new(machine, &plan).text(true, 80).is_empty());
    }
}

#[test]
fn what_advice_says_makes_room_for_the_clients() {
    let mut machine = large();
    machine.descriptors_hard = Some(4096);
    machine.nr_open = Some(100_000);
    (machine.conntrack_max, machine.conntrack_count) = (Some(262_144), Some(9));
    machine.tcp_pages = Some(100_000);
    let plan = plan(Some(1_000_000));
    let report = serde_json::to_value(Report::new(&machine, &plan)).expect("it is JSON");
    let set = |what: &str| {
        let bounds = report["bounds"].as_array().expect("a list");
        let bound = bounds.iter().find(|bound| bound["bound"] == what).expect("it is there");
        bound["set"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|line| line.as_str().unwrap().to_owned())
            .collect()
    };
    let lines: Vec<String> = set("process_descriptors");
    assert_eq!(
        lines,
        [
            "sysctl -w fs.nr_open=1300000",
            "LimitNOFILE=1300000 below [Service] (systemctl edit hailer.service)",
            "without systemd: ulimit -n 1300000 (as root) before the server starts",
            "in a container: --ulimit nofile=1300000:1300000",
        ]
    );
    assert_eq!(set("nr_open"), ["sysctl -w fs.nr_open=1300000"]);
    assert_eq!(set("tcp_memory"), ["sysctl -w net.ipv4.tcp_mem=\"1000000 1500000 2000000\""]);
    let lines: Vec<String> = set("conntrack");
    assert_eq!(
        lines[..2],
        [
            "sysctl -w net.netfilter.nf_conntrack_max=1300000",
            "sysctl -w net.netfilter.nf_conntrack_buckets=325000"
        ]
    );
    assert_eq!(set("memory"), [""; 0]);

    machine.descriptors_hard = Some(1_300_000);
    machine.nr_open = Some(1_300_000);
    machine.conntrack_max = Some(1_300_000);
    machine.tcp_pages = Some(2_000_000);
    let report = serde_json::to_value(Report::new(&machine, &plan)).expect("it is JSON");
    for bound in report["bounds"].as_array().expect("a list") {
        let expected = if bound["bound"] == "proxy_ports" || bound["bound"] == "sessions_of_an_address" {
            "yellow"
        } else {
            "green"
        };
        assert_eq!(bound["level"], expected, "{bound}");
    }
}

#[test]
fn advice_is_exact() {
    let mut machine = large();
    machine.unit = Some("push@1.service".to_owned());
    let mut plan = plan(None);
    let check = |what, clients, machine: &Machine, plan: &Plan, expected: &str| {
        let said = advice(what, clients, machine, plan);
        assert!(said.iter().any(|line| line == expected), "{expected:?} is not in {said:#?}");
    };
    let of_unit = "LimitNOFILE=1100000 below [Service] (systemctl edit push@1.service)";
    check(What::ProcessDescriptors, 1_000_000, &machine, &plan, of_unit);
    check(What::FileMax, 1_000_000, &machine, &plan, "sysctl -w fs.file-max=1101000");
    check(What::EpollWatches, 50_000, &machine, &plan, "sysctl -w fs.epoll.max_user_watches=51000");
    check(What::Connections, 1_000_000, &machine, &plan, "[limits] connections_per_shard_max = 62500");
    check(What::Sessions, 17, &machine, &plan, "[limits] sessions_per_shard_max = 2");
    check(What::SessionsOfAnAddress, 17, &machine, &plan, "[limits] sessions_per_address_max = 2");
    check(What::Heartbeats, 1_000_001, &machine, &plan, "3 processors, a shard on each");
    let ports = "and 16 addresses at it, or as many ports of the server";
    check(What::ProxyPorts, 1_000_000, &machine, &plan, ports);
    let memory = "4,642 MiB of memory for 1,000,000 clients, or further machines";
    check(What::Memory, 1_000_000, &machine, &plan, memory);
    check(What::CommitLimit, 1, &machine, &plan, "sysctl -w vm.overcommit_memory=0");
    // A tenth and 64 MiB are left; the rest is shared by 100,000, and Linux doubles what is set.
    machine.memory_available_bytes = Some(10 * GIB);
    plan.limits.send_buffer_bytes = 256 * 1024;
    check(What::SlowReaders, 100_000, &machine, &plan, "[limits] send_buffer_bytes = 45056");
    check(What::SlowReaders, 100_000_000, &machine, &plan, "[limits] send_buffer_bytes = 4096");
}

#[test]
fn remarks_are_made_about_what_is_not_in_order() {
    let check = |about: &str, change: &dyn Fn(&mut Machine, &mut Plan)| {
        let (mut machine, mut plan) = (large(), plan(None));
        change(&mut machine, &mut plan);
        let remarks = remarks(&machine, &plan);
        assert_eq!(remarks.iter().map(|remark| remark.about).collect::<Vec<_>>(), [about]);
    };
    assert_eq!(remarks(&large(), &plan(None)), []);
    check("net.core.somaxconn", &|machine, _| machine.somaxconn = Some(128));
    check("net.core.somaxconn", &|_, plan| plan.limits.listen_backlog = 10_000);
    check("net.ipv4.tcp_max_syn_backlog", &|machine, _| {
        (machine.syncookies, machine.syn_backlog) = (Some(0), Some(512));
    });
    check("net.ipv4.tcp_tw_reuse", &|machine, _| machine.tw_reuse = Some(0));
    check("shards", &|_, plan| plan.shards = 8);
    check("the control groups' quota of processor time", &|machine, plan| {
        (machine.quota_milli, plan.shards) = (Some(2_500), 2);
    });
    check("net.ipv4.tcp_congestion_control", &|machine, _| machine.congestion = Some("bbr".to_owned()));
    check("transparent huge pages", &|machine, _| machine.huge_pages = Some("always".to_owned()));
    check("vm.max_map_count", &|machine, _| machine.map_count = Some(1_000));
    check("kernel.io_uring_disabled", &|machine, _| machine.io_uring_disabled = Some(2));
    check("net.core.wmem_max", &|machine, _| machine.wmem_max = Some(4_096));
    check("net.ipv4.tcp_rmem", &|machine, _| machine.tcp_rmem_max = Some(32 * 1024 * 1024));
    check("LimitNOFILE", &|machine, _| machine.unit_descriptors = Some("65536:524288".to_owned()));
}

#[test]
fn numbers_and_sizes_are_easy_to_read() {
    assert_eq!([0, 7, 999, 1_000, 1_234_567].map(grouped), ["0", "7", "999", "1,000", "1,234,567"]);
    assert_eq!(
        [1_024, 3 * 1024 * 1024, 9 * GIB, 20 * GIB, UNLIMITED].map(size),
        ["1 KiB", "3 MiB", "9,216 MiB", "20 GiB", "unlimited"]
    );
}

#[test]
fn the_report_has_a_sentence_levels_and_colours() {
    let mut machine = large();
    (machine.runs, machine.descriptors_soft) = (true, Some(1024));
    let text = |clients, colours| Report::new(&machine, &plan(clients)).text(colours, usize::MAX);
    let begins = |text: &str, beginning: &str| assert!(text.starts_with(beginning), "{text}");
    let plain = text(Some(1_000_000), false);
    begins(
        &plain,
        "1,000,000 clients don't fit: descriptors of the process give out first, at 816 clients.\n",
    );
    assert!(plain.contains("1,000,000 clients send 33,334 heartbeats a second"), "{plain}");
    assert!(
        plain.contains("\nred                 816  descriptors of the process: RLIMIT_NOFILE 1,024"),
        "{plain}"
    );
    assert!(!plain.contains('\u{1b}'));
    assert!(text(Some(1_000_000), true).contains("\u{1b}[31mred     \u{1b}[0m"));
    begins(&text(Some(800), false), "800 clients fit: descriptors of the process give out first, at 816");
    let open = text(None, false);
    begins(&open, "Descriptors of the process give out first, at 816 clients.\n");
    // More than the next bound allows would gain nothing.
    assert!(open.contains("-> without systemd: ulimit -n 4000000 before"), "{open}");
    let failure = Report::new(&machine, &plan(Some(817))).failure();
    assert_eq!(
        failure.as_deref(),
        Some("817 clients don't fit: descriptors of the process give out first, at 816")
    );
}

#[test]
fn the_guide_has_the_figures_that_are_reckoned_with() {
    let guide = include_str!("../../../docs/scaling.md");
    let figures = [OPEN_USER_BYTES, TOKEN_USER_BYTES, KERNEL_BYTES, UNDER_WAY_BYTES];
    for figure in figures {
        let figure = grouped(figure);
        assert!(
            guide.lines().any(|line| line.contains(&format!("| {figure} "))),
            "{figure} is not in a table"
        );
    }
    assert!(guide.contains(&format!("at {HEARTBEAT_MICROS} µs each")));
    assert!(guide.contains(&format!("6 s: {DELIVERY_MICROS} µs for each")));
}

#[test]
fn the_report_is_broken_between_words_at_the_edge_of_a_terminal() {
    let machine = large();
    let report = Report::new(&machine, &plan(Some(1_000_000)));
    let text = report.text(false, 80);
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&text), words(&report.text(false, usize::MAX)));
}

#[test]
fn one_address_is_no_reason_to_add_some() {
    let advice = |clients| advice(What::ProxyPorts, clients, &large(), &plan(None)).join("\n");
    assert!(!advice(60_000).contains("addresses"), "{}", advice(60_000));
    assert!(advice(100_000).contains("and 2 addresses at it"), "{}", advice(100_000));
}
