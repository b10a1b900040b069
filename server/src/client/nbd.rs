//! A small blocking NBD client: one volume, one connection, one request at a time.
//!
//! Fixed newstyle handshake with `GO`, simple replies. Meant for checking: an error is told precisely, and a request
//! whose reply did not arrive is never taken for done or for not done.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_ERROR: u32 = 1 << 31;
const REPLY_ERR_SHUTDOWN: u32 = REPLY_ERROR | 7;
const INFO_EXPORT: u16 = 0;

const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
const COMMAND_FLUSH: u16 = 3;
const COMMAND_TRIM: u16 = 4;
const COMMAND_WRITE_ZEROES: u16 = 6;

const ESHUTDOWN: u32 = 108;

/// Longest option reply that is read, in bytes.
const OPTION_REPLY_BYTES_MAX: u32 = 64 << 10;

/// Time limit for a connection and its handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Longest read or write, in bytes.
pub const TRANSFER_BYTES_MAX: usize = 1 << 20;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NbdError {
    /// The connection failed or ended; a request under way may or may not have been carried out.
    #[error("the NBD connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The volume is not, or no longer, served there.
    #[error("the volume is not served there now")]
    Shutdown,
    /// The server does not know the export, or refuses it.
    #[error("the export is refused (option reply {reply:#x})")]
    Refused {
        /// The reply's type.
        reply: u32,
    },
    /// The request failed.
    #[error("the request failed with NBD error {errno}")]
    Failed {
        /// NBD's number.
        errno: u32,
    },
    /// The server does not keep to the protocol.
    #[error("the server does not speak NBD as expected")]
    Protocol,
}

/// A volume, opened.
#[derive(Debug)]
pub struct NbdClient {
    stream: TcpStream,
    size_bytes: u64,
    cookie: u64,
}

