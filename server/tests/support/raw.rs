//! A client that speaks in bytes, well or badly.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_ABORT: u32 = 2;
pub const OPT_LIST: u32 = 3;
pub const OPT_STARTTLS: u32 = 5;
pub const OPT_INFO: u32 = 6;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_SET_META_CONTEXT: u32 = 10;
pub const OPT_EXTENDED_HEADERS: u32 = 11;

pub const REP_ACK: u32 = 1;
pub const ERR_UNSUP: u32 = 0x8000_0001;
pub const ERR_INVALID: u32 = 0x8000_0003;
pub const ERR_UNKNOWN: u32 = 0x8000_0006;
pub const ERR_SHUTDOWN: u32 = 0x8000_0007;
pub const ERR_TOO_BIG: u32 = 0x8000_0009;
pub const ERR_EXT_HEADER_REQD: u32 = 0x8000_000a;

pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const EOVERFLOW: u32 = 75;
pub const ENOTSUP: u32 = 95;
pub const ESHUTDOWN: u32 = 108;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct RawClient {
    pub stream: TcpStream,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> RawClient {
        RawClient { stream: TcpStream::connect(address).await.unwrap() }
    }

    /// Connects and answers the greeting.
    pub async fn greeted(address: SocketAddr) -> RawClient {
        let mut client = RawClient::connect(address).await;
        assert_eq!(&client.take(18).await.unwrap()[..16], b"NBDMAGICIHAVEOPT");
        client.send(&3u32.to_be_bytes()).await;
        client
    }

    /// Connects and opens `export` with simple replies.
    pub async fn opened(address: SocketAddr, export: &str) -> RawClient {
        let mut client = RawClient::greeted(address).await;
        client.option(OPT_EXPORT_NAME, export.as_bytes()).await;
        client.take(10).await.unwrap();
        client
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends, not minding a closed connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.expect("the server answers in time")?;
        Ok(bytes)
    }

    /// Whatever comes until the server closes.
    pub async fn take_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ =
            timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.expect("the server closes in time");
        bytes
    }

    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.stream.read(&mut [0; 1])).await.is_err()
    }

    pub async fn option(&mut self, option: u32, data: &[u8]) {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        self.send(&bytes).await;
    }

    /// One option reply: its kind and data.
    pub async fn option_reply(&mut self, option: u32) -> (u32, Vec<u8>) {
        let header = self.take(20).await.unwrap();
        assert_eq!(header[..8], 0x0003_e889_0455_65a9u64.to_be_bytes());
        assert_eq!(header[8..12], option.to_be_bytes());
        let length = u32_at(&header, 16) as usize;
        (u32_at(&header, 12), self.take(length).await.unwrap())
    }

    /// Sends an option and returns the kind of its final reply.
    pub async fn negotiate(&mut self, option: u32, data: &[u8]) -> u32 {
        self.option(option, data).await;
        loop {
            let (kind, _) = self.option_reply(option).await;
            if kind == REP_ACK || kind & 1 << 31 != 0 {
                return kind;
            }
        }
    }

    pub async fn go(&mut self, export: &str) -> u32 {
        self.negotiate(OPT_GO, &go_data(export)).await
    }

    pub async fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, length: u32) {
        self.send(&request(flags, kind, cookie, offset, length)).await;
    }

    /// A simple reply without payload: (error, cookie).
    pub async fn simple_reply(&mut self) -> (u32, u64) {
        let header = self.take(16).await.unwrap();
        assert_eq!(header[..4], 0x6744_6698u32.to_be_bytes());
        (u32_at(&header, 4), u64::from_be_bytes(header[8..].try_into().unwrap()))
    }
}

pub fn go_data(export: &str) -> Vec<u8> {
    let mut data = (export.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(export.as_bytes());
    data.extend_from_slice(&[0, 0]);
    data
}

pub fn request(flags: u16, kind: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
