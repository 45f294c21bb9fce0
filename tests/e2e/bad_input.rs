//! Input that is odd, malformed, unreadable or wrong: kept where it is a file, refused with a clear error where it is not.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use shard_datasets::cases::{every_change, odd_dtypes};
use shard_tests::crash::State;
use shard_tests::odd_files::{all, many_tensors, one_tensor};
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{copy, digests, sha256_hex, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

/// A repository with one commit of one small model.
fn repository() -> (TempDir, Shard) {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    write(&folder.path().join("model.safetensors"), &every_change(1).unwrap().0);
    shard.ok(&["add", "model.safetensors"]);
    shard.ok(&["commit", "-m", "First"]);
    (folder, shard)
}

#[test]
fn fault_34_odd_files_are_kept_and_restored_byte_for_byte() {
    let (folder, shard) = repository();
    let mut expected = std::collections::BTreeMap::new();
    let mut inputs = Vec::new();
    for odd in all() {
        let path = format!("odd/{}.safetensors", odd.name);
        write(&folder.path().join(&path), &odd.bytes);
        expected.insert(path.clone(), sha256_hex(&odd.bytes));
        // What a file is must not depend on its name.
        let bare = format!("bare/{}", odd.name);
        write(&folder.path().join(&bare), &odd.bytes);
        expected.insert(bare, sha256_hex(&odd.bytes));
        inputs.push((path, odd));
    }
    write(&folder.path().join("odd/all-dtypes.safetensors"), &odd_dtypes(3).unwrap());
    expected.insert("odd/all-dtypes.safetensors".to_owned(), sha256_hex(&odd_dtypes(3).unwrap()));

    let report = shard.json(&["add", "odd", "bare"]);
    assert_eq!(report["files"].as_array().map(Vec::len), Some(expected.len()), "expected every file: {report}");
    shard.ok(&["commit", "-m", "Odd files"]);
    shard.ok(&["checkout", "HEAD", "odd", "bare", "-o", "out"]);
    assert_eq!(digests(&folder.path().join("out")), expected);

    shard.ok(&["pack", "odd", "bare", "-o", "odd.shard"]);
    shard.ok(&["verify", "odd.shard"]);
    shard.ok(&["unpack", "odd.shard", "-o", "unpacked"]);
    assert_eq!(digests(&folder.path().join("unpacked")), expected);

    for (path, odd) in inputs {
        let shown = shard.json(&["show", &format!("HEAD:{path}")]);
        let format = find(&shown, "format");
        let wanted = if odd.is_sound { "safetensors" } else { "opaque" };
        assert_eq!(format.as_deref(), Some(wanted), "{path}: {shown}");
    }
}

/// The first text that is called `name`.
fn find(value: &Value, name: &str) -> Option<String> {
    let mut found = Vec::new();
    shard_tests::process::collect_members(value, name, &mut found);
    found.into_iter().next()
}

#[test]
fn fault_34_a_hundred_thousand_tensors() {
    let (folder, shard) = repository();
    let bytes = many_tensors(100_000);
    write(&folder.path().join("many.safetensors"), &bytes);
    let run = shard.run(&["add", "many.safetensors"]).expect(exit::DONE);
    assert!(run.took < Duration::from_secs(120), "expected seconds, not {:?}", run.took);
    shard.ok(&["commit", "-m", "Many"]);
    shard.ok(&["checkout", "HEAD", "many.safetensors", "-o", "out"]);
    let restored = fs::read(folder.path().join("out/many.safetensors")).unwrap();
    assert_eq!(sha256_hex(&restored), sha256_hex(&bytes), "expected all 100,000 tensors byte for byte");
}

/// Runs a command that has to be refused with one of these codes, and checks that nothing has changed.
fn refused(shard: &Shard, args: &[&str], codes: &[i32]) -> shard_tests::process::Run {
    let before = State::of(shard);
    let run = shard.run_wrapped(&["timeout", "60"], args).expect_error(codes);
    assert_eq!(State::of(shard), before, "expected that what is refused changes nothing\n{run}");
    run
}

#[test]
fn what_cannot_be_added_is_refused_and_changes_nothing() {
    let (folder, shard) = repository();
    write(&folder.path().join("good.bin"), b"good");
    let here = |name: &str| folder.path().join(name);
    // Each time a good file comes first: all or nothing.
    let _ =
        refused(&shard, &["add", "good.bin", "missing.safetensors"], &[exit::NOT_FOUND]).says("missing.safetensors");
    let _ = refused(&shard, &["add", "good.bin", "/etc/hostname"], &[exit::NOT_FOUND, exit::REFUSED, exit::USAGE]);
    let _ = refused(&shard, &["add", "good.bin", "../outside"], &[exit::NOT_FOUND, exit::REFUSED, exit::USAGE]);
    let _ = refused(&shard, &["add", "good.bin", ".shard/format"], &[exit::NOT_FOUND, exit::REFUSED, exit::USAGE]);
    let _ = shard.run::<&str>(&["add"]).expect(exit::USAGE);
    if let Some(pipe) = shard_tests::disk::fifo(&here("pipe")) {
        let _ =
            refused(&shard, &["add", "good.bin", "pipe"], &[exit::NOT_FOUND, exit::REFUSED, exit::USAGE, exit::SYSTEM]);
        // Inside of a folder that is added whole, it is no file to keep.
        fs::create_dir(here("folder")).unwrap();
        fs::rename(pipe, here("folder/pipe")).unwrap();
        write(&here("folder/file"), b"kept");
        let _ = shard.run_wrapped(&["timeout", "60"], &["add", "folder"]).expect(exit::DONE);
        assert!(!shard.status().contains("pipe"), "{}", shard.status());
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let (folder, shard) = repository();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub").join(std::ffi::OsStr::from_bytes(b"bad-\xff.bin")), b"x").unwrap();
    let run = shard
        .run(&["add", "sub"])
        .expect_error(&[exit::NOT_FOUND, exit::REFUSED, exit::USAGE, exit::SYSTEM])
        .says("utf-8");
    assert_eq!(shard.json(&["add", "model.safetensors"])["files"].as_array().map(Vec::len), Some(1), "{run}");
}

#[cfg(unix)]
#[test]
fn links_are_kept_as_links_and_never_followed() {
    let (folder, shard) = repository();
    let secret = TempDir::new().unwrap();
    write(&secret.path().join("secret"), b"not in here");
    std::os::unix::fs::symlink(secret.path().join("secret"), folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere/at/all", folder.path().join("dangling")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Links"]);
    shard.ok(&["checkout", "HEAD", "-o", "out"]);
    for name in ["link", "dangling", "loop"] {
        let (was, is) = (fs::read_link(folder.path().join(name)), fs::read_link(folder.path().join("out").join(name)));
        assert_eq!(is.unwrap(), was.unwrap(), "{name}: expected a link with the same target");
    }
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_named_and_change_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, shard) = repository();
    write(&folder.path().join("good.bin"), b"good");
    let closed = folder.path().join("closed.bin");
    write(&closed, b"closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::File::open(&closed).is_ok() {
        // Permissions do not bind this user. Reading a process's memory at 0 fails for everyone, yet it is a file.
        let archive = folder.path().join("memory.shard");
        let run = shard.run(&["pack", "good.bin", "/proc/self/mem", "-o", "memory.shard"]);
        if run.code == Some(exit::DONE) {
            // Its size is 0, so nothing has to be read.
            shard.ok(&["verify", "memory.shard"]);
        } else {
            let _ = run.expect_error(&[exit::SYSTEM, exit::REFUSED]);
            assert!(!archive.exists(), "expected no archive where a file could not be read");
        }
        return;
    }
    let _ = refused(&shard, &["add", "good.bin", "closed.bin"], &[exit::SYSTEM]).says("closed.bin");
}

