//! Verification of RSA signatures (RFC 8017): `signature ^ e mod n` has to be the padded digest.
//!
//! Of RSASSA-PKCS1-v1_5 (§8.2.2) the expected block is made and compared as a whole, so that nothing of what an attacker sent
//! is ever parsed. Of RSASSA-PSS (§8.1.2) every byte is either compared or salt. All of it is public: there is no time to hide.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use crate::key::Algorithm;

/// A public key.
pub(crate) struct RsaKey {
    modulus: BoxedMontyParams,
    /// Bytes of the modulus.
    size: usize,
    exponent: u32,
}

/// `DigestInfo` in DER, up to the digest (RFC 8017 §9.2, note 1).
const SHA256: [u8; 19] =
    *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const SHA384: [u8; 19] =
    *b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30";
const SHA512: [u8; 19] =
    *b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40";

impl RsaKey {
    /// Of modulus and exponent, big-endian. 2048 to 4096 bits: less is broken, more is slow and used by nobody. The exponent
    /// is odd and fits into 32 bits.
    pub(crate) fn new(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let modulus = without_zeros(modulus);
        let exponent = without_zeros(exponent);
        if !(256..=512).contains(&modulus.len()) || !(1..=4).contains(&exponent.len()) {
            return None;
        }
        let bits = u32::try_from(modulus.len() * 8).ok()?;
        let exponent = exponent
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        if modulus[0] < 0x80 || exponent % 2 == 0 || exponent == 1 {
            return None;
        }
        let odd = Option::<Odd<_>>::from(Odd::new(BoxedUint::from_be_slice(modulus, bits).ok()?))?;
        Some(Self {
            modulus: BoxedMontyParams::new_vartime(odd),
            size: modulus.len(),
            exponent,
        })
    }

    pub(crate) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let Some(block) = self.opened(signature) else {
            return false;
        };
        let expected = match algorithm {
            Algorithm::Rs256 => self.padded(&SHA256, &Sha256::digest(signed)),
            Algorithm::Rs384 => self.padded(&SHA384, &Sha384::digest(signed)),
            Algorithm::Rs512 => self.padded(&SHA512, &Sha512::digest(signed)),
            Algorithm::Ps256 => return is_pss(&block, &Sha256::digest(signed)),
            Algorithm::Hs256 | Algorithm::Es256 | Algorithm::EdDsa => return false,
        };
        block.ct_eq(&expected).into()
    }

    /// The block that was signed, as long as the modulus; `None` for what is no signature of this key's size and range.
    fn opened(&self, signature: &[u8]) -> Option<Vec<u8>> {
        if signature.len() != self.size {
            return None;
        }
        let number = BoxedUint::from_be_slice(signature, self.modulus.bits_precision()).ok()?;
        if number >= *self.modulus.modulus().as_ref() {
            return None;
        }
        let opened = self.raised(&BoxedMontyForm::new(number, &self.modulus));
        let bytes = opened.retrieve().to_be_bytes();
        let begin = bytes.len().checked_sub(self.size)?;
        Some(bytes[begin..].to_vec())
    }

    /// By squaring and multiplying, which for the usual exponent of 65537 is 17 steps. A power in constant time would be
    /// ten times as many.
    fn raised(&self, base: &BoxedMontyForm) -> BoxedMontyForm {
        let mut power = base.clone();
        let below_the_first = 31 - self.exponent.leading_zeros();
        for bit in (0..below_the_first).rev() {
            power = power.square();
            if self.exponent >> bit & 1 == 1 {
                power *= base;
            }
        }
        power
    }

    /// EMSA-PKCS1-v1_5 (§9.2): `00 01 ff … ff 00 DigestInfo`.
    fn padded(&self, info: &[u8], digest: &[u8]) -> Vec<u8> {
        let filled = self.size - 3 - info.len() - digest.len();
        [&[0, 1][..], &vec![0xff; filled], &[0], info, digest].concat()
    }
}

/// Bytes of a SHA-256 digest, and of the salt, which for PS256 is as long (RFC 7518 §3.5).
const HASH: usize = 32;

/// EMSA-PSS (§9.1.2) by SHA-256: `maskedDB || H || bc`, where DB is `00 … 00 01 salt` and H the hash of digest and salt. The
/// modulus has a multiple of eight bits, so that the block has one bit less than its bytes.
fn is_pss(block: &[u8], digest: &[u8]) -> bool {
    let Some((block, [0xbc])) = block.split_last_chunk::<1>() else {
        return false;
    };
    let Some((masked, hash)) = block.split_last_chunk::<HASH>() else {
        return false;
    };
    if masked.first().is_none_or(|first| first & 0x80 != 0) {
        return false;
    }
    let mut db = masked.to_vec();
    unmask(&mut db, hash);
    db[0] &= 0x7f;
    let Some((padding, salt)) = db.split_last_chunk::<HASH>() else {
        return false;
    };
    let Some(([1], zeros)) = padding
        .split_last_chunk::<1>()
        .map(|(zeros, one)| (one, zeros))
    else {
        return false;
    };
    let expected = Sha256::new()
        .chain_update([0; 8])
        .chain_update(digest)
        .chain_update(salt)
        .finalize();
    zeros.iter().all(|&byte| byte == 0) && bool::from(expected.as_slice().ct_eq(hash))
}

/// XORs MGF1 by SHA-256 (§B.2.1) onto the bytes.
fn unmask(bytes: &mut [u8], seed: &[u8]) {
    for (counter, piece) in (0u32..).zip(bytes.chunks_mut(HASH)) {
        let mask = Sha256::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes())
            .finalize();
        for (byte, mask) in piece.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}
