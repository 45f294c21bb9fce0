//! `plan` and `task`.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use shard_tests::process::Shard;
use shard_tests::serving::Serving;

use crate::place::{Place, model};

/// Writes checkpoints, little of which differs from the one before.
fn checkpoints(place: &Place, count: u16) {
    for step in 0..count {
        let values: Vec<f32> =
            (0..600u16).map(|index| if index % 50 == step % 50 { f32::from(step) } else { 0.5 }).collect();
        place.write(
            &format!("run/step-{step}/model.safetensors"),
            &model(&[("w", &values), ("bias", &[f32::from(step)])]),
        );
    }
}

/// A worker that does the tasks of every second number, one after the other.
fn worker(place: &Place, first: u16, last: u16) -> Child {
    let script =
        format!("for i in $(seq {first} 2 {last}); do \"$0\" -q --threads 1 -C hub task --index $i || exit; done");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_shard")]).current_dir(place.path()).process_group(0);
    command.spawn().unwrap()
}

/// Kills a worker and what it runs.
fn kill(mut worker: Child) {
    let group = format!("-{}", worker.id());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
    worker.wait().unwrap();
}

fn done(place: &Place) -> u64 {
    place.json(&["-C", "hub", "plan"])["plans"][0]["done"].as_u64().unwrap()
}

#[test]
fn two_hundred_tasks_on_two_workers_one_of_which_is_killed_and_replaced() {
    const TASKS: u16 = 200;
    let place = Place::new();
    checkpoints(&place, TASKS);
    place.ok(&["init", "--bare", "hub"]);
    let root = place.path().join("run").to_str().unwrap().to_owned();
    let said = ["-m", "All of them", "--author", "A <a@example.com>", "--created-at", "2026-01-02T03:04:05Z"];
    let out = place.ok(&[&["-C", "hub", "plan", "pack", "nightly", "--root", &root][..], &said].concat());
    assert!(out.contains("200 tasks for 200 files") && out.contains("N from 0 to 199"), "{out}");

    let (mut even, mut odd) = (worker(&place, 0, TASKS - 1), worker(&place, 1, TASKS - 1));
    for part in [20, 60, 100] {
        let start = Instant::now();
        while done(&place) < part {
            assert!(start.elapsed() < Duration::from_secs(300), "the workers come to nothing");
            std::thread::sleep(Duration::from_millis(part % 7 * 10));
        }
        kill(odd);
        // The other one begins from the first, whatever is done.
        odd = worker(&place, 1, TASKS - 1);
    }
    assert!(even.wait().unwrap().success() && odd.wait().unwrap().success());

    // Each was done once.
    let log = place.json(&["-C", "hub", "log", "plan/nightly"]);
    let titles: Vec<&str> =
        log["commits"].as_array().unwrap().iter().map(|commit| commit["message"].as_str().unwrap()).collect();
    let unlike: BTreeSet<&str> = titles.iter().copied().collect();
    assert_eq!((titles.len(), unlike.len()), (201, 201), "{titles:?}");
    let finished = place.json(&["-C", "hub", "plan", "finish"]);
    assert_eq!((finished["done"].as_u64(), finished["missing"].as_array().unwrap().len()), (Some(200), 0));

    // One machine makes the same commit.
    place.ok(&["-C", "run", "init"]);
    place.ok(&["-C", "run", "add", "."]);
    place.ok(&[&["-C", "run", "commit"][..], &said].concat());
    let alone = place.json(&["-C", "run", "log", "HEAD", "-n", "1"])["commits"][0]["id"].clone();
    assert_eq!(finished["commit"], alone);
    place.ok(&["-C", "hub", "gc", "--prune-now"]);
    assert_eq!(place.json(&["-C", "hub", "verify", "--full"])["ok"], true);
    let hub = place.path().join("hub").to_str().unwrap().to_owned();
    place.ok(&["clone", &hub, "copy"]);
    for step in 0..TASKS {
        let path = format!("step-{step}/model.safetensors");
        assert!(place.read(&format!("run/{path}")) == place.read(&format!("copy/{path}")), "{path}");
    }
}