#[test]
fn wrong_revisions_and_paths_are_not_found() {
    let (folder, shard) = repository();
    for args in [
        &["show", "nosuch"][..],
        &["log", "nosuch", "--"],
        &["checkout", "nosuch"],
        &["checkout", "HEAD~1"],
        &["checkout", "HEAD", "nosuch.safetensors"],
        &["checkout", "HEAD", "nosuch.safetensors", "-o", "out"],
        &["show", "HEAD:nosuch.safetensors"],
        &["diff", "HEAD:nosuch.safetensors", "model.safetensors"],
        &["show", "0123456789abcdef"],
        &["chunk", "nosuch.safetensors"],
        &["pack", "nosuch.safetensors", "-o", "x.shard"],
        &["unpack", "nosuch.shard"],
        &["verify", "nosuch.shard"],
    ] {
        let _ = refused(&shard, args, &[exit::NOT_FOUND]);
    }
    for path in ["x.shard", "out/nosuch.safetensors"] {
        assert!(!folder.path().join(path).exists(), "expected no {path}");
    }
    for args in
        [&["frobnicate"][..], &["commit"], &["checkout"], &["add", "--nosuch"], &["--threads", "many", "status"]]
    {
        let _ = shard.run(args).expect(exit::USAGE);
    }
    let run = shard.run(&["show", "nosuch", "--json"]).expect(exit::NOT_FOUND);
    let error: Value =
        serde_json::from_str(&run.stderr).unwrap_or_else(|e| panic!("expected JSON on stderr: {e}\n{run}"));
    assert_eq!(error["error"]["code"], 3, "{error}");
    assert!(error["error"]["what"].is_string() && error["error"]["next"].is_string(), "{error}");
    assert!(run.stdout.is_empty(), "expected nothing on standard output of a failed command\n{run}");
}

