//! The mapping as one would write it by hand: typed structs for serde, and the records out of them.
//!
//! It gives the same records for the bodies of this benchmark. What the jq mapping has besides, it has not: a row of an
//! unexpected type fails its whole body here, nothing bounds texts, depth or time, and no reason is told.

mod demo;
mod douyin;
mod scalars;

pub(crate) use self::demo::comments as demo_comments;
pub(crate) use self::douyin::{comments as douyin_comments, works as douyin_works};
