//! Collections, retention and protections: what whoever runs the repositories does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shard_core::NoProgress;
use shard_core::text::with_causes;
use shard_history::retention::{Period, Retention};
use shard_repo::{ForgetOptions, GcOptions, GcReport, Protection, RepoError};

use super::App;
use super::config::RetentionRule;
use super::reply::{Failed, Json, Read, blocking};
use super::repositories::{Asked, Open, ToAdmin, ToRead};

/// How long a collection that runs on schedule waits for writers.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long one that was asked for waits where nothing is said, and at most.
const WAIT: u64 = 60;
const MAX_WAIT: u64 = 3600;

/// How to collect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Collect {
    /// Whether it is only said what would be done.
    dry_run: bool,
    /// Whether also what only the logs of refs hold goes.
    prune_now: bool,
    /// Seconds to wait for writers that began before.
    wait: Option<u64>,
}

/// What a collection did, or would do.
#[derive(Debug, Serialize)]
pub(super) struct Collected {
    dry_run: bool,
    freed_bytes: u64,
    packs: u64,
    deleted_packs: u64,
    copied_bytes: u64,
    notes: Vec<String>,
}

fn options(open: &Open, wait: Duration) -> GcOptions {
    let usual = GcOptions::default();
    GcOptions { keep_reflog: open.rules.keep_reflog.unwrap_or(usual.keep_reflog), wait, ..usual }
}

/// Collects.
pub(super) async fn collect(
    State(app): State<Arc<App>>,
    asked: Asked<ToAdmin>,
    Read(how): Read<Collect>,
) -> Result<Json<Collected>, Failed> {
    let wait = how.wait.unwrap_or(WAIT);
    if wait > MAX_WAIT {
        return Err(Failed::malformed("a collection waits 3600 seconds at most"));
    }
    let open = Arc::clone(&asked.open);
    let options = options(&open, Duration::from_secs(wait));
    let options = if how.prune_now { options.prune_now() } else { options };
    blocking(move || {
        if how.dry_run {
            let plan = open.repository.plan_gc(&options)?;
            let deleted_packs = (plan.delete.len() + plan.rewrite.len()) as u64;
            let copied_bytes = plan.rewrite.iter().map(|pack| pack.needed).sum();
            let (freed_bytes, packs) = (plan.freed_bytes, plan.packs);
            return Ok(Json(Collected {
                dry_run: true,
                freed_bytes,
                packs,
                deleted_packs,
                copied_bytes,
                notes: Vec::new(),
            }));
        }
        let report = counted(&app, &open, open.repository.gc(&options, &NoProgress))?;
        Ok(Json(Collected {
            dry_run: false,
            freed_bytes: report.freed_bytes(),
            packs: report.plan.packs,
            deleted_packs: report.deleted_packs,
            copied_bytes: report.copied_bytes,
            notes: report.notes,
        }))
    })
    .await
}

fn counted(app: &App, open: &Open, outcome: Result<GcReport, RepoError>) -> Result<GcReport, RepoError> {
    open.stored.changed();
    match &outcome {
        Ok(report) => app.metrics.collected("done", report.freed_bytes()),
        Err(_) => app.metrics.collected("failed", 0),
    }
    outcome
}

/// Branches and tags that shall be, or are no more, protected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pattern {
    pattern: String,
}

/// A rule.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    pattern: String,
    matches: Vec<String>,
}

impl From<Protection> for Rule {
    fn from(Protection { pattern, matches }: Protection) -> Self {
        Self { pattern, matches }
    }
}

/// All rules.
#[derive(Debug, Serialize)]
pub(super) struct Rules {
    protections: Vec<Rule>,
}

/// Lists what is protected.
pub(super) async fn protections(asked: Asked<ToRead>) -> Result<Json<Rules>, Failed> {
    let rules = blocking(move || asked.open.repository.protections()).await?;
    Ok(Json(Rules { protections: rules.into_iter().map(Rule::from).collect() }))
}

/// Protects branches and tags.
pub(super) async fn protect(
    asked: Asked<ToAdmin>,
    Read(Pattern { pattern }): Read<Pattern>,
) -> Result<Json<Rule>, Failed> {
    let (rule, _) = blocking(move || asked.open.repository.protect(&pattern)).await?;
    Ok(Json(rule.into()))
}

/// Lifts a protection.
pub(super) async fn unprotect(
    asked: Asked<ToAdmin>,
    Read(Pattern { pattern }): Read<Pattern>,
) -> Result<Json<Rule>, Failed> {
    let pattern = blocking(move || asked.open.repository.unprotect(&pattern)).await?;
    Ok(Json(Rule { pattern, matches: Vec::new() }))
}

/// When each repository was collected last, as far as this process knows.
#[derive(Default)]
pub(super) struct Schedule(HashMap<String, Instant>);

impl Schedule {
    /// Collects, one after the other, the repositories whose time has come. The first time comes a whole period after the start.
    pub(super) fn run(&mut self, app: &App) {
        if app.repositories.rules().each().all(|rules| rules.gc_every.is_none()) {
            return;
        }
        for name in app.repositories.names() {
            let Some(every) = app.repositories.rules().of(&name).gc_every else { continue };
            let last = self.0.entry(name.clone()).or_insert_with(Instant::now);
            if last.elapsed() < every {
                continue;
            }
            *last = Instant::now();
            let outcome = app.repositories.find(&name).and_then(|open| tidy(app, &open));
            let about = match outcome {
                Ok(report) => {
                    json!({"repository": name, "freed_bytes": report.freed_bytes(), "deleted_packs": report.deleted_packs})
                }
                Err(error) => json!({"repository": name, "error": with_causes(&error)}),
            };
            app.log.line("collection", about);
        }
    }
}

/// Lets rules decide what stays of branches, and collects.
fn tidy(app: &App, open: &Open) -> Result<GcReport, RepoError> {
    for rule in open.rules.retention.iter().flatten() {
        let options = ForgetOptions { branch: Some(rule.branch.clone()), rules: retention(rule) };
        match open.repository.plan_forget(&options).and_then(|plan| open.repository.forget(plan)) {
            Ok(report) if report.old_head == report.new_head => {}
            Ok(report) => {
                let about = json!({"repository": open.name, "ref": report.ref_name, "dropped": report.dropped()});
                app.log.line("retention", about);
            }
            // A branch that is not there, or moved meanwhile, keeps nothing else from being collected.
            Err(error) => {
                let about = json!({"repository": open.name, "branch": rule.branch, "error": with_causes(&error)});
                app.log.line("retention", about);
            }
        }
    }
    counted(app, open, open.repository.gc(&options(open, PATIENCE), &NoProgress))
}

fn retention(rule: &RetentionRule) -> Retention {
    let periods = [
        (Period::Hour, rule.keep_hourly),
        (Period::Day, rule.keep_daily),
        (Period::Week, rule.keep_weekly),
        (Period::Month, rule.keep_monthly),
        (Period::Year, rule.keep_yearly),
    ];
    Retention {
        last: rule.keep_last,
        periods: periods.into_iter().filter(|(_, count)| *count > 0).collect(),
        tagged: rule.keep_tagged,
        best: Vec::new(),
    }
}
