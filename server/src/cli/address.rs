//! Addresses as users type them: `HOST:PORT`, resolved when the command line is read.

use std::net::{SocketAddr, ToSocketAddrs};

/// Why a text is no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAddress {
    #[error("expected HOST:PORT: {0}")]
    Unresolved(#[from] std::io::Error),
    #[error("the host has no address")]
    Nothing,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, BadAddress> {
    text.to_socket_addrs()?.next().ok_or(BadAddress::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_port() {
        assert_eq!(address("127.0.0.1:7750").unwrap(), SocketAddr::from(([127, 0, 0, 1], 7750)));
        for bad in ["127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", ":x", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
