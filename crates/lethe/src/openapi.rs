//! What can be asked of a node over HTTP, as a document of OpenAPI and as a
//! page that shows it. Everybody may read it: it says nothing of this node.
//!
//! The document is kept by hand, since what a dialect takes is in its
//! translation and not in a type. A test compares it with the routes; stories
//! compare it with what a node tells, field by field; the end-to-end checks
//! try it as a whole. The dashboard's types are made of it (`web/types.mjs`).

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::admin::asset;

/// Where the page is that shows all routes.
pub(crate) const PAGE_AT: &str = "/docs";

const DOCUMENT: &str = include_str!("../openapi.json");
const PAGE: &str = include_str!("../../../web/dist/docs/index.html");
const START: &str = include_str!("../../../web/dist/docs/start.js");
const LICENCES: &str = include_str!("../../../web/dist/docs/licences.txt");
const SCRIPT: &[u8] = include_bytes!("../../../web/dist/docs/swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("../../../web/dist/docs/swagger-ui.css.gz");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The document, and the page.
pub(crate) fn routes() -> Router {
    Router::new()
        .route(
            "/openapi.json",
            get(|| async { asset("application/json", DOCUMENT) }),
        )
        .route(
            "/docs",
            get(|| async { asset("text/html; charset=utf-8", PAGE) }),
        )
        .route("/docs/start.js", get(|| async { asset(JAVASCRIPT, START) }))
        .route(
            "/docs/licences.txt",
            get(|| async { asset(PLAIN, LICENCES) }),
        )
        .route(
            "/docs/swagger-ui-bundle.js",
            get(|| async { compressed(JAVASCRIPT, SCRIPT) }),
        )
        .route(
            "/docs/swagger-ui.css",
            get(|| async { compressed("text/css; charset=utf-8", STYLE) }),
        )
}

/// It lies compressed in the binary, and no browser wants it otherwise.
fn compressed(kind: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = asset(kind, bytes).into_response();
    let gzip = HeaderValue::from_static("gzip");
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, gzip);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// All files in which a gateway's routes are named.
    const SOURCES: [&str; 8] = [
        include_str!("../../gateway/src/gate.rs"),
        include_str!("admin.rs"),
        include_str!("api_keys.rs"),
        include_str!("explorer.rs"),
        include_str!("faucet.rs"),
        include_str!("openapi.rs"),
        include_str!("own.rs"),
        include_str!("route.rs"),
    ];
    /// What pages are made of.
    const PAGES: [&str; 8] = [
        "/",
        "/page.js",
        "/page.css",
        PAGE_AT,
        "/docs/start.js",
        "/docs/licences.txt",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
    ];

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Paths that a source gives to a method, and the method.
    fn routes_in(source: &str) -> impl Iterator<Item = (String, &'static str)> {
        let code = source.split("#[cfg(test)]").next().unwrap();
        let pieces: Vec<_> = code.split('"').collect();
        let named = pieces.windows(2).map(|pair| (pair[0], pair[1]));
        let found = named.filter_map(|(path, behind)| {
            let behind = behind.trim_start().strip_prefix(',')?.trim_start();
            let methods = [("get(", "get"), ("post(", "post")];
            let method = methods.iter().find(|(call, _)| behind.starts_with(call));
            let (_, method) = method.filter(|_| path.starts_with('/'))?;
            Some((path.replace("{*", "{"), *method))
        });
        found.collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let routes: BTreeSet<_> = SOURCES.into_iter().flat_map(routes_in).collect();
        let pages = PAGES.map(|page| (page.to_owned(), "get"));
        for page in &pages {
            assert!(routes.contains(page), "{page:?} is no page any more");
        }
        let document = document();
        let mut told = BTreeSet::from(pages);
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let method = if method == "get" { "get" } else { "post" };
                told.insert((path.clone(), method));
            }
        }
        assert_eq!(told, routes);
    }

    #[test]
    fn whatever_it_refers_to_is_there() {
        fn look(document: &Value, value: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        let pointer = to.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{to}");
                    }
                    fields.values().for_each(|it| look(document, it));
                }
                Value::Array(items) => items.iter().for_each(|it| look(document, it)),
                _ => {}
            }
        }
        let document = document();
        look(&document, &document);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
