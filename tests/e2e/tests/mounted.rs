//! Kernel file systems on a volume: the array is killed under them, and nothing that was synced is lost.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metropod_e2e::{
    Array, Attached, Dice, FileSystem, Scratch, require_tools, run_ok, scratch, setting, wait_until,
};

const VOLUME_BYTES: u64 = 512 << 20;
/// Files of the tree that is committed.
const TREE_FILES: u64 = 1000;
/// Names that the host without syncs writes again and again.
const CHURN_FILES: u64 = 100;
/// Files synced before the snapshot, and again before the kill.
const SYNCED_FILES: usize = 20;
const WAIT: Duration = Duration::from_secs(30);

/// Checksums by path.
type Sums = BTreeMap<PathBuf, u32>;

#[test]
fn ext4_keeps_all_that_was_synced_when_its_array_is_killed() {
    let scratch = scratch!("mounted-ext4");
    survive(&scratch, FileSystem::Ext4);
}

#[test]
fn xfs_keeps_all_that_was_synced_when_its_array_is_killed() {
    let scratch = scratch!("mounted-xfs");
    survive(&scratch, FileSystem::Xfs);
}

/// Rounds: `METROPOD_ROUNDS`.
fn survive(scratch: &Scratch, kind: FileSystem) {
    require_tools(&[("git", "git"), ("gcc", "gcc")]);
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["disk"], VOLUME_BYTES);
    let mut attached = Attached::attach(scratch, kind, &array, "pod1::disk");
    attached.make();
    let mut kept = build(attached.mount());
    let rounds = setting("METROPOD_ROUNDS", 1);
    for round in 0..rounds {
        let mount = scratch.join("mount");
        let hosts = Hosts::start(&mount, round);
        hosts.wait_for(SYNCED_FILES);
        let mut in_snapshot = kept.clone();
        in_snapshot.extend(hosts.synced());
        array.cli(&["snapshot", "create", "pod1::disk", "--suffix", &format!("s{round}")]);
        hosts.wait_for(2 * SYNCED_FILES);
        array.kill9();
        kept.extend(hosts.stop());
        drop(attached);

        array.restart();
        let (source, clone) = (format!("pod1::disk.s{round}"), format!("pod1::clone{round}"));
        array.cli(&["volume", "copy", &source, &clone]);
        verify(scratch, kind, &array, &clone, &in_snapshot).detach();
        attached = verify(scratch, kind, &array, "pod1::disk", &kept);
        attached.mount();
        println!("{}, round {round}: {} files as they were synced", kind.name(), kept.len());
    }
    attached.unmount();
    attached.detach();
}

/// Attaches and mounts a volume after a crash: it holds `sums`, and is a file system without fault.
fn verify(scratch: &Scratch, kind: FileSystem, array: &Array, volume: &str, sums: &Sums) -> Attached {
    let attached = Attached::attach(scratch, kind, array, volume);
    let mount = attached.mount();
    for (path, sum) in sums {
        let found = fs::read(mount.join(path)).unwrap_or_else(|error| panic!("{volume}: {path:?}: {error}"));
        assert_eq!(crc32c::crc32c(&found), *sum, "{volume}: {path:?} is not as it was synced");
    }
    git(mount, &["fsck", "--full", "--strict"]);
    assert_eq!(run_ok(&mount.join("program").display().to_string(), &[]).trim(), "45");
    attached.unmount();
    attached.check();
    attached
}

/// Commits a tree of sources and compiles them; gives the checksums of all that is there after a sync.
fn build(mount: &Path) -> Sums {
    let mut dice = Dice::new(7);
    for number in 0..TREE_FILES {
        let directory = mount.join(format!("tree/{}", number % 20));
        fs::create_dir_all(&directory).unwrap();
        let body = content(&mut dice);
        fs::write(directory.join(number.to_string()), body).unwrap();
    }
    let parts = 0..10;
    let mut sources = Vec::new();
    let mut main = "#include <stdio.h>\n".to_owned();
    for part in parts.clone() {
        let path = mount.join(format!("part{part}.c"));
        fs::write(&path, format!("int part{part}(void) {{ return {part}; }}\n")).unwrap();
        sources.push(path.display().to_string());
        main += &format!("int part{part}(void);\n");
    }
    let sum: Vec<String> = parts.map(|part| format!("part{part}()")).collect();
    main += &format!("int main(void) {{ printf(\"%d\\n\", {}); return 0; }}\n", sum.join(" + "));
    fs::write(mount.join("main.c"), main).unwrap();
    sources.push(mount.join("main.c").display().to_string());
    git(mount, &["init", "-q"]);
    git(mount, &["add", "tree", "."]);
    git(mount, &["-c", "user.name=host", "-c", "user.email=host@example", "commit", "-q", "-m", "tree"]);
    let program = mount.join("program").display().to_string();
    let mut line = vec!["-O1", "-o", &program];
    line.extend(sources.iter().map(String::as_str));
    run_ok("gcc", &line);
    run_ok("sync", &["-f", &mount.display().to_string()]);
    let mut sums = Sums::new();
    sum_up(mount, mount, &mut sums);
    assert!(sums.len() as u64 > 2 * TREE_FILES, "a file and an object each: {}", sums.len());
    sums
}