#[test]
fn no_repository_is_said_so() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    for args in [
        &["status"][..],
        &["log"],
        &["add", "."],
        &["commit", "-m", "x"],
        &["checkout", "HEAD"],
        &["verify"],
        &["reindex"],
    ] {
        let _ = shard.run(args).expect_error(&[exit::NOT_FOUND]).says("repository");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "expected that nothing was made");
    fs::create_dir(folder.path().join(".shard")).unwrap();
    let _ = shard.run(&["status"]).expect_error(&[exit::NOT_FOUND, exit::DAMAGED]);
    let _ = shard
        .at(Path::new("/"))
        .with_globals(&["-C", "/no/such/folder"])
        .run(&["status"])
        .expect_error(&[exit::NOT_FOUND, exit::SYSTEM]);
}

#[test]
fn what_would_lose_something_is_refused() {
    let (folder, shard) = repository();
    let model = folder.path().join("model.safetensors");
    write(&model, &every_change(1).unwrap().1);
    shard.ok(&["add", "model.safetensors"]);
    shard.ok(&["commit", "-m", "Second"]);
    let _ = refused(&shard, &["commit", "-m", "Nothing"], &[exit::REFUSED]);
    let _ = refused(&shard, &["init"], &[exit::REFUSED]);

    write(&model, b"precious, and nowhere else");
    let _ = refused(&shard, &["checkout", "HEAD~1"], &[exit::REFUSED]).says("model.safetensors");
    assert_eq!(fs::read(&model).unwrap(), b"precious, and nowhere else", "expected that nothing was lost");

    write(&folder.path().join("there.shard"), b"something else");
    let _ = refused(&shard, &["pack", "model.safetensors", "-o", "there.shard"], &[exit::REFUSED]);
    assert_eq!(fs::read(folder.path().join("there.shard")).unwrap(), b"something else");
    shard.ok(&["pack", "model.safetensors", "-o", "there.shard", "--force"]);
    write(&folder.path().join("out/model.safetensors"), b"precious too");
    let _ = refused(&shard, &["unpack", "there.shard", "-o", "out"], &[exit::REFUSED]);
    let _ = refused(&shard, &["checkout", "HEAD", "-o", "out"], &[exit::REFUSED]);
    assert_eq!(fs::read(folder.path().join("out/model.safetensors")).unwrap(), b"precious too");
}

#[test]
fn what_is_no_archive_is_said_so() {
    let (folder, shard) = repository();
    write(&folder.path().join("tensor.shard"), &one_tensor("w", "U8", &[4], b"abcd"));
    write(&folder.path().join("empty.shard"), b"");
    fs::create_dir(folder.path().join("folder.shard")).unwrap();
    for name in ["tensor.shard", "empty.shard", "folder.shard"] {
        for command in ["unpack", "verify"] {
            let _ = refused(
                &shard,
                &[command, name],
                &[exit::NO, exit::USAGE, exit::NOT_FOUND, exit::REFUSED, exit::DAMAGED, exit::SYSTEM],
            );
        }
    }
}

#[test]
fn a_repository_can_be_moved_and_copied() {
    let (folder, shard) = repository();
    write(&folder.path().join("model.safetensors"), &every_change(1).unwrap().1);
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Second"]);
    let (expected, commits) = (digests(folder.path()), shard.commits());
    let other = TempDir::new().unwrap();
    let (moved, copied) = (other.path().join("a folder with spaces/moved"), other.path().join("copied"));
    copy(folder.path(), &copied);
    copy(folder.path(), &moved);
    folder.close().unwrap();
    for place in [moved, copied] {
        let shard = shard.at(&place);
        assert_eq!(shard.commits(), commits, "expected the same history in {}", place.display());
        assert_eq!(shard.status(), "", "expected a clean work tree in {}", place.display());
        shard.ok(&["verify", "--full"]);
        shard.ok(&["checkout", "HEAD~1"]);
        shard.ok(&["checkout", "main"]);
        assert_eq!(digests(&place), expected, "expected the same files in {}", place.display());
        write(&place.join("more.bin"), b"more");
        // From a folder below, too.
        fs::create_dir(place.join("sub")).unwrap();
        shard.at(&place.join("sub")).ok(&["add", "../more.bin"]);
        shard.ok(&["commit", "-m", "Third"]);
    }
}
