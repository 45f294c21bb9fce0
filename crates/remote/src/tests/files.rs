//! The files of a repository behind a server.

use std::sync::Arc;

use shard_core::limits::Cut;
use shard_repo::{Repository, Settings};
use shard_store::backend::Backend;
use shard_store::conformance;

use super::bench::{Bench, commit, noise, push, whole};
use crate::client::HttpBackend;
use crate::{Scope, Secret};

#[test]
fn fault_14_a_server_conforms() {
    let bench = Bench::with(|_, _| {});
    let hub = bench.served("hub");
    let backend = HttpBackend::new(&bench.url("hub"), None).unwrap();
    conformance::check(&backend).unwrap();
    assert_eq!(std::fs::read_dir(hub.dir().join("tmp")).unwrap().count(), 0);
    // Names may have a percent sign in them.
    backend.put_if_absent("check/a%2fb", b"1").unwrap();
    assert!(backend.list("check").unwrap().contains(&"a%2fb".to_owned()));
    assert_eq!(backend.get("check/a%2fb", 10).unwrap(), b"1");
    backend.delete("check/a%2fb").unwrap();
}

#[test]
fn a_repository_is_worked_on_by_its_files_alone() {
    let bench = Bench::with(|_, _| {});
    let hub = bench.served("hub");
    let here = bench.init("here");
    commit(&here, "model.bin", &noise(300_000, 0), "First");
    push(&here, &bench.peer("hub"), &[]).unwrap();
    let backend = || Arc::new(HttpBackend::new(&bench.url("hub"), None).unwrap());
    let open = || Repository::open_away(backend(), &bench.url("hub"), &bench.place("cache"), Settings::default());
    let away = open().unwrap();
    assert_eq!(away.resolve("main").unwrap(), here.resolve("main").unwrap());
    whole(&away);
    // What is written there is there for the server too.
    let next = commit(&here, "model.bin", &noise(300_000, 50), "Second");
    push(&here, &away, &[]).unwrap();
    assert_eq!(hub.resolve("main").unwrap(), next);
    whole(&hub);
    let init = Repository::init_away(
        backend(),
        &bench.url("hub"),
        "main",
        Cut::TEST,
        &bench.place("cache"),
        Settings::default(),
    );
    assert!(init.is_err(), "one is there");
}

#[test]
fn files_are_for_who_may_do_everything() {
    let (bench, [reader, writer, admin]) =
        Bench::with_tokens([(Scope::Read, "*"), (Scope::Write, "*"), (Scope::Admin, "*")], |_, _| {});
    bench.served("hub");
    let backend = |token: &str| HttpBackend::new(&bench.url("hub"), Some(&Secret::new(token).unwrap())).unwrap();
    for token in [&reader, &writer] {
        assert!(backend(token).size("format").is_err_and(|error| !error.is_not_found()));
        assert!(backend(token).list("packs").is_err());
        assert!(backend(token).put_if_absent("check/a", b"1").is_err());
        assert!(backend(token).delete("format").is_err());
    }
    assert!(backend(&admin).size("format").is_ok());
    let unconditional = bench.ask("PUT", "/hub/-/v1/files/check/a", Some(&admin), b"1");
    assert_eq!((unconditional.status, unconditional.kind().as_str()), (428, "condition"));
    // In a folder no file is where a folder is, nor the other way round.
    let put = |path: &str| {
        let headers = format!("authorization: Bearer {admin}\r\nif-none-match: *\r\n");
        bench.ask_with("PUT", &format!("/hub/-/v1/files/{path}"), &headers, b"1").status
    };
    assert_eq!([put("check/a"), put("check/a/b"), put("packs"), put("check/a")], [201, 412, 412, 412]);
    for method in ["GET", "HEAD", "DELETE"] {
        for path in ["packs", "check/a/b"] {
            let answer = bench.ask(method, &format!("/hub/-/v1/files/{path}"), Some(&admin), b"");
            assert!(
                answer.status == 404 || (method, answer.status) == ("DELETE", 204),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    assert!(bench.place("served/hub/packs").is_dir());
    let up = bench.ask("GET", "/hub/-/v1/files/..%2fx", Some(&admin), b"");
    assert_eq!((up.status, up.kind().as_str()), (400, "malformed"));
    let nowhere = bench.ask("GET", "/hub/-/v1/files", Some(&admin), b"");
    assert_eq!((nowhere.status, nowhere.kind().as_str()), (400, "malformed"));
}
