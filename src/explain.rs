//! What is told about an upgrade: what it would do, how far it is, why it is not progressing. Pure, like [`plan`],
//! which decides and knows nothing of this.
//!
//! [`plan`]: crate::plan

pub mod attention;
pub mod change;
pub mod fleet;
pub mod obstacles;
pub mod preview;
pub mod progress;
pub mod risk;
pub(crate) mod schema;
pub mod skew;
pub mod standstills;
pub mod view;
pub mod why;
pub mod window;
