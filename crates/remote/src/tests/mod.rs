//! A real server, and clients of it.

mod access;
mod bench;
mod care;
mod exchange;
mod files;
mod hostile;
mod observed;
mod plain;
mod tls;
