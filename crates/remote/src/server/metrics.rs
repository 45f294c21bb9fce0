//! Numbers for Prometheus.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The type of the answer.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of times, in seconds.
const SECONDS: [f64; 11] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// What is counted.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    bytes_in: Family<OfRoute, Counter>,
    bytes_out: Family<OfRoute, Counter>,
    seconds: Family<OfRoute, Histogram>,
    /// Requests that are being answered.
    pub(super) under_way: Gauge,
    /// Connections.
    pub(super) connections: Gauge,
    /// Pushes that have begun and are not over.
    pub(super) pushes: Gauge,
    /// Refs that were moved.
    pub(super) moved: Counter,
    webhooks: Family<Ended, Counter>,
    collections: Family<Ended, Counter>,
    freed: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut new = Self {
            registry: Registry::with_prefix("shard"),
            requests: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            under_way: Gauge::default(),
            connections: Gauge::default(),
            pushes: Gauge::default(),
            moved: Counter::default(),
            webhooks: Family::default(),
            collections: Family::default(),
            freed: Counter::default(),
        };
        let registry = &mut new.registry;
        registry.register("requests", "Requests that were answered", new.requests.clone());
        registry.register_with_unit("request", "Bytes of bodies that arrived", Unit::Bytes, new.bytes_in.clone());
        registry.register_with_unit("response", "Bytes of bodies that were sent", Unit::Bytes, new.bytes_out.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the end of its answer",
            Unit::Seconds,
            new.seconds.clone(),
        );
        registry.register("requests_under_way", "Requests that are being answered", new.under_way.clone());
        registry.register("connections", "Open connections", new.connections.clone());
        registry.register("pushes_under_way", "Pushes that are not over", new.pushes.clone());
        registry.register("refs_moved", "Branches and tags that were moved", new.moved.clone());
        registry.register("webhooks", "Webhooks, by what became of them", new.webhooks.clone());
        registry.register("collections", "Collections, by what became of them", new.collections.clone());
        registry.register_with_unit("collected", "Bytes that collections gave back", Unit::Bytes, new.freed.clone());
        new
    }

    pub(super) fn answered(&self, request: &super::observe::Finished<'_>) {
        let route = || OfRoute { route: request.route.to_owned() };
        let method = request.method;
        let answered = Answered { route: request.route.to_owned(), method, status: u32::from(request.status) };
        self.requests.get_or_create(&answered).inc();
        self.bytes_in.get_or_create(&route()).inc_by(request.bytes_in);
        self.bytes_out.get_or_create(&route()).inc_by(request.bytes_out);
        self.seconds.get_or_create(&route()).observe(request.took.as_secs_f64());
    }

    pub(super) fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&Ended { outcome }).inc();
    }

    pub(super) fn collected(&self, outcome: &'static str, freed: u64) {
        self.collections.get_or_create(&Ended { outcome }).inc();
        self.freed.inc_by(freed);
    }

    /// All of them.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a text fails never.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// A gauge that is one higher as long as this is there.
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
