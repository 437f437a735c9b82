//! The same frames on plain QUIC: quinn, with raw public keys, windows and
//! timers as the node sets them, and each library's own congestion control,
//! which is Cubic in both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use transport::message::FromProvider;
use transport::{IDLE_TIMEOUT, KEEP_ALIVE, STREAMS_PER_CONNECTION};

use crate::{End, Failure};

const STREAM_WINDOW: u32 = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
const LENGTH_BYTES: usize = 4;

/// An end of a stream, and what has to live as long.
pub(crate) struct Plain {
    send: SendStream,
    receive: RecvStream,
    buffer: BytesMut,
    _connection: Connection,
    _endpoint: Endpoint,
}

/// Both ends of a stream between two endpoints on the loopback.
pub(crate) async fn stream() -> Result<(Plain, Plain), Failure> {
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (server, key) = server_config(&provider)?;
    let far = Endpoint::server(server, any_port)?;
    let mut near = Endpoint::client(any_port)?;
    near.set_default_client_config(client_config(&provider, key)?);

    let dial = near.connect(far.local_addr()?, "localhost")?;
    let accept = async { Ok::<_, Failure>(far.accept().await.ok_or("closed")?.await?) };
    let (dialled, accepted) = tokio::join!(dial, accept);
    let (dialled, accepted) = (dialled?, accepted?);
    let (send, receive) = dialled.open_bi().await?;
    let mut here = Plain::new(send, receive, dialled, near);
    here.say(&crate::cell(0)).await?;
    let (send, receive) = accepted.accept_bi().await?;
    let mut there = Plain::new(send, receive, accepted, far);
    there.hear().await?;
    Ok((here, there))
}

impl Plain {
    fn new(send: SendStream, receive: RecvStream, of: Connection, on: Endpoint) -> Self {
        Self {
            send,
            receive,
            buffer: BytesMut::new(),
            _connection: of,
            _endpoint: on,
        }
    }

    fn take_frame(&mut self) -> Option<Bytes> {
        let length = self.buffer.first_chunk::<LENGTH_BYTES>()?;
        let size = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if self.buffer.len() < LENGTH_BYTES + size {
            return None;
        }
        self.buffer.advance(LENGTH_BYTES);
        Some(self.buffer.split_to(size).freeze())
    }
}

impl End for Plain {
    async fn say(&mut self, cell: &FromProvider) -> Result<(), Failure> {
        let mut bytes = vec![0; LENGTH_BYTES];
        postcard::to_io(cell, &mut bytes)?;
        let length = u32::try_from(bytes.len() - LENGTH_BYTES)?;
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(self.send.write_chunk(bytes.into()).await?)
    }

    async fn hear(&mut self) -> Result<FromProvider, Failure> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(postcard::from_bytes(&frame)?);
            }
            let chunk = self.receive.read_chunk(READ_BYTES, true).await?;
            self.buffer.extend_from_slice(&chunk.ok_or("ended")?.bytes);
        }
    }
}

fn transport_config() -> Result<Arc<TransportConfig>, Failure> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window((STREAM_WINDOW * STREAMS_PER_CONNECTION).into())
        .max_idle_timeout(Some(Duration::try_into(IDLE_TIMEOUT)?))
        .keep_alive_interval(Some(KEEP_ALIVE));
    Ok(Arc::new(config))
}

type PublicKey = SubjectPublicKeyInfoDer<'static>;

fn server_config(
    provider: &Arc<CryptoProvider>,
) -> Result<(quinn::ServerConfig, PublicKey), Failure> {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate()?;
    let secret = PrivatePkcs8KeyDer::from(pair.to_pkcs8()?.as_ref().to_vec());
    let signer = provider.key_provider.load_private_key(secret.into())?;
    let public = signer.public_key().ok_or("a key without its public half")?;
    let public = public.into_owned();
    let certified = CertifiedKey::new(vec![CertificateDer::from(public.to_vec())], signer);
    let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
            certified,
        ))));
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport_config()?);
    Ok((config, public))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    key: PublicKey,
) -> Result<quinn::ClientConfig, Failure> {
    let verifier = OneKey {
        key,
        provider: Arc::clone(provider),
    };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport_config()?);
    Ok(config)
}

/// Knows its peer by its public key, as nodes do.
#[derive(Debug)]
struct OneKey {
    key: PublicKey,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if shown.as_ref() == self.key.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("another key".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC speaks TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &self.key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
