//! A directory of a real file system as media.