fn git(mount: &Path, line: &[&str]) {
    let mount = mount.display().to_string();
    run_ok("git", &[&["-c", "safe.directory=*", "-c", "gc.auto=0", "-C", &mount], line].concat());
}

fn sum_up(base: &Path, place: &Path, sums: &mut Sums) {
    for entry in fs::read_dir(place).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != "lost+found" {
            sum_up(base, &path, sums);
        } else if kind.is_file() {
            let sum = crc32c::crc32c(&fs::read(&path).unwrap());
            sums.insert(path.strip_prefix(base).unwrap().to_owned(), sum);
        }
    }
}

fn content(dice: &mut Dice) -> Vec<u8> {
    let words = 1 + dice.below(2000);
    (0..words).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

/// Two threads that write: one syncs each file and its directory, the other never does, and renames.
struct Hosts {
    stop: Arc<AtomicBool>,
    synced: Arc<Mutex<Sums>>,
    threads: Vec<JoinHandle<io::Error>>,
}

impl Hosts {
    fn start(mount: &Path, round: u64) -> Hosts {
        let (stop, synced) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Sums::new())));
        let place = mount.to_owned();
        let (until, sums) = (stop.clone(), synced.clone());
        let syncs = thread::spawn(move || write_synced(&place, round, &until, &sums).unwrap_err());
        let (place, until) = (mount.to_owned(), stop.clone());
        let churns = thread::spawn(move || churn(&place, round, &until).unwrap_err());
        Hosts { stop, synced, threads: vec![syncs, churns] }
    }

    fn wait_for(&self, count: usize) {
        wait_until("files are synced", WAIT, || {
            let found = self.synced.lock().unwrap().len();
            if found >= count { Ok(()) } else { Err(format!("{found} of {count}")) }
        });
    }

    fn synced(&self) -> Sums {
        self.synced.lock().unwrap().clone()
    }

    /// Ends them; gives what was synced.
    fn stop(mut self) -> Sums {
        self.end();
        self.synced()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for host in self.threads.drain(..) {
            println!("a host ended: {:?}", host.join());
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_over(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

fn write_synced(mount: &Path, round: u64, stop: &AtomicBool, synced: &Mutex<Sums>) -> io::Result<()> {
    let directory = PathBuf::from(format!("synced{round}"));
    fs::create_dir(mount.join(&directory))?;
    File::open(mount)?.sync_all()?;
    let mut dice = Dice::new(1000 + round);
    for number in 0_u64.. {
        is_over(stop)?;
        let (path, body) = (directory.join(number.to_string()), content(&mut dice));
        let mut file = File::create(mount.join(&path))?;
        file.write_all(&body)?;
        file.sync_all()?;
        File::open(mount.join(&directory))?.sync_all()?;
        synced.lock().unwrap().insert(path, crc32c::crc32c(&body));
    }
    Ok(())
}

fn churn(mount: &Path, round: u64, stop: &AtomicBool) -> io::Result<()> {
    let directory = mount.join("churn");
    fs::create_dir_all(&directory)?;
    let mut dice = Dice::new(2000 + round);
    loop {
        is_over(stop)?;
        let name = |number: u64| directory.join(number.to_string());
        let (from, to) = (name(dice.below(CHURN_FILES)), name(dice.below(CHURN_FILES)));
        fs::write(&from, content(&mut dice))?;
        fs::rename(from, to)?;
        thread::sleep(Duration::from_millis(1));
    }
}
