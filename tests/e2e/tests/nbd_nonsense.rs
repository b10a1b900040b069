//! NBD requests that make no sense, by hand: a definite error, or the end of that one connection; others go on, and the
//! volume is as it was.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use metropod_e2e::{Array, Command, NbdClient, NbdError, WITNESS_BYTES, Witness, scratch};

const VOLUME: &str = "pod1::vol1";
const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const CACHE: u16 = 5;
const WRITE_ZEROES: u16 = 6;
const BLOCK_STATUS: u16 = 7;
const RESIZE: u16 = 8;

const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

/// Longest payload that the server takes, in bytes.
const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// A connection in transmission, with simple replies.
struct Raw(TcpStream);

impl Raw {
    fn open(address: SocketAddr) -> Raw {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&3u32.to_be_bytes()).unwrap();
        // EXPORT_NAME: the shortest way in.
        let mut option = b"IHAVEOPT".to_vec();
        option.extend_from_slice(&1u32.to_be_bytes());
        option.extend_from_slice(&(VOLUME.len() as u32).to_be_bytes());
        option.extend_from_slice(VOLUME.as_bytes());
        stream.write_all(&option).unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        Raw(stream)
    }

    fn send(&mut self, magic: u32, flags: u16, kind: u16, offset: u64, length: u32, data: &[u8]) {
        let mut request = magic.to_be_bytes().to_vec();
        request.extend_from_slice(&flags.to_be_bytes());
        request.extend_from_slice(&kind.to_be_bytes());
        request.extend_from_slice(&7u64.to_be_bytes());
        request.extend_from_slice(&offset.to_be_bytes());
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(data);
        // The server may have closed already.
        let _sent = self.0.write_all(&request);
    }

    /// The error that a request gets; 0: none.
    fn errno(&mut self, flags: u16, kind: u16, offset: u64, length: u32, data: &[u8]) -> u32 {
        self.send(0x2560_9513, flags, kind, offset, length, data);
        let mut reply = [0; 16];
        self.0.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        assert_eq!(reply[8..], 7u64.to_be_bytes());
        u32::from_be_bytes(reply[4..8].try_into().unwrap())
    }

    /// The server ends the connection, without a word.
    fn assert_closed(mut self, what: &str) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{what}: {rest:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}"),
        }
    }
}

#[test]
fn requests_without_sense_get_an_error_and_the_stream_stays_in_step() {
    let scratch = scratch!("nonsense");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    let witness = Witness::write(&array, VOLUME, 1);
    let mut raw = Raw::open(array.options().nbd);
    let end = WITNESS_BYTES;
    let sector = [b'x'; 512];
    for (flags, kind, offset, length, data, errno) in [
        // Beyond the end, and around it.
        (0, READ, end, 512, &[][..], EINVAL),
        (0, READ, end - 512, 1024, &[], EINVAL),
        (0, READ, 1 << 63, 512, &[], EINVAL),
        (0, READ, u64::MAX - 511, 512, &[], EINVAL),
        (0, READ, u64::MAX, 1, &[], EINVAL),
        (0, WRITE, end, 512, &sector, ENOSPC),
        (0, WRITE, u64::MAX - 511, 512, &sector, ENOSPC),
        (0, TRIM, end, 512, &[], EINVAL),
        (0, TRIM, 0, u32::MAX, &[], EINVAL),
        (0, WRITE_ZEROES, end - 512, 1024, &[], ENOSPC),
        (0, WRITE_ZEROES, u64::MAX - 511, 512, &[], ENOSPC),
        // Absurd lengths.
        (0, READ, 0, u32::MAX, &[], EINVAL),
        (0, READ, 0, PAYLOAD_BYTES_MAX + 512, &[], EINVAL),
        // Not in sectors.
        (0, READ, 1, 512, &[], EINVAL),
        (0, READ, 0, 511, &[], EINVAL),
        (0, WRITE, 1, 512, &sector, EINVAL),
        (0, WRITE, 0, 100, &sector[..100], EINVAL),
        // Unknown commands and flags.
        (0, RESIZE, 0, 512, &[], EINVAL),
        (0, 99, 0, 0, &[], EINVAL),
        (0, u16::MAX, u64::MAX, u32::MAX, &[], EINVAL),
        (u16::MAX, READ, 0, 512, &[], EINVAL),
        (1 << 15, WRITE, 0, 512, &sector, EINVAL),
        (0, FLUSH, 512, 512, &[], EINVAL),
        // Not negotiated.
        (0, BLOCK_STATUS, 0, 4096, &[], EINVAL),
        (0, CACHE, end, 512, &[], EINVAL),
    ] {
        let found = raw.errno(flags, kind, offset, length, data);
        assert_eq!(found, errno, "flags {flags:#x} kind {kind} offset {offset} length {length}");
    }
    assert_eq!(raw.errno(0, FLUSH, 0, 0, &[]), 0, "the stream is in step");
    witness.check(&array);
    array.kill9();
    array.restart();
    witness.check(&array);
}

#[test]
fn what_cannot_be_skipped_ends_the_connection_and_no_other() {
    let scratch = scratch!("nonsense-closed");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    let witness = Witness::write(&array, VOLUME, 1);
    let address = array.options().nbd;
    let mut other = array.open(VOLUME);
    for _ in 0..20 {
        let mut raw = Raw::open(address);
        raw.send(0xdead_beef, 0, READ, 0, 512, &[]);
        raw.assert_closed("a false magic");
        let mut raw = Raw::open(address);
        raw.send(0x2560_9513, 0, WRITE, 0, u32::MAX, &[1; 4096]);
        raw.assert_closed("an absurd payload");
        // A write that is cut in its payload.
        let mut raw = Raw::open(address);
        raw.send(0x2560_9513, 0, WRITE, 0, 64 << 10, &[1; 4096]);
        drop(raw);
        other.read(0, &mut [0; 4096]).unwrap();
    }
    for export in
        ["", "pod1", "pod1::", "pod1::nothing", "nothing::vol1", "../vol1", "\u{0}", &"x".repeat(4096)]
    {
        let refused = NbdClient::open(address, export);
        let told = matches!(refused, Err(NbdError::Refused(_) | NbdError::Connection(_)));
        assert!(told, "{:?}: {refused:?}", &export[..export.len().min(20)]);
    }
    // Replies that nobody takes: the client asks for more than any buffer holds and goes away.
    for _ in 0..10 {
        let mut greedy = array.open(VOLUME);
        for number in 0..64 {
            greedy.send(Command::Read, number % 2 * (4 << 20), 4 << 20, &[]).unwrap();
        }
    }
    witness.check(&array);
    other.read(0, &mut [0; 4096]).unwrap();
    assert!(array.is_up());
    array.kill9();
    array.restart();
    witness.check(&array);
}
