//! The files of the dashboard, which hold nothing that anybody may not know, and the document that describes the API.

/// The API as OpenAPI.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) const PAGE: &str = include_str!("dashboard/index.html");
pub(super) const STYLE: &str = include_str!("dashboard/dashboard.css");
pub(super) const SCRIPT: &str = include_str!("dashboard/dashboard.js");
