//! Shared parts of the benchmark programs: seeded data, peers to compare with, arrays as processes, figures.
//!
//! Every program runs its variants side by side in alternating rounds, checks the bytes it wrote and states its setting.

pub mod arguments;
pub mod array_process;
pub mod chance;
pub mod clock;
pub mod cold;
pub mod contents;
pub mod counted_nodes;
pub mod drive;
pub mod experiment;
pub mod figures;
pub mod filters;
pub mod fio;
pub mod group_commit;
pub mod image;
pub mod images;
pub mod latency;
pub mod ledger;
pub mod load;
pub mod many_chunks;
pub mod mark;
pub mod memory;
pub mod pair;
pub mod park;
pub mod plain_reads;
pub mod plan;
pub mod process;
pub mod proxy;
pub mod report;
pub mod rsync;
pub mod setting;
pub mod tape;
pub mod twin;
pub mod usage;
pub mod work;
