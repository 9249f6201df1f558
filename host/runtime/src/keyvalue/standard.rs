//! The standard's `wasi:keyvalue@0.2.0-draft`, over the store that a plugin is granted: what components find who were
//! built for any host.
//!
//! `store`, `atomics` and `batch` are here. What they say is what our own interface says, in the errors of the standard:
//! without a grant, or beyond it, `access-denied`, and everything else in words. A standard's key has no time to live.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime::{Result, format_err};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use super::Keys;
use super::Lent;
use crate::bindings::keyvalue::Error;
use crate::stopwatch::Stopwatch;

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        reason = "generated"
    )]

    wasmtime::component::bindgen!({
        path: "wit/keyvalue",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Fault },
    });
}

/// Keys of one batch, each of which is a call of the store.
const MOST_KEYS: usize = 1000;

/// Bytes that one batch reads: the host has them all before the guest makes room for them.
const MOST_READ: usize = 8 << 20;

/// The names by which any component may ask for the store that it is granted.
const ANY_NAME: [&str; 2] = ["", "default"];

/// An open store: the one that is granted.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Bucket;

/// Why a call gives nothing: an error value, or a trap.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub enum Fault {
    /// There is no store of this name.
    NoSuchStore,
    /// There is no grant for it.
    Denied,
    /// Anything else, in words.
    Other(String),
    /// The call is out of place, or the handle is none.
    Trap(wasmtime::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(match error {
            Error::NotGranted => return Self::Denied,
            Error::InvalidKey => "a key is 1 to 256 bytes".into(),
            Error::TooLarge(limit) => {
                format!("a value is over the {limit} bytes of `grant.keyvalue.value-size`")
            }
            Error::NotANumber => "what is stored is no number, or the sum would be none".into(),
            Error::Full => "the store is full".into(),
            Error::Unavailable(why) => format!("the store is not available: {why}"),
        })
    }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// What the functions work on, for one call.
pub(crate) struct View<'a> {
    pub(crate) lent: &'a mut Lent,
    pub(crate) table: &'a mut ResourceTable,
    /// Stands still while a call waits; none where nobody runs by one.
    pub(crate) stopwatch: Option<Arc<Stopwatch>>,
    /// The call in which stores are not used.
    pub(crate) out_of_place: Option<&'static str>,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Offers the three interfaces.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> View<'_>,
) -> Result<()> {
    store::add_to_linker::<_, HasView>(linker, view)?;
    atomics::add_to_linker::<_, HasView>(linker, view)?;
    batch::add_to_linker::<_, HasView>(linker, view)
}

impl View<'_> {
    fn check(&self, bucket: &Resource<Bucket>) -> Result<(), Fault> {
        self.table.get(bucket)?;
        self.check_place()
    }

    fn check_place(&self) -> Result<(), Fault> {
        match self.out_of_place {
            Some(call) => Err(Fault::Trap(format_err!(
                "stores are used in hooks and transforms, not in {call}"
            ))),
            None => Ok(()),
        }
    }

    async fn value(&mut self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        let answer = self.lent.get(key);
        let value = self.lent.in_time(answer, self.stopwatch.as_ref()).await?;
        Ok(value.map(Vec::from))
    }

    async fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), Fault> {
        let answer = self.lent.set(key, value, None);
        Ok(self.lent.in_time(answer, self.stopwatch.as_ref()).await?)
    }

    async fn remove(&mut self, key: &str) -> Result<(), Fault> {
        let answer = self.lent.delete(key);
        self.lent.in_time(answer, self.stopwatch.as_ref()).await?;
        Ok(())
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Fault> {
        self.check_place()?;
        let grant = self.lent.grant.as_ref().ok_or(Fault::Denied)?;
        match ANY_NAME.contains(&&*identifier) || *identifier == *grant.name {
            true => Ok(self.table.push(Bucket)?),
            false => Err(Fault::NoSuchStore),
        }
    }

    fn convert_error(&mut self, fault: Fault) -> Result<store::Error> {
        match fault {
            Fault::NoSuchStore => Ok(store::Error::NoSuchStore),
            Fault::Denied => Ok(store::Error::AccessDenied),
            Fault::Other(why) => Ok(store::Error::Other(why)),
            Fault::Trap(error) => Err(error),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Option<Vec<u8>>, Fault> {
        self.check(&bucket)?;
        self.value(&key).await
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), Fault> {
        self.check(&bucket)?;
        self.put(&key, value).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Fault> {
        self.check(&bucket)?;
        self.remove(&key).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Fault> {
        self.check(&bucket)?;
        Ok(self.value(&key).await?.is_some())
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Fault> {
        self.check(&bucket)?;
        let answer = self.lent.keys(cursor);
        let Keys { keys, cursor } = self.lent.in_time(answer, self.stopwatch.as_ref()).await?;
        Ok(store::KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> Result<u64, Fault> {
        self.check(&bucket)?;
        let by = i64::try_from(delta).map_err(|_| Error::NotANumber)?;
        let answer = self.lent.increment(&key, by, None);
        let sum = self.lent.in_time(answer, self.stopwatch.as_ref()).await?;
        // Below zero only somebody can have brought it who used the other interface.
        Ok(u64::try_from(sum).map_err(|_| Error::NotANumber)?)
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Fault> {
        self.check(&bucket)?;
        bound(keys.len())?;
        let (mut found, mut read) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let value = self.value(&key).await?;
            read += value.as_ref().map_or(0, Vec::len);
            if read > MOST_READ {
                let why = format!("the values of a batch are over {MOST_READ} bytes together");
                return Err(Fault::Other(why));
            }
            found.push(value.map(|value| (key, value)));
        }
        Ok(found)
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Result<(), Fault> {
        self.check(&bucket)?;
        bound(pairs.len())?;
        for (key, value) in pairs {
            self.put(&key, value).await?;
        }
        Ok(())
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<(), Fault> {
        self.check(&bucket)?;
        bound(keys.len())?;
        for key in keys {
            self.remove(&key).await?;
        }
        Ok(())
    }
}

fn bound(keys: usize) -> Result<(), Fault> {
    match keys <= MOST_KEYS {
        true => Ok(()),
        false => Err(Fault::Other(format!(
            "a batch is of at most {MOST_KEYS} keys"
        ))),
    }
}
