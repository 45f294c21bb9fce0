//! A folder to run the binary in, and what a run says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use shard_core::sha256;
use shard_datasets::cases::every_change;
use tempfile::TempDir;

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A folder to run in.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// A repository whose first commit has the first version of `model.safetensors`, and whose second has the second.
    pub(crate) fn with_history() -> Self {
        let place = Self::new();
        let (first, second) = every_change(1).unwrap();
        place.ok(&["init"]);
        place.write("model.safetensors", &first);
        place.write("notes.txt", b"one");
        place.ok(&["add", "."]);
        place.ok(&[
            "commit",
            "-m",
            "First",
            "--author",
            "A <a@example.com>",
            "--name",
            "v1",
            "--step",
            "100",
            "--hparam",
            "lr=0.001",
        ]);
        place.write("model.safetensors", &second);
        place.ok(&["add", "model.safetensors"]);
        place.ok(&["commit", "-m", "Second"]);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path().join(path)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shard"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("SHARD_AUTHOR").env_remove("NO_COLOR").env("TERM", "xterm");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(run.err, "", "{args:?}");
        run.out
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let out = self.ok(&all);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// Runs what must fail, and checks that it says what, why where expected, and what next.
    pub(crate) fn fails(&self, args: &[&str], code: i32, expected: &[&str]) {
        let run = self.run(args);
        assert_eq!(run.code, code, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(run.out, "", "{args:?}");
        assert!(run.err.starts_with("error: "), "{args:?}: {}", run.err);
        assert!(run.err.contains("\n  next: "), "{args:?}: {}", run.err);
        for text in expected {
            assert!(run.err.contains(text), "{args:?} lacks {text:?}: {}", run.err);
        }
        let mut all = args.to_vec();
        all.insert(0, "--json");
        let run = self.run(&all);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{all:?}");
        let error: Value = serde_json::from_str(&run.err).unwrap_or_else(|e| panic!("{all:?}: {e}: {}", run.err));
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["what"].is_string() && error["error"]["why"].is_array(), "{error}");
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    sha256(bytes).to_hex()
}

/// A safetensors file of these tensors, each a row of numbers.
pub(crate) fn model(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": [values.len()], "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
