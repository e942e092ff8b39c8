//! Makes families, each registered where a scrape finds it.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{IntCounter, IntGauge, Registry};

use super::table::{Clock, Fold, Shape, Table};

pub const COUNTER: MetricType = MetricType::COUNTER;

/// Tables whose labels are closed sets have no limit of their own.
pub const CLOSED: usize = usize::MAX;

/// Registers families while the list of them is made.
pub struct Builder {
    pub hold: Duration,
    pub clock: Clock,
    pub tables: Vec<Arc<Table>>,
    pub registry: Registry,
}

/// The labels of a family and its bounds.
pub type Labels = &'static [&'static str];
pub type Bounds = (usize, &'static [Fold]);

/// No limit: the labels are closed sets.
pub const CLOSED_SETS: Bounds = (CLOSED, &[]);

impl Builder {
    pub fn add(&mut self, shape: Shape) -> Arc<Table> {
        let table = Arc::new(Table::new(shape, self.hold, self.clock));
        self.tables.push(Arc::clone(&table));
        table
    }

    pub fn table(
        &mut self,
        kind: MetricType,
        name: &'static str,
        labels: Labels,
        (limit, folds): Bounds,
        help: &'static str,
    ) -> Arc<Table> {
        let identity = labels.len();
        self.add(Shape { name, help, labels, identity, kind, limit, folds, holds: false })
    }

    /// A counter whose new series are shown at 0 first.
    pub fn held(
        &mut self,
        name: &'static str,
        labels: Labels,
        (limit, folds): Bounds,
        help: &'static str,
    ) -> Arc<Table> {
        let identity = labels.len();
        self.add(Shape { name, help, labels, identity, kind: COUNTER, limit, folds, holds: true })
    }

    pub fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry.register(Box::new(collector.clone())).expect("every metric is registered once");
        collector
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("the name is well formed"))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect("the name is well formed"))
    }
}
