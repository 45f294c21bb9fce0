//! `serve`, its tokens, and clients that have them.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::place::{Place, Run};

/// The real server, until it is stopped.
struct Serving {
    child: Child,
    url: String,
    /// Reads what it logs: a pipe that nobody empties would keep it waiting.
    log: Option<JoinHandle<String>>,
}

impl Serving {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut child = place.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        let Some((_, url)) = line.trim_end().rsplit_once(" at ") else {
            panic!("{all:?}: {line}{}", log.join().unwrap())
        };
        Self { url: url.trim_end_matches("/NAME").to_owned(), child, log: Some(log) }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Tells it to stop, and gives what it logged.
    fn stop(mut self) -> Vec<Value> {
        self.signal(Signal::TERM);
        let said = self.log.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of a user who has a folder for settings, and perhaps more in the environment.
fn user(place: &Place, args: &[&str], more: &[(&str, &str)], input: &str) -> Run {
    let mut command: Command = place.command(args);
    command.env("XDG_CONFIG_HOME", place.path().join("settings")).env_remove("SHARD_TOKEN").env_remove("SHARD_CA");
    command.envs(more.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn token(place: &Place, name: &str, scope: &str, repository: &str) -> String {
    let made = place.json(&[
        "serve",
        "token",
        "new",
        name,
        "--scope",
        scope,
        "--repository",
        repository,
        "--tokens",
        "tokens.toml",
    ]);
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_user_logs_in_pushes_and_clones() {
    let (there, here) = (Place::new(), Place::with_history());
    there.ok(&["init", "--bare", "models/team/hub"]);
    let write = token(&there, "alice", "write", "team/*");
    let shown = there.ok(&["serve", "token", "ls", "--tokens", "tokens.toml"]);
    assert!(shown.contains("alice  write  team/*") && !shown.contains(&write), "{shown}");
    assert!(!fs::read_to_string(there.path().join("tokens.toml")).unwrap().contains(&write));
    there.fails(
        &["serve", "token", "new", "alice", "--scope", "read", "--repository", "*", "--tokens", "tokens.toml"],
        4,
        &["there is a token \"alice\" already"],
    );
    let server = Serving::start(&there, &["models", "--tokens", "tokens.toml"]);
    let url = format!("{}/team/hub", server.url);
    here.ok(&["remote", "add", "origin", &url]);
    let refused = user(&here, &["push"], &[], "");
    assert!(
        refused.code == 4 && refused.err.contains("a token is needed") && refused.err.contains("remote login"),
        "{}",
        refused.err
    );
    let refused = user(&here, &["remote", "login"], &[], "shard_0123\n");
    assert!(refused.code == 4 && refused.err.contains("none of this server's"), "{}", refused.err);
    assert!(!here.path().join("settings/shard/credentials").exists());
    let run = user(&here, &["remote", "login"], &[], &format!("{write}\n"));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let kept = here.path().join("settings/shard/credentials");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let run = user(&here, &["push", "--all"], &[], "");
    assert!(run.code == 0 && run.out.starts_with("Sent 2 commits"), "{}{}", run.out, run.err);
    let run = user(&here, &["clone", &url, "copy"], &[], "");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(here.read("copy/model.safetensors"), here.read("model.safetensors"));
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = user(&here, &["fetch"], &[], "");
    assert!(refused.code == 6 && refused.err.contains("chmod 600"), "{}", refused.err);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(user(&here, &["remote", "logout"], &[], "").code, 0);
    assert_eq!(user(&here, &["remote", "logout"], &[], "").code, 3);
    assert_eq!(user(&here, &["fetch"], &[], "").code, 4);
    // From the environment, for machines.
    assert_eq!(user(&here, &["fetch"], &[("SHARD_TOKEN", &write)], "").code, 0);
    // Taken back, it is of no use a moment later.
    there.ok(&["-q", "serve", "token", "rm", "alice", "--tokens", "tokens.toml"]);
    let start = Instant::now();
    while user(&here, &["fetch"], &[("SHARD_TOKEN", &write)], "").code == 0 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    let log = server.stop();
    assert!(
        log.iter().any(|line| line["token"] == "alice" && line["route"] == "REPO/-/v1/push/{push}/refs"),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap()["event"], "stopped");
    assert!(!format!("{log:?}").contains(&write));
}

#[test]
fn a_repository_behind_a_server_is_worked_on_from_afar() {
    let (there, here) = (Place::new(), Place::with_history());
    there.ok(&["init", "--bare", "models/hub"]);
    let (write, admin) = (token(&there, "alice", "write", "*"), token(&there, "bob", "admin", "*"));
    let server = Serving::start(&there, &["models", "--tokens", "tokens.toml"]);
    let url = format!("{}/hub", server.url);
    let cache = here.path().join("cache");
    let with = |token: &str, args: &[&str]| {
        user(&here, args, &[("SHARD_TOKEN", token), ("XDG_CACHE_HOME", cache.to_str().unwrap())], "")
    };
    assert_eq!(with(&write, &["push", &url, "--all"]).code, 0);
    let log = with(&admin, &["-C", &url, "log", "main"]);
    assert!(log.code == 0 && log.out.contains("Second") && log.out.contains("lr=0.001"), "{}{}", log.out, log.err);
    assert_eq!(with(&admin, &["-C", &url, "tag", "v9", "main"]).code, 0);
    assert_eq!(with(&admin, &["-C", &url, "verify", "--full"]).code, 0);
    assert!(there.ok(&["-C", "models/hub", "tag"]).contains("v9"));
    let refused = with(&write, &["-C", &url, "log", "main"]);
    assert!(refused.code == 6 && refused.err.contains("are for admins"), "{}", refused.err);
    let outside = Place::new();
    outside.fails(&["-C", &url, "init", "--bare"], 2, &["behind a server", "init --bare"]);
    outside.fails(&["init", &url], 2, &["behind a server"]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nor in the current folder");
    let work = with(&admin, &["-C", &url, "add", "model.safetensors"]);
    assert_eq!(work.code, 2, "{}", work.err);
}

#[test]
fn fault_45_a_token_is_not_sent_where_it_could_be_read() {
    let here = Place::with_history();
    here.ok(&["remote", "add", "origin", "http://192.0.2.1/hub"]);
    let canary = "shard_canary";
    for (args, more, input) in [
        (&["fetch"][..], &[("SHARD_TOKEN", canary)][..], ""),
        (&["remote", "login"], &[], "shard_canary\n"),
        (&["remote", "login", "https://me:shard_canary@192.0.2.1/"], &[], "shard_canary\n"),
        (&["fetch", "https://me:shard_canary@192.0.2.1/"], &[], ""),
    ] {
        let start = Instant::now();
        let run = user(&here, args, more, input);
        assert!(matches!(run.code, 2 | 4), "{args:?}: {} {}", run.code, run.err);
        assert!(start.elapsed() < Duration::from_secs(10), "nothing was sent");
        let said = run.err.replace("https://me:shard_canary@", "");
        assert!(!said.contains("canary") && !run.out.contains("canary"), "{args:?}: {}", run.err);
    }
}

#[test]
fn others_are_let_in_only_with_tokens_or_on_purpose() {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    place.fails(
        &["serve", "--listen", "0.0.0.0:0"],
        4,
        &["can be reached from elsewhere", "serve token new", "--insecure-open"],
    );
    place.fails(&["serve", "--tokens", "none.toml"], 6, &["none.toml", "serve token new"]);
    place.fails(&["serve", "nowhere"], 3, &["nowhere"]);
    place.write("serve.toml", b"listen = \"0.0.0.0:0\"\nfolders = \"x\"\n");
    place.fails(&["serve", "--config", "serve.toml"], 2, &["serve.toml: line 2", "folders"]);
    let server = Serving::start(&place, &["--insecure-open", "--log", "off"]);
    assert!(server.url.starts_with("http://127.0.0.1:"));
    assert!(server.stop().is_empty());
}

#[test]
fn a_server_is_set_up_by_one_file() {
    let (there, here) = (Place::new(), Place::with_history());
    there.ok(&["init", "--bare", "models/small"]);
    there.ok(&["init", "--bare", "models/public"]);
    there.write(
        "etc/serve.toml",
        b"folder = \"../models\"\ntokens = \"tokens.toml\"\nopen_metrics = true\n[repositories.small]\nquota = \"4 kB\"\n\
          [repositories.public]\nanonymous_read = true\n",
    );
    let made = there.json(&[
        "serve",
        "token",
        "new",
        "ci",
        "--scope",
        "append",
        "--repository",
        "*",
        "--config",
        "etc/serve.toml",
    ]);
    let token = made["token"].as_str().unwrap();
    let server = Serving::start(&there, &["--config", "etc/serve.toml"]);
    let env = [("SHARD_TOKEN", token)];
    let push = |name: &str| user(&here, &["push", &format!("{}/{name}", server.url), "main"], &env, "");
    let full = push("small");
    assert!(full.code == 4 && full.err.contains("4000 bytes"), "{}", full.err);
    assert_eq!(push("public").code, 0);
    let clone = |name: &str, to: &str| user(&here, &["clone", &format!("{}/{name}", server.url), to], &[], "");
    assert_eq!(clone("public", "copy").code, 0);
    assert!(clone("small", "copy2").err.contains("a token is needed"));
    let forced = user(&here, &["push", "-f", &format!("{}/public", server.url), "main~1:main"], &env, "");
    assert_eq!(forced.code, 3, "{}", forced.err);
    let forced = user(&here, &["push", &format!("{}/public", server.url), ":main"], &env, "");
    assert!(forced.code == 4 && forced.err.contains("neither force nor delete"), "{}", forced.err);
    server.stop();
}

#[test]
fn tls_is_spoken_and_its_certificate_read_again() {
    let (there, here) = (Place::new(), Place::with_history());
    there.ok(&["init", "--bare", "hub"]);
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        there.write("key.pem", made.signing_key.serialize_pem().as_bytes());
        there.write("cert.pem", made.cert.pem().as_bytes());
        here.write(name, made.cert.pem().as_bytes()).to_str().unwrap().to_owned()
    };
    let first = certificate("first.pem");
    let server = Serving::start(&there, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    assert!(server.url.starts_with("https://"));
    let url = format!("{}/hub", server.url);
    let push = |more: &[(&str, &str)]| user(&here, &["push", &url, "main"], more, "");
    let unknown = push(&[]);
    assert!(unknown.code == 6 && unknown.err.contains("certificate"), "{}", unknown.err);
    for name in ["SHARD_CA", "SSL_CERT_FILE"] {
        let run = push(&[(name, &first)]);
        assert_eq!(run.code, 0, "{name}: {}", run.err);
    }
    assert!(push(&[("SHARD_CA", "/nowhere.pem")]).err.contains("SHARD_CA"));
    let second = certificate("second.pem");
    server.signal(Signal::HUP);
    let start = Instant::now();
    while push(&[("SHARD_CA", &second)]).code != 0 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(push(&[("SHARD_CA", &first)]).code, 6);
    let log = server.stop();
    assert!(log.iter().any(|line| line["event"] == "reloaded" && line["what"] == "certificate"), "{log:?}");
}
