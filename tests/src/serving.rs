//! `shard serve` under way, to be killed and started again at the same address.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use crate::process::Shard;

/// A server of all repositories in a folder. It is killed when this is dropped.
pub struct Serving {
    shard: Shard,
    child: Child,
    address: SocketAddr,
}

impl Serving {
    /// Serves the repositories in the folder that `shard` is run in, on a free port of this machine.
    #[must_use]
    pub fn start(shard: &Shard) -> Self {
        let (child, address) = serve(shard, "127.0.0.1:0");
        Self { shard: shard.clone(), child, address }
    }

    /// The address of one of the repositories.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same address, after it was killed.
    pub fn restart(&mut self) {
        self.kill();
        self.child = serve(&self.shard, &self.address.to_string()).0;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(shard: &Shard, listen: &str) -> (Child, SocketAddr) {
    let mut command = shard.command(&["--json", "serve", "--listen", listen]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // One document, and then no more: its reader must not wait for the end.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut told, mut address) = (String::new(), None);
    for line in lines {
        told.push_str(&line);
        if let Ok(told) = serde_json::from_str::<serde_json::Value>(&told) {
            address = told["address"].as_str().and_then(|address| address.parse().ok());
            break;
        }
    }
    match address {
        Some(address) => (child, address),
        None => panic!("the server does not say where it listens: {told:?}, {:?}", child.wait()),
    }
}
