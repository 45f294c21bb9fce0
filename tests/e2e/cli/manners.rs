//! What all commands have in common: usage, errors, quiet, colour, pipes.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::place::Place;

#[test]
fn outside_of_a_repository_each_command_says_so() {
    let place = Place::new();
    for args in [
        &["add", "x"][..],
        &["commit", "-m", "x"],
        &["status"],
        &["log"],
        &["checkout", "main"],
        &["branch"],
        &["tag", "x"],
        &["reset"],
        &["reflog"],
        &["verify"],
        &["reindex"],
        &["diff"],
    ] {
        place.fails(args, 3, &["not a shard repository", "`shard init`"]);
    }
    place.fails(&["-C", "nowhere", "status"], 3, &["nowhere: cannot enter the folder"]);
}

#[test]
fn wrong_usage_is_code_2() {
    let place = Place::new();
    for args in
        [&["frobnicate"][..], &["init", "--frob"], &["--threads", "many", "status"], &["diff", "a", "b", "c"], &[]]
    {
        let run = place.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(!run.err.is_empty(), "{args:?}");
    }
    let run = place.run(&["frobnicate", "--json"]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((run.code, error["error"]["code"].as_u64()), (2, Some(2)));
    let help = place.ok(&["help"]);
    assert!(help.contains("Exit codes:") && help.contains("5  damaged data"), "{help}");
    assert!(place.ok(&["--version"]).starts_with("shard "));
    assert!(place.ok(&["help", "diff"]).contains("--layers"));
}

#[test]
fn quiet_is_quiet_but_results_are_printed() {
    let place = Place::with_history();
    place.write("more.bin", b"more");
    for args in [
        &["-q", "add", "more.bin"][..],
        &["-q", "commit", "-m", "More"],
        &["-q", "checkout", "v1"],
        &["-q", "checkout", "main"],
        &["-q", "verify"],
        &["-q", "reindex"],
        &["-q", "pack", "more.bin", "-o", "m.shard"],
        &["-q", "unpack", "m.shard", "-o", "m"],
    ] {
        assert_eq!(place.ok(args), "", "{args:?}");
    }
    assert!(place.ok(&["-q", "log"]).contains("More"));
    assert!(place.ok(&["-q", "diff", "v1", "main"]).contains("7 tensors"));
    assert!(place.ok(&["-q", "show"]).contains("More"));
    assert!(place.ok(&["-q", "status", "-sb"]).starts_with("## main"));
}

#[test]
fn off_a_terminal_there_is_no_colour_and_no_progress() {
    let place = Place::with_history();
    for args in [
        &["log"][..],
        &["status"],
        &["show"],
        &["diff", "v1", "HEAD"],
        &["verify", "--full"],
        &["chunk", "model.safetensors"],
    ] {
        assert!(!place.ok(args).contains('\u{1b}'), "{args:?}");
        let mut colored = vec!["--color", "always"];
        colored.extend(args);
        let has_color = place.ok(&colored).contains('\u{1b}');
        assert!(has_color, "{colored:?}");
        colored[1] = "never";
        assert!(!place.ok(&colored).contains('\u{1b}'), "{colored:?}");
    }
    let run = place.run(&["show", "nothing"]);
    assert!(!run.err.contains('\u{1b}'), "{}", run.err);
    assert!(place.run(&["--color", "always", "show", "nothing"]).err.contains("\u{1b}[31merror: "));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::with_history();
    for args in [&["log"][..], &["show", "--tensors"], &["--json", "log"], &["help"]] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn what_the_system_refuses_is_code_6() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_history();
    let locked = place.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions do not hold root back.
    if fs::write(locked.join("probe"), "").is_err() {
        place.fails(&["checkout", "v1", "-o", "locked/out"], 6, &["locked", "permissions"]);
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    // A full device: what cannot be printed is an error too.
    if Path::new("/dev/full").exists() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(&["log"]).stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{err}");
        assert!(err.contains("cannot write the output"), "{err}");
    }
}

#[test]
fn hints_lead_on() {
    let place = Place::with_history();
    place.fails(&["cat", "nowhere"], 3, &["no \"nowhere\"", "shard ls-tree -r HEAD"]);
    place.fails(&["leases", "--break", "abcd"], 3, &["no lease \"abcd\"", "`shard leases` lists them"]);
    place.fails(&["merge", "v1", "--strategy", "both"], 2, &["\"both\" is not a strategy", "--strategy takes ours"]);
    place.fails(&["merge", "v1", "--rule", "*=both"], 2, &["\"both\" is not a strategy", "--rule takes GLOB=STRATEGY"]);
    place.fails(&["squash", "-m", ""], 2, &["a commit needs a message"]);
    for command in [&["optimize", "--at-most", "0"][..], &["verify", "--full", "--at-most", "0"]] {
        let run = place.run(command);
        assert!(run.code == 2 && run.err.contains("--at-most"), "{}", run.err);
    }
    place.ok(&["squash"]);
    assert!(place.ok(&["reflog"]).contains("squash: 1 commit dropped"));
}
