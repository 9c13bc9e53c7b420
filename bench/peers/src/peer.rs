//! One peer at a time, chosen by a feature of the build.

#[cfg(feature = "kv-index")]
#[path = "kv_index.rs"]
mod chosen;
#[cfg(feature = "smg-radix-tree")]
#[path = "smg_radix_tree.rs"]
mod chosen;
#[cfg(feature = "dynamo-kv-router")]
#[path = "dynamo.rs"]
mod chosen;

pub use chosen::{chain, own, Chain, Peer};
