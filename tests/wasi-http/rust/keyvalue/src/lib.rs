//! A component that counts across its exchanges, each of which has an instance of its own.

use bindings::wasi::keyvalue::store::{self, Bucket, Error as StoreError};
use bindings::wasi::keyvalue::{atomics, batch};
use wstd::http::{Body, Error, Request, Response};

mod bindings {
    wit_bindgen::generate!({
        path: "../../../../host/runtime/wit/keyvalue",
        world: "wasi:keyvalue/imports",
        generate_all,
    });
}

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let argument = request.uri().query().unwrap_or_default();
    let done = match request.uri().path() {
        "/open" => store::open(argument).map(|_| "open".to_owned()),
        "/set" => set(argument),
        "/list" => store::open("").and_then(|bucket| Ok(format!("{:?}", bucket.list_keys(None)?.keys))),
        "/many" => store::open("").and_then(|bucket| many(&bucket)),
        _ => store::open("").and_then(|bucket| {
            let count = atomics::increment(&bucket, "exchanges", 1)?;
            Ok(format!("exchange {count}"))
        }),
    };
    let text = done.unwrap_or_else(|error| match error {
        StoreError::NoSuchStore => "no such store".into(),
        StoreError::AccessDenied => "access denied".into(),
        StoreError::Other(why) => why,
    });
    Ok(Response::new(text.into()))
}

/// `KEY=VALUE`
fn set(argument: &str) -> Result<String, StoreError> {
    let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
    let bucket = store::open("default")?;
    bucket.set(key, value.as_bytes())?;
    Ok(format!("{:?}", bucket.get(key)?.map(String::from_utf8)))
}

fn many(bucket: &Bucket) -> Result<String, StoreError> {
    let pairs = ["a", "b"].map(|key| (key.to_owned(), key.as_bytes().to_vec()));
    let keys = ["a", "b", "c"].map(str::to_owned);
    batch::set_many(bucket, &pairs)?;
    let found = batch::get_many(bucket, &keys)?;
    let there: Vec<_> = found.into_iter().flatten().map(|(key, _)| key).collect();
    batch::delete_many(bucket, &keys)?;
    Ok(format!("{there:?}, then {}", bucket.exists("a")?))
}
