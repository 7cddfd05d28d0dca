//! `hailer doctor`: machines that are made up in a folder, and this one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Folder, Hailer, hailer_output, hard_descriptor_limit};

/// A secret that must be met in no output.
const MARK: &str = "nV4rKd-7Qz1xT9vB3nLs8pYc2gHf6jRa0uEoXi5tDkNqZwVbMlJyPhGsCfUeAdTr4I6o8S2x1L9k7";

/// A machine of two processors and 8 GiB, with room for some 90,000 descriptors.
const FILES: &[(&str, &str)] = &[
    ("proc/self/status", "Name:\thailer\nVmRSS:\t  2048 kB\nCpus_allowed_list:\t0-1\n"),
    (
        "proc/self/limits",
        "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024     90000    files\nMax address space  unlimited  unlimited  bytes\n",
    ),
    ("proc/self/cgroup", "0::/system.slice/hailer.service\n"),
    (
        "proc/meminfo",
        "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\nCommitLimit:  9 kB\nCommitted_AS:  1 kB\n",
    ),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "800000\n"),
    ("proc/sys/fs/file-nr", "1000\t0\t800000\n"),
    ("proc/sys/fs/epoll/max_user_watches", "1800000\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/core/wmem_max", "212992\n"),
    ("proc/sys/net/ipv4/tcp_mem", "90000\t120000\t180000\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n"),
    ("proc/sys/vm/overcommit_memory", "0\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
];

/// Writes a file of a made-up machine.
fn put(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder can be made");
    fs::write(path, text).expect("the folder can be written to");
}

fn machine() -> Folder {
    let folder = Folder::new("doctor");
    FILES.iter().for_each(|(name, text)| put(&folder.0, name, text));
    folder
}

/// Exit code, stdout and stderr of a doctor who looks at a made-up machine.
fn look_at(root: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let root = root.to_str().expect("the path is UTF-8");
    said(&hailer_output(&[&["doctor", "--root", root], args].concat()))
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json_of(root: &Path, args: &[&str]) -> Value {
    let (_, stdout, stderr) = look_at(root, &[args, &["--json"]].concat());
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}"))
}

/// The number of clients that a bound allows.
fn clients(report: &Value, bound: &str) -> Value {
    let bounds = report["bounds"].as_array().expect("a list");
    let found = bounds.iter().find(|found| found["bound"] == bound);
    found.unwrap_or_else(|| panic!("there is no {bound}: {report}"))["clients"].clone()
}

#[test]
fn the_files_of_a_machine_become_numbers_of_clients() {
    let folder = machine();
    let report = json_of(&folder.0, &[]);
    let check = |bound: &str, expected: u64| assert_eq!(clients(&report, bound), expected, "{bound}");
    // 128 descriptors for other things, and five for each of two shards.
    check("process_descriptors", 90_000 - 138);
    check("nr_open", 1_048_576 - 138);
    check("file_max", 800_000 - 1_000 - 138);
    check("epoll_watches", 1_800_000 - 6);
    check("tcp_memory", 180_000);
    check("proxy_ports", 28_232);
    check("heartbeats", 1_000_000);
    check("connections", 8_000_000);
    let each =
        report["client_bytes"]["user"].as_u64().unwrap() + report["client_bytes"]["kernel"].as_u64().unwrap();
    let available: u64 = 4 << 30;
    check("memory", (available - available / 10 - (64 << 20)) / each);
    assert_eq!(clients(&report, "group_memory"), Value::Null);
    assert_eq!((&report["first"], &report["clients_max"]), (&json!("process_descriptors"), &json!(89_862)));
    assert_eq!((&report["fits"], &report["clients_wanted"]), (&Value::Null, &Value::Null));
    assert_eq!(report["shards"], 2);
    assert_eq!(report["bounds"][0]["bound"], "slow_readers", "what allows least stands first");
}

