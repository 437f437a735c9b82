//! The server that has the files: huggingface.co, or a mirror of it.
//!
//! Redirects are followed here, not by the HTTP client: what the server itself
//! says of a file (its SHA-256, size and commit) stands in the answer that
//! sends us elsewhere, and a token is for the server itself only.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::reference::{Digest, Reference};

/// The server if nobody says otherwise.
pub(crate) const HUB_URL: &str = "https://huggingface.co";
/// Redirects that are followed for one file.
const REDIRECTS_MAX: usize = 5;
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence within a file.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest commit that is kept.
const COMMIT_BYTES_MAX: usize = 64;

/// What the hub says of a file that lies elsewhere.
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// Why the server gives no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error("{url:?} is no server's address (allowed: https://HOST or http://HOST:PORT)")]
    Url { url: String },
    #[error(
        "{variable} holds characters that a header cannot have (allowed: visible ASCII); correct it, or unset it"
    )]
    Token { variable: &'static str },
    #[error("no HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("{server} cannot be reached; is there a way to it? another one: --mirror URL")]
    Unreachable {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{server} has no such file; look at {page} for what there is")]
    Missing { server: String, page: String },
    #[error(
        "{server} gives it only to who may have it, or has no such repo (status {status}): accept its terms at {page}, \
         and set HF_TOKEN"
    )]
    Forbidden {
        server: String,
        status: u16,
        page: String,
    },
    #[error("{server} fails with status {status}; try again later, or another one: --mirror URL")]
    Failed { server: String, status: u16 },
    #[error("{server} sends us from place to place, more than {REDIRECTS_MAX} times")]
    Redirects { server: String },
    #[error(
        "{server} sends us to {to:?}, which is not followed (allowed: https, or as safe as before)"
    )]
    Redirect { server: String, to: String },
}

impl HubError {
    /// Whether it may be otherwise in a moment.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Failed { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            _ => false,
        }
    }
}

/// What the server says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sha256: Option<Digest>,
    pub(super) bytes: Option<u64>,
    pub(super) commit: Option<String>,
}

/// The server.
pub(crate) struct Hub {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Hub {
    /// At this address, with this token for it.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, HubError> {
        let odd = || HubError::Url {
            url: url.to_owned(),
        };
        let base = Url::parse(url.trim_end_matches('/')).map_err(|_| odd())?;
        let is_plain = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.username().is_empty()
            && base.query().is_none()
            && base.fragment().is_none();
        if !is_plain {
            return Err(odd());
        }
        let is_visible = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !is_visible(token)) {
            let variable = super::TOKEN_VARIABLE;
            return Err(HubError::Token { variable });
        }
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX);
        // A proxy has no way to what only this machine reaches.
        let builder = match is_local(&base) {
            true => builder.no_proxy(),
            false => builder,
        };
        Ok(Self {
            http: builder.build().map_err(HubError::Client)?,
            base,
            token: token.filter(|token| !token.is_empty()),
        })
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// Whether nobody on the way can change what it says.
    pub(super) fn is_trusted(&self) -> bool {
        self.base.scheme() == "https" || is_local(&self.base)
    }

    /// What it says of the file, without the file.
    pub(super) async fn look(
        &self,
        reference: &Reference,
        revision: &str,
    ) -> Result<Told, HubError> {
        let asked = Asked {
            method: Method::HEAD,
            from: 0,
        };
        Ok(self.ask(reference, revision, asked).await?.0)
    }

    /// The file from this byte on; a server may begin at its beginning all the same.
    pub(super) async fn open(
        &self,
        reference: &Reference,
        revision: &str,
        from: u64,
    ) -> Result<Response, HubError> {
        let asked = Asked {
            method: Method::GET,
            from,
        };
        let (_, response) = self.ask(reference, revision, asked).await?;
        response.ok_or_else(|| HubError::Redirects {
            server: self.name(),
        })
    }

    async fn ask(
        &self,
        reference: &Reference,
        revision: &str,
        asked: Asked,
    ) -> Result<(Told, Option<Response>), HubError> {
        let (repo, file) = (reference.repo(), reference.file());
        let mut url = self.below(&format!("{repo}/resolve/{revision}/{file}"));
        let mut told = Told::default();
        for _ in 0..=REDIRECTS_MAX {
            let is_own = url.origin() == self.base.origin();
            let response = self.send(&url, is_own, &asked).await?;
            let headers = response.headers();
            let status = response.status();
            if is_own {
                told.hear(headers);
            }
            if status.is_redirection() && headers.contains_key(LOCATION) {
                // All is said; where the file lies may not like to be looked at.
                if asked.method == Method::HEAD && told.sha256.is_some() && told.bytes.is_some() {
                    return Ok((told, None));
                }
                url = self.next(&url, headers)?;
                continue;
            }
            if !status.is_success() {
                return Err(self.refusal(status, reference));
            }
            if told.bytes.is_none() && asked.method == Method::HEAD {
                told.bytes = number(headers, &CONTENT_LENGTH);
            }
            return Ok((told, Some(response)));
        }
        Err(HubError::Redirects {
            server: self.name(),
        })
    }

    async fn send(&self, url: &Url, is_own: bool, asked: &Asked) -> Result<Response, HubError> {
        let mut request = self
            .http
            .request(asked.method.clone(), url.clone())
            .header(ACCEPT_ENCODING, "identity");
        if asked.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.from));
        }
        if let Some(token) = self.token.as_ref().filter(|_| is_own) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
            .send()
            .await
            .map_err(|source| HubError::Unreachable {
                server: match is_own {
                    true => self.name(),
                    false => url.origin().ascii_serialization(),
                },
                // The address of a file elsewhere holds what opens it.
                source: source.without_url(),
            })
    }

    fn next(&self, from: &Url, headers: &HeaderMap) -> Result<Url, HubError> {
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| from.join(to).ok());
        let is_safe = |to: &Url| match to.scheme() {
            "https" => true,
            "http" => from.scheme() == "http",
            _ => false,
        };
        match to {
            Some(to) if is_safe(&to) => Ok(to),
            other => Err(HubError::Redirect {
                server: self.name(),
                to: other.map_or_else(String::new, |to| to.origin().ascii_serialization()),
            }),
        }
    }

    fn refusal(&self, status: StatusCode, reference: &Reference) -> HubError {
        let server = self.name();
        let page = self.below(&reference.repo()).to_string();
        match status.as_u16() {
            404 | 410 => HubError::Missing { server, page },
            status @ (401 | 403) => HubError::Forbidden {
                server,
                status,
                page,
            },
            status => HubError::Failed { server, status },
        }
    }

    fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let above = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{above}/{path}"));
        url
    }
}

