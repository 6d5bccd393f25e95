//! Figures beyond those that every platform has, by the platform's own names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most figures of one record.
pub const METRICS_MAX: usize = 64;
/// The longest name of a figure, in bytes.
pub const METRIC_NAME_BYTES_MAX: usize = 64;

/// Figures by name: at most [`METRICS_MAX`], each a finite number under a name of 1 to [`METRIC_NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct Metrics(BTreeMap<String, f64>);

/// Finite numbers all equal themselves.
impl Eq for Metrics {}

/// Why a figure is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// Its name is empty, too long, or holds control characters.
    #[error("a metric's name has 1 to {METRIC_NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// It is not a number that can be compared.
    #[error("a metric is a finite number")]
    NotFinite,
    /// There are too many.
    #[error("a record has at most {METRICS_MAX} metrics")]
    TooMany,
}

impl Metrics {
    /// Sets a figure, in place of an earlier one of its name.
    ///
    /// # Errors
    /// [`MetricsError`], and nothing is set.
    pub fn insert(&mut self, name: String, figure: f64) -> Result<(), MetricsError> {
        if name.is_empty() || name.len() > METRIC_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(MetricsError::Name);
        }
        if !figure.is_finite() {
            return Err(MetricsError::NotFinite);
        }
        if self.0.len() >= METRICS_MAX && !self.0.contains_key(&name) {
            return Err(MetricsError::TooMany);
        }
        // Adding zero turns -0 into 0: equal figures have equal bytes.
        self.0.insert(name, figure + 0.0);
        Ok(())
    }

    /// The figure of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Every figure, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, figure)| (name.as_str(), *figure))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the figures of `newer`; others stay. New names for which there is no room are left out.
    pub(super) fn merge(&mut self, newer: Self) {
        for (name, figure) in newer.0 {
            if self.0.len() < METRICS_MAX || self.0.contains_key(&name) {
                self.0.insert(name, figure);
            }
        }
    }
}

impl TryFrom<BTreeMap<String, f64>> for Metrics {
    type Error = MetricsError;

    fn try_from(figures: BTreeMap<String, f64>) -> Result<Self, MetricsError> {
        let mut metrics = Self::default();
        for (name, figure) in figures {
            metrics.insert(name, figure)?;
        }
        Ok(metrics)
    }
}

impl From<Metrics> for BTreeMap<String, f64> {
    fn from(metrics: Metrics) -> Self {
        metrics.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[(&str, f64)]) -> Metrics {
        let figures: BTreeMap<_, _> =
            figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect();
        Metrics::try_from(figures).unwrap()
    }

    #[test]
    fn newer_figures_win_others_stay_and_no_more_than_the_bound_are_kept() {
        let mut old = of(&[("rate", 0.4), ("seconds", 12.5)]);
        old.merge(of(&[("rate", 0.5), ("bounce", 0.1)]));
        assert_eq!(old, of(&[("bounce", 0.1), ("rate", 0.5), ("seconds", 12.5)]));
        let mut full = Metrics::default();
        for number in 0..METRICS_MAX {
            full.insert(format!("n{number:02}"), number as f64).unwrap();
        }
        assert_eq!(full.insert("one-more".to_owned(), 1.0), Err(MetricsError::TooMany));
        full.merge(of(&[("n00", 7.0), ("one-more", 1.0)]));
        assert_eq!((full.len(), full.get("n00"), full.get("one-more")), (METRICS_MAX, Some(7.0), None));
    }

    #[test]
    fn only_finite_figures_with_a_name_are_taken() {
        let mut metrics = Metrics::default();
        for name in ["", "a\u{0}", &"x".repeat(METRIC_NAME_BYTES_MAX + 1)] {
            assert_eq!(metrics.insert(name.to_owned(), 1.0), Err(MetricsError::Name));
        }
        for figure in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(metrics.insert("x".to_owned(), figure), Err(MetricsError::NotFinite));
        }
        assert!(metrics.is_empty());
        metrics.insert("zero".to_owned(), -0.0).unwrap();
        assert!(metrics.get("zero").unwrap().is_sign_positive());
        assert!(serde_json::from_str::<Metrics>(r#"{"x": "1"}"#).is_err());
    }
}