#[test]
fn the_exit_code_says_whether_they_fit() {
    let folder = machine();
    for (wanted, code) in [("89862", 0), ("89863", 1)] {
        let (found, stdout, stderr) = look_at(&folder.0, &["--clients", wanted]);
        assert_eq!(found, Some(code), "{stdout}{stderr}");
        assert_eq!(json_of(&folder.0, &["--clients", wanted])["fits"], code == 0);
    }
    let (_, stdout, stderr) = look_at(&folder.0, &["--clients", "1000000"]);
    let sentence = "1,000,000 clients don't fit: descriptors of the process give out first, at 89,862";
    assert!(stdout.starts_with(&format!("{sentence} clients.\n")), "{stdout}");
    assert_eq!(stderr, format!("hailer: {sentence}\n"));
    // The group is a unit's, so it is that one which is edited.
    assert!(
        stdout.contains("-> LimitNOFILE=1300000 below [Service] (systemctl edit hailer.service)"),
        "{stdout}"
    );
    assert!(stdout.contains("-> sysctl -w fs.nr_open=1300000"), "{stdout}");
    assert_eq!(look_at(&folder.0, &[]).0, Some(0), "nobody has asked for a number");
    let (code, _, stderr) = look_at(&folder.0, &["--clients", "0"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn control_groups_of_both_versions_bound_memory_and_processors() {
    let gib: u64 = 1 << 30;
    let check = |files: &[(&str, &str)], room: u64, shards: u64| {
        let folder = machine();
        files.iter().for_each(|(name, text)| put(&folder.0, name, text));
        let report = json_of(&folder.0, &["--user-bytes", "870"]);
        // 870 and 4,130 bytes for each.
        let expected = (room - room / 10 - (64 << 20)) / 5_000;
        assert_eq!(clients(&report, "group_memory"), expected, "{files:?}");
        assert_eq!(report["shards"], shards, "{files:?}");
    };
    let unit = "sys/fs/cgroup/system.slice/hailer.service";
    let at = |name: &str| format!("{unit}/{name}");
    // A group above allows less; pages of files are given back.
    check(
        &[
            (&at("memory.max"), "2147483648\n"),
            (&at("memory.current"), "0\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "1610612736\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "805306368\n"),
            ("sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 268435456\n"),
            (&at("cpu.max"), "100000 100000\n"),
        ],
        gib,
        1,
    );
    // A container's own group is the mount itself, whatever its path elsewhere.
    check(&[("sys/fs/cgroup/memory.max", "1073741824\n"), ("sys/fs/cgroup/cpu.max", "max 100000\n")], gib, 2);
    check(
        &[
            ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n"),
        ],
        gib,
        1,
    );
}

#[test]
fn nothing_that_stands_in_the_files_does_harm() {
    let garbage: [&[u8]; 8] = [
        b"",
        b"\n",
        b"-1 -1 -1\n",
        b"99999999999999999999999999 99999999999999999999999999 99999999999999999999999999\n",
        b"\xff\xfe\x00\x01\n",
        b"\x1b[31mred\x1b[0m\n",
        b"[",
        b"9-1,0-99999999999999999999\n",
    ];
    for text in garbage {
        let folder = machine();
        for (name, _) in FILES {
            put(&folder.0, name, text);
        }
        let (code, stdout, stderr) = look_at(&folder.0, &["--clients", "1000"]);
        assert!(matches!(code, Some(0 | 1)), "{stdout}{stderr}");
        assert!(!stdout.contains('\u{1b}'), "{stdout}");
        json_of(&folder.0, &["--clients", "1000"]);
    }
    // Paths that lead out of the groups' folder, and lines that are none.
    for groups in ["0::/../../../../proc/sys/fs\n", "0:\n::::\n", "4:memory\n", "0::\n"] {
        let folder = machine();
        put(&folder.0, "proc/self/cgroup", groups);
        put(&folder.0, "proc/sys/fs/memory.max", "1\n");
        assert_eq!(clients(&json_of(&folder.0, &[]), "group_memory"), Value::Null, "{groups:?}");
    }
    // Folders where files should be, and no files at all.
    let folder = machine();
    fs::remove_file(folder.file("proc/meminfo")).expect("it is there");
    fs::create_dir(folder.file("proc/meminfo")).expect("a folder can be made");
    assert_eq!(clients(&json_of(&folder.0, &[]), "memory"), Value::Null);
    let empty = Folder::new("doctor");
    let (code, stdout, stderr) = look_at(&empty.0, &["--clients", "1000"]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(
        stdout.contains("\n?               unknown  descriptors of the process: RLIMIT_NOFILE unknown"),
        "{stdout}"
    );
}

#[test]
fn the_configuration_counts_and_its_secrets_are_not_told() {
    let folder = machine();
    let config = folder.file("hailer.toml");
    let text =
        format!("shards = 4\n[auth]\nsecret = \"{MARK}\"\n[limits]\nconnections_per_shard_max = 5000\n");
    fs::write(&config, text).expect("the folder can be written to");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let config = config.to_str().expect("the path is UTF-8");
    let report = json_of(&folder.0, &["--config", config]);
    // What is configured is what is wanted, and users with tokens cost more.
    assert_eq!((&report["clients_wanted"], &report["fits"]), (&json!(20_000), &json!(true)), "{report}");
    assert_eq!((&report["first"], &report["clients_max"]), (&json!("connections"), &json!(20_000)));
    assert_eq!(report["client_bytes"]["user"], 622);
    for args in [&["--clients", "90000"][..], &["--json"]] {
        let (code, stdout, stderr) = look_at(&folder.0, &[&["--config", config], args].concat());
        assert_eq!(code, Some(i32::from(args.len() == 2)), "{stdout}{stderr}");
        assert!(!(stdout + &stderr).contains(MARK));
    }
    let (code, _, stderr) = look_at(&folder.0, &["--config", "there-is-none.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("hailer: can't read there-is-none.toml"), "{stderr}");
}

#[test]
fn the_limits_of_another_process_can_be_asked_about() {
    let folder = machine();
    for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with("proc/self/")) {
        put(&folder.0, &name.replace("self", "77"), text.replace("1024 ", "70000 "));
    }
    put(&folder.0, "proc/77/fd/0", "");
    assert_eq!(json_of(&folder.0, &["--pid", "77"])["clients_max"], 70_000 - 138);
    let (code, _, stderr) = look_at(&folder.0, &["--pid", "78"]);
    assert_eq!((code, stderr.starts_with("hailer: can't read the limits of process 78: ")), (Some(1), true));
}

#[test]
fn this_machine_is_judged_as_well() {
    let limit = hard_descriptor_limit() as u64;
    let doctor = |args: &[&str]| said(&hailer_output(&[&["doctor"], args].concat()));
    let (code, stdout, stderr) = doctor(&["--clients", "1"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let (code, stdout, stderr) = doctor(&["--clients", &(limit + 1).to_string(), "--json"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("it is JSON");
    let shards = report["shards"].as_u64().expect("a number");
    assert_eq!(clients(&report, "process_descriptors"), limit - 128 - 5 * shards);
    let parallelism = std::thread::available_parallelism().expect("it is known").get();
    assert_eq!(shards, parallelism as u64, "as many as a server starts");
    assert!(clients(&report, "memory").as_u64() > Some(1_000), "{report}");

    // A server that was started with less.
    let server = Hailer::start_with_descriptors(500, &[]);
    let (_, stdout, _) = doctor(&["--pid", &server.pid().to_string(), "--json"]);
    let report: Value = serde_json::from_str(&stdout).expect("it is JSON");
    assert_eq!(clients(&report, "process_descriptors"), 500u64.saturating_sub(128 + 5 * shards));
}
