//! What is known about codes: the embedded rules, an operator's overrides, and the look-ups over them.

pub mod rule;
