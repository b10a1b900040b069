//! One HTTP request by hand: also what no client library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: u16,
    /// The document; null if the body is none.
    pub body: Value,
}

/// Sends one request and reads its answer to the end.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> HttpAnswer {
    let connected = TcpStream::connect(address).and_then(|stream| {
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(stream)
    });
    let mut stream = connected.unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"));
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: metropod\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // A body that is refused for its length may not be read to its end.
    let _sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        panic!("{method} {path} at {address}: {error}");
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_ref(), ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{method} {path} at {address}: no status in {head:?}"));
    HttpAnswer { status, body: serde_json::from_str(body).unwrap_or_default() }
}
