//! Rounds between two small arrays in memory.

mod codec;
mod faults;
mod hostile;
mod model;
mod random;
mod rig;
mod rounds;
