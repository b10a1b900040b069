//! One array as a process, its volumes, and what they hold.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::contents::BLOCK_BYTES;
use crate::drive::Driven;
use crate::ledger::Ledger;
use crate::pair::{POD, start_alone};
use crate::plan::{Kind, Plan};
use crate::process::Process;

/// An array without a peer, with the pod `pod1`.
pub(super) struct Site {
    pub process: Process,
    pub directory: PathBuf,
    home: PathBuf,
    journal_mib: u64,
    capacity_bytes: Option<u64>,
    ledgers: BTreeMap<String, Ledger>,
    /// The volume whose ledger the file for reads holds, as it is now: no file is written while reads are timed.
    saved: Option<String>,
}

impl Site {
    pub(super) fn start(home: &Path, journal_mib: u64) -> io::Result<Site> {
        Site::start_within(home, journal_mib, None)
    }

    /// The same with a bound on what its chunks may take.
    pub(super) fn start_within(
        home: &Path,
        journal_mib: u64,
        capacity_bytes: Option<u64>,
    ) -> io::Result<Site> {
        let directory = home.join("array");
        let mut process = start_alone(&directory, journal_mib, capacity_bytes)?;
        process.ask(&format!("create-pod {POD}"))?;
        Ok(Site {
            process,
            directory,
            home: home.to_owned(),
            journal_mib,
            capacity_bytes,
            ledgers: BTreeMap::new(),
            saved: None,
        })
    }

    /// Makes a volume of so many blocks whose first `used` units are written to; gives its name.
    pub(super) fn create_volume(
        &mut self,
        name: &str,
        blocks: u64,
        unit_bytes: u64,
        used: u64,
    ) -> io::Result<String> {
        let volume = format!("{POD}::{name}");
        self.process.ask(&format!("create-volume {volume} {blocks}"))?;
        self.ledgers.insert(volume.clone(), Ledger::new(unit_bytes, used));
        Ok(volume)
    }

    /// The same where all of it is written to, by blocks.
    pub(super) fn create_full_volume(&mut self, name: &str, blocks: u64) -> io::Result<String> {
        self.create_volume(name, blocks, BLOCK_BYTES as u64, blocks)
    }

    /// Makes a pod and in it a volume; gives its name.
    pub(super) fn create_pod_with_volume(
        &mut self,
        pod: &str,
        name: &str,
        blocks: u64,
    ) -> io::Result<String> {
        let volume = format!("{pod}::{name}");
        self.process.ask(&format!("create-pod {pod}"))?;
        self.process.ask(&format!("create-volume {volume} {blocks}"))?;
        self.ledgers.insert(volume.clone(), Ledger::new(BLOCK_BYTES as u64, blocks));
        Ok(volume)
    }

    /// Clones a volume; the clone is compared with what its source holds now.
    pub(super) fn clone_volume(&mut self, source: &str, name: &str) -> io::Result<()> {
        self.process.ask(&format!("clone {source} {name}"))?;
        let ledger = self.ledgers.get(source).ok_or_else(|| io::Error::other("no such volume"))?.clone();
        self.ledgers.insert(name.to_owned(), ledger);
        Ok(())
    }

    /// Does a plan; what it wrote is remembered, and what it reads is compared.
    pub(super) fn drive(&mut self, plan: &Plan) -> io::Result<Driven> {
        let mut plan = plan.clone();
        let ledger = self.ledgers.get_mut(&plan.volume).ok_or_else(|| io::Error::other("no such volume"))?;
        if plan.kind == Kind::Read {
            let path = self.home.join("ledger-of-reads");
            if self.saved.as_ref() != Some(&plan.volume) {
                ledger.save(&path)?;
                self.saved = Some(plan.volume.clone());
            }
            plan.ledger = Some(path);
        }
        let answer = self.process.ask(&format!("drive {}", serde_json::to_string(&plan)?))?;
        let driven = Driven::decode(&answer)?;
        if plan.kind == Kind::Write {
            ledger.apply(&plan, &driven.completed);
            self.saved = None;
        }
        Ok(driven)
    }

    /// Sends a plan whose end is taken later.
    pub(super) fn begin(&mut self, plan: &Plan) -> io::Result<()> {
        self.process.send(&format!("drive-beside {}", serde_json::to_string(plan)?))?;
        self.process.answer("drive-beside").map(drop)
    }

    /// Whether the plan that was begun has ended.
    pub(super) fn is_ended(&mut self) -> io::Result<bool> {
        Ok(self.process.ask("is-driven")? == "true")
    }

    /// Waits for the plan that was begun.
    pub(super) fn end(&mut self, plan: &Plan) -> io::Result<Driven> {
        let driven = Driven::decode(&self.process.ask("driven")?)?;
        if let Some(ledger) = self.ledgers.get_mut(&plan.volume) {
            ledger.apply(plan, &driven.completed);
            self.saved = None;
        }
        Ok(driven)
    }

    /// What the process used and the array holds.
    pub(super) fn usage(&mut self) -> io::Result<Value> {
        Ok(serde_json::from_str(&self.process.ask("usage")?)?)
    }

    /// Reads back everything; gives the number of blocks compared.
    pub(super) fn check(&mut self) -> io::Result<u64> {
        let volumes: Vec<String> = self.ledgers.keys().cloned().collect();
        volumes.iter().map(|volume| self.check_volume(volume)).sum()
    }

    /// The same of one volume.
    pub(super) fn check_volume(&mut self, volume: &str) -> io::Result<u64> {
        let ledger = self.ledgers.get(volume).ok_or_else(|| io::Error::other("no such volume"))?;
        let path = self.home.join("ledger");
        ledger.save(&path)?;
        let answer = self.process.ask(&format!("check-ledger {volume} {}", path.display()))?;
        answer.parse().map_err(io::Error::other)
    }

    /// `kill -9`, and opens it again.
    pub(super) fn kill_and_reopen(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.reopen()
    }

    /// Ends the process after a last checkpoint, and opens the array again: nothing is in its memory.
    pub(super) fn close_and_reopen(&mut self) -> io::Result<()> {
        self.process.ask("close")?;
        self.process.kill()?;
        self.reopen()
    }

    /// Starts a process on the directory again.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.process = start_alone(&self.directory, self.journal_mib, self.capacity_bytes)?;
        Ok(())
    }
}
