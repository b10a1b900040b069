//! A small blocking NBD client with several requests under way.
//!
//! Fixed newstyle handshake with `GO`, simple replies, answers in any order. A request whose reply did not arrive is
//! neither done nor not done.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const CLIENT_FLAGS: u32 = 0b11;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_ERR_SHUTDOWN: u32 = (1 << 31) | 7;
const ESHUTDOWN: u32 = 108;

/// Time limit for a connection and its handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest wait for an answer: longer than an array may hold I/O.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest option reply that is read.
const OPTION_REPLY_BYTES_MAX: usize = 64 << 10;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Reads.
    Read = 0,
    /// Writes.
    Write = 1,
    /// Asks that everything answered be durable.
    Flush = 3,
    /// Says that a range is no longer needed.
    Trim = 4,
    /// Makes a range read as zeroes.
    WriteZeroes = 6,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum NbdError {
    /// The connection failed or ended.
    Connection(io::Error),
    /// The volume is not, or no longer, served there.
    Shutdown,
    /// The export is refused, with this option reply.
    Refused(u32),
    /// The request failed, with this NBD error.
    Failed(u32),
    /// The server does not keep to the protocol.
    Protocol,
}

/// A volume, opened.
#[derive(Debug)]
pub struct NbdClient {
    stream: TcpStream,
    size_bytes: u64,
    next_cookie: u64,
    /// Bytes that the answer of each request under way brings.
    under_way: BTreeMap<u64, usize>,
}

impl NbdClient {
    /// Opens `export`.
    pub fn open(address: SocketAddr, export: &str) -> Result<NbdClient, NbdError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_TIME_MAX))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = NbdClient { stream, size_bytes: 0, next_cookie: 1, under_way: BTreeMap::new() };
        client.greet()?;
        client.go(export)?;
        client.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(client)
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How long an answer is waited for.
    pub fn set_patience(&self, patience: Duration) -> Result<(), NbdError> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Sends a request; gives its cookie. `data` is what a write writes.
    pub fn send(&mut self, command: Command, offset: u64, length: u32, data: &[u8]) -> Result<u64, NbdError> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let mut request = Vec::with_capacity(28 + data.len());
        request.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
        request.extend_from_slice(&0u16.to_be_bytes());
        request.extend_from_slice(&(command as u16).to_be_bytes());
        request.extend_from_slice(&cookie.to_be_bytes());
        request.extend_from_slice(&offset.to_be_bytes());
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(data);
        self.stream.write_all(&request)?;
        let answer_bytes = if command == Command::Read { length as usize } else { 0 };
        self.under_way.insert(cookie, answer_bytes);
        Ok(cookie)
    }

    /// The next answer to any request: its cookie, and what was read or why it failed. `Err`: the connection is of no
    /// use any more.
    pub fn receive(&mut self) -> Result<(u64, Result<Vec<u8>, NbdError>), NbdError> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        let mut fields = reply.as_slice();
        let (magic, errno, cookie) = (take_u32(&mut fields), take_u32(&mut fields), take_u64(&mut fields));
        if magic != REPLY_MAGIC {
            return Err(NbdError::Protocol);
        }
        let bytes = self.under_way.remove(&cookie).ok_or(NbdError::Protocol)?;
        let answer = match errno {
            0 => {
                let mut data = vec![0; bytes];
                self.stream.read_exact(&mut data)?;
                Ok(data)
            }
            ESHUTDOWN => Err(NbdError::Shutdown),
            errno => Err(NbdError::Failed(errno)),
        };
        Ok((cookie, answer))
    }

    /// Reads until `into` is full; nothing else may be under way.
    pub fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), NbdError> {
        let data = self.ask(Command::Read, offset, into.len() as u32, &[])?;
        into.copy_from_slice(&data);
        Ok(())
    }

    /// Writes `data`; nothing else may be under way.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.ask(Command::Write, offset, data.len() as u32, data).map(drop)
    }

    /// Sends a request and waits for its answer; nothing else may be under way.
    pub fn ask(
        &mut self,
        command: Command,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> Result<Vec<u8>, NbdError> {
        let cookie = self.send(command, offset, length, data)?;
        let (answered, answer) = self.receive()?;
        if answered == cookie { answer } else { Err(NbdError::Protocol) }
    }

    fn greet(&mut self) -> Result<(), NbdError> {
        let mut greeting = [0; 18];
        self.stream.read_exact(&mut greeting)?;
        let mut fields = greeting.as_slice();
        if take_u64(&mut fields) != SERVER_MAGIC || take_u64(&mut fields) != OPTION_MAGIC {
            return Err(NbdError::Protocol);
        }
        Ok(self.stream.write_all(&CLIENT_FLAGS.to_be_bytes())?)
    }

    fn go(&mut self, export: &str) -> Result<(), NbdError> {
        let name_bytes = export.len() as u32;
        let mut option = Vec::new();
        option.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        option.extend_from_slice(&OPTION_GO.to_be_bytes());
        option.extend_from_slice(&(name_bytes + 6).to_be_bytes());
        option.extend_from_slice(&name_bytes.to_be_bytes());
        option.extend_from_slice(export.as_bytes());
        option.extend_from_slice(&0u16.to_be_bytes());
        self.stream.write_all(&option)?;
        loop {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head)?;
            let mut fields = head.as_slice();
            let (magic, _option) = (take_u64(&mut fields), take_u32(&mut fields));
            let (reply, bytes) = (take_u32(&mut fields), take_u32(&mut fields) as usize);
            if magic != OPTION_REPLY_MAGIC || bytes > OPTION_REPLY_BYTES_MAX {
                return Err(NbdError::Protocol);
            }
            let mut content = vec![0; bytes];
            self.stream.read_exact(&mut content)?;
            match reply {
                REPLY_ACK => return Ok(()),
                REPLY_INFO if bytes == 12 && content[..2] == [0, 0] => {
                    self.size_bytes = take_u64(&mut &content[2..]);
                }
                REPLY_INFO => {}
                REPLY_ERR_SHUTDOWN => return Err(NbdError::Shutdown),
                reply => return Err(NbdError::Refused(reply)),
            }
        }
    }
}

impl From<io::Error> for NbdError {
    fn from(error: io::Error) -> NbdError {
        NbdError::Connection(error)
    }
}

impl std::fmt::Display for NbdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NbdError::Connection(error) => write!(f, "connection: {error}"),
            NbdError::Shutdown => f.write_str("ESHUTDOWN"),
            NbdError::Refused(reply) => write!(f, "option reply {reply:#x}"),
            NbdError::Failed(errno) => write!(f, "error {errno}"),
            NbdError::Protocol => f.write_str("not NBD as expected"),
        }
    }
}

fn take<const N: usize>(fields: &mut &[u8]) -> [u8; N] {
    let (head, rest) = fields.split_first_chunk().expect("headers are read whole");
    *fields = rest;
    *head
}

fn take_u32(fields: &mut &[u8]) -> u32 {
    u32::from_be_bytes(take(fields))
}

fn take_u64(fields: &mut &[u8]) -> u64 {
    u64::from_be_bytes(take(fields))
}
