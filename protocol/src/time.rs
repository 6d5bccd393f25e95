//! The one representation of a moment.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z. Platforms' other units are converted once, where a row is
/// normalised; an unknown time is `None`, never "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// 2016-01-01T00:00:00Z: nothing that is captured is older, so an older time is a misread unit.
    pub const EARLIEST: UnixMs = UnixMs(1_451_606_400_000);

    /// The moment as milliseconds since the epoch.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.0
    }
}