impl NbdClient {
    /// Opens `export` at `address`. Requests that get no answer for `patience` fail.
    pub fn open(address: SocketAddr, export: &str, patience: Duration) -> Result<NbdClient, NbdError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_TIME_MAX))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = NbdClient { stream, size_bytes: 0, cookie: 0 };
        client.greet()?;
        client.go(export)?;
        client.stream.set_read_timeout(Some(patience))?;
        Ok(client)
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads at `offset` until `into`, at most [`TRANSFER_BYTES_MAX`], is full.
    pub fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), NbdError> {
        self.request(COMMAND_READ, offset, length(into.len())?, &[])?;
        self.reply()?;
        Ok(self.stream.read_exact(into)?)
    }

    /// Writes `data`, at most [`TRANSFER_BYTES_MAX`], at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.request(COMMAND_WRITE, offset, length(data.len())?, data)?;
        self.reply()
    }

    /// Makes a range read as zeroes.
    pub fn write_zeroes(&mut self, offset: u64, length: u32) -> Result<(), NbdError> {
        self.request(COMMAND_WRITE_ZEROES, offset, length, &[])?;
        self.reply()
    }

    /// Says that a range is no longer needed.
    pub fn trim(&mut self, offset: u64, length: u32) -> Result<(), NbdError> {
        self.request(COMMAND_TRIM, offset, length, &[])?;
        self.reply()
    }

    /// Asks that everything answered be durable.
    pub fn flush(&mut self) -> Result<(), NbdError> {
        self.request(COMMAND_FLUSH, 0, 0, &[])?;
        self.reply()
    }

    /// Says goodbye.
    pub fn close(mut self) -> Result<(), NbdError> {
        self.request(COMMAND_DISCONNECT, 0, 0, &[])
    }

    fn greet(&mut self) -> Result<(), NbdError> {
        let mut greeting = [0; 18];
        self.stream.read_exact(&mut greeting)?;
        let mut fields = greeting.as_slice();
        let known = take_u64(&mut fields) == SERVER_MAGIC && take_u64(&mut fields) == OPTION_MAGIC;
        let flags = take_u16(&mut fields);
        if !known || flags & FLAG_FIXED_NEWSTYLE == 0 {
            return Err(NbdError::Protocol);
        }
        Ok(self.stream.write_all(&u32::from(flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)).to_be_bytes())?)
    }

    fn go(&mut self, export: &str) -> Result<(), NbdError> {
        let name_bytes = u32::try_from(export.len()).map_err(|_| NbdError::Protocol)?;
        let mut option = Vec::new();
        option.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        option.extend_from_slice(&OPTION_GO.to_be_bytes());
        option.extend_from_slice(&(name_bytes + 6).to_be_bytes());
        option.extend_from_slice(&name_bytes.to_be_bytes());
        option.extend_from_slice(export.as_bytes());
        option.extend_from_slice(&0u16.to_be_bytes());
        self.stream.write_all(&option)?;
        let mut size_bytes = None;
        loop {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head)?;
            let mut fields = head.as_slice();
            let (magic, _option) = (take_u64(&mut fields), take_u32(&mut fields));
            let (reply, bytes) = (take_u32(&mut fields), take_u32(&mut fields));
            if magic != OPTION_REPLY_MAGIC || bytes > OPTION_REPLY_BYTES_MAX {
                return Err(NbdError::Protocol);
            }
            let mut content = vec![0; bytes as usize];
            self.stream.read_exact(&mut content)?;
            match reply {
                REPLY_ACK => {
                    self.size_bytes = size_bytes.ok_or(NbdError::Protocol)?;
                    return Ok(());
                }
                REPLY_INFO if content.len() == 12 && content[..2] == INFO_EXPORT.to_be_bytes() => {
                    size_bytes = Some(take_u64(&mut &content[2..]));
                }
                REPLY_INFO => {}
                REPLY_ERR_SHUTDOWN => return Err(NbdError::Shutdown),
                reply => return Err(NbdError::Refused { reply }),
            }
        }
    }

    fn request(&mut self, command: u16, offset: u64, length: u32, payload: &[u8]) -> Result<(), NbdError> {
        self.cookie += 1;
        let mut request = Vec::with_capacity(28 + payload.len());
        request.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
        request.extend_from_slice(&0u16.to_be_bytes());
        request.extend_from_slice(&command.to_be_bytes());
        request.extend_from_slice(&self.cookie.to_be_bytes());
        request.extend_from_slice(&offset.to_be_bytes());
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(payload);
        Ok(self.stream.write_all(&request)?)
    }

    fn reply(&mut self) -> Result<(), NbdError> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        let mut fields = reply.as_slice();
        let (magic, errno, cookie) = (take_u32(&mut fields), take_u32(&mut fields), take_u64(&mut fields));
        if magic != REPLY_MAGIC || cookie != self.cookie {
            return Err(NbdError::Protocol);
        }
        match errno {
            0 => Ok(()),
            ESHUTDOWN => Err(NbdError::Shutdown),
            errno => Err(NbdError::Failed { errno }),
        }
    }
}

fn length(bytes: usize) -> Result<u32, NbdError> {
    if bytes > TRANSFER_BYTES_MAX {
        return Err(NbdError::Protocol);
    }
    u32::try_from(bytes).map_err(|_| NbdError::Protocol)
}

/// Takes `N` bytes off the front of a header whose length was fixed when it was read.
fn take<const N: usize>(fields: &mut &[u8]) -> [u8; N] {
    let (head, rest) = fields.split_first_chunk().expect("headers are read whole");
    *fields = rest;
    *head
}

fn take_u16(fields: &mut &[u8]) -> u16 {
    u16::from_be_bytes(take(fields))
}

fn take_u32(fields: &mut &[u8]) -> u32 {
    u32::from_be_bytes(take(fields))
}

fn take_u64(fields: &mut &[u8]) -> u64 {
    u64::from_be_bytes(take(fields))
}
