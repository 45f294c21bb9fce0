//! `shard serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use shard_remote::{Served, Server, ServerOptions};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::text::visible;

/// Serve repositories over HTTP: push, fetch and clone at http://ADDRESS/NAME
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder whose repositories are served, each by its name in it
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Serve the repository of the folder itself, at http://ADDRESS
    #[arg(long)]
    local: bool,
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8460")]
    listen: SocketAddr,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let system = |doing, error: &std::io::Error| Failure::io(&args.folder, doing, error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| system("cannot start to serve", &error))?;
    let folder = args.folder.clone();
    let served = if args.local { Served::One(folder) } else { Served::All(folder) };
    runtime.block_on(async {
        let server = Server::bind(args.listen, ServerOptions::new(served, context.settings)).await?;
        let address = server.address().map_err(|error| system("cannot tell where it listens", &error))?;
        if context.ui.json {
            context.ui.print_json(&json!({"address": address.to_string()}))?;
        } else {
            let name = if args.local { "" } else { "/NAME" };
            context
                .ui
                .print(&format!("Serving {} at http://{address}{name}\n", visible(&args.folder.to_string_lossy())))?;
        }
        server.run(stop()).await;
        Ok(code::DONE)
    })
}

/// Over when the process is told to stop.
async fn stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
