//! Tokens: who may do what.

use std::fs;

use shard_core::limits::Cut;
use shard_repo::{Peer as _, RepoError, Repository, Settings, SyncProblem};

use super::bench::{Bench, clone, commit, push, soon, whole};
use crate::{AccessOptions, RepositoryRules, Scope, Served, Server, ServerError, ServerOptions, TokenFile};

fn refused_with(outcome: Result<impl std::fmt::Debug, RepoError>, text: &str) {
    match outcome {
        Err(RepoError::Sync(SyncProblem::Refused { why, .. } | SyncProblem::Unauthorized { why, .. }))
            if why.contains(text) => {}
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn each_scope_may_what_it_may_and_no_more() {
    let tokens = [Scope::Read, Scope::Append, Scope::Write, Scope::Admin].map(|scope| (scope, "team/*"));
    let (bench, [read, append, write, admin]) = Bench::with_tokens(tokens, |_, _| ());
    let (hub, here) = (bench.served("team/hub"), bench.init("here"));
    let first = commit(&here, "a.bin", b"first", "First");
    let as_who = |token: &str| bench.peer_with("team/hub", token);
    refused_with(push(&here, &as_who(&read), &[]), "may read");
    assert!(as_who(&read).welcome().unwrap().refs.is_empty());
    push(&here, &as_who(&append), &[]).unwrap();
    let second = commit(&here, "a.bin", b"second", "Second");
    here.create_tag("v1", "HEAD", &Default::default()).unwrap();
    push(&here, &as_who(&append), &["main", "v1"]).unwrap();
    assert_eq!(hub.resolve("main").unwrap(), second);
    let (copy, _) = clone(&as_who(&read), &bench.place("copy"));
    whole(&copy);

    // What loses something takes more than append.
    here.create_branch("old", &first.to_hex()).unwrap();
    refused_with(push(&here, &as_who(&append), &["+old:main"]), "force");
    refused_with(push(&here, &as_who(&append), &[":tags/v1"]), "delete");
    assert_eq!(hub.resolve("main").unwrap(), second);
    push(&here, &as_who(&write), &["+old:main"]).unwrap();
    push(&here, &as_who(&write), &[":tags/v1"]).unwrap();
    assert_eq!(hub.resolve("main").unwrap(), first);
    for (token, status) in [(&read, 403), (&append, 403), (&write, 403), (&admin, 200)] {
        assert_eq!(bench.ask("POST", "/team/hub/-/v1/gc", Some(token), b"{}").status, status);
        assert_eq!(bench.ask("POST", "/team/hub/-/v1/protect", Some(token), b"{\"pattern\":\"main\"}").status, status);
    }
    refused_with(
        push(&here, &as_who(&admin), &["+main"]).and_then(|_| push(&here, &as_who(&admin), &["+old:main"])),
        "protect",
    );
    whole(&hub);
}

#[test]
fn who_may_not_know_of_a_repository_learns_nothing() {
    let tokens = [(Scope::Admin, "mine"), (Scope::Read, "*")];
    let (bench, [mine, all]) = Bench::with_tokens(tokens, |options, _| {
        let open = RepositoryRules { anonymous_read: Some(true), ..Default::default() };
        options.rules.some.insert("public".to_owned(), open);
    });
    for name in ["mine", "secret", "public"] {
        bench.served(name);
    }
    let info = |name: &str, token: Option<&str>| bench.ask("GET", &format!("/{name}/-/v1/info"), token, b"");
    let (hidden, none) = (info("secret", Some(&mine)), info("nothing", Some(&mine)));
    assert_eq!((hidden.status, none.status), (404, 404));
    assert_eq!(hidden.body, none.body);
    assert_eq!((info("secret", Some(&all)).status, info("mine", Some(&mine)).status), (200, 200));
    for name in ["secret", "nothing", "mine"] {
        let answer = info(name, None);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer realm=\"shard\""));
        assert_eq!(answer.kind(), "unauthorized");
    }
    // What everybody may read asks for a token where something is written, and a wrong one is never taken for none.
    assert_eq!(info("public", None).status, 200);
    assert_eq!(info("public", Some(&mine)).status, 200);
    assert_eq!(info("public", Some("shard_00")).status, 401);
    assert_eq!(bench.ask("POST", "/public/-/v1/push", None, b"").status, 401);
    assert_eq!(bench.ask("POST", "/public/-/v1/push", Some(&mine), b"").status, 403);
    for headers in [
        format!("authorization: Basic {mine}\r\n"),
        "authorization: Bearer\r\n".to_owned(),
        format!("authorization: Bearer {mine}\r\nauthorization: Bearer {mine}\r\n"),
        format!("authorization: Bearer {mine}x\r\n"),
    ] {
        assert_eq!(bench.ask_with("GET", "/mine/-/v1/info", &headers, b"").status, 401, "{headers}");
    }
    assert_eq!(bench.ask_with("GET", "/mine/-/v1/info", &format!("authorization: bearer {mine}\r\n"), b"").status, 200);
    // A token in an address counts for nothing.
    assert_eq!(bench.ask("GET", &format!("/mine/-/v1/info?token={mine}"), None, b"").status, 401);
    assert!(
        bench.ask("GET", "/metrics", None, b"").status == 401
            && bench.ask("GET", "/metrics", Some(&mine), b"").status == 403
    );
    assert_eq!(bench.ask("GET", "/metrics", Some(&all), b"").status, 200);
}

