//! Clients of a running array: its REST API, and its volumes over NBD.

pub mod lifecycle;
pub mod nbd;
pub mod rest;
