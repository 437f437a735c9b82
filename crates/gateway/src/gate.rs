//! The gateway as a whole: what all requests share, and the routes.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use consumer::Conditions;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::astray::Known;
use crate::behind::Market;
use crate::body::Room;
use crate::metrics::Metrics;
use crate::settings::{ApiKey, Settings};
use crate::{astray, chat, dialects, embeddings, guard, models, server};

/// What all requests share, whoever answers them.
pub(crate) struct Front {
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) room: Room,
    pub(crate) answers: Arc<Semaphore>,
    /// Cancelled when answers that still run must end.
    pub(crate) cut: CancellationToken,
    pub(crate) notices: OnceLock<watch::Receiver<Vec<Notice>>>,
    /// In place of the settings' keys.
    keys: OnceLock<watch::Receiver<Vec<ApiKey>>>,
}

impl Front {
    /// Whether no key is asked for.
    pub(crate) fn is_open(&self) -> bool {
        self.settings.keys.is_empty() && self.keys.get().is_none()
    }

    /// What holds for the key that a client shows, if it is one.
    pub(crate) fn known(&self, shown: &[u8]) -> Option<Arc<Conditions>> {
        match self.keys.get() {
            Some(keys) => ApiKey::find(&keys.borrow(), shown),
            None => ApiKey::find(&self.settings.keys, shown),
        }
    }
}

/// Something that is wrong with the node's surroundings, told at `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is, and what to do.
    pub text: String,
    /// The node is of no use meanwhile.
    pub stops: bool,
}

/// The same, with the one who answers.
pub(crate) struct Shop<M> {
    pub(crate) front: Arc<Front>,
    pub(crate) market: Arc<M>,
}

impl<M> Clone for Shop<M> {
    fn clone(&self) -> Self {
        Self {
            front: Arc::clone(&self.front),
            market: Arc::clone(&self.market),
        }
    }
}

/// The HTTP edge in front of a market.
pub struct Gateway {
    front: Arc<Front>,
    routes: Router,
    /// What is told to who asks for another route.
    known: Known,
}

/// Routes, and what they are called.
struct Named<S> {
    router: Router<S>,
    paths: Vec<&'static str>,
}

impl<S: Clone + Send + Sync + 'static> Named<S> {
    fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Vec::new(),
        }
    }

    fn route(mut self, path: &'static str, to: MethodRouter<S>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, to);
        self
    }
}

impl Gateway {
    /// A gateway to this market.
    pub fn new<M: Market>(market: Arc<M>, settings: Settings) -> Self {
        let front = Arc::new(Front {
            metrics: Metrics::default(),
            room: Room::new(settings.limits.bodies_bytes),
            answers: Arc::new(Semaphore::new(settings.limits.answers)),
            cut: CancellationToken::new(),
            notices: OnceLock::new(),
            keys: OnceLock::new(),
            settings,
        });
        let shop = Shop {
            front: Arc::clone(&front),
            market,
        };
        let behind_key = Named::new()
            .route("/v1/chat/completions", post(chat::complete::<M>))
            .route("/v1/embeddings", post(embeddings::embeddings::<M>))
            .route("/v1/completions", post(dialects::completions::<M>))
            .route("/v1/responses", post(dialects::responses::<M>))
            .route("/v1/messages", post(dialects::messages::<M>))
            .route(
                "/v1/messages/count_tokens",
                post(dialects::count_tokens::<M>),
            )
            .route("/api/chat", post(dialects::ollama_chat::<M>))
            .route("/api/generate", post(dialects::ollama_generate::<M>))
            .route("/api/embed", post(embeddings::ollama_embed::<M>))
            .route("/api/embeddings", post(embeddings::ollama_embeddings::<M>))
            .route("/api/tags", get(dialects::ollama_tags::<M>))
            .route("/api/show", post(dialects::ollama_show::<M>))
            .route("/api/version", get(dialects::ollama_version))
            .route("/v1/models", get(models::list::<M>))
            .route("/v1/models/{*name}", get(models::one::<M>))
            .route("/metrics", get(models::metrics::<M>));
        let open = Named::new()
            .route("/healthz", get(models::alive))
            .route("/readyz", get(models::ready::<M>));
        let paths = [behind_key.paths, open.paths].concat();
        let guarded = from_fn_with_state(Arc::clone(&front), guard::key);
        let behind_key = behind_key.router.route_layer(guarded);
        let routes = behind_key.merge(open.router).with_state(shop);
        let known = Known {
            paths,
            described_at: None,
        };
        Self {
            front,
            routes,
            known,
        }
    }

    /// Names this path to who asks for a route that is not there: it shows those that are.
    #[must_use]
    pub fn described_at(mut self, path: &'static str) -> Self {
        self.known.described_at = Some(path);
        self
    }

    /// Serves further routes at the same address. Host and origin are checked
    /// for them as for all; keys are not: whoever brings routes guards them.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// The same for routes of the owner alone: by fewer names, see
    /// [`Settings::owner_hosts`](crate::Settings::owner_hosts).
    #[must_use]
    pub fn with_owner_routes(self, routes: Router) -> Self {
        let owner = from_fn_with_state(Arc::clone(&self.front), guard::owner);
        self.with_routes(routes.route_layer(owner))
    }

    /// Accepts these keys in place of the settings', as they are at the time.
    /// The first counts.
    #[must_use]
    pub fn with_keys(self, keys: watch::Receiver<Vec<ApiKey>>) -> Self {
        let _ = self.front.keys.set(keys);
        self
    }

    /// Tells these at `/readyz`, as they are at the time. The first counts.
    #[must_use]
    pub fn with_notices(self, notices: watch::Receiver<Vec<Notice>>) -> Self {
        let _ = self.front.notices.set(notices);
        self
    }

    /// Serves until `stop`, then lets running answers end within
    /// [`Limits::drain`](crate::Limits::drain). Returns when no connection is left.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let Self {
            front,
            routes,
            known,
        } = self;
        let known = Arc::new(known);
        let routes = routes
            .fallback(move |method, uri| async move { known.lost(&method, &uri) })
            .method_not_allowed_fallback(astray::wrong_method)
            .layer(from_fn_with_state(Arc::clone(&front), guard::page))
            .layer(from_fn_with_state(Arc::clone(&front), guard::count))
            .layer(from_fn(guard::name));
        // Around all of it: which methods a route takes is added to an answer behind the router's own layers.
        let routes = Router::new()
            .fallback_service(routes)
            .layer(from_fn(astray::allowed))
            .layer(from_fn(dialects::errors));
        server::serve(listener, routes, front, stop).await;
    }
}