/// Workers that have nothing but the address of a server, each with a lazy clone in which it works at two tasks at a time.
#[test]
fn tasks_are_done_over_http() {
    let place = Place::new();
    checkpoints(&place, 12);
    place.ok(&["init", "--bare", "hub"]);
    let mut server = Serving::start(&Shard::new(env!("CARGO_BIN_EXE_shard"), place.path()));
    let url = server.url("hub");
    place.ok(&["clone", &url, "planner"]);
    let said = ["-m", "All of them", "--created-at", "2026-01-02T03:04:05Z"];
    place.ok(&[&["-C", "planner", "plan", "pack", "far/away", "--root", "../run"][..], &said].concat());
    place.ok(&["-C", "planner", "push", "origin", "plan/far/away"]);
    for worker in ["one", "two"] {
        place.ok(&["clone", "--lazy", "--bare", &url, worker]);
    }
    place.fails(
        &["-C", "one", "task", "-i", "0", "--remote", "origin"],
        2,
        &["is not asked which files", "--root DIR"],
    );
    std::thread::scope(|scope| {
        for (worker, first) in [("one", 0), ("two", 1), ("one", 2), ("two", 3)] {
            let place = &place;
            scope.spawn(move || {
                for index in (first..12).step_by(4) {
                    let told = place.json(&[
                        "-C",
                        worker,
                        "task",
                        "--remote",
                        "origin",
                        "--root",
                        "../run",
                        "-i",
                        &index.to_string(),
                    ]);
                    assert_eq!(told["was_done"], false, "{index}");
                }
            });
        }
    });
    let told = place.json(&["-C", "one", "task", "far/away", "--remote", "origin", "--root", "../run", "-i", "5"]);
    assert_eq!(told["was_done"], true);
    let state = place.json(&["-C", "hub", "plan"])["plans"][0].clone();
    assert_eq!((state["done"].as_u64(), state["plan"].as_str()), (Some(12), Some("far/away")));
    assert_eq!(place.json(&["-C", "hub", "log", "plan/far/away"])["commits"].as_array().unwrap().len(), 13);
    assert_eq!(place.ok(&["-C", "one", "branch"]), "  plan/far/away\n", "what a worker worked on is gone");
    let finished = place.json(&["-C", "hub", "plan", "finish"]);
    place.ok(&["-C", "run", "init"]);
    place.ok(&["-C", "run", "add", "."]);
    place.ok(&[&["-C", "run", "commit"][..], &said].concat());
    assert_eq!(finished["commit"], place.json(&["-C", "run", "log", "HEAD", "-n", "1"])["commits"][0]["id"]);
    assert_eq!(place.json(&["-C", "hub", "verify", "--full"])["ok"], true);

    let fails = |args: &[&str], code, expected: &[&str]| {
        place.fails(&[&["-C", "one", "task", "-i", "0"], args].concat(), code, expected)
    };
    fails(&["--remote", "origin"], 3, &["there is no plan"]);
    fails(&["far/away", "--remote", "origin"], 3, &["there is no plan \"far/away\""]);
    fails(&["--remote", "elsewhere"], 3, &["there is no remote"]);
    server.kill();
    fails(&["--remote", "origin"], 6, &["cannot be reached"]);
}

