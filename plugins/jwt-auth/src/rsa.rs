//! Verification of RSASSA-PKCS1-v1_5 (RFC 8017 §8.2.2): `signature ^ e mod n` has to be the padded digest.
//!
//! The expected block is made and compared as a whole, so that nothing of what an attacker sent is ever parsed. All of it is
//! public: there is no time to hide.

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
        let expected = match algorithm {
            Algorithm::Rs256 => self.padded(&SHA256, &Sha256::digest(signed)),
            Algorithm::Rs384 => self.padded(&SHA384, &Sha384::digest(signed)),
            Algorithm::Rs512 => self.padded(&SHA512, &Sha512::digest(signed)),
            Algorithm::Hs256 | Algorithm::Es256 => return false,
        };
        if signature.len() != self.size {
            return false;
        }
        let Ok(number) = BoxedUint::from_be_slice(signature, self.modulus.bits_precision()) else {
            return false;
        };
        if number >= *self.modulus.modulus().as_ref() {
            return false;
        }
        let opened = self
            .raised(&BoxedMontyForm::new(number, &self.modulus))
            .retrieve();
        let bytes = opened.to_be_bytes();
        bytes.len() >= self.size && bytes[bytes.len() - self.size..].ct_eq(&expected).into()
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

fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}
