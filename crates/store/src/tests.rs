//! The store as a whole.

mod basics;
mod collection;
mod corruption;
mod failures;
mod power;
mod races;
