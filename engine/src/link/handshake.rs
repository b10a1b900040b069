//! The exchange of HELLO, PROOF and WELCOME over a connection that nobody trusts yet.
//!
//! What comes out is the peer's authenticated HELLO. The listener's WELCOME is queued by the caller, at the moment it takes the connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_protocol::{ArrayId, Incarnation};

use super::connection::{CloseReason, Closed, Link, Reader};
use super::hello::{
    Hello, HelloError, KIND_HELLO, KIND_PROOF, KIND_REFUSED, KIND_WELCOME, Proof, Refusal, Role, Side,
    Transcript, VERSION,
};
use crate::identity::{Identity, Secret, fill_random};
use crate::wire::{Frame, PAYLOAD_BYTES_MAX};

/// Whole handshake, from the connection's opening.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// This side, as told to every peer.
#[derive(Debug)]
pub(crate) struct Local {
    pub identity: std::sync::Arc<Identity>,
    pub incarnation: Incarnation,
    pub name: String,
    /// Empty: the peer uses the address it sees.
    pub advertised: String,
    /// 0: does not listen.
    pub listen_port: u16,
}

/// How a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side refused this one.
    #[error("refused by the other side: {0}")]
    Refused(Refusal),
    /// This side refused the other.
    #[error("refused here: {0}")]
    Refusing(Refusal),
    /// It took too long.
    #[error("the other side did not answer in time")]
    TimedOut,
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The system gave no random numbers.
    #[error("no random numbers")]
    Random,
}

/// The proof that the dialler was invited, for the listener to compare with the keys it issued.
pub(crate) struct Invitation {
    pub message: Vec<u8>,
    pub proof: blake3::Hash,
}

/// Decides whether a dialler that proved its identity is let in.
pub(crate) type Admit<'a> = dyn Fn(&Hello, Option<&Invitation>) -> Result<(), Refusal> + 'a;

/// Whom the dialler looks for.
pub(crate) struct Dial<'a> {
    pub role: Role,
    pub expected: Option<ArrayId>,
    pub secret: Option<&'a Secret>,
}

/// The dialling side; returns after WELCOME. `wanted` has the last word before this side proves itself.
pub(crate) fn dial(
    local: &Local,
    reader: &mut Reader,
    dial: &Dial<'_>,
    wanted: &dyn Fn(&Hello) -> Result<(), Refusal>,
) -> Result<Hello, HandshakeError> {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mine = hello(local, dial.role)?.encode();
    send(reader.link(), KIND_HELLO, &mine)?;
    let (peer, theirs) = receive_hello(reader, deadline)?;
    let proof = receive_proof(reader, deadline)?;
    let transcript = Transcript::new(&mine, &theirs);
    let judged = judge(local, &peer, &transcript, Side::Listener, &proof)
        .and_then(|()| if peer.role == dial.role.partner() { Ok(()) } else { Err(Refusal::Role) })
        .and_then(|()| match dial.expected {
            Some(expected) if expected != peer.id => Err(Refusal::WrongPeer),
            _ => Ok(()),
        })
        .and_then(|()| wanted(&peer));
    judged.map_err(|refusal| refuse(reader.link(), refusal))?;
    let message = transcript.message(Side::Dialler);
    let proof = Proof {
        signature: local.identity.sign(&message),
        enrolment: dial.secret.map(|secret| *secret.prove(&message).as_bytes()),
    };
    send(reader.link(), KIND_PROOF, &proof.encode())?;
    receive(reader, KIND_WELCOME, deadline)?;
    reader.set_limit(PAYLOAD_BYTES_MAX);
    Ok(peer)
}

