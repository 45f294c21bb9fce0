//! Running the binary, with nothing of this process's environment but what it needs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The documented exit codes.
pub mod exit {
    /// Done.
    pub const DONE: i32 = 0;
    /// The answer is no: differences, or problems found.
    pub const NO: i32 = 1;
    /// Wrong usage.
    pub const USAGE: i32 = 2;
    /// No repository, unknown revision, no such path.
    pub const NOT_FOUND: i32 = 3;
    /// Refused to lose something, nothing to do, or raced.
    pub const REFUSED: i32 = 4;
    /// Damaged data.
    pub const DAMAGED: i32 = 5;
    /// The system refused: I/O error, disk full, permission.
    pub const SYSTEM: i32 = 6;
}

/// The binary, and the folder it is run in.
#[derive(Debug, Clone)]
pub struct Shard {
    binary: PathBuf,
    folder: PathBuf,
    globals: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What a run of the binary gave.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Shard {
    /// The binary at `binary` (a test's `env!("CARGO_BIN_EXE_shard")`), run in `folder`.
    #[must_use]
    pub fn new(binary: &str, folder: &Path) -> Self {
        Self { binary: binary.into(), folder: folder.to_owned(), globals: Vec::new(), environment: Vec::new() }
    }

    /// The same binary in another folder.
    #[must_use]
    pub fn at(&self, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..self.clone() }
    }

    /// The same with global options before every command.
    #[must_use]
    pub fn with_globals(&self, globals: &[&str]) -> Self {
        Self { globals: globals.iter().map(|&option| option.to_owned()).collect(), ..self.clone() }
    }

    /// The same with what this process has in its environment of a bucket's store, see [`crate::bucket`].
    #[must_use]
    pub fn with_store(&self) -> Self {
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
        Self { environment, ..self.clone() }
    }

    /// The folder it is run in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The words of a command line: the binary, the global options, and `args`.
    #[must_use]
    pub fn words<S: AsRef<OsStr>>(&self, args: &[S]) -> Vec<String> {
        let text = |word: &OsStr| word.to_str().expect("the tests use names that are UTF-8").to_owned();
        let mut words = vec![text(self.binary.as_os_str())];
        words.extend(self.globals.iter().cloned());
        words.extend(args.iter().map(|arg| text(arg.as_ref())));
        words
    }

    /// A command of this binary that is not started yet.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.wrapped(&[], args)
    }

    /// The same, run by another program: `wrapper` is what stands before the binary.
    #[must_use]
    pub fn wrapped<S: AsRef<OsStr>>(&self, wrapper: &[&str], args: &[S]) -> Command {
        let words: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).chain(self.words(args)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.folder).env_clear().stdin(Stdio::null());
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("HOME", &self.folder).env("LANG", "C.UTF-8").env("TZ", "UTC").env("SHARD_AUTHOR", "Tester");
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        finish(self.command(args), self.words(args).join(" "))
    }

    /// Runs a command by way of another program.
    pub fn run_wrapped<S: AsRef<OsStr>>(&self, wrapper: &[&str], args: &[S]) -> Run {
        finish(self.wrapped(wrapper, args), format!("{} {}", wrapper.join(" "), self.words(args).join(" ")))
    }

    /// Runs a command that has to succeed, and gives its standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        self.run(args).expect(exit::DONE).stdout
    }

    /// Runs a command with `--json` that has to succeed, and gives the document.
    pub fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        self.run_json(args).expect(exit::DONE).json()
    }

    /// Runs a command with `--json`.
    pub fn run_json<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        let mut words: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        let at = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        words.insert(at, OsStr::new("--json"));
        self.run(&words)
    }

    /// Starts a command and kills it with SIGKILL after `delay`. Gives whether it was still running then.
    pub fn kill_after<S: AsRef<OsStr>>(&self, args: &[S], delay: Duration) -> bool {
        let mut command = self.command(args);
        let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        let end = Instant::now() + delay;
        // A sleep is late by more than the system calls that are to be hit: wait for the last part with open eyes.
        if delay > Duration::from_millis(2) {
            std::thread::sleep(delay - Duration::from_millis(2));
        }
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        let was_running = child.try_wait().expect("the child can be waited for").is_none();
        child.kill().expect("an own child can be killed");
        let status = child.wait().expect("the child can be waited for");
        was_running && status.code().is_none()
    }

    /// The ids of all commits that HEAD leads to, newest first; none where there is no commit yet.
    pub fn commits(&self) -> Vec<String> {
        let run = self.run(&["log", "--json"]);
        if run.code == Some(exit::NOT_FOUND) || run.code == Some(exit::REFUSED) {
            return Vec::new();
        }
        let mut ids = Vec::new();
        collect_members(&run.expect(exit::DONE).json(), "id", &mut ids);
        ids
    }

    /// What `status --short` prints: one line a path that differs.
    pub fn status(&self) -> String {
        self.ok(&["status", "--short"])
    }
}

fn finish(mut command: Command, line: String) -> Run {
    let start = Instant::now();
    let output = command.output().unwrap_or_else(|error| panic!("{line}: cannot be started: {error}"));
    Run {
        line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
    }
}

impl Run {
    /// Panics unless the exit code is the expected one and there was no panic in it.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        self.expect_one_of(&[code])
    }

    /// Panics unless the exit code is one of the expected ones and there was no panic.
    #[must_use]
    pub fn expect_one_of(self, codes: &[i32]) -> Self {
        assert!(
            self.code.is_some_and(|code| codes.contains(&code)) && !self.stderr.contains("panicked at"),
            "expected exit code {codes:?} and no panic\n{self}"
        );
        self
    }

    /// Panics unless the run failed with one of these codes and said what happened, why and what to do next.
    #[must_use]
    pub fn expect_error(self, codes: &[i32]) -> Self {
        let run = self.expect_one_of(codes);
        let parts = if run.stderr.starts_with('{') { ["\"error\":", "\"next\":"] } else { ["error: ", "next: "] };
        for part in parts {
            assert!(run.stderr.contains(part), "expected {part:?} on standard error\n{run}");
        }
        run
    }

    /// Panics unless standard error has this text.
    #[must_use]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.to_lowercase().contains(&text.to_lowercase()),
            "expected {text:?} on standard error\n{self}"
        );
        self
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("expected one JSON document on standard output: {error}\n{self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |text: &str| text.chars().take(4000).collect::<String>();
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        write!(
            f,
            "$ {}\nended by {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            short(&self.stdout),
            short(&self.stderr)
        )
    }
}

/// The texts of all members called `name`, of objects at any depth, in document order.
pub fn collect_members(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_members(item, name, found)),
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == name => found.push(text.clone()),
                    _ => collect_members(member, name, found),
                }
            }
        }
        _ => {}
    }
}

/// The sum of all numbers called `name`, in objects that are elements of the array called `array`.
#[must_use]
pub fn sum_in(value: &Value, array: &str, name: &str) -> u64 {
    let items = value[array].as_array().unwrap_or_else(|| panic!("expected an array {array:?} in {value}"));
    items.iter().map(|item| item[name].as_u64().unwrap_or_else(|| panic!("expected a number {name:?} in {item}"))).sum()
}
