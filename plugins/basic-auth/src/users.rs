//! Who is let in, and by which password.

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, STANDARD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::credentials::Credentials;

/// The users, and which of their passwords have been checked already.
#[derive(Default)]
pub(crate) struct Users {
    users: Vec<User>,
    /// What was found right by bcrypt before, so that a browser's next request costs a digest: at most one of each user.
    known: Vec<[u8; 32]>,
}

struct User {
    name: String,
    hash: Hash,
}

/// A password that nobody can read back.
enum Hash {
    Bcrypt {
        cost: u32,
        salt: [u8; 16],
        digest: [u8; 23],
    },
    Sha256([u8; 32]),
}

/// The cost doubles with each: 12 takes over a hundred times as long as 5, which `htpasswd -B` takes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=12;

const NAME: &str = "must be 1 to 128 characters without `:` and control characters";

const HASH: &str = "must be a hash of bcrypt (`htpasswd -nB NAME` makes one: `$2y$05$…`) or `{SHA256}` and the base64 of a \
                    SHA-256";

impl Users {
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Adds one. The mistake is at the key of its first part.
    pub(crate) fn add(
        &mut self,
        name: &str,
        hash: &str,
    ) -> Result<(), (&'static str, &'static str)> {
        let is_name = (1..=128).contains(&name.chars().count())
            && !name.contains(|character: char| character == ':' || character.is_control());
        if !is_name {
            return Err(("name", NAME));
        }
        if self.users.iter().any(|user| user.name == name) {
            return Err(("name", "is there twice"));
        }
        let hash = Hash::parse(hash).map_err(|mistake| ("hash", mistake))?;
        self.users.push(User {
            name: name.to_owned(),
            hash,
        });
        Ok(())
    }

    /// Whether it is the password of that user.
    pub(crate) fn know(&mut self, credentials: &Credentials) -> bool {
        let fingerprint = fingerprint(credentials);
        let is_known = self.known.iter().fold(false, |found, known| {
            found | bool::from(known.ct_eq(&fingerprint))
        });
        if is_known {
            return true;
        }
        let user = self.users.iter().find(|user| user.name == credentials.name);
        let Some(user) = user else {
            // Takes as long as for a user that there is, so that nobody finds out who there is.
            if let Some(slowest) = self
                .users
                .iter()
                .map(|user| &user.hash)
                .max_by_key(|hash| hash.cost())
            {
                slowest.is_of(&credentials.password);
            }
            return false;
        };
        let is_right = user.hash.is_of(&credentials.password);
        if is_right && user.hash.cost() > 0 {
            if self.known.len() >= self.users.len() {
                self.known.remove(0);
            }
            self.known.push(fingerprint);
        }
        is_right
    }
}

/// The name cannot hold the byte that stands between.
fn fingerprint(credentials: &Credentials) -> [u8; 32] {
    let digest = Sha256::new()
        .chain_update(&credentials.name)
        .chain_update(b":")
        .chain_update(&credentials.password);
    digest.finalize().into()
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(encoded) = text.strip_prefix("{SHA256}") {
            let decoded = STANDARD.decode(encoded).ok();
            let digest = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            return digest.map(Self::Sha256).ok_or(HASH);
        }
        if text.starts_with("$apr1$") || text.starts_with("{SHA}") || text.starts_with("$1$") {
            return Err(
                "is of MD5 or SHA-1, which is broken in seconds; make one by `htpasswd -nB NAME`",
            );
        }
        let rest = ["$2y$", "$2b$", "$2a$"]
            .iter()
            .find_map(|version| text.strip_prefix(version));
        let (cost, rest) = rest.and_then(|rest| rest.split_once('$')).ok_or(HASH)?;
        let cost: u32 = cost.parse().ok().filter(|_| cost.len() == 2).ok_or(HASH)?;
        if !COSTS.contains(&cost) {
            return Err("has a cost of bcrypt that is not 4 to 12");
        }
        let (salt, digest) = rest.split_at_checked(22).ok_or(HASH)?;
        Ok(Self::Bcrypt {
            cost,
            salt: of_bcrypt(salt).ok_or(HASH)?,
            digest: of_bcrypt(digest).ok_or(HASH)?,
        })
    }

    /// 0 for one that takes no time.
    fn cost(&self) -> u32 {
        match self {
            Self::Bcrypt { cost, .. } => *cost,
            Self::Sha256(_) => 0,
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha256(digest) => {
                let made: [u8; 32] = Sha256::digest(password).into();
                made.ct_eq(digest).into()
            }
            Self::Bcrypt { cost, salt, digest } => {
                // A password of bcrypt ends with a zero byte, and what is behind 72 bytes does not count.
                let mut bytes = password.to_vec();
                bytes.push(0);
                bytes.truncate(72);
                let made = bcrypt::bcrypt(*cost, *salt, &bytes);
                // A zero byte in the middle would end it for other readers of the hash.
                bool::from(made[..23].ct_eq(digest)) && !password.contains(&0)
            }
        }
    }
}

/// Bcrypt has an alphabet of its own, and no padding.
fn of_bcrypt<const N: usize>(text: &str) -> Option<[u8; N]> {
    let engine = GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));
    engine.decode(text).ok()?.try_into().ok()
}
