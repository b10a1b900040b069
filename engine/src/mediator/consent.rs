//! A member's consent to a change of its pod's register.
//!
//! The signature that travels is the member's public key and its Ed25519 signature under the statement's bytes. An id is made from its key, so
//! a mediator can verify the consent of a member that has never reached it.

use bytes::Bytes;
use metropod_protocol::{ArrayId, Consent, Statement};

use crate::identity::{Identity, PublicKey, Signature};
use crate::wire::Fields;

/// Signs; the answer to the protocol's `Effect::Sign`.
pub fn sign(identity: &Identity, statement: &Statement) -> Bytes {
    let signature = identity.sign(&statement.signed_bytes());
    Bytes::from([&identity.public_key().0[..], &signature[..]].concat())
}

/// Those of the consents that hold; others are dropped.
pub fn consents(statement: &Statement, consents: Vec<Consent>) -> Vec<Consent> {
    let bytes = statement.signed_bytes();
    consents.into_iter().filter(|consent| holds(&bytes, consent.array, &consent.signature)).collect()
}

fn holds(statement: &[u8], array: ArrayId, signature: &[u8]) -> bool {
    let mut fields = Fields(signature);
    let (Ok(public_key), Ok(signature)) = (fields.array().map(PublicKey), fields.array()) else {
        return false;
    };
    let signature: Signature = signature;
    fields.end().is_ok() && public_key.id() == array && public_key.verifies(statement, &signature)
}

#[cfg(test)]
mod tests {
    use metropod_protocol::{ConfigId, Epoch, MediatorId, Members, PodId, RegisterId};

    use super::*;

    #[test]
    fn a_consent_holds_for_its_statement_and_its_member_only() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let statement = Statement {
            pod: PodId([1; 16]),
            mediator: MediatorId([2; 16]),
            expect: None,
            id: RegisterId([3; 16]),
            epoch: Epoch { era: 0, number: 4 },
            members: Members::pair(one.id(), two.id()),
            config: ConfigId([5; 16]),
        };
        let good = Consent { array: one.id(), signature: sign(&one, &statement) };
        assert_eq!(consents(&statement, vec![good.clone()]).len(), 1);
        let other = Statement { id: RegisterId([9; 16]), ..statement };
        assert!(consents(&other, vec![good.clone()]).is_empty());
        let borrowed = Consent { array: two.id(), ..good.clone() };
        let cut = Consent { signature: good.signature.slice(..40), ..good.clone() };
        let longer = Consent { signature: [&good.signature[..], &[0]].concat().into(), ..good };
        assert!(consents(&statement, vec![borrowed, cut, longer]).is_empty());
    }
}
