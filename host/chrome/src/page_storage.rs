//! What an origin keeps besides local storage: asked of a hidden page that stands on it.

use chromiumoxide::cdp::browser_protocol::page::{CreateIsolatedWorldParams, FrameId};
use chromiumoxide::cdp::browser_protocol::target::SessionId;
use chromiumoxide::cdp::js_protocol::runtime::{EvaluateParams, ExecutionContextId};
use serde::Deserialize;
use serde_json::json;

use crate::cdp::{CdpError, Client};
use crate::indexed_db::Database;
use crate::opfs::OpfsEntry;

/// A function of one argument, [`Ask`], that gives JSON text of [`PageStorage`].
const SCRIPT: &str = include_str!("page_storage.js");

/// What to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) indexed_db: bool,
    pub(crate) opfs: bool,
    /// The largest size of it all, as JSON.
    pub(crate) bytes: u64,
}

/// What a page gave.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageStorage {
    pub(crate) databases: Vec<Database>,
    pub(crate) files: Vec<OpfsEntry>,
    /// What was left out, each with its reason: names, never values.
    pub(crate) left_out: Vec<String>,
    /// The size of it all, as JSON.
    #[serde(skip)]
    pub(crate) bytes: u64,
}

/// Asks the document in `frame`, from a world of its own: scripts that another client puts into every new page cannot
/// get at the answer.
pub(crate) async fn ask(
    client: &mut Client,
    session: &SessionId,
    frame: FrameId,
    ask: Ask,
) -> Result<PageStorage, CdpError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct World {
        execution_context_id: ExecutionContextId,
    }
    let world = CreateIsolatedWorldParams::new(frame);
    let world: World = client.call_as(Some(session), world).await?;
    // The script gives up first, so that it can still tell what it has.
    let milliseconds = client.limit().as_millis() * 2 / 3;
    let question = json!({
        "indexedDb": ask.indexed_db,
        "opfs": ask.opfs,
        "bytes": ask.bytes,
        "milliseconds": u64::try_from(milliseconds).unwrap_or(u64::MAX),
    });
    let text = evaluate(
        client,
        session,
        Some(world.execution_context_id),
        format!("({SCRIPT})({question})"),
    )
    .await?;
    let mut storage: PageStorage = serde_json::from_str(&text).map_err(|_| CdpError::Shape {
        method: "the question for IndexedDB".into(),
    })?;
    storage.bytes = text.len() as u64;
    Ok(storage)
}

/// The text that a script, or its promise, gives. An exception is [`CdpError::Refused`] with its first line.
pub(crate) async fn evaluate(
    client: &mut Client,
    session: &SessionId,
    context: Option<ExecutionContextId>,
    script: String,
) -> Result<String, CdpError> {
    // Own types: the typed answer would turn down what a newer Chromium adds.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        result: Object,
        exception_details: Option<Exception>,
    }
    #[derive(Deserialize)]
    struct Object {
        value: Option<String>,
        description: Option<String>,
    }
    #[derive(Deserialize)]
    struct Exception {
        exception: Option<Object>,
    }
    let mut evaluate = EvaluateParams::new(script);
    evaluate.context_id = context;
    evaluate.await_promise = Some(true);
    evaluate.return_by_value = Some(true);
    let answer: Answer = client.call_as(Some(session), evaluate).await?;
    match (answer.exception_details, answer.result.value) {
        (None, Some(text)) => Ok(text),
        (None, None) => Err(CdpError::Shape {
            method: "Runtime.evaluate".into(),
        }),
        (Some(thrown), _) => {
            let description = thrown.exception.and_then(|thrown| thrown.description);
            let message = description.unwrap_or_default();
            Err(CdpError::Refused {
                method: "Runtime.evaluate".into(),
                message: message.lines().next().unwrap_or("an exception").to_owned(),
            })
        }
    }
}
