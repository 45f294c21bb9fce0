//! A store that speaks S3, on this machine: SeaweedFS, and rclone as another client of it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::measure::{run, shard};

/// What installs it.
const INSTALLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/stores/run");
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(90);
const BUCKET: &str = "models";
const KEY: &str = "shardtest";
const SECRET: &str = "shardsecret";

/// SeaweedFS. It ends when this is dropped.
pub(super) struct Store {
    child: Child,
    rclone: PathBuf,
    endpoint: String,
}

impl Store {
    /// Starts it with an empty bucket, with its files in `dir`.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let installed = run(Command::new(INSTALLER).args(["--install", "--only", "seaweed"]))
            .map_err(|error| format!("SeaweedFS and rclone cannot be had: {error}"))?;
        let tools: serde_json::Value = serde_json::from_slice(&installed.stdout)?;
        let tool =
            |name: &str| Ok::<_, Failure>(PathBuf::from(tools[name].as_str().ok_or("a tool was not installed")?));
        let (data, log) = (dir.join("seaweed"), dir.join("seaweed.log"));
        fs::create_dir(&data)?;
        let config = data.join("s3.json");
        let credentials = serde_json::json!([{"accessKey": KEY, "secretKey": SECRET}]);
        let actions = ["Admin", "Read", "Write", "List", "Tagging"];
        let identity = serde_json::json!({"name": "shard", "credentials": credentials, "actions": actions});
        fs::write(&config, serde_json::json!({"identities": [identity]}).to_string())?;
        let [master, volume, filer, s3] = ports()?;
        let mut command = Command::new(tool("weed")?);
        command
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .args(["-volume.max=300", "-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=256", "-filer", "-s3"])
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.config={}", config.display()))
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        let child =
            command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = child.spawn()?;
        let mut store = Self { child, rclone: tool("rclone")?, endpoint: format!("http://127.0.0.1:{s3}") };
        let start = Instant::now();
        let is_ready = |store: &Self| {
            let mut made = store.rclone(&["mkdir", "--retries=1", "--low-level-retries=1"]);
            made.arg(store.remote(""))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|done| done.success())
        };
        while !is_ready(&store) {
            if start.elapsed() > PATIENCE || store.child.try_wait()?.is_some() {
                let log = fs::read_to_string(&log)?;
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                return Err(format!("{command:?} did not start:\n{}", tail.join("\n")).into());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(store)
    }

    /// The address of a folder in the bucket.
    pub(super) fn url(&self, name: &str) -> String {
        format!("s3://{BUCKET}/{name}")
    }

    /// The same as rclone calls it.
    pub(super) fn remote(&self, name: &str) -> String {
        format!("store:{BUCKET}/{name}")
    }

    /// shard, which finds the store.
    pub(super) fn shard(&self, dir: &Path) -> Command {
        let mut command = shard(dir);
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_REGION", "us-east-1");
        command.env("AWS_ENDPOINT_URL", &self.endpoint);
        // What is kept of buckets between commands is in the folder of the bench.
        command.env("XDG_CACHE_HOME", dir.join("cache"));
        command
    }

    /// rclone, which finds it.
    pub(super) fn rclone(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.rclone);
        command.args(["--config", ""]).args(args);
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "SeaweedFS"),
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
            ("ENDPOINT", &self.endpoint),
        ] {
            command.env(format!("RCLONE_CONFIG_STORE_{name}"), value);
        }
        command
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Four ports that are free, and so are those ten thousand above, which SeaweedFS listens at too.
fn ports() -> Result<[u16; 4], Failure> {
    let (mut held, mut found) = (Vec::new(), Vec::new());
    let mut port = 20_000 + u16::try_from(std::process::id() % 15_000)?;
    while found.len() < 4 && port < 45_000 {
        if let (Ok(one), Ok(other)) =
            (TcpListener::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port + 10_000)))
        {
            held.extend([one, other]);
            found.push(port);
        }
        port += 7;
    }
    found.try_into().map_err(|_| "too few ports are free".into())
}
