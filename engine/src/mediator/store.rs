//! The registers on disk: one small file per pod, replaced whole.
//!
//! - S1: a register whose write returned `Ok` is found again after any crash.
//! - S2: a damaged file is set aside and its pod counts as lost, which refuses; it is never taken for a register, and never removed.
//!
//! Bytes of `registers/<pod id in hexadecimal>`: magic 8, `Register::encode`, CRC32C 4.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use metropod_protocol::PodId;
use metropod_protocol::mediator::Register;

use crate::identity::file;

const MAGIC: [u8; 8] = *b"MPREGST\x01";
const FILE_MODE: u32 = 0o600;

/// Why the registers could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: registers failed while {doing}")]
pub struct StoreError {
    /// Where.
    pub path: PathBuf,
    /// What was being done.
    pub doing: &'static str,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The directory of registers.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    /// Reads every register.
    pub fn open(directory: &Path) -> Result<(Store, Vec<(PodId, Register)>), StoreError> {
        let directory = directory.join("registers");
        let failed = |doing| {
            let path = directory.clone();
            move |source| StoreError { path, doing, source }
        };
        fs::create_dir_all(&directory).map_err(failed("making the directory"))?;
        file::sync_directory(&directory).map_err(failed("making the directory"))?;
        let mut registers = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed("listing them"))? {
            let path = entry.map_err(failed("listing them"))?.path();
            // Others are what a crash or damage left.
            let Some(pod) = pod_of(&path) else { continue };
            let bytes = file::read(&path).map_err(failed("reading one"))?.unwrap_or_default();
            match decode(&bytes) {
                Some(register) => registers.push((pod, register)),
                None => {
                    let aside = path.with_extension("damaged");
                    tracing::error!(
                        path = %path.display(),
                        aside = %aside.display(),
                        "register damaged and set aside: its pod is refused until both arrays record it anew"
                    );
                    fs::rename(&path, &aside).map_err(failed("setting a damaged one aside"))?;
                }
            }
        }
        Ok((Store { directory }, registers))
    }

    /// Makes this the pod's register, durably.
    pub fn write(&self, pod: PodId, register: &Register) -> io::Result<()> {
        let mut name = String::with_capacity(32);
        for byte in pod.0 {
            name.push_str(&format!("{byte:02x}"));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&register.encode());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        file::replace(&self.directory.join(name), &bytes, FILE_MODE)
    }
}

fn pod_of(path: &Path) -> Option<PodId> {
    let name = path.file_name()?.to_str()?;
    if name.len() != 32 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(name, 16).ok().map(|number| PodId(number.to_be_bytes()))
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Register> {
    let (content, check) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*check) {
        return None;
    }
    let register = content.strip_prefix(&MAGIC)?;
    Register::decode(Bytes::copy_from_slice(register)).ok()
}

#[cfg(test)]
mod tests {
    use metropod_protocol::mediator::Record;
    use metropod_protocol::{ArrayId, Epoch, Members, RegisterId};

    use super::*;

    fn record(id: u8) -> Register {
        Register::Present(Record {
            id: RegisterId([id; 16]),
            epoch: Epoch { era: 1, number: 2 },
            members: Members::pair(ArrayId([7; 16]), ArrayId([8; 16])),
            from: Some(RegisterId([6; 16])),
        })
    }

    #[test]
    fn registers_are_found_again_and_the_newest_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (store, none) = Store::open(directory.path()).unwrap();
        assert!(none.is_empty());
        let pods = [PodId([0; 16]), PodId([0xfe; 16]), PodId(*b"0123456789abcdef")];
        for pod in pods {
            store.write(pod, &record(1)).unwrap();
        }
        store.write(pods[0], &record(2)).unwrap();
        store.write(pods[1], &Register::Removed).unwrap();
        let (_, mut found) = Store::open(directory.path()).unwrap();
        found.sort();
        assert_eq!(found, [(pods[0], record(2)), (pods[2], record(1)), (pods[1], Register::Removed)]);
    }

    #[test]
    fn a_damaged_register_is_lost_and_kept_aside_and_can_be_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let pod = PodId([3; 16]);
        let path = directory.path().join("registers").join("03".repeat(16));
        let (store, _) = Store::open(directory.path()).unwrap();
        store.write(pod, &record(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(Store::open(directory.path()).unwrap().1.is_empty());
            fs::write(&path, &whole[..at]).unwrap();
            assert!(Store::open(directory.path()).unwrap().1.is_empty());
        }
        assert!(path.with_extension("damaged").exists());
        store.write(pod, &record(2)).unwrap();
        assert_eq!(Store::open(directory.path()).unwrap().1, [(pod, record(2))]);
    }
}
