//! `shard leases`

use serde_json::{Value, json};
use shard_repo::{Holding, LeaseInfo};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// List who is at work in the repository, or break leases that nobody holds any more
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove these leases, by name or first digits: only where their holders are not at work, which nobody checks
    #[arg(long = "break", value_name = "LEASE", num_args = 1..)]
    broken: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.damaged_repository()?;
    if args.broken.is_empty() {
        let leases = repository.leases()?;
        if context.ui.json {
            context.ui.print_json(&json!({"leases": leases.iter().map(to_json).collect::<Vec<_>>()}))?;
        } else {
            context.ui.print(&to_text(&leases, context))?;
        }
        return Ok(code::DONE);
    }
    let mut broken = Vec::new();
    for name in &args.broken {
        broken.push(repository.break_lease(name)?);
    }
    if context.ui.json {
        context.ui.print_json(&json!({"broken": broken.iter().map(to_json).collect::<Vec<_>>()}))?;
    } else {
        for info in &broken {
            context.ui.inform(&format!("Broke {}\n", info.name))?;
        }
    }
    Ok(code::DONE)
}

fn name(holding: Holding) -> &'static str {
    match holding {
        Holding::AtWork => "at work",
        Holding::Gone => "gone",
        Holding::Unknown => "unknown",
    }
}

fn to_text(leases: &[LeaseInfo], context: &Context) -> String {
    let mut table = Table::new(&["lease", "what", "process", "host", "since", "holder"]);
    for info in leases {
        let holder =
            Cell::new(name(info.holding), if info.holding == Holding::AtWork { Style::Plain } else { Style::Yellow });
        let Some(lease) = &info.lease else {
            let cannot = Cell::new("cannot be read", Style::Red);
            table.row(vec![Cell::new(&info.name, Style::Cyan), cannot, "".into(), "".into(), "".into(), holder]);
            continue;
        };
        table.row(vec![
            Cell::new(&lease.nonce.to_hex()[..12], Style::Cyan),
            lease.purpose.as_str().into(),
            lease.process.pid.to_string().into(),
            lease.process.host.as_str().into(),
            lease.created_at.as_str().into(),
            holder,
        ]);
    }
    context.ui.table(&table)
}

fn to_json(info: &LeaseInfo) -> Value {
    let lease = info.lease.as_ref();
    json!({
        "name": info.name,
        "nonce": lease.map(|lease| lease.nonce.to_hex()),
        "purpose": lease.map(|lease| lease.purpose.clone()),
        "claim": lease.is_some_and(shard_store::lease::Lease::is_claim),
        "host": lease.map(|lease| lease.process.host.clone()),
        "process": lease.map(|lease| lease.process.pid),
        "created_at": lease.map(|lease| lease.created_at.clone()),
        "holder": name(info.holding),
    })
}