/// What is asked of it.
struct Asked {
    method: Method,
    from: u64,
}

impl Told {
    /// What was said first stands; a redirect's answer goes before the file's own.
    fn hear(&mut self, headers: &HeaderMap) {
        let linked = headers.get(LINKED_ETAG).or_else(|| headers.get(ETAG));
        let etag = linked.and_then(|etag| etag.to_str().ok());
        let digest = etag.and_then(|etag| Digest::parse(etag.trim_matches('"')).ok());
        self.sha256 = self.sha256.or(digest);
        self.bytes = self.bytes.or_else(|| number(headers, &LINKED_SIZE));
        let commit = headers.get(COMMIT).and_then(|commit| commit.to_str().ok());
        let is_plain = |commit: &&str| {
            (1..=COMMIT_BYTES_MAX).contains(&commit.len())
                && commit.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let commit = commit.filter(is_plain).map(str::to_owned);
        self.commit = self.commit.take().or(commit);
    }
}

/// Where the bytes of an answer begin; none if the server says what it was not asked for.
pub(super) fn begins(response: &Response, from: u64, bytes: u64) -> Option<u64> {
    let headers = response.headers();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
            let (first, rest) = range.strip_prefix("bytes ")?.split_once('-')?;
            let (_, total) = rest.split_once('/')?;
            let as_asked =
                first.parse() == Ok(from) && (total == "*" || total.parse() == Ok(bytes));
            as_asked.then_some(from)
        }
        _ => match number(headers, &CONTENT_LENGTH) {
            Some(length) if length != bytes => None,
            _ => Some(0),
        },
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Whether only this machine gets there.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(said: &[(HeaderName, &str)]) -> HeaderMap {
        let said = said.iter();
        said.map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_digest_is_believed_only_where_it_is_one() {
        let digits = "ab".repeat(32);
        let quoted = format!("\"{digits}\"");
        let mut told = Told::default();
        told.hear(&headers(&[(
            ETAG,
            "\"0123456789abcdef0123456789abcdef01234567\"",
        )]));
        assert_eq!(told, Told::default(), "a git hash is no SHA-256");
        told.hear(&headers(&[(LINKED_ETAG, &quoted), (LINKED_SIZE, "12")]));
        assert_eq!(told.sha256, Digest::parse(&digits).ok());
        assert_eq!(told.bytes, Some(12));
        let other = format!("\"{}\"", "cd".repeat(32));
        told.hear(&headers(&[(ETAG, &other), (LINKED_SIZE, "13")]));
        assert_eq!(told.sha256, Digest::parse(&digits).ok());
        assert_eq!(told.bytes, Some(12));
    }

    #[test]
    fn a_server_is_an_address_and_nothing_else() {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for url in [
            "",
            "huggingface.co",
            "ftp://a",
            "https://a/?x=1",
            "https://me:pw@a",
            "file:///x",
        ] {
            assert!(
                matches!(Hub::new(url, None), Err(HubError::Url { .. })),
                "{url:?}"
            );
        }
        for (url, is_trusted) in [
            (HUB_URL, true),
            ("http://127.0.0.1:9", true),
            ("http://[::1]:9/hf/", true),
            ("http://mirror.example", false),
        ] {
            assert_eq!(
                Hub::new(url, None).unwrap().is_trusted(),
                is_trusted,
                "{url}"
            );
        }
        let token = Some("a\nb".to_owned());
        assert!(matches!(
            Hub::new(HUB_URL, token),
            Err(HubError::Token { .. })
        ));
    }
}