#[test]
fn a_push_goes_on_with_the_token_that_began_it() {
    let (bench, [one, two]) = Bench::with_tokens([(Scope::Append, "*"), (Scope::Admin, "*")], |_, _| ());
    bench.served("hub");
    let opened = bench.ask("POST", "/hub/-/v1/push", Some(&one), b"").json();
    let has = format!("/hub/-/v1/push/{}/has", opened["push"].as_str().unwrap());
    assert_eq!(bench.ask("POST", &has, Some(&two), b"").status, 410);
    assert_eq!(bench.ask("POST", &has, Some(&one), b"").status, 200);
    assert_eq!(bench.ask("POST", &has, None, b"").status, 401);
}

#[test]
fn tokens_are_taken_back_while_the_server_runs() {
    let (bench, [token]) = Bench::with_tokens([(Scope::Read, "*")], |_, _| ());
    bench.served("hub");
    let status = |token: &str| bench.ask("GET", "/hub/-/v1/info", Some(token), b"").status;
    assert_eq!(status(&token), 200);
    let path = bench.place("tokens.toml");
    let mut file = TokenFile::read(&path).unwrap();
    file.remove("read-1").unwrap();
    let new = file.add("another", Scope::Read, vec!["hub".to_owned()]).unwrap();
    file.write(&path).unwrap();
    soon(|| status(&token) == 401 && status(&new) == 200);
    // A file that is torn takes nothing away, and gives nothing.
    fs::write(&path, "[[token]]\nname = ").unwrap();
    bench.reload.notify_one();
    bench.events("problem", 1);
    assert_eq!((status(&token), status(&new)), (401, 200));
}

#[test]
fn fault_46_no_token_is_logged_or_told() {
    let (bench, [token]) = Bench::with_tokens([(Scope::Read, "hub")], |_, _| ());
    bench.served("hub");
    let here = bench.init("here");
    commit(&here, "a.bin", b"a", "First");
    let mut said = vec![format!("{:?}", push(&here, &bench.peer_with("hub", &token), &[]))];
    for sent in [token.as_str(), "shard_canary"] {
        for path in [
            "/hub/-/v1/info",
            "/nothing/-/v1/info",
            "/hub/blocks/xx",
            "/metrics",
            &format!("/x?token={sent}"),
            &format!("/{sent}/-/v1/info"),
        ] {
            let answer = bench.ask("GET", path, Some(sent), b"");
            said.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
    }
    let dead = crate::HttpPeer::new("http://127.0.0.1:1/hub", Some(&crate::Secret::new(&token).unwrap())).unwrap();
    said.push(format!("{:?}", dead.welcome()));
    said.extend(bench.events("request", 13).iter().map(ToString::to_string));
    let shown = |what: &&String| what.contains(&token) || what.contains("canary");
    // The name of a repository that is asked for is not logged until there is one, nor told back.
    assert_eq!(said.iter().find(shown), None);
}

#[test]
fn without_tokens_only_this_machine_is_answered() {
    let bench = Bench::new();
    bench.served("hub");
    let info = |headers: &str| {
        let request = format!("GET /hub/-/v1/info HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
        super::bench::raw(bench.address, request.as_bytes())
    };
    for headers in ["host: localhost\r\n", "host: 127.0.0.1:80\r\n", "host: localhost\r\nsec-fetch-site: none\r\n"] {
        assert!(info(headers).starts_with("HTTP/1.1 200"), "{headers}");
    }
    for headers in [
        "host: evil.example\r\n",
        "host: localhost\r\norigin: http://evil.example\r\n",
        "host: localhost\r\norigin: null\r\n",
        "host: localhost\r\nsec-fetch-site: cross-site\r\n",
        "",
    ] {
        assert!(
            info(headers).starts_with("HTTP/1.1 403") || info(headers).starts_with("HTTP/1.1 400"),
            "{headers}: {}",
            info(headers)
        );
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bind = |access| {
        let options =
            ServerOptions { access, ..ServerOptions::new(Served::All(bench.place("served")), Settings::default()) };
        runtime.block_on(Server::bind("0.0.0.0:0".parse().unwrap(), options)).map(drop)
    };
    assert!(matches!(bind(AccessOptions::ThisMachine), Err(ServerError::Open(_))));
    bind(AccessOptions::Everybody).unwrap();
}

#[test]
fn routes_are_no_names_of_repositories() {
    let bench = Bench::new();
    for name in ["team/refs", "team/blocks", "blocks"] {
        let place = bench.place("served").join(name);
        Repository::init_bare(&place, "main", Cut::TEST, Settings::default()).unwrap();
        assert_eq!(bench.ask("GET", &format!("/{name}/-/v1/info"), None, b"").status, 404, "{name}");
    }
}
