//! A page that nobody sees and that reaches no server: it stands on any origin, so that what the origin stores can be
//! read.
//!
//! A hidden target is in no tab strip and in no history and takes no focus. Every request that it makes is answered
//! here with an empty document, service workers are bypassed, so no script of the site ever runs in it.

use std::borrow::Cow;

use chromiumoxide::cdp::browser_protocol::dom_storage::{GetDomStorageItemsParams, StorageId};
use chromiumoxide::cdp::browser_protocol::fetch::{self, FulfillRequestParams, HeaderEntry};
use chromiumoxide::cdp::browser_protocol::network::{self, SetBypassServiceWorkerParams};
use chromiumoxide::cdp::browser_protocol::page::{FrameId, NavigateParams};
use chromiumoxide::cdp::browser_protocol::target::{
    AttachToTargetParams, CloseTargetParams, CreateTargetParams, SessionId, TargetId,
};
use chromiumoxide::types::{Binary, Method};
use serde::Deserialize;

use crate::cdp::{CdpError, Client, Event, Reaction};
use crate::page_storage::{self, Ask, PageStorage};
use crate::storage_state::Item;

/// `<!doctype html>` in base64, as CDP wants bodies.
const EMPTY_DOCUMENT: &str = "PCFkb2N0eXBlIGh0bWw+";

/// A hidden target and the session attached to it. Chromium closes the target when the client's connection ends, so
/// none is left behind even by a harvest that is cut off.
#[derive(Debug)]
pub(crate) struct HiddenPage {
    target: TargetId,
    session: SessionId,
}

/// What becomes of one request of the page: an empty document, whatever was asked for.
pub(crate) fn answer_with_an_empty_document(event: &Event) -> Option<Reaction> {
    if event.method != "Fetch.requestPaused" {
        return None;
    }
    let request = event.params.get("requestId")?.as_str()?;
    let mut answer = FulfillRequestParams::new(request.to_owned(), 200);
    answer.response_headers = Some(vec![HeaderEntry::new("Content-Type", "text/html")]);
    answer.body = Some(Binary::from(EMPTY_DOCUMENT.to_owned()));
    Some((answer.identifier(), serde_json::to_value(answer).ok()?))
}

impl HiddenPage {
    /// Opens a page on `about:blank`. The client must react with [`answer_with_an_empty_document`].
    pub(crate) async fn open(client: &mut Client) -> Result<Self, CdpError> {
        let page = Self::open_at(client, "about:blank").await?;
        match page.isolate(client).await {
            Ok(()) => Ok(page),
            Err(error) => Err(page.close_after(client, error).await),
        }
    }

    /// Opens a page at `url`, which may be loading still. There is no wall around it: a page of the browser's own.
    pub(crate) async fn open_at(client: &mut Client, url: &str) -> Result<Self, CdpError> {
        let create = CreateTargetParams::builder()
            .url(url)
            .hidden(true)
            .background(true);
        let create = create
            .build()
            .expect("the one required field, the url, is set");
        let target = client.call(None, create).await?.target_id;
        let attach = AttachToTargetParams::builder()
            .target_id(target.clone())
            .flatten(true);
        let attach = attach
            .build()
            .expect("the one required field, the target, is set");
        match client.call(None, attach).await {
            Ok(attached) => Ok(Self {
                target,
                session: attached.session_id,
            }),
            Err(error) => {
                close(client, target).await?;
                Err(error)
            }
        }
    }

    /// Puts a wall between the page and every server, before it goes anywhere.
    async fn isolate(&self, client: &mut Client) -> Result<(), CdpError> {
        let session = Some(&self.session);
        client
            .call(session, network::EnableParams::default())
            .await?;
        client
            .call(session, SetBypassServiceWorkerParams::new(true))
            .await?;
        // No patterns: every request pauses.
        client.call(session, fetch::EnableParams::default()).await?;
        Ok(())
    }

    /// The session that is attached to the page.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// The local storage of `origin`, as the running browser has it, and the frame whose document is now of `origin`.
    ///
    /// [`CdpError::Refused`] means that the browser would not open a document of this origin, for instance because it
    /// upgrades the scheme; the page can be used on. After any other error it cannot.
    pub(crate) async fn local_storage(
        &self,
        client: &mut Client,
        origin: &str,
    ) -> Result<(Vec<Item>, FrameId), CdpError> {
        #[derive(Deserialize)]
        struct Entries {
            entries: Vec<(String, String)>,
        }
        let session = Some(&self.session);
        let navigated = client
            .call(session, NavigateParams::new(format!("{origin}/")))
            .await?;
        if let Some(message) = navigated.error_text {
            return Err(CdpError::Refused {
                method: Cow::Borrowed("Page.navigate"),
                message,
            });
        }
        let mut storage = StorageId::new(true);
        storage.security_origin = Some(origin.to_owned());
        let items: Entries = client
            .call_as(session, GetDomStorageItemsParams::new(storage))
            .await?;
        let items = items.entries.into_iter();
        let items = items.map(|(name, value)| Item { name, value }).collect();
        Ok((items, navigated.frame_id))
    }

    /// What the origin of the document in `frame` stores besides.
    pub(crate) async fn storage(
        &self,
        client: &mut Client,
        frame: FrameId,
        ask: Ask,
    ) -> Result<PageStorage, CdpError> {
        page_storage::ask(client, &self.session, frame, ask).await
    }

    /// Closes the page.
    pub(crate) async fn close(self, client: &mut Client) -> Result<(), CdpError> {
        close(client, self.target).await
    }

    async fn close_after(self, client: &mut Client, error: CdpError) -> CdpError {
        match self.close(client).await {
            Ok(()) => error,
            // Both failed; the first is the cause, and the end of the connection closes the page.
            Err(second) => {
                tracing::debug!(error = %second, "the hidden page will be closed with the connection");
                error
            }
        }
    }
}

async fn close(client: &mut Client, target: TargetId) -> Result<(), CdpError> {
    client
        .call(None, CloseTargetParams::new(target))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_paused_request_is_fulfilled_and_other_events_pass() {
        let event = |method: &str| Event {
            method: method.into(),
            session: Some("S".into()),
            params: json!({"requestId": "R"}),
        };
        let (method, params) =
            answer_with_an_empty_document(&event("Fetch.requestPaused")).unwrap();
        assert_eq!(method, "Fetch.fulfillRequest");
        assert_eq!(params["requestId"], "R");
        assert_eq!(params["responseCode"], 200);
        assert_eq!(
            answer_with_an_empty_document(&event("Network.requestWillBeSent")),
            None
        );
    }
}