/// The listening side; returns when the dialler has proved who it is and `admit` let it in. The caller sends WELCOME.
pub(crate) fn accept(
    local: &Local,
    reader: &mut Reader,
    serves: &[Role],
    admit: &Admit<'_>,
) -> Result<Hello, HandshakeError> {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let (peer, theirs) = receive_hello(reader, deadline)?;
    let role = peer.role.partner();
    if !serves.contains(&role) {
        return Err(refuse(reader.link(), Refusal::Role));
    }
    let mine = hello(local, role)?.encode();
    let transcript = Transcript::new(&theirs, &mine);
    let signature = local.identity.sign(&transcript.message(Side::Listener));
    send(reader.link(), KIND_HELLO, &mine)?;
    send(reader.link(), KIND_PROOF, &Proof { signature, enrolment: None }.encode())?;
    let proof = receive_proof(reader, deadline)?;
    let invitation = proof.enrolment.map(|proof| Invitation {
        message: transcript.message(Side::Dialler),
        proof: blake3::Hash::from_bytes(proof),
    });
    judge(local, &peer, &transcript, Side::Dialler, &proof)
        .and_then(|()| admit(&peer, invitation.as_ref()))
        .map_err(|refusal| refuse(reader.link(), refusal))?;
    reader.set_limit(PAYLOAD_BYTES_MAX);
    Ok(peer)
}

/// Queues the listener's last word, in front of everything else on the connection.
pub(crate) fn welcome(link: &Link) -> Result<(), Closed> {
    link.queue(KIND_WELCOME, 0, Bytes::new(), Bytes::new())
}

/// Tells the other side why, and closes.
pub(crate) fn refuse(link: &Link, refusal: Refusal) -> HandshakeError {
    // If it cannot be told any more there is nobody to tell.
    let _ = link.send(KIND_REFUSED, 0, refusal.encode().into(), Bytes::new());
    link.close_for(CloseReason::Closed);
    HandshakeError::Refusing(refusal)
}

fn hello(local: &Local, role: Role) -> Result<Hello, HandshakeError> {
    let mut nonce = [0; 32];
    fill_random(&mut nonce).map_err(|_| HandshakeError::Random)?;
    Ok(Hello {
        role,
        nonce,
        id: local.identity.id(),
        public_key: local.identity.public_key(),
        incarnation: local.incarnation,
        name: local.name.clone(),
        advertised: local.advertised.clone(),
        listen_port: local.listen_port,
    })
}

fn judge(
    local: &Local,
    peer: &Hello,
    transcript: &Transcript,
    side: Side,
    proof: &Proof,
) -> Result<(), Refusal> {
    if peer.id == local.identity.id() {
        return Err(Refusal::Yourself);
    }
    if !peer.public_key.verifies(&transcript.message(side), &proof.signature) {
        return Err(Refusal::Signature);
    }
    Ok(())
}

fn send(link: &Link, kind: u8, bytes: &[u8]) -> Result<(), Closed> {
    link.send(kind, 0, Bytes::copy_from_slice(bytes), Bytes::new())
}

fn receive_hello(reader: &mut Reader, deadline: Instant) -> Result<(Hello, Bytes), HandshakeError> {
    let frame = receive(reader, KIND_HELLO, deadline)?;
    match Hello::decode(&frame.payload) {
        Ok(hello) => Ok((hello, frame.payload)),
        Err(HelloError::Malformed) => Err(refuse(reader.link(), Refusal::Malformed)),
        Err(HelloError::Version(version)) => {
            Err(refuse(reader.link(), Refusal::Version { refusing: VERSION, refused: version }))
        }
    }
}

fn receive_proof(reader: &mut Reader, deadline: Instant) -> Result<Proof, HandshakeError> {
    let frame = receive(reader, KIND_PROOF, deadline)?;
    Proof::decode(&frame.payload).ok_or_else(|| refuse(reader.link(), Refusal::Malformed))
}

fn receive(reader: &mut Reader, kind: u8, deadline: Instant) -> Result<Frame, HandshakeError> {
    match reader.read_frame_until(Duration::ZERO, deadline)? {
        None => {
            reader.link().close();
            Err(HandshakeError::TimedOut)
        }
        Some(frame) if frame.kind == kind => Ok(frame),
        Some(frame) if frame.kind == KIND_REFUSED => {
            let refusal = Refusal::decode(&frame.payload);
            reader.link().close();
            Err(HandshakeError::Refused(refusal))
        }
        Some(_) => Err(refuse(reader.link(), Refusal::Malformed)),
    }
}
