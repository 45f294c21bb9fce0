//! The store as a whole.

mod basics;
