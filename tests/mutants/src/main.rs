//! Tests of the tests: breaks one rule of the protocol at a time, on purpose, in a copy of its source, and expects that the
//! tests of the protocol notice: first the random histories, and if those do not, the stories.
//!
//! - M1: what is to be replaced occurs once, and what comes out compiles: a change of the protocol that moves a rule fails here.
//! - M2: without a mutation the same tests pass.
//! - M3: a mutation that nobody notices is a failure.
//!
//! `cargo run -p metropod-mutants [-- FIRST/OF]` runs all, or of each OF mutations the FIRST one (counted from 0); with `model` before
//! the share it is the model checker that has to notice (model.rs).

mod model;
mod rules;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use rules::{MUTATIONS, Mutation};

/// Random histories per mutation.
const SEEDS: &str = "3000";

/// A run that takes longer is ended. That is no notice: it may be the machine that is slow.
const PATIENCE: Duration = Duration::from_secs(600);

const RANDOM: &[&str] = &["pair"];
const STORIES: &[&str] = &[
    "stories_elect",
    "stories_join",
    "stories_leave",
    "stories_order",
    "stories_right",
    "stories_switch",
    "forecast",
    "mediator",
];

fn main() -> ExitCode {
    let first = env::args().nth(1);
    let noticed = match first.as_deref() {
        Some("model") => model::run(env::args().nth(2).as_deref()),
        share => run(share),
    };
    match noticed {
        Ok(unnoticed) if unnoticed.is_empty() => ExitCode::SUCCESS,
        Ok(unnoticed) => {
            eprintln!("nobody noticed: {unnoticed:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(argument: Option<&str>) -> Result<Vec<&'static str>, String> {
    let (first, of) = share(argument)?;
    let tree =
        Tree::make(&["engine/protocol"]).map_err(|error| format!("a copy of the protocol: {error}"))?;
    tree.build()?;
    for tests in [RANDOM, STORIES] {
        if let Some(failed) = tree.test(tests)? {
            return Err(format!("without a mutation: {failed}"));
        }
    }
    let mut unnoticed = Vec::new();
    let chosen = MUTATIONS.iter().skip(first).step_by(of);
    let count = chosen.clone().count();
    for mutation in chosen {
        let began = Instant::now();
        tree.apply(mutation)?;
        tree.build()?;
        let noticed = match tree.test(RANDOM)? {
            Some(failed) => Some(failed),
            None => tree.test(STORIES)?,
        };
        tree.restore(mutation)?;
        let said = noticed.as_deref().unwrap_or("NOT NOTICED");
        println!("{:5.1} s  {}: {said}", began.elapsed().as_secs_f64(), mutation.name);
        if noticed.is_none() {
            unnoticed.push(mutation.name);
        }
    }
    println!("{} of {count} mutations noticed", count - unnoticed.len());
    Ok(unnoticed)
}

/// Which mutations are run.
fn share(argument: Option<&str>) -> Result<(usize, usize), String> {
    let Some(text) = argument else { return Ok((0, 1)) };
    let parts = text.split_once('/').and_then(|(first, of)| Some((first.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((first, of)) if of > 0 && first < of => Ok((first, of)),
        _ => Err(format!("{text:?} is no share; give one such as 0/3")),
    }
}

/// A workspace of the protocol, and perhaps the model, alone.
struct Tree {
    root: PathBuf,
    /// Where the pieces come from.
    original: PathBuf,
}

impl Tree {
    fn make(members: &[&str]) -> io::Result<Tree> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let root = target.join("mutants/tree");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
        fs::write(root.join("Cargo.toml"), alone(&manifest, members))?;
        fs::copy(workspace.join("Cargo.lock"), root.join("Cargo.lock"))?;
        let original = workspace.join("engine/protocol");
        for member in members {
            copy(&workspace.join(member), &root.join(member))?;
        }
        Ok(Tree { root, original: original.join("src") })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join("engine/protocol/src").join(name)
    }

    /// M1.
    fn apply(&self, mutation: &Mutation) -> Result<(), String> {
        for (name, from, to) in mutation.edits {
            let path = self.file(name);
            let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            if text.matches(from).count() != 1 {
                return Err(format!("{}: {name} does not hold this once: {from}", mutation.name));
            }
            fs::write(&path, text.replacen(from, to, 1)).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    fn restore(&self, mutation: &Mutation) -> Result<(), String> {
        for (name, ..) in mutation.edits {
            let text = fs::read(self.original.join(name));
            let written = text.and_then(|text| fs::write(self.file(name), text));
            written.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    fn cargo(&self, tests: &[&str]) -> Command {
        let mut cargo = self.command(&["test", "--offline", "--quiet", "-p", "metropod-protocol"]);
        for test in tests {
            cargo.args(["--test", test]);
        }
        cargo.env("METROPOD_SEEDS", SEEDS).env_remove("METROPOD_SEED");
        cargo
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).args(arguments).env("CARGO_TARGET_DIR", self.target());
        cargo.env("RUSTFLAGS", "-Awarnings").stdin(Stdio::null());
        cargo
    }

    fn target(&self) -> PathBuf {
        self.root.with_file_name("target")
    }

    fn build(&self) -> Result<(), String> {
        let tests: Vec<&str> = RANDOM.iter().chain(STORIES).copied().collect();
        let built = self.cargo(&tests).arg("--no-run").output();
        let built = built.map_err(|error| format!("cargo: {error}"))?;
        match built.status.success() {
            true => Ok(()),
            false => Err(format!("it does not compile: {}", String::from_utf8_lossy(&built.stderr))),
        }
    }

    /// What noticed something, if anything did.
    fn test(&self, tests: &[&str]) -> Result<Option<String>, String> {
        let said = self.root.join("said");
        let file = fs::File::create(&said).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = file.map_err(|error| format!("{}: {error}", said.display()))?;
        let child = self.cargo(tests).process_group(0).stdout(out).stderr(err).spawn();
        let mut child = child.map_err(|error| format!("cargo: {error}"))?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| format!("cargo: {error}"))? {
                Some(status) => break Some(status),
                None if began.elapsed() > PATIENCE => break None,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let Some(status) = status else {
            // The tests it runs with it.
            let group = format!("-{}", child.id());
            let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
            killed.and_then(|_| child.wait()).map_err(|error| format!("ending {tests:?}: {error}"))?;
            return Err(format!("{tests:?} does not end"));
        };
        let text = fs::read(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        Ok((!status.success()).then(|| reason(&String::from_utf8_lossy(&text))))
    }
}

/// The first panic, in short.
fn reason(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    let test = lines.next().and_then(|line| line.split('\'').nth(1)).unwrap_or("a test");
    let what = lines.next().unwrap_or("failed");
    let what = what.split_once(": seed ").map_or(what, |(what, _)| what);
    format!("{test}: {what}")
}

/// The workspace's manifest with these members only.
fn alone(manifest: &str, members: &[&str]) -> String {
    let mut kept = String::new();
    let mut skipping = false;
    for line in manifest.lines() {
        if line.starts_with("members = [") {
            kept.push_str(&format!("members = {members:?}\n"));
            skipping = !line.ends_with(']');
        } else if skipping {
            skipping = line != "]";
        } else if !line.starts_with("default-members") && !line.starts_with("exclude") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
