//! The store as a whole.

mod basics;
mod collection;
mod corruption;
mod failures;
mod far;
mod golden;
mod one_form;
mod power;
mod races;
