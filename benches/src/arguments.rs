//! Command lines of the benchmark programs: `--name value` pairs and `--json`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// What was asked for.
#[derive(Debug)]
pub struct Arguments {
    values: BTreeMap<String, String>,
    /// Figures for machines instead of a table.
    pub json: bool,
}

impl Arguments {
    /// Reads this process's command line; `known` are the names that take a value.
    pub fn read(known: &[&str]) -> io::Result<Arguments> {
        let mut arguments = Arguments { values: BTreeMap::new(), json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some("json") => arguments.json = true,
                Some("bench") => {} // cargo adds it
                Some(name) if name == "dir" || known.contains(&name) => {
                    let value = words.next();
                    let value = value.ok_or_else(|| io::Error::other(format!("{word} needs a value")))?;
                    arguments.values.insert(name.to_owned(), value);
                }
                _ => {
                    let known: Vec<String> = known.iter().map(|name| format!("--{name} VALUE")).collect();
                    let usage = format!("{word}? use --json, --dir DIRECTORY, {}", known.join(", "));
                    return Err(io::Error::other(usage));
                }
            }
        }
        Ok(arguments)
    }

    /// A value, or the default.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> io::Result<T> {
        match self.values.get(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| io::Error::other(format!("--{name} {value}?"))),
        }
    }

    /// A temporary directory in `--dir` or the current directory: a real disk, not a tmpfs.
    pub fn directory(&self) -> io::Result<tempfile::TempDir> {
        let parent: PathBuf = match self.values.get("dir") {
            Some(directory) => directory.into(),
            None => std::env::current_dir()?,
        };
        tempfile::Builder::new().prefix("metropod-bench-").tempdir_in(parent)
    }
}