#[test]
fn plans_are_shown_finished_and_given_up() {
    let place = Place::new();
    checkpoints(&place, 7);
    place.ok(&["init", "--bare", "hub"]);
    let root = place.path().join("run").to_str().unwrap().to_owned();
    assert_eq!(place.ok(&["-C", "hub", "plan"]), "There are no plans\n");
    let pack = |name: &str| {
        place.json(&[
            "-C",
            "hub",
            "plan",
            "pack",
            name,
            "--root",
            &root,
            "--into",
            "runs/1",
            "--per-task",
            "2",
            "-m",
            "Run 1",
        ])
    };
    let made = pack("p");
    assert_eq!(
        (made["work"].as_str(), made["tasks"].as_u64(), made["files"].as_u64()),
        (Some("pack"), Some(4), Some(7))
    );
    let told = place.json(&["-C", "hub", "task", "-i", "2"]);
    assert_eq!((told["was_done"].as_bool(), told["files"].as_u64()), (Some(false), Some(2)));
    assert_eq!(place.ok(&["-C", "hub", "task", "p", "-i", "2"]), "Task 2 of p is done already\n");
    let out = place.ok(&["-C", "hub", "plan", "ls"]);
    assert!(out.contains("1 of 4") && out.contains("0-1,3"), "{out}");
    let run = place.run(&["-C", "hub", "plan", "finish"]);
    assert_eq!((run.code, run.out.as_str()), (1, "3 tasks of p missing: 0-1,3\n"));
    let run = place.run(&["-C", "hub", "plan", "finish", "--json"]);
    assert_eq!((run.code, run.out.contains("\"missing\": [\n    0,\n    1,\n    3\n  ]")), (1, true), "{}", run.out);
    // The others have the files elsewhere.
    std::fs::rename(place.path().join("run"), place.path().join("moved")).unwrap();
    place.fails(&["-C", "hub", "task", "-i", "0"], 3, &["cannot read"]);
    for index in ["0", "1", "3"] {
        place.ok(&["-C", "hub", "task", "-i", index, "--root", "../moved"]);
    }
    let out = place.ok(&["-C", "hub", "plan", "finish", "p"]);
    assert!(out.starts_with("[main ") && out.ends_with("] Run 1\n"), "{out}");
    assert_eq!(place.json(&["-C", "hub", "branch"])["branches"].as_array().unwrap().len(), 1);

    place.ok(&["-C", "hub", "plan", "verify", "check", "main", "--per-task", "7"]);
    place.ok(&["-C", "hub", "task", "-i", "0"]);
    assert_eq!(place.ok(&["-C", "hub", "plan", "finish"]), "7 files proven\n");
    place.ok(&["-C", "hub", "plan", "verify", "check"]);
    assert_eq!(place.ok(&["-C", "hub", "plan", "drop", "check"]), "Gave up check\n");

    let fails = |args: &[&str], code, expected: &[&str]| place.fails(&[&["-C", "hub"], args].concat(), code, expected);
    fails(&["plan", "finish"], 3, &["there is no plan"]);
    fails(&["plan", "finish", "p"], 3, &["there is no plan \"p\"", "`shard plan`"]);
    fails(&["plan", "drop", "p"], 3, &["there is no plan \"p\""]);
    fails(&["task", "-i", "0"], 3, &["there is no plan"]);
    for wrong in
        [&["task"][..], &["plan", "pack", "x"], &["plan", "pack", "x", "-m", "x", "--per-task", "0"], &["plan", "drop"]]
    {
        assert_eq!(place.run(&[&["-C", "hub"], wrong].concat()).code, 2, "{wrong:?}");
    }
    fails(&["plan", "verify", "check", "gone"], 3, &["gone"]);
    fails(&["plan", "pack", "x", "--root", "../gone", "-m", "x"], 3, &["gone"]);
    fails(&["plan", "pack", "x", "../..", "--root", "../moved", "-m", "x"], 2, &["is not below the root"]);
    fails(&["plan", "pack", "x", "--root", "../moved", "-m", "x", "-r", "gone"], 3, &["gone"]);
    place.ok(&["-C", "hub", "plan", "pack", "x", "--root", "../moved", "-m", "x"]);
    fails(&["plan", "pack", "x", "--root", "../moved", "-m", "x"], 4, &["x"]);
    fails(&["task", "-i", "7"], 2, &["has the tasks 0 to 6, and no task 7"]);
    place.write("moved/step-0/model.safetensors", b"changed");
    fails(&["task", "-i", "0"], 4, &["has 7 bytes, and had"]);
    place.ok(&["-C", "hub", "plan", "pack", "y", "--root", "../moved", "-m", "y"]);
    fails(&["task", "-i", "0"], 2, &["there are 2 plans", "name one"]);
}
